"""What a tuning and the process of one trial say to each other: a task in a file, then a line of JSON for each event.

The trial writes to its standard output and waits for the answer on its standard input. That input ends with the
tuning, however it ends, and the trial with it: no trial is left behind that nobody listens to.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any, Literal, TextIO

from pydantic import Field

from specs.base import Args
from specs.digests import Digest
from specs.records import Environment, Record
from specs.training import Tuning

GO_ON, STOP = "go on", "stop"


class TrialTask(Record):
    """All that a trial needs besides the store."""

    number: int
    slot: int
    """Of those that run at once, from 0: tells devices apart."""
    inputs: dict[str, Any]
    """Of a training; ``args`` are those of this trial."""
    dataset: Digest
    tuning: Tuning


class Event(Record):
    """Something that a trial tells."""

    kind: Literal["began", "epoch", "finished", "failed"]
    epoch: int = 0
    metrics: dict[str, float] = Field(default={})
    searched: Args = Field(default={})
    """Of ``began``: the searched arguments, with Ultralytics' defaults for those that nobody gave."""
    environment: Environment | None = None
    reason: str = ""
    message: str = ""
    hopeless: bool = False
    """Of ``failed``: every trial would fail like this."""


class Ended(Exception):
    """The trial was told to stop: no error, the tuning wants no more of it."""


class Wire:
    """A trial's end."""

    def __init__(self, out: TextIO, answers: TextIO) -> None:
        self._out = out
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(answers,), name="tuning", daemon=True).start()

    @classmethod
    def take_over(cls) -> Wire:
        """Use this process' standard input and output; what others print goes to standard error from now on.

        ``sys.stdin`` itself is not read: processes that are forked to load data close it as they begin, and would
        wait for ever for the lock that a thread in the middle of reading held.
        """
        out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
        answers = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), sys.stdin.fileno())
        return cls(out, answers)

    def tell(self, event: Event) -> None:
        """Say something, and go on when the tuning has heard it; Ended where it wants no more."""
        self._out.write(json.dumps(event.model_dump(mode="json", exclude_defaults=True)) + "\n")
        self._out.flush()
        if self._lines.get() == STOP:
            raise Ended

    def _listen(self, answers: TextIO) -> None:
        for line in answers:
            self._lines.put(line.strip())
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # whatever it started, too
        os._exit(1)
