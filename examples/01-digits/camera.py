"""Live traffic: real pictures as a camera would send them, and what only an example can know: what is truly in them."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
from clients import best
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""A picture, (height, width, 3)."""
Look = Callable[[Pixels, int, np.random.Generator], Pixels]
"""What the world does to a picture before the camera sees it, in a window of time."""


def load(folder: Path) -> list[tuple[Pixels, str]]:
    """Give all pictures of class folders with their classes, in the order of their names."""
    files = sorted(folder.rglob("*.png"), key=lambda file: file.name)
    return [(np.asarray(Image.open(file).convert("RGB")), file.parent.name) for file in files]


def png(pixels: Pixels) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Camera:
    """Sends pictures from a thread until told to stop, and keeps for itself what was truly in them.

    Windows of time have the numbers that Trunkline's have: Unix time divided by their length.
    """

    def __init__(self, url: str, window: float, pictures: Sequence[tuple[Pixels, str]], rate: float = 30.0) -> None:
        self._url, self._window, self._pause = url, window, 1.0 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._labels: dict[str, str] = {}
        self.pictures = pictures
        self.look: Look = lambda pixels, _, __: pixels
        self.right: defaultdict[int, int] = defaultdict(int)
        self.asked: defaultdict[int, int] = defaultdict(int)
        """By window: how many answers were right, and how many there were."""
        self.answers: Counter[int] = Counter()
        """By version."""
        self.failures: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    @property
    def now(self) -> int:
        """Number of the window that is under way."""
        return int(time.time() // self._window)

    def accuracy(self, window: int) -> float | None:
        """Give the share of right answers in a window: the truth, which nobody but the example knows."""
        return self.right[window] / self.asked[window] if self.asked[window] else None

    def label(self, picture: bytes) -> str | None:
        """Say what is truly in a picture that was sent, by its bytes."""
        return self._labels.get(hashlib.sha256(picture).hexdigest())

    def _run(self) -> None:
        chance = np.random.default_rng(7)
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                pictures = self.pictures
                for place in chance.permutation(len(pictures)):
                    if self._stop.is_set() or pictures is not self.pictures:
                        break
                    self._send(client, *pictures[place], chance)
                    self._stop.wait(self._pause)

    def _send(self, client: httpx.Client, pixels: Pixels, truth: str, chance: np.random.Generator) -> None:
        window = self.now
        picture = png(self.look(pixels, window, chance))
        self._labels[hashlib.sha256(picture).hexdigest()] = truth
        try:
            answer = client.post("/models/digits/predict", content=picture, headers={"Content-Type": "image/png"})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.failures.append(str(error))
            return
        body = answer.json()
        self.answers[body["version"]] += 1
        self.asked[window] += 1
        self.right[window] += best(body) == truth
