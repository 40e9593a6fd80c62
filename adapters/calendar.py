"""Cron lines: when they were due last, and when they are next."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from specs.errors import Stalled

_REASON = "ScheduleInvalid"
_FIELDS = 5
_MINUTE = 60.0
_REMEMBERED = 20_000


class CronCalendar:
    """Reads cron lines of five fields as Debian's cron does, in UTC: there is no hour that is missing or comes twice.

    An answer holds until the next moment comes, so it is worked out once.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}
        """Cron line to the last moment that was told, and the one after it."""

    def last(self, schedule: str, now: float) -> float:
        """Give the last moment at or before ``now``. Unix time, seconds. Stalled ``ScheduleInvalid`` where none is."""
        return self._around(schedule, now)[0]

    def next(self, schedule: str, now: float) -> float:
        """Give the first moment after ``now``; Stalled likewise."""
        return self._around(schedule, now)[1]

    def _around(self, schedule: str, now: float) -> tuple[float, float]:
        known = self._known.get(schedule)
        if known is None or not known[0] <= now < known[1]:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            last = _step(schedule, now - now % _MINUTE + _MINUTE, reverse=True)
            known = self._known[schedule] = (last, _step(schedule, last, reverse=False))
        return known


def _step(schedule: str, since: float, *, reverse: bool) -> float:
    """Give the nearest moment before or after ``since``, itself left out."""
    if len(schedule.split()) != _FIELDS:
        raise Stalled(_REASON, f'"{schedule}" is no cron line: it must have five fields, such as 0 3 1 * *')
    try:
        found = next(CronSim(schedule, datetime.fromtimestamp(since, UTC), reverse=reverse))
    except CronSimError as error:
        raise Stalled(_REASON, f'"{schedule}" is no cron line: {error}') from error
    except StopIteration as error:
        raise Stalled(_REASON, f'"{schedule}" names no moment at all') from error
    return found.timestamp()
