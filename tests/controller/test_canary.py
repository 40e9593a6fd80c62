"""Releases in steps, for real: one goes through, one is found out by copies alone, the agent is killed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.test_live_gate import SETTINGS, agents, opened, seen
from tests.support.customers import Customers
from tests.support.place import Place

pytestmark = [pytest.mark.ml, pytest.mark.xdist_group("live gate")]
STEPS = "{canary: {steps: [{mirror: 100, pause: 1h}, {weight: 50, pause: 1h}]}}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose agent asks the server for its traffic often; its agent and server are ended."""
    place = Place(tmp_path / "place", tables=SETTINGS, at_once=True)
    yield place
    place.stop()


def test_a_good_release_goes_through_and_a_bad_one_is_found_out_by_copies(place: Place) -> None:
    """v2 gets copies, then half of the requests, and serves alone once it was judged; no request is lost.

    v3 passes its gates and is worse: copies tell, before any client gets an answer of it. It is let go by agents that
    are killed around each effect, v2 never stops answering, and git is asked to follow.
    """
    place.write(place.spec(("  serving: {export: onnx}\n", f"  serving: {{export: onnx, strategy: {STEPS}}}\n")))
    assert place.released() == 1
    url = place.app.servers.url()
    assert url is not None
    place.change("epochs: 8,", "epochs: 9,")
    proposed = place.proposed()
    with Customers(url).come() as customers:
        place.forge().merge(proposed.number)
        place.until("it gets copies", lambda: place.reason("LiveGate") == "Baking")
        told = "v2 gets a copy of 100 % of the requests beside v1 (step 1 of 2); Baking: "
        assert place.status().summary.startswith(told)
        assert customers.answers[2] == 0
        place.skew = 7200
        place.until("it serves alone", lambda: place.reason("Serving") == "ReleaseServing")
        assert customers.answers[2] >= 50, "it answered enough of them to be judged"
        place.skew = 0
        place.settle()

        place.change("epochs: 9,", "epochs: 9, dropout: 0.5,")
        proposed = place.proposed()
        with agents(place):
            place.forge().merge(proposed.number)
            seen(place, lambda: place.reason("GitBehind") != "" and opened(place.forge(), "rollback") != [])
            answered = customers.answers[2]
            seen(place, lambda: customers.answers[2] >= answered + 30)
        assert customers.answers[3] == 0
    assert customers.failures == []
    killed = [line.rpartition(" ")[0] for line in (place.log / "killed").read_text().splitlines()]
    assert killed[:2] == ["servers.roll_out v3", "after servers.roll_out v3"]
    assert killed[-2:] == ["servers.roll_out v2", "after servers.roll_out v2"]
    (rollback,) = opened(place.forge(), "rollback")
    assert "passed its gates, and live traffic disagrees: v2 serves again." in rollback.body
    assert "**too low** |" in rollback.body
    place.restart()
    place.settle()
    state = place.app.servers.state("digits")
    assert state is not None
    assert (state.version, state.canary, state.rejected is not None) == (2, None, True)
    place.assert_quiet()
