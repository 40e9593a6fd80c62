"""Clients that send pictures all the time and note every answer, while people and Trunkline change what serves."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support import onnx_models


class Customers:
    """Threads that ask ``MODEL`` at a server for what is in a picture, again and again."""

    def __init__(self, url: str, model: str = "digits", *, threads: int = 2, pause: float = 0.01) -> None:
        self._place = f"{url}/models/{model}/predict"
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(threads)]
        self.answers: Counter[int] = Counter()
        """By the version that answered."""
        self.failures: list[str] = []
        """What went wrong: of every request that was no answer."""

    def _ask(self, seed: int) -> None:
        pictures = [onnx_models.picture(10 * seed + number) for number in range(5)]
        with httpx.Client(trust_env=False, timeout=30) as client:
            number = 0
            while not self._stop.wait(self._pause):
                number += 1
                self._note(client, pictures[number % len(pictures)])

    def _note(self, client: httpx.Client, picture: bytes) -> None:
        try:
            answer = client.post(self._place, content=picture, headers={"Content-Type": "image/png"})
        except httpx.HTTPError as error:
            with self._lock:
                self.failures.append(repr(error))
            return
        with self._lock:
            if answer.status_code == 200:
                self.answers[answer.json()["version"]] += 1
            else:
                self.failures.append(f"{answer.status_code} {answer.text}")

    @contextmanager
    def come(self) -> Iterator[Customers]:
        """Let them ask until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
