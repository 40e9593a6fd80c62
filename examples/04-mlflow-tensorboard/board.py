"""``trunkline tensorboard`` as a person starts it, and what TensorBoard answers."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx


class Board:
    """TensorBoard on the runs of one model, while the block lasts."""

    def __init__(self, folder: Path, model: str) -> None:
        command = [sys.executable, "-m", "controller.cli", "tensorboard", model, "--no-open", "--port", "0"]
        self._process = subprocess.Popen(
            command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.url = ""

    def __enter__(self) -> Self:
        said = []
        for line in self._process.stdout or ():
            said.append(line)
            found = re.search(r" at (http://\S+)", line)
            if found:
                self.url = found[1].rstrip("/")
                return self
        raise RuntimeError(f"TensorBoard did not start:\n{''.join(said)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)

    def _ask(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self.url}/data/{path}", params=query, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def runs(self) -> list[str]:
        """Give the names of the runs."""
        return sorted(self._ask("runs"))

    def curve(self, run: str, tag: str) -> list[tuple[int, float]]:
        """Give the points of a scalar: step and value."""
        return [(int(step), float(value)) for _, step, value in self._ask("plugin/scalars/scalars", run=run, tag=tag)]

    def pictures(self, run: str) -> list[str]:
        """Give the names of a run's pictures."""
        return sorted(tag.removeprefix("pictures/") for tag in self._ask("plugin/images/tags")[run])

    def has_graph(self, run: str) -> bool:
        """Whether the layers are there to look at."""
        return bool(self._ask("plugin/graphs/info")[run]["run_graph"])
