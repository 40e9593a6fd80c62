"""The work queue: nothing twice, nothing lost, the newest first and nobody starved."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.queue import LAST_BACKOFF, PATIENCE, REST, Priority, WorkQueue

CHANGE, PROGRESS, ROUTINE = Priority


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The queue's time."""
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    """An empty queue whose jitter is always the most."""
    return WorkQueue(clock, jitter=lambda: 1.0)


def take(queue: WorkQueue[str]) -> str | None:
    """Take without waiting."""
    return queue.get(timeout=0)


def test_a_key_is_in_line_once(queue: WorkQueue[str]) -> None:
    """Added often, it is handed out once."""
    for _ in range(3):
        queue.add("a", CHANGE)
    assert (take(queue), take(queue)) == ("a", None)


def test_changes_go_first_and_the_newest_of_them(queue: WorkQueue[str]) -> None:
    """Priority decides, then how new a key is."""
    for key, priority in (("r", ROUTINE), ("old", CHANGE), ("p", PROGRESS), ("new", CHANGE)):
        queue.add(key, priority)
    assert [take(queue) for _ in range(4)] == ["new", "old", "p", "r"]


def test_a_key_moves_up_and_never_down(queue: WorkQueue[str]) -> None:
    """What was routine and is changed now goes with the changes; a later routine look does not put it back."""
    queue.add("a", ROUTINE)
    queue.add("b", PROGRESS)
    queue.add("a", CHANGE)
    queue.add("a", ROUTINE)
    assert [take(queue) for _ in range(3)] == ["a", "b", None]


def test_every_second_pick_is_the_oldest_that_lost_patience(queue: WorkQueue[str], clock: Clock) -> None:
    """While new changes keep coming, an old routine look still gets its turn, and keys do so in their order."""
    queue.add("first", ROUTINE)
    clock.now += 0.1
    queue.add("second", ROUTINE)
    clock.now += PATIENCE
    picked = []
    for number in range(5):
        queue.add(f"new-{number}", CHANGE)
        picked.append(take(queue))
    assert [key for key in picked if key in ("first", "second")] == ["first", "second"]
    assert [key for key in picked if key and key.startswith("new")] == ["new-1", "new-3", "new-4"]


def test_what_is_worked_on_is_not_handed_out_again_until_done(queue: WorkQueue[str], clock: Clock) -> None:
    """An event during a pass leads to one more pass after it, and after a short rest."""
    queue.add("a", CHANGE)
    assert take(queue) == "a"
    queue.add("a", CHANGE)
    queue.add("a", ROUTINE)
    assert take(queue) is None
    queue.done("a")
    assert take(queue) is None
    clock.now += REST
    assert (take(queue), take(queue)) == ("a", None)


def test_later_comes_at_its_time_and_the_earliest_wins(queue: WorkQueue[str], clock: Clock) -> None:
    """Of two delays the shorter one counts, and a key that comes into line meanwhile is due once."""
    queue.add("a", ROUTINE, after=30)
    queue.add("a", ROUTINE, after=10)
    queue.add("b", ROUTINE, after=20)
    clock.now += 10
    assert (take(queue), take(queue)) == ("a", None)
    queue.done("a")
    queue.add("b", CHANGE)
    assert take(queue) == "b"
    queue.done("b")
    clock.now += 100
    assert take(queue) is None


