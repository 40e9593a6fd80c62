"""Contact sheets: many pictures on one page, their labels drawn, so that people see at a glance what a data set is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from workloads.looking import show

COLUMNS = 8
_FINE = 2
"""Everything is drawn so many times as large, then made smaller: lines without steps."""
_TILE, _GAP, _MARGIN = 144 * _FINE, 10 * _FINE, 20 * _FINE
_CAPTION, _HEADING, _ROW = 22 * _FINE, 46 * _FINE, 30 * _FINE
_QUALITY = 88
_PAPER, _BEHIND, _INK, _FAINT = (255, 255, 255), (237, 240, 245), (31, 41, 55), (128, 138, 152)
_COLOURS = (
    (37, 120, 255), (240, 68, 56), (18, 161, 96), (247, 144, 9), (139, 92, 246), (6, 174, 212), (236, 72, 153),
    (132, 170, 20), (120, 85, 60), (70, 85, 120),
)  # fmt: skip
"""Of classes, by their number; the eleventh has that of the first."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One labelled object, in fractions of the picture's width and height."""

    number: int
    """Of its class."""
    outline: tuple[Point, ...]
    points: tuple[Point, ...] = ()
    """Keypoints that are labelled."""


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet."""

    data: bytes
    """Encoded, and known to be usable."""
    classes: tuple[int, ...]
    """Numbers of the classes that the caption names; none is said in words."""
    shapes: tuple[Shape, ...] = ()
    arrow: bool = False
    """Whether the next picture is what became of this one."""


@dataclass(frozen=True)
class Row:
    """Pictures that belong together; as many lines as they need."""

    title: str
    tiles: Sequence[Tile]


def sheet(heading: str, rows: Sequence[Row], names: Sequence[str]) -> bytes:
    """Draw a page with four to eight pictures a line, as JPEG at most 1262 pixels wide. Same arguments, same bytes."""
    columns = min(COLUMNS, max(COLUMNS // 2, *(len(row.tiles) for row in rows)))
    width = 2 * _MARGIN + columns * (_TILE + _GAP) - _GAP
    height = _HEADING + sum(_height(row) for row in rows) + _MARGIN
    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _HEADING - 8 * _FINE), _fitting(heading, 19, width), _INK, _font(19), anchor="ls")
    rounded = Image.new("L", (_TILE, _TILE))
    ImageDraw.Draw(rounded).rounded_rectangle((0, 0, _TILE - 1, _TILE - 1), 6 * _FINE, 255)
    top = _HEADING
    for row in rows:
        if row.title:
            pen.text((_MARGIN, top + _ROW - 10 * _FINE), _fitting(row.title, 14, width), _INK, _font(14), anchor="ls")
            top += _ROW
        for index, tile in enumerate(row.tiles):
            across, down = index % COLUMNS, index // COLUMNS
            corner = (_MARGIN + across * (_TILE + _GAP), top + down * (_TILE + _CAPTION + _GAP))
            page.paste(_drawn(tile), corner, rounded)
            _caption(pen, corner, tile, names)
        top += _lines(row) * (_TILE + _CAPTION + _GAP)
    for place in _arrows(rows):
        _arrow(pen, place)
    page, file = page.resize((width // _FINE, height // _FINE), Image.Resampling.LANCZOS), io.BytesIO()
    page.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _lines(row: Row) -> int:
    return -(-len(row.tiles) // COLUMNS)


def _height(row: Row) -> int:
    return _lines(row) * (_TILE + _CAPTION + _GAP) + (_ROW if row.title else 0)


def _arrows(rows: Sequence[Row]) -> list[Point]:
    """Give the middles of the gaps that an arrow stands in."""
    found, top = [], _HEADING
    for row in rows:
        top += _ROW if row.title else 0
        for index, tile in enumerate(row.tiles):
            if tile.arrow:
                right = _MARGIN + (index % COLUMNS + 1) * (_TILE + _GAP) - _GAP / 2
                found.append((right, top + index // COLUMNS * (_TILE + _CAPTION + _GAP) + _TILE / 2))
        top += _lines(row) * (_TILE + _CAPTION + _GAP)
    return found


def _arrow(pen: ImageDraw.ImageDraw, place: Point) -> None:
    x, y, size = *place, 9 * _FINE
    pen.ellipse((x - 1.5 * size, y - 1.5 * size, x + 1.5 * size, y + 1.5 * size), _PAPER)
    pen.polygon([(x - 0.5 * size, y - 0.8 * size), (x + 0.9 * size, y), (x - 0.5 * size, y + 0.8 * size)], _INK)


def _drawn(tile: Tile) -> Image.Image:
    """Fit the picture into its tile, small ones with their pixels to be seen, and draw its labels."""
    ground = Image.new("RGB", (_TILE, _TILE), _BEHIND)
    picture = show(tile.data, _TILE)
    factor = _TILE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    how = Image.Resampling.NEAREST if factor > 3 else Image.Resampling.LANCZOS
    left, top = (_TILE - size[0]) // 2, (_TILE - size[1]) // 2
    ground.paste(picture.resize(size, how), (left, top))
    pen = ImageDraw.Draw(ground, "RGBA")
    for shape in tile.shapes:
        colour = _colour(shape.number)
        outline = [(left + x * size[0], top + y * size[1]) for x, y in shape.outline]
        pen.polygon(outline, (*colour, 56))
        pen.line([*outline, *outline[:2]], (0, 0, 0, 90), 4 * _FINE, "curve")
        pen.line([*outline, *outline[:2]], colour, 2 * _FINE, "curve")
        for x, y in shape.points:
            _dot(pen, (left + x * size[0], top + y * size[1]), 4 * _FINE, _PAPER)
            _dot(pen, (left + x * size[0], top + y * size[1]), 3 * _FINE, colour)
    return ground


def _caption(pen: ImageDraw.ImageDraw, place: tuple[int, int], tile: Tile, names: Sequence[str]) -> None:
    """Name the classes with their colours, as many as there is room for."""
    left, middle = place[0], place[1] + _TILE + _CAPTION // 2 + _FINE
    end = left + _TILE
    if not tile.classes:
        pen.text((left, middle), "no labels", _FAINT, _font(12), anchor="lm")
    for index, number in enumerate(tile.classes):
        room, name = end - left - 12 * _FINE, _called(number, names)
        if index and room < _font(12).getlength(name):
            pen.text((left, middle), f"+{len(tile.classes) - index}", _FAINT, _font(12), anchor="lm")
            return
        name = _fitting(name, 12, room)
        _dot(pen, (left + 4 * _FINE, middle), 4 * _FINE, _colour(number))
        pen.text((left + 12 * _FINE, middle), name, _INK, _font(12), anchor="lm")
        left += int(_font(12).getlength(name)) + 20 * _FINE
        if end - left < 24 * _FINE and index + 1 < len(tile.classes):
            return


def _dot(pen: ImageDraw.ImageDraw, at: Point, radius: int, colour: tuple[int, int, int]) -> None:
    pen.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), colour)


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size * _FINE)


def _called(number: int, names: Sequence[str]) -> str:
    """Give a class's name, or its number where the font, which has European letters, cannot write it."""
    name, unknown = _plain(names[number]), bytes(_font(12).getmask("\uffff"))
    return f"class {number}" if any(bytes(_font(12).getmask(char)) == unknown for char in name) else name


def _plain(text: str) -> str:
    """Give one line of what can be drawn."""
    return "".join(char if char.isprintable() else " " for char in text)[:200]


def _fitting(text: str, size: int, room: float) -> str:
    """Cut a text where it would not fit."""
    text, font = _plain(text), _font(size)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"
