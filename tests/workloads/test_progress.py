from __future__ import annotations

import threading

from specs.errors import Transient
from specs.records import Progress
from workloads.progress import Reporter


class Notebook:
    """A store of progress only; may refuse, and may wait until it is told to go on."""

    def __init__(self, *, refuses: bool = False, waits: bool = False) -> None:
        self.written: list[tuple[str, Progress]] = []
        self.refuses = refuses
        self.go_on = threading.Event()
        if not waits:
            self.go_on.set()

    def replace(self, key: str, data: bytes) -> None:
        self.go_on.wait()
        if self.refuses:
            raise Transient("StoreUnavailable", "the store is away")
        self.written.append((key, Progress.decode(data)))


def test_the_last_word_is_always_written() -> None:
    """However fast progress comes, what was said last is what the store says in the end."""
    store = Notebook()
    with Reporter(store, "job") as reporter:
        for epoch in range(100):
            reporter.report("training", epoch=epoch, epochs=100, eta=1.26, metrics={"a": 1.0})
    key, last = store.written[-1]
    assert key == "progress/job.json"
    assert (last.job, last.phase, last.epoch, last.epochs, last.eta_seconds) == ("job", "training", 99, 100, 1.3)
    assert last.metrics == {"a": 1.0}


def test_a_flood_is_passed_over() -> None:
    """A store is written to about once a second, not with every batch."""
    store = Notebook()
    with Reporter(store, "job") as reporter:
        for epoch in range(10_000):
            reporter.report("training", epoch=epoch)
    assert len(store.written) < 1000


def test_a_store_that_refuses_fails_nothing() -> None:
    """Progress is a courtesy: the work goes on without it."""
    with Reporter(Notebook(refuses=True), "job") as reporter:
        reporter.report("training")


def test_a_slow_store_holds_nothing_up() -> None:
    """Reporting returns while the store has not answered yet, and the last word is written once it does."""
    store = Notebook(waits=True)
    with Reporter(store, "job") as reporter:
        for epoch in range(100):
            reporter.report("training", epoch=epoch)
        assert store.written == []
        store.go_on.set()
    assert store.written[-1][1].epoch == 99
