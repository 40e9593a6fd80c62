"""Live traffic, counted by asking the servers themselves: for an agent, and for clusters without Prometheus.

Each server's ``/metrics`` is read every ``poll`` seconds, or four times in a window where that is more often, and at
the very end of each window. See ``traffic_ledger`` for how windows come of that.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter, ValidationError

from adapters import processes
from adapters.traffic_ledger import Ledger, Told
from adapters.traffic_rounds import BUG, Entry, Rounds, log
from adapters.traffic_series import COUNTED, STARTED, Sample, counted, loaded
from specs.errors import TrunklineError
from specs.traffic import LOADED, Watch, Watched

Roots = Callable[[str], Sequence[str]]
"""Gives the addresses of all servers that live and have a model, by the name that it has there.

It may take a while, and raise TrunklineError.
"""

_TIMEOUT = httpx.Timeout(2.0, connect=1.0)
_AT_ONCE = 8
_WRITTEN = 10.0
"""Seconds, at least, between two times that a model's books are written down."""
_WANTED = (*COUNTED, LOADED, STARTED)
_BOOKS = TypeAdapter(Ledger)

T = TypeVar("T")
R = TypeVar("R")

class ScrapedTraffic(Rounds[Ledger]):
    """The port ``TrafficSource``. Any number of threads may ask.

    ``folder`` keeps the books over a restart of this process, a small file for each model, written when a window is
    shut; without it, or with an old file in it, fewer windows are known, and never wrong ones.
    """

    def __init__(
        self, roots: Roots, *, poll: float = 15.0, folder: Path | None = None,
        clock: Callable[[], float] = time.time, background: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(clock, poll=poll, background=background)
        self._roots, self._folder = roots, folder
        self._written: dict[str, tuple[float, float | None]] = {}
        """When a model's books were written, and which window was open in them."""

    @cached_property
    def _http(self) -> httpx.Client:
        """Made when it is needed, for that takes a while. A server of ours is behind no proxy."""
        return httpx.Client(trust_env=False, timeout=_TIMEOUT)

    def _begin(self, asked: Watch) -> Ledger:
        if self._folder is None:
            return Ledger(asked.window)
        try:
            found = _BOOKS.validate_json((self._folder / f"{asked.name}.json").read_bytes())
        except (OSError, ValidationError):
            return Ledger(asked.window)
        return found if found.window == asked.window else Ledger(asked.window)

    def _answer(self, entry: Entry[Ledger]) -> Watched:
        return entry.known.watched(entry.asked, entry.told_trouble)

    def _visit(self, due: Sequence[Entry[Ledger]]) -> None:
        """Ask each server once, however many of the models it has."""
        places = dict(_at_once(lambda entry: (entry.asked.name, self._find(entry)), due))
        urls = sorted({url for found in places.values() if found is not None for url in found})
        now = self._clock()
        http = self._http
        said = dict(_at_once(lambda url: (url, _fetch(http, url)), urls))
        names = {entry.asked.name for entry in due}
        read = ((url, read_metrics(text, names)) for url, text in said.items() if text is not None)
        told = {url: found for url, found in read if found is not None}
        for entry in due:
            try:
                with self._lock:
                    self._enter(entry, now, places[entry.asked.name], told)
                self._keep(entry, now)
            except Exception:  # noqa: BLE001  a bug about one model must not keep the others from being looked at
                log.exception("traffic of %s could not be looked at", entry.asked.name)
                with self._lock:
                    entry.failed(BUG)
                    entry.due = now + self.every(entry.asked)

    def _enter(
        self, entry: Entry[Ledger], now: float, urls: Sequence[str] | None, told: dict[str, dict[str, Told]]
    ) -> None:
        every, name = self.every(entry.asked), entry.asked.name
        if urls is None:
            self._settle(entry, now + every / 2)
            return
        silent = [url for url in urls if url not in told]
        entry.known.take(entry.asked, now, {url: told[url][name] for url in urls if url in told}, silent)
        if silent:
            some = "no server" if len(silent) == len(urls) else "not every server"
            entry.failed(f"{some} of {name} answers at /metrics")
        else:
            entry.went_well()
        self._settle(entry, entry.known.due(entry.asked, now, every / 2 if silent else every))

    def _find(self, entry: Entry[Ledger]) -> Sequence[str] | None:
        try:
            return self._roots(entry.asked.name)
        except TrunklineError as error:
            with self._lock:
                entry.failed(error.message)
            return None

    def _keep(self, entry: Entry[Ledger], now: float) -> None:
        """Write a model's books down once a window was shut, but not all the time."""
        name, books = entry.asked.name, entry.known
        when, opened = self._written.get(name, (0.0, None))
        if self._folder is None or books.opened == opened or now - when < _WRITTEN:
            return
        self._written[name] = now, books.opened
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            processes.write_text(self._folder / f"{name}.json", _BOOKS.dump_json(books).decode())
        except OSError as error:
            log.warning("what was counted of %s is not kept: %s", name, error.strerror)


def _fetch(http: httpx.Client, url: str) -> str | None:
    try:
        answer = http.get(f"{url}/metrics")
    except httpx.HTTPError:
        return None
    return answer.text if answer.is_success else None


def _at_once(do: Callable[[T], R], each: Sequence[T]) -> list[R]:
    """Do something with each, a few at once; gives what comes of it, in any order. The threads hold up no exit."""
    left, found = deque(each), list[R]()

    def work() -> None:
        while True:
            try:
                one = left.popleft()
            except IndexError:
                return
            found.append(do(one))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_AT_ONCE, len(left)) - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    return found


def read_metrics(text: str, names: set[str]) -> dict[str, Told] | None:
    """Give what a server's ``/metrics`` says of each of these models; None where it is nonsense."""
    lines = (line for line in text.splitlines() if line.startswith(_WANTED))
    started = 0.0
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for name, labels, value, *_ in family.samples:
                if name == STARTED:
                    started = value
                elif labels.get("model") in names:
                    samples[labels["model"]].append((name, labels, value))
    except ValueError:
        return None
    return {name: Told(started, counted(samples[name], started, started), loaded(samples[name])) for name in names}
