"""Counting live traffic by asking the servers: real HTTP and real text; only the clock is the test's."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters.traffic_rounds import FORGET, PATIENCE
from adapters.traffic_scrape import ScrapedTraffic
from specs.errors import Transient
from specs.traffic import CONFIDENCE, OF_PICTURES, OUTCOMES, Watch, Watched
from tests.support.inference_server import publish, running
from tests.support.metrics_server import Counting, MetricsServer, metrics_server
from tests.support.onnx_models import NAMES, picture

NAME = "default.digits"
WINDOW = 60.0
POLL = 15.0
T0 = 1_800_000_000.0
"""A moment at which a window begins."""


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Servers, a clock and a source that looks at them in time."""

    def __init__(self, servers: Sequence[MetricsServer], folder: Path | None = None) -> None:
        self.clock = Clock()
        self.there = list(servers)
        self.folder = folder
        self.trouble: Transient | None = None
        self.watch = Watch(NAME, 7, 6, WINDOW, 4)
        self.restart()

    def restart(self) -> None:
        """Begin with nothing in memory, as after a restart of the agent."""
        self.source = ScrapedTraffic(self._roots, poll=POLL, folder=self.folder, clock=self.clock, background=False)

    def _roots(self, name: str) -> Sequence[str]:
        assert name == NAME
        if self.trouble:
            raise self.trouble
        return [each.url for each in self.there]

    def look(self) -> Watched:
        found = self.source.look(self.watch)
        assert found is not None
        return found

    def until(self, seconds: float, then: Callable[[], None] = lambda: None) -> Watched:
        """Let time pass until ``seconds`` after T0, with every look at the moment it is due; then do something."""
        self.source.look(self.watch)
        while True:
            pause = self.source.turn()
            if self.clock.now + pause > T0 + seconds:
                break
            self.clock.now += pause
        self.clock.now = T0 + seconds
        then()
        return self.look()


@pytest.fixture
def two() -> Iterator[list[MetricsServer]]:
    """Give two servers that serve v7 since long ago."""
    with ExitStack() as stack:
        servers = [stack.enter_context(metrics_server()) for _ in range(2)]
        for each in servers:
            each.counting = Counting(started=T0 - 5000)
            each.counting.load(NAME, 7, T0 - 4000)
        yield servers


def requests(watched: Watched) -> list[tuple[float, float]]:
    """Give start (since T0) and number of requests of each window."""
    return [(each.start - T0, each.requests) for each in watched.windows]


def test_nothing_is_known_before_a_look_and_no_window_before_one_ended(two: list[MetricsServer]) -> None:
    """Whoever asks never waits: the first answer is None; then there is what is known, without a window."""
    bench = Bench(two)
    assert bench.source.look(bench.watch) is None
    assert bench.until(10) == Watched((), T0 - 4000)


def test_replicas_add_up_and_windows_are_told_apart(two: list[MetricsServer]) -> None:
    """Counts of all servers are one, in the window in which they were counted, bin by bin; a still one is told too."""
    bench = Bench(two)
    first, second = (each.counting for each in two)
    first.answer(NAME, 7, 1000)  # before anybody looked: of no window
    bench.until(20, lambda: first.answer(NAME, 7, 3, confidence=0.97))
    bench.until(59, lambda: second.answer(NAME, 7, 2, confidence=0.42, outcome="ok"))
    bench.until(130, lambda: second.answer(NAME, 7, 5, outcome="error"))
    found = bench.until(185)
    assert requests(found) == [(0, 5), (60, 0), (120, 5)]
    confidences = found.windows[0].pictures["confidence"]
    assert (len(confidences), confidences[19], confidences[8], sum(confidences)) == (CONFIDENCE.bins, 3, 2, 5)
    assert found.windows[0].classes["seven"] == confidences
    assert found.windows[2].outcomes == {"ok": 0, "error": 5}
    assert sum(found.windows[0].stages["total"]) == 5