def test_pauses_double_up_to_five_minutes_and_success_forgets_them(queue: WorkQueue[str]) -> None:
    """Trouble that lasts is asked about less and less."""
    pauses = [queue.retry("a") for _ in range(12)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == LAST_BACKOFF
    queue.went_well("a")
    assert queue.retry("a") == 1


def test_jitter_spreads_the_pauses(clock: Clock) -> None:
    """Two models in the same trouble do not come back together."""
    assert WorkQueue[str](clock, jitter=lambda: 0.0).retry("a") == 0.5


def test_one_in_trouble_is_waited_for_alone(queue: WorkQueue[str], clock: Clock) -> None:
    """A key in its pause keeps nobody else; a change of it ends the pause."""
    queue.retry("bad")
    queue.add("good", ROUTINE)
    assert (take(queue), take(queue)) == ("good", None)
    queue.add("bad", CHANGE)
    assert take(queue) == "bad"


def test_forgotten_keys_do_not_come_back(queue: WorkQueue[str], clock: Clock) -> None:
    """A deleted model leaves no work behind, wherever it was."""
    queue.add("line", ROUTINE)
    queue.add("later", ROUTINE, after=5)
    queue.add("working", CHANGE)
    assert take(queue) == "working"
    queue.add("working", CHANGE)
    for key in ("line", "later", "working"):
        queue.forget(key)
    queue.done("working")
    clock.now += 1000
    assert take(queue) is None


def test_oldest_counts_those_in_work(queue: WorkQueue[str], clock: Clock) -> None:
    """A pass that hangs shows."""
    assert queue.oldest() == 0
    queue.add("a", CHANGE)
    take(queue)
    clock.now += 42
    assert (queue.oldest(), queue.depth, queue.working) == (42, 0, 1)


def test_closing_wakes_whoever_waits() -> None:
    """A worker that waits for work ends when the queue is closed."""
    import time

    queue: WorkQueue[str] = WorkQueue(time.monotonic)
    found: list[str | None] = []
    worker = threading.Thread(target=lambda: found.append(queue.get(timeout=60)))
    worker.start()
    queue.close()
    worker.join(10)
    assert found == [None]


def test_two_workers_never_have_the_same_key() -> None:
    """Eight threads and a thousand additions: no key is in two hands at once, and each addition is answered."""
    import time

    queue: WorkQueue[int] = WorkQueue(time.monotonic)
    hands: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    wrong: list[int] = []
    lock = threading.Lock()

    def work() -> None:
        while (key := queue.get(timeout=0.5)) is not None:
            with lock:
                hands[key] += 1
                seen[key] += 1
                if hands[key] > 1:
                    wrong.append(key)
            time.sleep(0.0005)
            with lock:
                hands[key] -= 1
            queue.done(key)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for number in range(1000):
        queue.add(number % 50, Priority(number % 3))
    for worker in workers:
        worker.join(30)
    assert not wrong
    assert set(seen) == set(range(50))
    assert queue.depth == 0


class Machine(RuleBasedStateMachine):
    """Whatever is added, taken, given back, delayed and forgotten: what is owed is what the queue gives in the end."""

    keys = st.sampled_from("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock, jitter=lambda: 0.5)
        self.owed: set[str] = set()
        self.working: set[str] = set()

    @rule(key=keys, priority=st.sampled_from(Priority), after=st.sampled_from([0.0, 0.0, 3.0]))
    def add(self, key: str, priority: Priority, after: float) -> None:
        """Ask for a look."""
        self.queue.add(key, priority, after)
        self.owed.add(key)

    @rule()
    def take(self) -> None:
        """A worker comes."""
        key = take(self.queue)
        if key is not None:
            assert key not in self.working
            assert key in self.owed
            self.owed.discard(key)
            self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(again=st.booleans())
    def done(self, *, again: bool) -> None:
        """A worker goes, perhaps after trouble."""
        key = min(self.working)
        if again:
            self.queue.retry(key)
            self.owed.add(key)
        self.queue.done(key)
        self.working.discard(key)

    @rule(key=keys)
    def forget(self, key: str) -> None:
        """The model was deleted."""
        self.queue.forget(key)
        self.owed.discard(key)

    @rule(seconds=st.sampled_from([0.05, 1.0, 20.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds

    @invariant()
    def depth_is_never_more_than_is_owed(self) -> None:
        """Nothing stands in line that nobody asked for."""
        assert self.queue.depth <= len(self.owed)

    def teardown(self) -> None:
        """In the end everything that is owed comes, and nothing else."""
        for key in self.working:
            self.queue.done(key)
        came = set()
        for _ in range(20):
            self.clock.now += LAST_BACKOFF
            while (key := take(self.queue)) is not None:
                came.add(key)
                self.queue.done(key)
        assert came == self.owed


TestQueueMachine = Machine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
