"""Prometheus' HTTP API: questions in PromQL at a moment, samples as answers. Whatever speaks it will do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from adapters.tracking_access import Access
from adapters.traffic_series import OURS, Sample
from specs.errors import Transient

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_NAME = "__name__"
_WORDS = 300

Replica = tuple[tuple[str, str], ...]
"""Who counted: all labels that do not say what is counted, sorted."""
Series = tuple[str, Mapping[str, str], Sequence[tuple[float, float]]]
"""Name, labels, (Unix time, value) in order."""


class NoAnswer(Transient):
    """Prometheus said nothing at all; other questions are as vain now."""

    def __init__(self, message: str) -> None:
        super().__init__("TrafficUnreachable", message)


class PrometheusApi:
    """One Prometheus. Every trouble is Transient ``TrafficUnreachable``, in words that are the same each time.

    ``token_file`` holds a bearer token, or ``USER:PASSWORD``; it is read for each question, since tokens rotate, and
    goes to ``url`` and nowhere else: redirects are not followed.
    """

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._access = Access((urlsplit(url).netloc,), token_file)

    @cached_property
    def _http(self) -> httpx.Client:
        """Made when it is needed, for that takes a while."""
        return httpx.Client(timeout=_TIMEOUT)

    def vector(self, question: str, at: float) -> list[Sample]:
        """Ask for one value of each series, at a moment; those that are no number are left out."""
        found: list[Sample] = []
        for each in self._ask(question, at):
            name, labels = _apart(each["metric"])
            value = float(each["value"][1])
            if math.isfinite(value):
                found.append((name, labels, value))
        return found

    def matrix(self, question: str, at: float) -> list[Series]:
        """Ask for all samples of each series in the stretch of time that the question names, until a moment."""
        return [
            (*_apart(each["metric"]), [(float(moment), float(value)) for moment, value in each["values"]])
            for each in self._ask(question, at)
        ]

    def _ask(self, question: str, at: float) -> list[dict[str, Any]]:
        headers = self._access.headers(self.url)
        given = {"query": question, "time": f"{at:.3f}"}
        try:
            answer = self._http.post(f"{self.url}/api/v1/query", data=given, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"Prometheus at {self.url} does not answer ({type(error).__name__})") from error
        if not answer.is_success:
            raise _unreachable(self.url, f"answers HTTP {answer.status_code}{_words(answer)}")
        with suppress(ValueError, LookupError, TypeError):
            return list(answer.json()["data"]["result"])
        raise _unreachable(self.url, "answers with something that is not Prometheus'")


def by_replica(samples: Sequence[Sample]) -> dict[Replica, list[Sample]]:
    """Sort samples by who counted."""
    found: defaultdict[Replica, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[replica_of(sample[1])].append(sample)
    return dict(found)


def replica_of(labels: Mapping[str, str]) -> Replica:
    """Say who counted a series."""
    return tuple(sorted((name, value) for name, value in labels.items() if name not in OURS))


def _apart(metric: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    return metric.get(_NAME, ""), {name: value for name, value in metric.items() if name != _NAME}


def _unreachable(url: str, what: str) -> Transient:
    return Transient("TrafficUnreachable", f"Prometheus at {url} {what}")


def _words(answer: httpx.Response) -> str:
    with suppress(ValueError, LookupError, TypeError):
        return f": {answer.json()['error']}"[:_WORDS]
    return ""
