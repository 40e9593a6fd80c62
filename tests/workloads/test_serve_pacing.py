"""What is learned about a model's times, and what follows from it. No clock: seconds are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.gated_engine import taught
from workloads.serve.pacing import Gaps, Pace, Patience


def saturated(pace: Pace, seconds: Callable[[int], float], batches: int, waiting: int = 64) -> list[int]:
    """Give the sizes of so many batches, each of which takes ``seconds`` of its rows."""
    sizes = []
    for _ in range(batches):
        sizes.append(pace.size(waiting))
        pace.learn(sizes[-1], seconds(sizes[-1]))
    return sizes


def test_a_model_that_gains_gets_large_batches() -> None:
    """Where sixteen rows take as long as one, saturation ends in batches of sixteen."""
    sizes = saturated(Pace(16), lambda rows: 0.010, 60)
    assert sizes[:9] == [*[1] * 8, 2]
    assert sizes[-20:] == [16] * 20


def test_a_model_that_gains_nothing_goes_one_by_one() -> None:
    """Where each row takes its time, batches are tried up to four rows, which keeps memory small, and then left."""
    sizes = saturated(Pace(16), lambda rows: 0.005 * rows, 80)
    assert max(sizes) == 4
    assert sizes[-40:] == [1] * 40


def test_a_gain_that_ends_ends_the_growth() -> None:
    """The smallest size that is nearly the best is kept: here four lanes are filled by four rows."""
    sizes = saturated(Pace(16), lambda rows: 0.010 * -(-rows // 4), 80)
    assert sizes[-20:] == [4] * 20


def test_a_machine_that_changes_is_noticed() -> None:
    """Neighbouring sizes are tried again after a while, so that a gain that comes later is found."""
    pace = Pace(16)
    saturated(pace, lambda rows: 0.005 * rows, 100)
    assert saturated(pace, lambda rows: 0.005, 5000)[-1] == 16


def test_few_that_wait_go_together() -> None:
    """Where a model gained as far as it is known, all that wait may go, and no size is tried that too few wait for."""
    pace, batches = Pace(16), []
    for _ in range(30):
        batches.append(min(3, pace.size(3)))
        pace.learn(batches[-1], 0.010)
    assert batches[:16] == [*[1] * 8, *[2] * 8]
    assert set(batches[16:]) == {3}


def test_times_of_sizes_never_seen_are_guessed() -> None:
    """Between sizes the next larger one bounds the guess, beyond all of them it grows in proportion."""
    pace = Pace(16)
    assert pace.expected(5) == 0.0
    for _ in range(20):
        pace.learn(1, 0.010)
        pace.learn(8, 0.040)
    assert pace.expected(1) == pytest.approx(0.010)
    assert pace.expected(2) == pytest.approx(0.020)
    assert pace.expected(6) == pytest.approx(0.040)
    assert pace.expected(32) == pytest.approx(0.160)


def test_how_long_those_ahead_take() -> None:
    """They go in the best batches; where only large requests were seen, their rows tell how long one takes."""
    assert Pace(16).drained(100) == 0.0
    assert taught(16, first=0.010, more=0.002).drained(32) == pytest.approx(2 * 0.040, rel=0.01)
    large = Pace(16)
    large.learn(8, 0.080)
    assert large.drained(4) == pytest.approx(0.040, rel=0.01)


def test_one_slow_inference_is_forgotten() -> None:
    """The first inference, which is often slow, weighs little after a while."""
    pace = Pace(1)
    pace.learn(1, 5.0)
    for _ in range(100):
        pace.learn(1, 0.010)
    assert pace.expected(1) == pytest.approx(0.010, rel=0.1)


def test_a_batch_fits_what_is_left_for_its_first_request() -> None:
    """The less time the first request has left, the smaller its batch; at last it goes alone."""
    pace = taught(16, first=0.010, more=0.002)
    assert [pace.size(64, left) for left in (1.0, 0.041, 0.025, 0.015, 0.001, -1.0)] == [16, 16, 8, 2, 1, 1]


def test_waiting_is_worth_it_only_where_it_gains() -> None:
    """One row waits for another where those are expected soon, the budget has room, and a batch gains."""
    gains, even = taught(16, first=0.010, more=0.001), taught(16, first=0.010, more=0.010)
    assert Patience(gains).worth(1, 0.100, 0.005) == pytest.approx(0.010)
    assert Patience(even).worth(1, 0.100, 0.005) == 0.0
    assert Patience(gains).worth(16, 0.100, 0.005) == 0.0
    assert Patience(gains).worth(1, 0.020, 0.005) == 0.0
    assert Patience(gains).worth(1, 0.100, 0.050) == 0.0
    assert Patience(gains).worth(1, 0.100, None) == 0.0


def test_waiting_in_vain_becomes_rare() -> None:
    """A client that asks again only after its answer makes waiting useless, which is noticed; success restores it."""
    patience = Patience(taught(16, first=0.010, more=0.001))
    waited = []
    for _ in range(300):
        waits = patience.worth(1, 0.100, 0.005) > 0
        waited.append(waits)
        if waits:
            patience.paid(came=False)
    assert waited[0]
    assert 5 < sum(waited) < 15
    while not patience.worth(1, 0.100, 0.005):
        pass
    patience.paid(came=True)
    assert patience.worth(1, 0.100, 0.005) > 0


def test_gaps_between_arrivals() -> None:
    """The mean gap follows arrivals; rows that come together share theirs."""
    gaps = Gaps()
    gaps.arrived(10.0, 1)
    assert gaps.mean is None
    gaps.arrived(10.2, 2)
    assert gaps.mean == pytest.approx(0.1)
    for step in range(100):
        gaps.arrived(10.2 + 0.05 * (step + 1), 1)
    assert gaps.mean == pytest.approx(0.05, rel=0.01)
