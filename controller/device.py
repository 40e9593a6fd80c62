"""A device: it pulls what git says, serves it, and tells in the store how it stands, whenever that is something new.

Nothing here waits for a network: without one, what serves goes on serving, also after the machine was started again,
and whatever was missed is caught up with later.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from pydantic import ValidationError

from adapters.processes import read_text, write_text
from reconcilers.devices import DeviceLoop
from reconcilers.ports import Servers
from specs.errors import Problem, Transient, TrunklineError
from specs.facts import SourcedSpec
from specs.fleet import Device, DeviceModel, DeviceReport
from specs.modelspec import ModelKey
from specs.moments import iso, unix
from specs.names import serving_name

log = logging.getLogger("trunkline.device")
_SOON = 5.0
"""Seconds until a device looks again that has something under way; twice as long each time after that."""
_FIRST_BACKOFF, _LAST_BACKOFF = 5.0, 900.0
"""Seconds between two tries to tell, while the store cannot be reached."""


class Trunk(Protocol):
    """The tracked branch, as a device sees it."""

    def refresh(self) -> None:
        """Look again; Transient where nobody answers."""

    def recall(self) -> None:
        """Read what was fetched last, without asking anybody; nothing happens where nothing ever was."""

    @property
    def head(self) -> str:
        """The commit that was read last; empty where none was."""

    def keys(self) -> tuple[ModelKey, ...]:
        """Give all models that can be acted on."""

    def get(self, key: ModelKey) -> SourcedSpec | None:
        """Give one model's text and origin."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with any file."""


Tell = Callable[[DeviceReport], None]


@dataclass
class DeviceAgent:
    """Looks at all models of the tracked branch, again and again."""

    device: Device
    loop: DeviceLoop
    trunk: Trunk
    servers: Servers
    tell: Tell
    folder: Path
    """Where it keeps what it said last; it can be lost."""
    clock: Callable[[], float]
    tell_again: float = 86_400.0
    _report: DeviceReport | None = None
    _failures: int = 0
    _due: float = 0.0
    """When telling is tried again."""
    _said: dict[str, str] = field(default_factory=dict)
    """Trouble by what it is about, so that each is logged once."""

    def once(self) -> bool:
        """Look at every model; True where looking again soon is worth while."""
        behind = self._refresh()
        report, busy = self._look()
        self._sweep({each.model for each in report.models})
        if not report.models and not self.trunk.head:
            return True  # a new device that has never seen the branch has nothing to say
        return self._speak(report) or busy or behind

    def forever(self, interval: float, stop: Event) -> None:
        """Look about every ``interval`` seconds until told to stop; while something is under way, more often.

        What lasts is soon looked at no more often than the rest: thousands of devices must not fall upon a git or a
        store that is down.
        """
        soon = _SOON
        while not stop.is_set():
            busy = self.once()
            pace = min(interval, soon) if busy else interval
            soon = soon * 2 if busy else _SOON
            stop.wait(pace * random.uniform(0.8, 1.2))  # noqa: S311  jitter, not a secret

    @property
    def report(self) -> DeviceReport:
        """What was said last, or is to be."""
        if self._report is None:
            try:
                self._report = DeviceReport.model_validate_json(read_text(self.folder / "report.json") or "{}")
            except ValidationError:
                self._report = DeviceReport(device=self.device.name)
        return self._report

    def _refresh(self) -> bool:
        """Look at the branch; True where nobody answered."""
        try:
            self.trunk.refresh()
        except TrunklineError as error:
            self._complain("git", error)
            if not self.trunk.head:
                self._recall()
            return isinstance(error, Transient)
        self._said.pop("git", None)
        return False

    def _recall(self) -> None:
        try:
            self.trunk.recall()
        except TrunklineError as error:
            self._complain("mirror", error)

    def _look(self) -> tuple[DeviceReport, bool]:
        before, busy = self.report, False
        models: list[DeviceModel] = []
        keys = self.trunk.keys()
        for key in keys:
            source, name = self.trunk.get(key), serving_name(*key)
            if source is None:
                continue
            looked = self.loop.look(source, before.of(name))
            if looked.trouble is not None:
                self._complain(name, looked.trouble)
            else:
                self._said.pop(name, None)
            busy = busy or looked.busy
            models += [looked.told] if looked.told is not None else []
        if self.trunk.problems:  # a model whose file is broken serves on, and is told of as it was
            models += [told for told in before.models if all(told.model != each.model for each in models)]
        report = DeviceReport(
            device=self.device.name, labels=dict(self.device.labels), commit=self.trunk.head, models=models
        )
        return report, busy

    def _sweep(self, wanted: set[str]) -> None:
        """Stop serving models that left the branch; never while a file is broken, for it may be theirs.

        To ask what serves starts a dead server again, whatever is known of the branch.
        """
        try:
            served = self.servers.names()
            keeps = self.trunk.problems or not self.trunk.head
            for name in () if keeps else served:
                if name not in wanted:
                    self.servers.withdraw(name)
        except Transient as error:
            self._complain("server", error)

    def _speak(self, report: DeviceReport) -> bool:
        """Tell what is new; True where it still has to be told."""
        before, now = self.report, self.clock()
        news = (report.labels, report.models) != (before.labels, before.models)
        if not news and before.told and now - unix(before.told) < self.tell_again:
            return False
        told = report.model_copy(update={"told": iso(now)})
        if self._told(told, now):
            self._keep(told)
            return False
        if news:
            self._keep(report)  # since when something serves must not be lost while the store is away
        return True

    def _told(self, report: DeviceReport, now: float) -> bool:
        """Try to tell, unless that failed a moment ago; whether it was told."""
        if now < self._due:
            return False
        try:
            self.tell(report)
        except TrunklineError as error:
            self._failures += 1
            wait = min(_FIRST_BACKOFF * 2.0 ** (self._failures - 1), _LAST_BACKOFF)
            self._due = now + wait * random.uniform(0.5, 1.0)  # noqa: S311  likewise
            self._complain("store", error)
            return False
        self._failures, self._due = 0, 0.0
        self._said.pop("store", None)
        return True

    def _keep(self, report: DeviceReport) -> None:
        self._report = report
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "report.json", report.encode().decode())

    def _complain(self, about: str, error: TrunklineError) -> None:
        if self._said.get(about) != str(error):
            self._said[about] = str(error)
            log.warning("%s: %s: %s", about, error.reason, error.message)
