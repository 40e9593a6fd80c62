"""When a signal fires and when it ceases: the fold over windows, and how an episode keeps its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcilers.episodes import episode_windows, standings
from reconcilers.observed import Judgement, Reading
from specs.monitoring import Monitoring
from specs.names import episode_name
from specs.status import SignalStatus
from tests.support.builders import NOW
from tests.support.watched import HOUR

SAID = {"F": Judgement.FAILING, "P": Judgement.PASSING, ".": Judgement.INCONCLUSIVE}
VERSION = 7


def monitoring(needed: int = 3) -> Monitoring:
    """Give a section with one signal."""
    signals = [{"name": "errors", "type": "ErrorRate", "max": 0.05}]
    given: dict[str, Any] = {"window": "1h", "signals": signals, "forWindows": needed}
    return Monitoring.model_validate(given, by_alias=True, by_name=False)


def hours(text: str, begin: int = 0) -> tuple[Reading, ...]:
    """Give a window for each letter: F fails, P passes, a dot says nothing, a space is a window that nobody saw."""
    return tuple(
        Reading(NOW + (begin + hour) * HOUR, SAID[letter], 100 + begin + hour, 0.1)
        for hour, letter in enumerate(text) if letter != " "
    )  # fmt: skip


def stand(
    readings: Sequence[Reading], before: SignalStatus | None = None, asked_for: Mapping[str, bool] | None = None,
    needed: int = 3,
) -> SignalStatus:  # fmt: skip
    """Give how the signal stands."""
    known = [] if before is None else [before]
    (found,) = standings(monitoring(needed), VERSION, {"errors": readings} if readings else {}, known, asked_for or {})
    return found


def episode(hour: int, version: int = VERSION) -> str:
    """Give the name of the episode that began in an hour."""
    return episode_name("errors", version, NOW + hour * HOUR)


@pytest.mark.parametrize(
    ("windows", "state", "began"),
    [
        ("", "Unknown", None), ("....", "Unknown", None), ("P", "Quiet", None), ("FF", "Quiet", None),
        ("FFF", "Firing", 0), ("PFFF", "Firing", 1), ("F.F..F", "Firing", 0), ("FFPFFPFF", "Quiet", None),
        ("FFFPP", "Firing", 0), ("FFFPPFPPF", "Firing", 0), ("FFF....", "Firing", 0), ("FFFPPP", "Quiet", None),
        ("FFFPPPFFF", "Firing", 6), ("FFFP.P.P", "Quiet", None), ("FPFPFPFPFP", "Quiet", None),
        ("FFFFFFFF", "Firing", 0),
    ],
)  # fmt: skip
def test_fold(windows: str, state: str, began: int | None) -> None:
    """As many conclusive windows in a row as are needed turn it, in either direction; silence counts for nothing."""
    found = stand(hours(windows))
    assert found.state == state
    assert found.episode == (episode(began) if began is not None else "")


def test_numbers_are_those_of_the_transition() -> None:
    """Value, interval and n are told as they were when it began to fire, however long that lasts."""
    short, long_ = stand(hours("PFFF")), stand(hours("PFFFFFFPF"))
    assert short == long_
    assert (short.n, short.since) == (103, "2027-01-15T09:00:00Z")
    ceased = stand(hours("FFFPPPPPP"))
    assert (ceased.state, ceased.since, ceased.n) == ("Quiet", "2027-01-15T11:00:00Z", 105)


def test_a_long_episode_keeps_its_name_while_windows_go_out_of_sight() -> None:
    """What the last status said is all that is known of its beginning; it ceases all the same."""
    began = stand(hours("PFFF"))
    assert stand(hours("FFFFFF", 10), began) == began
    assert stand(hours("FPFPFP", 10), began) == began
    assert stand(hours("......", 10), began) == began
    assert stand((), began) == began
    assert stand(hours("FFPPP", 10), began).state == "Quiet"
    again = stand(hours("FPPPFFF", 10), began)
    assert again.episode == episode(14)


def test_windows_that_nobody_saw_change_no_name() -> None:
    """The window with which it began is lost, those before and after are known: it is still the same episode."""
    began = stand(hours("PPFFF"))
    assert stand(hours("PP FFF"), began) == began


def test_a_lost_status_is_made_good_from_the_windows() -> None:
    """As long as they reach back to the beginning, the same is told again."""
    for windows in ("PFFF", "PFFFPPPP", "PPP", "FFFPPPFFFF"):
        assert stand(hours(windows), SignalStatus(name="errors", state="Unknown")).state == stand(hours(windows)).state
        assert stand(hours(windows), stand(hours(windows))) == stand(hours(windows))


def test_beyond_the_windows_a_pull_request_remembers() -> None:
    """Else one that lasts for days would have another name after the loss, and be asked about twice."""
    name = episode(0)
    assert stand(hours("FFFF", 30), None, {name: True}).episode == name
    assert stand(hours("FFFF", 30), None, {name: False}).episode == name
    assert stand(hours("FPF", 30), None, {name: True}).episode == name
    assert stand((), None, {name: True}).episode == name


def test_a_pull_request_is_no_reason_to_fire() -> None:
    """Where windows tell otherwise, where it was about another release or signal, or is decided, it is not heard."""
    name = episode(0)
    assert stand(hours("PPP", 30), None, {name: True}).state == "Quiet"
    assert stand(hours("FPF", 30), None, {name: False}).state == "Quiet"
    assert stand(hours("PPPFFF", 30), None, {name: True}).episode == episode(33)
    assert stand(hours("FFFF", 30), None, {episode(0, VERSION - 1): True}).episode == episode(30)
    assert stand(hours("FFFF", 30), None, {"light-v7-20270115T080000Z": True, "nonsense": True}).episode == episode(30)
    quiet = SignalStatus(name="errors", state="Quiet")
    assert stand(hours("FFFF", 30), quiet, {name: False}).episode == episode(30)


def test_a_new_release_begins_afresh() -> None:
    """What fired under the version before says nothing about this one."""
    before = SignalStatus(name="errors", state="Firing", episode=episode(0, VERSION - 1))
    assert stand(hours("FF", 30), before).state == "Quiet"
    assert stand((), before).state == "Unknown"


def test_silence_after_quiet_is_told_and_silence_after_firing_is_no_good_news() -> None:
    """Without any conclusive window nobody knows; but what fires goes on until windows pass."""
    assert stand(hours("...."), SignalStatus(name="errors", state="Quiet")).state == "Unknown"
    began = stand(hours("FFF"))
    assert stand(hours("...."), began) == began


def test_windows_of_the_beginning_are_evidence() -> None:
    """Those by which it came to fire, and no later ones, so that the same is written however late."""
    readings = hours("PF.FFFFF")
    found = episode_windows(readings, readings[1].start, 3)
    assert [each.n for each in found] == [101, 103, 104]
    assert episode_windows(readings, NOW - HOUR, 3) == ()
    assert episode_windows(hours("FF"), NOW, 3) == ()


def test_windows_need_not_begin_at_whole_seconds() -> None:
    """Names have seconds only; short windows are known again by them all the same."""
    half = tuple(Reading(NOW + 1.5 * at, SAID[letter], 100, 0.1) for at, letter in enumerate("PFFFFF"))
    began = stand(half[:4])
    assert stand(half, began) == began
    assert len(episode_windows(half, float(int(half[1].start)), 3)) == 3
    assert stand(half[4:], began) == began


LETTERS = st.text("FP.", max_size=40)
LOUD = st.text("FP", max_size=40)


@given(LETTERS, st.integers(1, 4))
def test_what_is_told_is_told_again(windows: str, needed: int) -> None:
    """The same windows after their own answer give that answer: nothing is written twice."""
    found = stand(hours(windows), None, None, needed)
    assert stand(hours(windows), found, None, needed) == found


@given(LOUD, st.integers(1, 4), st.integers(4, 12))
def test_a_sliding_view_tells_the_whole_story(windows: str, needed: int, view: int) -> None:
    """Whoever sees only the last windows, and what was told before, names the same episodes as whoever sees all."""
    told: SignalStatus | None = None
    for end in range(1, len(windows) + 1):
        begin = max(0, end - view)
        told = stand(hours(windows[begin:end], begin), told, None, needed)
        whole = stand(hours(windows[:end]), None, None, needed)
        assert told.episode == whole.episode


@given(LETTERS, st.integers(2, 4))
def test_flapping_fires_at_most_once_in_each_stretch(windows: str, needed: int) -> None:
    """Between two episodes lie as many passing windows as it takes to cease: a storm of readings is one episode."""
    seen: dict[str, int] = {}
    for end in range(1, len(windows) + 1):
        found = stand(hours(windows[:end]), None, None, needed).episode
        if found:
            seen.setdefault(found, end)
    conclusive = windows.replace(".", "")
    assert len(seen) <= (conclusive.count("F") + needed - 1) // needed
    assert len(seen) <= 1 + conclusive.count("P") // needed
