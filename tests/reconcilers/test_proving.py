"""Proofs that need a witness that is not always there: signatures of commits and of artifacts."""

from __future__ import annotations

from collections.abc import Iterable

from reconcilers.chronicle import Chronicle, Event, Proof
from reconcilers.findings import Code
from reconcilers.proving import Demands, prove_past, steps_with_releases
from reconcilers.proving_store import prove_store
from reconcilers.said import Moment, Said
from specs.facts import Commit
from specs.past import Step
from specs.release import Pin
from tests.support.builders import KEY, PATH, settled
from tests.support.fakes import FakeStore


def released() -> Chronicle:
    """Give a past in which one commit released, by hand and with nothing to show for it."""
    spec = settled().spec
    step = Step(Commit("a" * 40, "Ann <ann@x>", 1_700_000_000, "Release"), ("b" * 40,), "Ann <ann@x>", "")
    moment = Moment(KEY, step, None, Said(PATH, "", spec, {}))
    return Chronicle([step], [moment], {KEY: [Event(moment, "promoted", Proof("missing", "x"))]})


def test_commits_need_a_signature_where_that_is_asked() -> None:
    """What is wrong with the signature of a commit that released is a finding; others need none."""
    story = released()
    asked = Demands("t@x", unsigned={"a" * 40: "it is not signed", "c" * 40: "nor is this one"})
    found = [each for each in prove_past(story, asked).findings if each.code is Code.NOT_SIGNED]
    assert [(each.commit, each.version, each.found, each.warning) for each in found] == [
        ("a" * 40, 1, "it is not signed", False)
    ]
    assert Code.NOT_SIGNED not in {each.code for each in prove_past(story, Demands("t@x")).findings}


def test_files_need_a_signature_where_that_is_asked() -> None:
    """An unsigned file of what serves now is an error; what only served before may be older than the keys."""
    story, store = released(), FakeStore()
    events = story.events[KEY]
    release = events[0].release
    assert release is not None

    def unsigned(pin: Pin) -> Iterable[tuple[str, str, str]]:
        return [("weights", pin.weights, "no trusted key signed it")]

    for current, warning in ((frozenset({release.weights}), False), (frozenset[str](), True)):
        found = list(prove_store(store, events, deep=False, current=current, unsigned=unsigned))
        (one,) = [each for each in found if each.code is Code.NOT_SIGNED]
        assert (one.found, one.warning) == ("no trusted key signed it", warning)
    assert Code.NOT_SIGNED not in {e.code for e in prove_store(store, events, deep=False, current=frozenset())}


def test_only_commits_that_released_are_asked_about() -> None:
    """Those after a commit, or all."""
    story = released()
    assert [step.sha for step in steps_with_releases(story)] == ["a" * 40]
    assert steps_with_releases(story, "a" * 40) == []
