"""Who follows data is looked at again when that has another newest version, and not before."""

from __future__ import annotations

from controller.following import Following
from controller.settled import is_same, mark
from specs.errors import Stalled, Transient
from tests.support.builders import KEY
from tests.support.data_stages import following, imported, newer, pinned, unknown
from tests.support.fakes import FakeSources

STAGE = following()


def test_models_are_woken_when_the_answer_changes() -> None:
    """A newer version, a source that goes silent, one that comes back: each once, until the model was looked at."""
    known, sources = Following(), FakeSources(pinned(1))
    known.saw(STAGE.spec, STAGE.world, sources)
    assert list(known.moved()) == []
    sources.latest = pinned(2)
    assert list(known.moved()) == [KEY]
    known.saw(STAGE.spec, STAGE.but(newer=newer(fact=imported(2))).world, sources)
    assert list(known.moved()) == []
    sources.trouble = Transient("DataSourceUnreachable", "no")
    assert list(known.moved()) == [KEY]
    known.saw(STAGE.spec, STAGE.but(troubles=unknown()).world, sources)
    assert list(known.moved()) == []
    sources.trouble = Stalled("DataMissing", "no such branch")
    assert list(known.moved()) == [KEY]
    known.forget(KEY)
    assert list(known.moved()) == []


def test_one_question_of_many_models_is_asked_once() -> None:
    """Thousands may follow the same data."""

    class Counting(FakeSources):
        asked = 0

        def newest(self, source: object, follow: object) -> None:  # type: ignore[override]
            self.asked += 1

    known, sources = Following(), Counting()
    for name in ("one", "two", "three"):
        origin = STAGE.world.source
        there = type(origin)(**{**vars(origin), "key": KEY._replace(name=name)})
        known.saw(STAGE.spec, STAGE.but(source=there).world, sources)
    assert list(known.moved()) == []
    assert sources.asked == 1


def test_mark_of_one_that_follows_names_what_is_newest() -> None:
    """The same world with newer data is another one; after a restart nobody knows, so it is looked at once."""
    known, sources = Following(), FakeSources(pinned(1))
    rests = mark("asked", "found", known.saw(STAGE.spec, STAGE.world, sources))
    assert is_same(rests, "asked", "found", known.newest(KEY))
    sources.latest = pinned(2)
    assert not is_same(rests, "asked", "found", known.newest(KEY))
    assert not is_same(rests, "asked", "found", Following().newest(KEY))
    assert is_same(mark("asked", "found", ""), "asked", "found", Following().newest(KEY))


def test_who_follows_nothing_is_not_remembered() -> None:
    """Nobody is asked for them."""
    known = Following()
    alone = following(triggers=None)
    assert known.saw(alone.spec, alone.world, FakeSources(pinned(2))) == ""
    assert known.saw(STAGE.spec, STAGE.world, None) == ""
    assert list(known.moved()) == []
