"""Alerts for an Alertmanager, by its API v2: it groups, silences and routes; we only say what is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from specs.errors import Transient

LASTS = 300.0
"""Seconds after which an alert that is not told again counts as resolved there, should we be gone."""


@dataclass(frozen=True)
class Posted:
    """One alert as an Alertmanager knows it: its labels are its identity."""

    labels: tuple[tuple[str, str], ...]
    summary: str
    since: str
    """ISO 8601; empty where nobody knows."""
    ends: float
    """Unix time, seconds: in the past where it is over."""


class Alertmanager:
    """One Alertmanager; behind a cluster of them they tell each other."""

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        self._token_file = token_file
        self._http = httpx.Client(timeout=10.0)

    def post(self, alerts: Sequence[Posted]) -> None:
        """Tell it; the same twice is once. Transient ``AlertmanagerUnavailable`` where it does not take them."""
        body = [
            {
                "labels": dict(each.labels), "annotations": {"summary": each.summary},
                **({"startsAt": each.since} if each.since else {}),
                "endsAt": datetime.fromtimestamp(each.ends, UTC).isoformat(),
            }
            for each in alerts
        ]  # fmt: skip
        try:
            answer = self._http.post(self._url, json=body, headers=self._headers())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = f"Alertmanager does not answer ({type(error).__name__})"
            raise Transient("AlertmanagerUnavailable", text) from error
        if not answer.is_success:
            raise Transient("AlertmanagerUnavailable", f"Alertmanager does not take alerts (HTTP {answer.status_code})")

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text(encoding='utf-8').strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            raise Transient("TokenUnreadable", f"the token in {self._token_file} cannot be read") from error
