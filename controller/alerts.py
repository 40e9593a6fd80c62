"""Tells people: what is so is compared with what was told, again and again, so that no kill loses a message.

A message that was sent just before a kill is sent twice; none is lost.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from adapters.alertmanager import LASTS, Alertmanager, Posted
from adapters.notify import Notifier
from adapters.processes import write_text
from controller.setting_tables import AlertSettings
from reconcilers.alerting import Alert, Message, alerts, messages
from specs.errors import TrunklineError
from specs.modelspec import ModelKey
from specs.status import ModelStatus

log = logging.getLogger("trunkline.alerts")

Current = Callable[[], Iterable[tuple[ModelKey, ModelStatus]]]
"""Gives the status of all models that may have something to tell."""
_PACE = 2.0
"""Seconds between two comparisons."""
_RETRY = 30.0
"""Seconds until a message that nobody took is sent again."""
_RESEND = 60.0
"""Seconds between two posts to an Alertmanager."""


class Messenger(Protocol):
    """Where messages go."""

    def send(self, title: str, body: str, severity: str) -> tuple[str, ...]:
        """Send; give the places that did not take it. Raises TrunklineError where nobody did."""


@dataclass(frozen=True)
class _Told:
    alert: Alert
    when: float
    """Unix time, seconds."""


class Memory:
    """What was told, in a file: a cache, and who loses it tells what is so once more."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, _Told]:
        """Give what was told, by the alert's id; nothing where nobody remembers."""
        try:
            entries = json.loads(self._file.read_bytes())
            return {each["alert"]["id"]: _Told(Alert(**each["alert"]), float(each["when"])) for each in entries}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def write(self, told: Iterable[_Told]) -> None:
        """Remember; a file that cannot be written costs a message too many, some day."""
        text = json.dumps([{"alert": asdict(each.alert), "when": each.when} for each in told], indent=1)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, text + "\n")
        except OSError as error:
            log.warning("what was told cannot be remembered: %s", error.strerror)


class Alerts:
    """Compares and tells. One thread calls ``once``."""

    def __init__(
        self, current: Current, memory: Memory, settings: AlertSettings, *, notifier: Messenger | None = None,
        alertmanager: Alertmanager | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._current, self._memory, self._settings = current, memory, settings
        self._notifier, self._alertmanager, self._clock = notifier, alertmanager, clock
        self._gathering: float | None = None
        self._retry = 0.0
        self._posted: dict[str, Alert] = {}
        self._next_post = self._no_post_before = 0.0
        self._complaints: dict[str, str] = {}

    def forever(self, stop: Event) -> None:
        """Tell until told to stop; what is gathered by then is told before the end."""
        while not stop.wait(_PACE):
            self.once()
        self.once(hurry=True)

    def once(self, *, hurry: bool = False) -> None:
        """Compare once. ``hurry`` gathers no more. Never raises for trouble on the way."""
        found = {alert.id: alert for key, status in self._current() for alert in alerts(key, status)}
        # Each by itself: an Alertmanager that is down must not silence the chats, nor the other way round.
        if self._alertmanager is not None:
            try:
                self._post(found, self._alertmanager, hurry=hurry)
            except TrunklineError as error:
                self._complain("alertmanager", error)
        if self._notifier is not None:
            try:
                self._tell(found, self._notifier, hurry=hurry)
            except TrunklineError as error:
                self._complain("people", error)

    def _tell(self, found: dict[str, Alert], notifier: Messenger, *, hurry: bool) -> None:
        now, told = self._clock(), self._memory.read()
        fresh = [alert for id_, alert in found.items() if id_ not in told]
        over = [each.alert for id_, each in told.items() if id_ not in found]
        still = [each.alert for id_, each in told.items() if id_ in found and now - each.when >= self._settings.repeat]
        if not (fresh or over or still):
            self._gathering = None
            return
        self._gathering = now if self._gathering is None else self._gathering
        if not hurry and (now - self._gathering < self._settings.group_wait or now < self._retry):
            return
        # Each message is remembered before the next one is sent, so that a kill repeats one at most.
        for message, those in (*messages("new", fresh), *messages("still", still), *messages("over", over)):
            self._send(notifier, message, now)
            for alert in those:
                if alert.id in found:
                    told[alert.id] = _Told(alert, now)
                else:
                    told.pop(alert.id, None)
            self._memory.write(told.values())
        self._gathering = None
        self._complaints.pop("people", None)

    def _send(self, notifier: Messenger, message: Message, now: float) -> None:
        try:
            failed = notifier.send(f"Trunkline: {message.title}", message.body, message.severity)
        except TrunklineError:
            self._retry = now + _RETRY
            raise
        if failed:
            log.warning("a message did not get to %s; others took it", ", ".join(failed))

    def _post(self, found: dict[str, Alert], alertmanager: Alertmanager, *, hurry: bool) -> None:
        now = self._clock()
        changed = found.keys() != self._posted.keys()
        if not (found or changed) or now < self._no_post_before or not (changed or hurry or now >= self._next_post):
            return
        self._no_post_before = now + _RETRY  # where posting raises, that holds
        over = [alert for id_, alert in self._posted.items() if id_ not in found]
        alertmanager.post([*(_posted(each, now + LASTS) for each in found.values()), *(_posted(a, now) for a in over)])
        self._posted, self._next_post, self._no_post_before = dict(found), now + _RESEND, 0.0
        self._complaints.pop("alertmanager", None)

    def _complain(self, whom: str, error: TrunklineError) -> None:
        """Log trouble with telling somebody once, until it changes or a message got out again."""
        if self._complaints.get(whom) != str(error):
            self._complaints[whom] = str(error)
            log.warning("%s: %s", error.reason, error.message)


def make(settings: AlertSettings, state: Path, current: Current) -> Alerts | None:
    """Put it together; None where nobody is to be told."""
    if settings.urls_file is None and not settings.alertmanager_url:
        return None
    notifier = Notifier(settings.urls_file) if settings.urls_file else None
    url = settings.alertmanager_url
    manager = Alertmanager(url, settings.alertmanager_token_file) if url else None
    return Alerts(current, Memory(state / "alerts.json"), settings, notifier=notifier, alertmanager=manager)


def _posted(alert: Alert, ends: float) -> Posted:
    namespace, _, name = alert.model.partition("/")
    labels = {
        "alertname": f"Trunkline{alert.name}", "namespace": namespace, "model": name, "subject": alert.subject,
        "severity": alert.severity,
    }  # fmt: skip
    return Posted(tuple(labels.items()), alert.text, alert.since, ends)
