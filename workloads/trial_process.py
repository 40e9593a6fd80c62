"""A trial as the tuning sees it: a process of its own, so that what crashes, or fills the memory, is one trial."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from specs.base import Args
from specs.records import Epoch
from workloads.trial_wire import GO_ON, STOP, Event, TrialTask

COMMAND = (sys.executable, "-m", "workloads.trials")
GRACE = 10.0
"""Seconds that a trial has to end before it is killed."""
_LAST_WORDS = 300


@dataclass
class Told:
    """What a trial has said so far."""

    searched: Args = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    last: Event | None = None
    """``finished`` or ``failed``."""
    stopped: bool = False
    """Whether it was told to stop."""


@dataclass(frozen=True)
class News:
    """Something about a trial; without an event, its process is over."""

    number: int
    event: Event | None = None


class TrialProcess:
    """One trial that runs. Events arrive in ``news``; each is answered before the next one comes."""

    def __init__(
        self, task: TrialTask, args: Args, command: Sequence[str], store: str, folder: Path,
        news: queue.SimpleQueue[News],
    ) -> None:  # fmt: skip
        self.task = task
        self.args = args
        self.told = Told()
        self.began = time.monotonic()
        self._folder = folder
        self._news = news
        folder.mkdir()
        (folder / "task.json").write_bytes(task.encode())
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--store", store, "--task", str(folder / "task.json")], cwd=folder, stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        listener = threading.Thread(target=self._listen, name=f"trial {task.number} says", daemon=True)
        listener.start()
        threading.Thread(target=self._wait, args=(listener,), name=f"trial {task.number}", daemon=True).start()

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.task.number

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return round(time.monotonic() - self.began, 3)

    def answer(self, *, stop: bool = False) -> None:
        """Let it go on, or tell it to stop."""
        self.told.stopped = stop
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it died, which is news of its own
                self._process.stdin.write(f"{STOP if stop else GO_ON}\n".encode())
                self._process.stdin.flush()

    def ended(self) -> int:
        """Wait for its end, which is near; give the exit code, negative for a signal. Its folder goes."""
        code = self._process.wait()
        self._clean_up()
        return code

    def last_words(self) -> str:
        """Give the last line of its log, cut to what a record may hold."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:_LAST_WORDS] if lines else "no output"

    def end(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic), then kill it and all that it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(deadline - time.monotonic(), 0))
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._clean_up()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _clean_up(self) -> None:
        """Show what it said, in one piece, and remove its folder."""
        if self._log.is_file():
            sys.stderr.write(f"--- trial {self.number}\n{self._log.read_text(errors='replace')}")
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as lines:
                for line in lines:
                    with contextlib.suppress(ValidationError):  # words of others that got in between
                        self._news.put(News(self.number, Event.decode(line)))

    def _wait(self, listener: threading.Thread) -> None:
        """Tell of the end when all that was said is told; what it started and left goes, or it would hold the line."""
        self._process.wait()
        self._signal(signal.SIGKILL)
        listener.join()
        self._news.put(News(self.number))
