"""Clients of the inference server: one that measures accuracy, one that never stops asking."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import httpx


def live_accuracy(url: str, golden: Path) -> tuple[float, int, set[str]]:
    """Send every golden picture over HTTP; give the share that is right, how many, and which versions answered."""
    right, total, versions = 0, 0, set()
    with httpx.Client(base_url=url, timeout=30) as client:
        for picture in sorted(golden.rglob("*.png")):
            answer = client.post(
                "/models/digits/predict", content=picture.read_bytes(), headers={"Content-Type": "image/png"}
            )
            answer.raise_for_status()
            body = answer.json()
            right += best(body) == picture.parent.name
            versions.add(str(body["version"]))
            total += 1
    return right / total, total, versions


def best(body: dict[str, Any]) -> str:
    """Give the most confident class of an answer."""
    name: str = body["results"][0]["name"]
    return name


class Steady:
    """Keeps asking from a thread until told to stop, and counts what came back."""

    def __init__(self, url: str, picture: Path) -> None:
        self._url, self._picture = url, picture.read_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(
                        "/models/digits/predict", content=self._picture, headers={"Content-Type": "image/png"}
                    )
                    answer.raise_for_status()
                    self.answers[f"v{answer.json()['version']}"] += 1
                except httpx.HTTPError as error:
                    self.failures.append(str(error))
                time.sleep(0.01)
