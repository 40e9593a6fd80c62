"""Jobs as processes of this machine. They survive the agent's death, and the next agent adopts them.

::

    <state>/jobs/<job>/lock              held by the job's processes while any of them lives; holds their group's number
                      /order.json        the work order of the newest attempt
                      /attempts/<n>/     log.txt, pid (it began), exit (how it ended), cancelled (we stopped it)
    <state>/jobs/.slots/<i>              one is held by each running job: there are as many as may run at once
    <state>/jobs/.slots-track/0          likewise for jobs that mirror runs: one at a time, beside the others
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapters import processes
from adapters.logs import last_words, tail
from specs.errors import Transient
from specs.facts import JobPhase, JobState
from specs.placement import Placement
from specs.workorders import TIRELESS, AnyOrder

ANYWHERE = Placement()

_MEMORY = re.compile(r"MemoryError|out of memory|can(no|')t allocate memory|std::bad_alloc", re.IGNORECASE)
_TIMED_OUT = 124
_SIGNALLED = 128
_KEPT_LOGS = 5


class LocalJobs:
    """Runs work orders as ``<command> --store URL --order FILE``, at most ``max_parallel`` at once, agents together.

    Whether a job runs, only its lock tells; how it ended, its own wrapper wrote down. So nothing is lost when the
    agent dies, and any number of agents may look and start at once: one process comes of it. Jobs see a short list
    of the agent's environment and ``environment``; they run at ``niceness``, so that serving stays quick.
    """

    def __init__(
        self, state: Path, store_url: str, *, command: Sequence[str], max_parallel: int = 1,
        environment: Mapping[str, str] | None = None, niceness: int = 5, grace: float = 10,
    ) -> None:  # fmt: skip
        self._jobs = state.absolute() / "jobs"
        self._store_url = store_url
        self._command = tuple(command)
        self._max_parallel = max_parallel
        self._environment = dict(environment or {})
        self._niceness = niceness
        self._grace = grace

    def state(self, order: AnyOrder) -> JobState | None:
        """Give the state of an order's job, or None where it never began (or was forgotten)."""
        return self.find(order.job)

    def find(self, name: str) -> JobState | None:
        """Give the state of a job by its name."""
        with processes.disk_trouble_is_transient(self._jobs):
            folder = self._folder(name)
            # The newest attempt first, the lock second: if nobody holds it then, this attempt is over for good.
            number = self._newest(folder)
            if processes.held(folder / "lock"):
                return self._running(folder)
            while number and not (folder / f"attempts/{number}/pid").exists():
                number -= 1  # its starter died before it began
            return self._ended(folder, number) if number else None

    def start(self, order: AnyOrder, placement: Placement = ANYWHERE) -> JobState:  # noqa: ARG002  there is one place
        """Start an attempt, or adopt the one that runs; QUEUED, and nothing done, where there is no room now."""
        with processes.disk_trouble_is_transient(self._jobs):
            folder = self._folder(order.job)
            if processes.held(folder / "lock"):
                return self._running(folder)
            slots, most = self._slots(order.kind), 1 if order.kind == TIRELESS else self._max_parallel
            taken = sum(processes.held(slot) for slot in slots.glob("*"))
            for number in range(most if taken < most else 0):
                with processes.locked(slots / str(number)) as slot:
                    if slot is not None:
                        with processes.locked(folder / "lock") as lock:
                            if lock is not None:
                                self._spawn(folder, order, (lock, slot))
                            return self._running(folder)
            # Perhaps all places are taken because this very job was started a moment ago.
            return self._running(folder) if processes.held(folder / "lock") else self._queued(folder)

    def running(self) -> Sequence[str]:
        """Give the names of the jobs that run now, sorted."""
        with processes.disk_trouble_is_transient(self._jobs):
            return sorted(lock.parent.name for lock in self._jobs.glob("[!.]*/lock") if processes.held(lock))

    def names(self) -> Sequence[str]:
        """Give the names of all jobs that ran here and were not forgotten, sorted."""
        with processes.disk_trouble_is_transient(self._jobs):
            return sorted(folder.name for folder in self._jobs.glob("[!.]*") if folder.is_dir())

    def cancel(self, name: str) -> None:
        """Stop a job; no-op where it does not run. An attempt that ends by this does not count as one."""
        self._stop([name], self._grace)

    def stop_all(self, grace: float = 10) -> Sequence[str]:
        """Stop all jobs, with ``grace`` seconds between asking and killing, and give their names.

        Attempts that end by this do not count.
        """
        names = self.running()
        self._stop(names, grace)
        return names

    def forget(self, name: str) -> None:
        """Remove all traces of a job that does not run; Transient ``JobRunning`` where it does."""
        with processes.disk_trouble_is_transient(self._jobs):
            folder = self._folder(name)
            if folder.exists():
                with processes.locked(folder / "lock") as lock:
                    if lock is None:
                        raise Transient("JobRunning", f"job {name} runs; cancel it before it can be forgotten")
                    # Moved away in one step: a starter at the same moment finds it whole, or finds none.
                    folder.replace(self._jobs / f".forgotten-{name}-{os.getpid()}-{lock}")
            for leftover in self._jobs.glob(".forgotten-*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def log_path(self, name: str) -> Path | None:
        """Give the log of the newest attempt, or None where there is none."""
        folder = self._folder(name)
        log = folder / f"attempts/{self._newest(folder)}/log.txt"
        return log if log.exists() else None

    def _folder(self, name: str) -> Path:
        return self._jobs / processes.checked_name(name)

    def _slots(self, kind: str) -> Path:
        """Give the places of a kind: what waits for tracking servers keeps nobody else from working."""
        return self._jobs / (f".slots-{kind}" if kind == TIRELESS else ".slots")

    @staticmethod
    def _newest(folder: Path) -> int:
        with suppress(FileNotFoundError):
            return max((int(p.name) for p in (folder / "attempts").iterdir() if p.name.isdecimal()), default=0)
        return 0

    def _spawn(self, folder: Path, order: AnyOrder, descriptors: Sequence[int]) -> None:
        """Begin a new attempt; the caller holds the job's lock and a slot."""
        number = self._newest(folder)
        attempt = folder / f"attempts/{number}"
        if number == 0 or (attempt / "pid").exists():
            number += 1
            attempt = folder / f"attempts/{number}"
        attempt.mkdir(parents=True, exist_ok=True)
        for old in range(1, number - _KEPT_LOGS + 1):
            (folder / f"attempts/{old}/log.txt").unlink(missing_ok=True)
        path = folder / "order.json"
        processes.write_text(path, order.encode().decode())
        processes.spawn(
            [*self._command, "--store", self._store_url, "--order", str(path)], folder=attempt, lock=folder / "lock",
            descriptors=descriptors, environment=processes.child_environment(self._environment),
            niceness=self._niceness, deadline=order.deadline_seconds, grace=self._grace,
        )  # fmt: skip

    def _stop(self, names: Sequence[str], grace: float) -> None:
        with processes.disk_trouble_is_transient(self._jobs):
            folders = [folder for name in names if processes.held((folder := self._folder(name)) / "lock")]
            for folder in folders:
                with suppress(FileNotFoundError):  # it ended and was forgotten just now
                    (folder / f"attempts/{self._newest(folder)}/cancelled").touch()
            processes.terminate([folder / "lock" for folder in folders], grace)

    def _queued(self, folder: Path) -> JobState:
        message = f"waits for one of {self._max_parallel} places to run"
        return JobState(folder.name, JobPhase.QUEUED, self._counted(folder), message=message)

    def _running(self, folder: Path) -> JobState:
        attempt = folder / f"attempts/{self._newest(folder)}"
        began = processes.modified(attempt / "pid") or processes.modified(attempt)
        return JobState(folder.name, JobPhase.RUNNING, max(1, self._counted(folder)), started=began)

    def _ended(self, folder: Path, number: int) -> JobState:
        attempt = folder / f"attempts/{number}"
        ending = _Ending.read(attempt, folder / "order.json")
        reason, why = ending.verdict()
        said = last_words(attempt / "log.txt", processes.child_environment(self._environment), limit=500 - len(why) - 2)
        message = f"{why}: {said}" if why and said else why or said
        return JobState(
            folder.name, JobPhase.ENDED, self._counted(folder), ending.code, reason, message, ending.began, ending.ended
        )

    def _counted(self, folder: Path) -> int:
        """Count attempts, without those that we stopped ourselves: they say nothing about the job."""
        numbers = range(1, self._newest(folder) + 1)
        return sum(not _was_cancelled(folder / f"attempts/{number}") for number in numbers)


def _was_cancelled(attempt: Path) -> bool:
    return (attempt / "cancelled").exists() and processes.read_text(attempt / "exit").split()[:1] != ["0"]


@dataclass(frozen=True)
class _Ending:
    """How an attempt ended, as its wrapper wrote it down."""

    code: int | None
    """None where the wrapper was killed as well."""
    memory_kill: bool
    """Whether the kernel's out-of-memory killer was at work meanwhile, on whomever."""
    cancelled: bool
    deadline: int | None
    began: float
    ended: float
    log: str

    @classmethod
    def read(cls, attempt: Path, order: Path) -> _Ending:
        words = processes.read_text(attempt / "exit").split()
        asked = json.loads(processes.read_text(order) or "{}")
        log = attempt / "log.txt"
        return cls(
            code=int(words[0]) if words else None, memory_kill=words[1:2] != words[2:3],
            cancelled=_was_cancelled(attempt), deadline=asked.get("deadline_seconds"),
            began=processes.modified(attempt / "pid"),
            ended=processes.modified(attempt / "exit") or processes.modified(log), log=tail(log, 4096),
        )  # fmt: skip

    def verdict(self) -> tuple[str, str]:
        """Give the reason, and the sentence for people; both empty where it ended well."""
        match self.code:
            case 0:
                return "", ""
            case _ if self.cancelled:
                return "Cancelled", "stopped on request"
            case None:
                return "Killed", "killed before it could say how it ended, or the machine went down"
            case 10:  # the contract of work orders
                return "Permanent", "never going to work"
            case code:
                return self._failure(code, code - _SIGNALLED)

    def _failure(self, code: int, number: int) -> tuple[str, str]:
        """Explain an exit code other than 0 and 10, which stands for the signal ``number`` where that is one."""
        killed = number == signal.SIGKILL
        if self.deadline and (code == _TIMED_OUT or (killed and self.ended - self.began >= self.deadline)):
            return "DeadlineExceeded", f"ran longer than its deadline of {self.deadline} s"
        if killed and self.memory_kill:
            return "OutOfMemory", "killed by signal 9 while the kernel's out-of-memory killer was at work"
        if _MEMORY.search(self.log):
            return "OutOfMemory", f"ran out of memory (exit code {code})"
        if killed or number == signal.SIGTERM:
            hint = "; often the kernel's out-of-memory killer" if killed else ""
            return "Killed", f"killed by signal {number}{hint}"
        name = f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""
        return "Error", f"exit code {code}{name}"