def test_old_windows_make_room(two: list[MetricsServer], tmp_path: Path) -> None:
    """No more windows are told, or kept, than were asked for."""
    bench = Bench(two, tmp_path)
    assert [start for start, _ in requests(bench.until(601))] == [360, 420, 480, 540]
    assert len(json.loads((tmp_path / f"{NAME}.json").read_text())["shut"]) == 4


def test_a_server_that_started_again_loses_nothing_that_was_seen(two: list[MetricsServer]) -> None:
    """Counters that begin anew add to what was counted before, whether or not they have grown past it by then."""
    bench = Bench(two)
    bench.until(5, lambda: two[0].counting.answer(NAME, 7, 4))
    bench.until(16)

    def start_again() -> None:
        two[0].counting = Counting(started=T0 + 17)
        two[0].counting.load(NAME, 7, T0 - 4000)  # as its state says
        two[0].counting.answer(NAME, 7, 6)

    bench.until(20, start_again)
    found = bench.until(61)
    assert requests(found) == [(0, 10)]
    assert found.loaded == T0 - 4000


def test_replicas_come_and_go(two: list[MetricsServer]) -> None:
    """One that is new counts from its start on; what one that is gone had counted stays, and is not counted again."""
    bench = Bench(two[:1])
    bench.watch = Watch(NAME, 7, 6, WINDOW, 4, bake=9000)
    bench.until(10, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(20)
    two[1].counting = Counting(started=T0 + 21)
    two[1].counting.load(NAME, 7, T0 + 22)
    bench.there = two
    bench.until(25, lambda: two[1].counting.answer(NAME, 7, 2))
    bench.until(40)
    bench.there = two[1:]
    assert requests(bench.until(61)) == [(0, 5)]
    two[0].counting.answer(NAME, 7, 1)
    two[1].counting.answer(NAME, 7, 1)
    assert requests(bench.until(121)) == [(0, 5), (60, 1)]
    bench.there = two
    assert requests(bench.until(181)) == [(0, 5), (60, 1)], "when it counted that one nobody knows"
    found = bench.until(241)
    assert requests(found) == [(0, 5), (60, 1), (180, 0)]
    assert found.loaded == T0 - 4000
    assert found.bake is not None
    assert found.bake.requests == 7


def test_an_old_server_that_appears_spoils_the_window(two: list[MetricsServer]) -> None:
    """What a server that was there before counted before anybody looked at it belongs to no window."""
    bench = Bench(two[:1])
    two[1].counting.answer(NAME, 7, 100)
    bench.until(20)
    bench.there = two
    assert requests(bench.until(61)) == []
    assert requests(bench.until(121)) == [(60, 0)]


@pytest.mark.parametrize(("back", "told"), [(70, [(0, 3), (60, 0)]), (80, [])])
def test_a_window_is_told_only_if_its_end_was_seen(
    two: list[MetricsServer], back: float, told: list[tuple[float, float]]
) -> None:
    """A look up to a quarter of a window late still shuts it; later the windows on both sides are not told."""
    bench = Bench(two)
    bench.until(10, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(50, lambda: setattr(two[1], "down", True))
    bench.until(back, lambda: setattr(two[1], "down", False))
    assert requests(bench.until(125)) == told
    assert requests(bench.until(185))[-1] == (120, 0)


def test_a_server_that_was_silent_in_between_spoils_nothing(two: list[MetricsServer]) -> None:
    """Counters remember: looks that fail inside a window lose nothing."""
    bench = Bench(two)
    bench.until(5, lambda: setattr(two[0], "down", True))
    bench.until(40, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(45, lambda: setattr(two[0], "down", False))
    assert requests(bench.until(61)) == [(0, 3)]


def test_a_server_that_died_long_after_the_last_look_spoils_the_window(two: list[MetricsServer]) -> None:
    """What it counted in between is lost, and nobody knows how much that was."""
    bench = Bench(two)
    bench.until(5, lambda: setattr(two[0], "down", True))

    def start_again() -> None:
        two[0].counting, two[0].down = Counting(started=T0 + 44), False

    bench.until(45, start_again)
    assert requests(bench.until(61)) == []
    assert requests(bench.until(121)) == [(60, 0)]


def test_trouble_is_told_when_it_lasts_and_what_was_known_stays(two: list[MetricsServer]) -> None:
    """One look that fails is no news; some in a row are, in words that do not change from look to look."""
    bench = Bench(two)
    known = bench.until(61, lambda: setattr(two[0], "down", True))
    assert bench.until(62) == known
    told = {bench.until(60 + POLL * more).trouble for more in range(PATIENCE, PATIENCE + 4)}
    assert told == {f"not every server of {NAME} answers at /metrics"}
    assert bench.look().windows == known.windows
    two[0].body, two[0].down = b"}{ nonsense\ntrunkline_requests_total{ 7\n", False
    two[1].down = True
    assert bench.until(300).trouble == f"no server of {NAME} answers at /metrics"
    bench.trouble = Transient("KubernetesUnavailable", "the API server does not answer")
    assert bench.until(330).trouble == "the API server does not answer"
    bench.trouble, two[0].body, two[1].down = None, None, False
    assert bench.until(361).trouble == ""


def test_trouble_from_the_beginning_is_told_when_it_lasts(two: list[MetricsServer]) -> None:
    """A server that answers a little later was no trouble; until then nothing is known."""
    bench = Bench(two[:1])
    two[0].down = True
    bench.source.look(bench.watch)
    for _ in range(PATIENCE - 1):
        bench.clock.now += bench.source.turn()
        assert bench.source.look(bench.watch) is None
    bench.source.turn()
    assert bench.look() == Watched(trouble=f"no server of {NAME} answers at /metrics")


def test_no_server_at_all_means_no_traffic(two: list[MetricsServer]) -> None:
    """Nothing is served, so nothing is missed: the window is told, and is empty."""
    bench = Bench(two)
    bench.until(10, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(20)
    bench.there = []
    assert requests(bench.until(121)) == [(0, 3), (60, 0)]


def test_a_new_version_has_its_own_counts_and_the_one_before_stays_to_compare(two: list[MetricsServer]) -> None:
    """The bake begins with the loading and ends in time; the champion is what the version before did last."""
    bench = Bench(two[:1])
    counting = two[0].counting
    bench.watch = Watch(NAME, 7, 6, WINDOW, 4, bake=90)
    bench.until(10, lambda: counting.answer(NAME, 7, 20))
    bench.until(65, lambda: counting.answer(NAME, 7, 10))
    bench.until(124)
    bench.watch = Watch(NAME, 8, 7, WINDOW, 4, bake=90)
    bench.until(125, lambda: counting.load(NAME, 8, T0 + 125))
    bench.until(130, lambda: counting.answer(NAME, 8, 5, confidence=0.3))
    found = bench.until(140)
    assert requests(found) == []
    assert (found.loaded, found.champion and found.champion.requests) == (T0 + 125, 30)
    assert found.bake is not None
    assert (found.bake.start, found.bake.end, found.bake.requests) == (T0 + 125, T0 + 139, 5)
    counting.answer(NAME, 8, 1)
    bench.until(214, lambda: counting.answer(NAME, 8, 2))
    bench.until(216, lambda: counting.answer(NAME, 8, 50))
    found = bench.until(600)
    assert found.bake is not None
    assert (found.bake.end, found.bake.requests) == (T0 + 215, 8)
    assert found.champion is not None
    assert (found.champion.start, found.champion.end, found.champion.requests) == (T0, T0 + 120, 30)


def test_a_version_beside_what_serves(two: list[MetricsServer], tmp_path: Path) -> None:
    """Both are counted since the new one was loaded, over a restart of ours; once it is gone, nothing is told of it."""
    bench = Bench(two, tmp_path / "traffic")
    a, b = (each.counting for each in two)
    bench.until(10, lambda: a.answer(NAME, 7, 20))
    bench.watch = Watch(NAME, 7, 6, WINDOW, 4, canary=8)
    assert bench.until(20).canary is None
    a.load(NAME, 8, T0 + 20)
    b.load(NAME, 8, T0 + 21)
    bench.until(40, lambda: (a.answer(NAME, 7, 9), a.answer(NAME, 8, 1), b.answer(NAME, 8, 2)))
    found = bench.until(61)
    assert found.canary is not None
    assert found.beside is not None
    assert (found.canary.start, found.canary.requests, found.beside.requests) == (T0 + 20, 3, 9)
    bench.restart()
    bench.until(80, lambda: (b.answer(NAME, 7, 1), b.answer(NAME, 8, 1, outcome="error")))
    found = bench.until(100)
    assert found.canary is not None
    assert found.beside is not None
    assert (found.canary.outcomes["error"], found.beside.requests) == (1, 10)
    bench.watch = Watch(NAME, 7, 6, WINDOW, 4)
    gone = bench.until(130)
    assert (gone.canary, gone.beside) == (None, None)


def test_before_any_window_the_champion_is_all_that_is_known_of_it(two: list[MetricsServer]) -> None:
    """A release soon after the agent's first start has something to be held against."""
    bench = Bench(two[:1])
    two[0].counting.answer(NAME, 7, 40)
    two[0].counting.load(NAME, 8, T0 + 1)
    bench.watch = Watch(NAME, 8, 7, WINDOW, 4, bake=90)
    found = bench.until(5)
    assert found.champion is not None
    assert (found.champion.start, found.champion.requests) == (T0 - 4000, 40)


def test_books_outlive_the_process(two: list[MetricsServer], tmp_path: Path) -> None:
    """Started again, it goes on where it was: the open window is whole, the bake and all versions are remembered."""
    bench = Bench(two, tmp_path / "traffic")
    bench.watch = Watch(NAME, 7, 6, WINDOW, 4, bake=4000 + 200)
    bench.until(10, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(61)
    two[0].counting.answer(NAME, 7, 4)
    bench.restart()
    found = bench.until(121)
    assert requests(found) == [(0, 3), (60, 4)]
    assert found.bake is not None
    assert found.bake.requests == 7


@pytest.mark.parametrize("text", ["", "{", '{"window": 3600}', '{"window": 60, "replicas": 3}'])
def test_lost_or_broken_books_mean_fewer_windows(two: list[MetricsServer], tmp_path: Path, text: str) -> None:
    """Whatever is in the file, what is told is right."""
    bench = Bench(two, tmp_path)
    bench.until(10, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(61)
    (tmp_path / f"{NAME}.json").write_text(text)
    two[0].counting.answer(NAME, 7, 4)
    bench.restart()
    bench.clock.now = T0 + 100
    assert requests(bench.until(121)) == []
    assert requests(bench.until(181)) == [(120, 0)]


def test_old_books_never_tell_a_wrong_window(two: list[MetricsServer], tmp_path: Path) -> None:
    """After a long pause what was counted meanwhile belongs to windows that nobody saw the ends of."""
    bench = Bench(two, tmp_path)
    bench.until(10, lambda: two[0].counting.answer(NAME, 7, 3))
    bench.until(61)
    bench.restart()
    bench.clock.now = T0 + 290
    two[0].counting.answer(NAME, 7, 400)
    assert requests(bench.until(361)) == [(0, 3), (300, 0)]


def test_steady_traffic_writes_rarely(two: list[MetricsServer], tmp_path: Path) -> None:
    """The books are written when a window was shut, not at each look."""
    bench = Bench(two, tmp_path)
    file = tmp_path / f"{NAME}.json"
    bench.until(1)
    written = set()
    for second in range(5, 175, 5):
        bench.until(second, lambda: two[0].counting.answer(NAME, 7))
        written.add(file.stat().st_mtime_ns)
    assert len(written) == 3
    assert json.loads(file.read_text())["opened"] == T0 + 120


def test_short_windows_write_rarely_too(two: list[MetricsServer], tmp_path: Path) -> None:
    """However short the windows, the disk is left in peace for a while after each time."""
    bench = Bench(two, tmp_path)
    bench.watch = Watch(NAME, 7, 6, 2.0, 4)
    written = set()
    for second in range(1, 25):
        bench.until(second)
        written.add((tmp_path / f"{NAME}.json").stat().st_mtime_ns)
    assert len(written) == 3


def test_who_is_not_asked_about_is_forgotten(two: list[MetricsServer]) -> None:
    """A model that nobody wants to know of costs no look any more."""
    bench = Bench(two)
    bench.until(1)
    bench.clock.now += FORGET + 1
    bench.source.turn()
    asked = two[0].asked
    bench.clock.now += 1000
    bench.source.turn()
    assert two[0].asked == asked
    assert bench.source.look(bench.watch) is None


def test_short_windows_are_looked_at_more_often(two: list[MetricsServer]) -> None:
    """Four looks at least in each window, one of them at its very end."""
    bench = Bench(two)
    bench.watch = Watch(NAME, 7, 6, 8.0, 4)
    bench.until(7.9)
    assert two[0].asked == 4
    bench.until(8.0)
    assert bench.until(8.1) == bench.look()
    assert two[0].asked == 5


def test_a_real_server_is_understood(tmp_path: Path) -> None:
    """Every series of the server that serves models: pictures, classes, stages, outcomes and truth."""
    clock = Clock()
    clock.now = (time.time() // WINDOW + 1) * WINDOW
    with running(tmp_path) as server:
        assert server.load("digits", publish(server, 1).target(7)).status_code == 200
        source = ScrapedTraffic(lambda _: [server.url], clock=clock, background=False)
        asked = Watch("digits", 7, None, WINDOW, 4, bake=9000)
        source.look(asked)
        source.turn()
        head = {"Content-Type": "image/png"}
        for seed in range(3):
            told = server.http.post("/models/digits/predict", content=picture(seed), headers=head).json()
        server.http.post("/models/digits/truth", json={"request": told["request"], "label": NAMES[0]})
        server.http.post("/models/digits/predict", content=b"no picture", headers=head)
        clock.now += WINDOW
        source.turn()
        found = source.look(asked)
    assert found is not None
    (window,) = found.windows
    assert {name: sum(counts) for name, counts in window.pictures.items()} == dict.fromkeys(OF_PICTURES, 3.0) | {
        "detections": 0.0
    }
    assert set(window.classes) == set(NAMES)
    assert sum(window.confidences) == 3
    assert {name: sum(counts) for name, counts in window.stages.items()} == {
        "decode": 4, "queue": 3, "inference": 3, "total": 4
    }  # fmt: skip
    assert (set(window.outcomes), window.outcomes["ok"], window.requests) == (set(OUTCOMES), 3, 4)
    assert sum(window.truth.values()) == 1
    assert found.loaded is not None
    assert found.loaded == pytest.approx(time.time(), abs=600)
    assert found.bake is not None
    assert found.bake.requests == 4


def test_a_thread_of_its_own_looks(two: list[MetricsServer]) -> None:
    """Without anybody turning a crank: asked once, the answer is there soon."""
    source = ScrapedTraffic(lambda _: [two[0].url])
    watch = Watch(NAME, 7, None, 3600.0, 4)
    source.look(watch)
    ticks = threading.Event()
    for _ in range(3000):
        if source.look(watch) is not None:
            break
        ticks.wait(0.01)
    assert source.look(watch) == Watched((), T0 - 4000)


def test_the_rounds_end_with_who_wanted_them() -> None:
    """A process that makes one source after the other, as tests do, is not asked by threads for ever."""
    before = set(threading.enumerate())
    source = ScrapedTraffic(lambda _: [], poll=0.05)
    source.look(Watch("digits", 1, None, window=0.2, windows=3))
    (thread,) = [each for each in set(threading.enumerate()) - before if each.name == "traffic"]
    del source
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
