"""Cron lines: when they were due last and are next, in UTC; what is none, and why."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.calendar import CronCalendar
from specs.errors import Stalled


def moment(text: str) -> float:
    """Give a moment of UTC in Unix time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "now", "last", "following"),
    [
        ("0 3 1 * *", "2026-11-26 10:00:00", "2026-11-01 03:00", "2026-12-01 03:00"),
        ("0 3 * * *", "2026-11-26 03:00:00", "2026-11-26 03:00", "2026-11-27 03:00"),
        ("0 3 * * *", "2026-11-26 02:59:59", "2026-11-25 03:00", "2026-11-26 03:00"),
        ("0 3 * * *", "2026-11-26 03:00:30", "2026-11-26 03:00", "2026-11-27 03:00"),
        ("*/15 * * * *", "2026-11-26 10:44:59", "2026-11-26 10:30", "2026-11-26 10:45"),
        ("30 2 29 3 *", "2026-03-30 00:00:00", "2026-03-29 02:30", "2027-03-29 02:30"),  # no hour of it is missing
        ("0 0 * * MON", "2026-11-26 10:00:00", "2026-11-23 00:00", "2026-11-30 00:00"),
        ("0 0 29 2 *", "2026-11-26 10:00:00", "2024-02-29 00:00", "2028-02-29 00:00"),
    ],
)
def test_moments(schedule: str, now: str, last: str, following: str) -> None:
    """The last moment is at or before now, the next one after it, to the minute, whatever was asked before."""
    calendar = CronCalendar()
    for _ in range(2):
        assert calendar.last(schedule, moment(now)) == moment(last)
        assert calendar.next(schedule, moment(now)) == moment(following)
    assert calendar.last(schedule, moment(following)) == moment(following)
    assert calendar.last(schedule, moment(last) - 1) < moment(last)


@pytest.mark.parametrize(
    ("schedule", "told"),
    [("61 * * * *", "is no cron line: Bad minute"), ("0 0 30 2 *", "is no cron line: Bad day-of-month"),
     ("@daily", "must have five fields, such as 0 3 1 * *"), ("0 0 0 * * *", "must have five fields"),
     ("a b c d e", "is no cron line")],
)  # fmt: skip
def test_what_is_no_cron_line_says_why(schedule: str, told: str) -> None:
    """Stalled, with the line as it is written."""
    with pytest.raises(Stalled, match="cron line") as caught:
        CronCalendar().last(schedule, 0.0)
    assert caught.value.reason == "ScheduleInvalid"
    assert told in caught.value.message
    assert f'"{schedule}"' in caught.value.message
