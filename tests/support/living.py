"""For tests about life and death: who lives, waiting for things to come true, dying at a chosen line."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_HANGS = 30
"""Seconds after which a forked child is taken to hang."""


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is true; fail where it does not become so."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)


def alive_with(variable: str, value: str) -> list[int]:
    """Give the numbers of the living processes that have an environment variable of that value."""
    mark = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue  # gone meanwhile
    return found


def kill_all_with(variable: str, value: str) -> None:
    """Kill all processes that have an environment variable of that value, and wait until they are gone."""
    give_up = time.monotonic() + 10
    while found := alive_with(variable, value):
        assert time.monotonic() < give_up, f"still there: {found}"
        for number in found:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)


def _die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends. Linux only."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def live_on(live: Callable[[], object]) -> int:
    """Live again and again, each time in a forked process, as long as every end is a violent one (SIGKILL).

    Gives the exit code of one that is not. A life begins with nothing but what was imported before, so that loading
    modules a hundred times costs no test its time.
    """
    while True:
        child = os.fork()
        if child == 0:
            _die_with_parent()
            live()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            return code if code >= 0 else 1


def die_at_line(number: int, act: Callable[[], object], *, of: str) -> bool:
    """Do something in a forked process that dies by SIGKILL before its n-th line of our code; whether it came so far.

    ``of`` is the folder or file whose lines count. Comprehensions do not: their number of lines hangs on the machine.
    A fork takes along locks that other threads held at that moment, and nobody lets go of them: a child that hangs dies
    by SIGALRM, which is a death like the others.
    """
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_HANGS)
        left = number

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            code = frame.f_code
            if f"/{of}" not in code.co_filename or code.co_name.startswith("<"):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            act()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0
