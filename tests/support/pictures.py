"""Tiny data sets for every task, drawn with the standard library alone. The same call gives the same bytes."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

from specs.modelspec import Task

SIDE = 32
COLOURS = {"green": (40, 200, 60), "red": (220, 40, 40)}
"""Class name to colour; sorted, as Ultralytics numbers them."""


def png(rows: list[list[tuple[int, int, int]]]) -> bytes:
    """Encode RGB rows as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\x00" + bytes(value for pixel in row for value in pixel) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def scene(seed: str, colour: tuple[int, int, int], side: int = SIDE) -> tuple[bytes, tuple[int, int, int, int]]:
    """Draw a coloured box on a dark, noisy ground; give the picture and the box (x0, y0, x1, y1) in pixels."""
    rng = random.Random(seed)
    width, height = rng.randint(side // 3, side // 2), rng.randint(side // 3, side // 2)
    left, top = rng.randint(1, side - width - 1), rng.randint(1, side - height - 1)
    rows = [
        [
            colour if left <= x < left + width and top <= y < top + height else (rng.randint(0, 60),) * 3
            for x in range(side)
        ]
        for y in range(side)
    ]
    return png(rows), (left, top, left + width, top + height)  # type: ignore[arg-type]


def label(task: Task, number: int, box: tuple[int, int, int, int], side: int = SIDE) -> str:
    """Write the line that labels a box for a task."""
    x0, y0, x1, y1 = (value / side for value in box)
    corners = f"{x0:.4f} {y0:.4f} {x1:.4f} {y0:.4f} {x1:.4f} {y1:.4f} {x0:.4f} {y1:.4f}"
    middle = f"{(x0 + x1) / 2:.4f} {(y0 + y1) / 2:.4f} {x1 - x0:.4f} {y1 - y0:.4f}"
    if task in ("segment", "obb"):
        return f"{number} {corners}"
    return f"{number} {middle} {x0:.4f} {y0:.4f} 2 {x1:.4f} {y1:.4f} 2" if task == "pose" else f"{number} {middle}"


def folder(root: Path, task: Task, count: int = 24, seed: str = "train", side: int = SIDE) -> Path:
    """Write a data set of ``count`` pictures, classes taking turns, as a person would lay it out; gives ``root``."""
    for index in range(count):
        number = index % len(COLOURS)
        name = list(COLOURS)[number]
        picture, box = scene(f"{seed}-{index}", COLOURS[name], side)
        if task == "classify":
            _write(root / name / f"{index:03}.png", picture)
            continue
        _write(root / "images" / f"{index:03}.png", picture)
        _write(root / "labels" / f"{index:03}.txt", label(task, number, box, side).encode() + b"\n")
    if task != "classify":
        shape = "kpt_shape: [2, 3]\n" if task == "pose" else ""
        _write(root / "data.yaml", f"names: [{', '.join(COLOURS)}]\n{shape}".encode())
    return root


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
