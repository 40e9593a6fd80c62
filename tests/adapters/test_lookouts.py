"""Asking places that may be slow, down or both. Time is handed in, and what hangs hangs on an event."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.lookouts import STALE, Lookout
from specs.errors import Stalled, Transient

LONG = 30.0
"""Seconds; only a broken test waits for them."""


class Place:
    """Answers with how often it was asked, once it may, unless it shall fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.answered = threading.Semaphore(0)
        self.now = 0.0

    def ask(self) -> int:
        self.asked += 1
        count = self.asked
        assert self.open.wait(LONG)
        self.answered.release()
        if self.failure is not None:
            raise self.failure
        return count

    def lookout(self, patience: float = LONG) -> Lookout[int]:
        return Lookout(self.ask, "the place", 60.0, lambda: self.now, patience)


@pytest.fixture
def place() -> Iterator[Place]:
    """Give a place; nobody waits for it when the test is over."""
    place = Place()
    yield place
    place.open.set()


def settled(look: Lookout[int]) -> None:
    """Wait for the look that is under way."""
    for thread in threading.enumerate():
        if thread.name == "look at the place":
            thread.join(LONG)


def test_the_first_question_waits_for_its_answer(place: Place) -> None:
    """A place that answers soon is as good as one that is asked directly; what is known is not asked again."""
    look = place.lookout()
    assert [look.get(), look.get()] == [1, 1]


def test_many_who_ask_at_once_ask_once(place: Place) -> None:
    """Any number of threads share one look."""
    look = place.lookout()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: look.get(), range(64))) == {1}
    assert place.asked == 1


def test_a_place_that_hangs_holds_nobody_up(place: Place) -> None:
    """Whoever asks goes on without an answer, again and again; when it answers at last, the answer is taken."""
    place.open.clear()
    look = place.lookout(patience=0.0)
    for _ in range(3):
        with pytest.raises(Transient, match=r"has not answered yet") as caught:
            look.get()
        assert caught.value.reason == "DataSourceUnreachable"
    assert place.asked == 1
    place.open.set()
    settled(look)
    assert look.get() == 1


def test_it_is_asked_again_behind_those_who_ask(place: Place) -> None:
    """When it is time, the old answer is given and a new one fetched, however long that takes."""
    look = place.lookout()
    assert look.get() == 1
    place.now = 61.0
    place.open.clear()
    assert [look.get(), look.get()] == [1, 1]
    place.open.set()
    settled(look)
    assert (look.get(), place.asked) == (2, 2)


def test_a_failure_is_remembered_for_a_pause(place: Place) -> None:
    """A place that is down is not asked by everybody in turn; after the pause it is, and recovers."""
    place.failure = Stalled("DataMissing", "no such thing")
    look = place.lookout()
    for _ in range(3):
        with pytest.raises(Stalled, match=r"no such thing"):
            look.get()
    assert place.asked == 1
    place.failure = None
    place.now = 61.0
    place.open.clear()
    with pytest.raises(Stalled):
        look.get()
    place.open.set()
    settled(look)
    assert look.get() == 2


def test_what_is_known_outlives_a_failure_but_not_for_ever(place: Place) -> None:
    """Status does not flip with every hiccup; an answer of long ago is none, for it may lead back."""
    look = place.lookout()
    assert look.get() == 1
    place.failure = Transient("DataSourceUnreachable", "down")
    place.now = 61.0
    assert look.get() == 1
    settled(look)
    assert look.get() == 1
    place.now = STALE + 1
    settled(look)
    with pytest.raises(Transient, match=r"down"):
        look.get()


def test_a_bug_is_told_as_trouble_without_its_words(place: Place) -> None:
    """Whatever goes wrong behind, those who ask get an error of ours."""
    place.failure = ValueError("https://user:secret@example.com")
    with pytest.raises(Transient, match=r"could not be asked: ValueError") as caught:
        place.lookout().get()
    assert "secret" not in str(caught.value)
