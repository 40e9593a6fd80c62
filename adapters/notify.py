"""Messages to people by Apprise: Slack, Teams, mail, webhooks, and whatever else it knows. One way, best effort."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from specs.errors import Stalled, Transient

if TYPE_CHECKING:
    from apprise import Apprise

_KINDS = {"warning": "warning", "critical": "failure", "resolved": "success"}
_TIMEOUT = 20.0
"""Seconds for all places together."""


class Notifier:
    """Sends to the places that a file lists, one address in a line. The file is read each time, for secrets rotate."""

    def __init__(self, urls_file: Path) -> None:
        self._file = urls_file
        # It logs its own failures with parts of addresses; ours say what a person needs, and no more.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)

    def send(self, title: str, body: str, severity: str) -> tuple[str, ...]:
        """Send to all places at once; give the kinds of those that did not take it, ``Slack``, sorted.

        Stalled ``AlertsMisconfigured`` for a file without a usable address, or without the extra; Transient
        ``NotificationFailed`` where no place took it. Neither tells an address, which are secrets.
        """
        answer = self._places().notify(
            body=body, title=title, notify_type=_KINDS[severity], body_format="text", timeout=_TIMEOUT
        )
        failed = sorted({str(each.name) for each in answer.results if not each})
        if not any(answer.results):
            raise Transient("NotificationFailed", f"nobody took the message; tried: {', '.join(failed) or 'no place'}")
        return tuple(failed)

    def _places(self) -> Apprise:
        try:
            import apprise  # noqa: PLC0415 - an extra, and slow to load
        except ImportError as error:
            text = "[alerts] urls_file needs the extra: pip install 'trunkline[alerts]'"
            raise Stalled("AlertsMisconfigured", text) from error
        try:
            lines = [line.strip() for line in self._file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise Stalled("AlertsMisconfigured", f"{self._file} cannot be read") from error
        places = apprise.Apprise()
        wanted = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
        wrong = [str(number) for number, line in wanted if not places.add(line)]
        if wrong:
            text = f"{self._file}: line {', '.join(wrong)} is no address that Apprise knows, as slack://… or mailtos://…"
            raise Stalled("AlertsMisconfigured", text)
        if not wanted:
            raise Stalled("AlertsMisconfigured", f"{self._file} lists no address")
        return places
