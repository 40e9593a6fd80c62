"""Live traffic out of a real Prometheus: one that was given a past with known counts, and one that scrapes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from adapters.prometheus_api import PrometheusApi
from adapters.traffic_prometheus import PrometheusTraffic
from adapters.traffic_rounds import PATIENCE
from adapters.traffic_scrape import ScrapedTraffic
from adapters.traffic_series import Sample
from specs.errors import Transient
from specs.traffic import Watch, Watched
from tests.support.metrics_server import Counting, metrics_server
from tests.support.mlflow_server import bad_server
from tests.support.prometheus_server import Past, prometheus
from tests.support.traffic_world import T0, Clock, Story, World, asked, remember, told, turned

WINDOW = 60.0
STORIES: dict[str, tuple[Story, float]] = {}
"""By name; and the second at which the past ends."""


def story(until: float = 200) -> Callable[[Story], Story]:
    """Let a story be part of Prometheus' past."""

    def add(tell: Story) -> Story:
        STORIES[tell.__name__.replace("_", "-")] = tell, until
        return tell

    return add


class CountingApi(PrometheusApi):
    """Counts what is asked."""

    asked = 0

    def vector(self, question: str, at: float) -> list[Sample]:
        self.asked += 1
        return super().vector(question, at)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give a Prometheus that remembers all stories."""
    folder, past = tmp_path_factory.mktemp("prometheus"), Past()
    for name, (tell, until) in STORIES.items():
        world = World(name)
        tell(world)
        remember(past, world, until)
    past.write(folder)
    with prometheus(folder) as found:
        yield found


def watch(
    tell: Story, *, version: int = 7, before: int | None = 6, bake: float = 0.0, window: float = WINDOW,
    canary: int | None = None,
) -> Watch:  # fmt: skip
    """Ask about the model of a story."""
    return Watch(tell.__name__.replace("_", "-"), version, before, window, 4, bake, canary)


def in_prometheus(url: str, question: Watch, seconds: float) -> Watched:
    """Give what Prometheus knows so many seconds after T0, asked once, then."""
    clock = Clock(T0 + seconds)
    return turned(PrometheusTraffic(PrometheusApi(url), clock=clock, background=False), clock, question, seconds)


def by_scraping(tell: Story, question: Watch, seconds: float) -> Watched:
    """Give what a source that asks the servers knows then."""
    world = World(question.name)
    tell(world)
    with asked(world) as source:
        return source(question, seconds)


@story()
def plain_traffic(world: World) -> None:
    """Two old servers; all kinds of counts."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(-120, lambda: world.start("b", -5000, 7))
    world.at(-119, lambda: world.answer("a", 7, 1000))
    world.at(20, lambda: world.answer("a", 7, 3, confidence=0.97, seconds=0.2))
    world.at(50, lambda: world.answer("b", 7, 2, confidence=0.42, name="one"))
    world.at(125, lambda: world.answer("b", 7, 5, outcome="error"))
    world.at(140, lambda: world.servers["a"].told(world.model, 7, "wrong", 2))


@story()
def new_replica(world: World) -> None:
    """One that begins to count in the middle of a window, at once, before anybody looked."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(10, lambda: world.answer("a", 7, 3))
    world.at(20, lambda: world.start("b", 18, 7))
    world.at(21, lambda: world.answer("b", 7, 4))
    world.at(70, lambda: world.answer("b", 7, 5))


@story()
def restarted(world: World) -> None:
    """One that starts again, and counts more than before by the next look; and once more, with less."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(-10, lambda: world.answer("a", 7, 5, seconds=0.2))
    world.at(10, lambda: world.answer("a", 7, 2, seconds=0.2))
    world.at(20, lambda: world.start("a", 19, 7))
    world.at(21, lambda: world.answer("a", 7, 9))
    world.at(40, lambda: world.start("a", 39, 7))
    world.at(41, lambda: world.answer("a", 7, 1))
    world.at(100, lambda: world.answer("a", 7, 1))


@story()
def outgrown(world: World) -> None:
    """One that starts again, and has counted more by the next look than ever before: no counter falls."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(-10, lambda: world.answer("a", 7, 5))
    world.at(20, lambda: world.start("a", 19, 7))
    world.at(21, lambda: world.answer("a", 7, 9))


@story()
def counted_anew(world: World) -> None:
    """One that drops a version and takes it up again, without starting again."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(-10, lambda: world.answer("a", 7, 5))
    world.at(20, lambda: world.start("a", -5000, 7))
    world.at(21, lambda: world.answer("a", 7, 2))
    world.at(40, lambda: world.answer("a", 7, 7))


@story()
def swapped(world: World) -> None:
    """A release in the middle of a window, on one server and then on the other."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(-120, lambda: world.start("b", -5000, 7))
    world.at(10, lambda: world.answer("a", 7, 20))
    world.at(70, lambda: world.answer("b", 7, 10))
    world.at(80, lambda: world.servers["a"].load(world.model, 8, T0 + 80))
    world.at(85, lambda: world.answer("a", 8, 5, confidence=0.3))
    world.at(86, lambda: world.answer("b", 7, 1))
    world.at(90, lambda: world.servers["b"].load(world.model, 8, T0 + 90))
    world.at(115, lambda: world.answer("b", 8, 2))
    world.at(130, lambda: world.answer("a", 8, 1))
    world.at(160, lambda: world.answer("a", 8, 50))


@story()
def beside_it(world: World) -> None:
    """A version that is loaded beside what serves, on one server and then on the other, and gets a share."""
    for name in ("a", "b"):
        world.at(-120, lambda name=name: world.start(name, -5000, 7))
    world.at(10, lambda: world.answer("a", 7, 20))
    world.at(65, lambda: world.servers["a"].load(world.model, 8, T0 + 65))
    world.at(72, lambda: world.servers["b"].load(world.model, 8, T0 + 72))
    world.at(80, lambda: world.answer("b", 7, 6))
    world.at(95, lambda: world.answer("a", 8, 2, confidence=0.3))
    world.at(100, lambda: world.answer("b", 8, 3, outcome="error"))
    world.at(106, lambda: world.start("b", 106, 7))
    world.at(107, lambda: world.servers["b"].load(world.model, 8, T0 + 107))
    world.at(130, lambda: world.answer("b", 7, 4))
    world.at(150, lambda: world.answer("b", 8, 1))


def test_a_version_beside_another_is_told_from_it(url: str) -> None:
    """What both did since the new one was loaded, whoever looks, with a server that started again in between."""
    question = watch(beside_it, canary=8)
    for found in (in_prometheus(url, question, 199), by_scraping(beside_it, question, 199)):
        assert found.canary is not None
        assert found.beside is not None
        assert {name: n for name, n in found.canary.outcomes.items() if n} == {"ok": 3, "error": 3}
        assert (found.beside.requests, sum(found.canary.pictures["confidence"])) == (10, 3)
        assert found.canary.end > T0 + 180
    for asked_for in (watch(beside_it), watch(beside_it, canary=9)):
        nothing = in_prometheus(url, asked_for, 199)
        assert (nothing.canary, nothing.beside) == (None, None)


@pytest.mark.parametrize("tell", [plain_traffic, new_replica, restarted, outgrown, counted_anew, swapped])
def test_both_sources_tell_the_same(url: str, tell: Story) -> None:
    """The same servers, looked at by ourselves and by Prometheus: the same windows, bin by bin, replicas added up."""
    question = watch(tell) if tell is not swapped else watch(tell, version=8, before=7, bake=60)
    found, expected = in_prometheus(url, question, 199), by_scraping(tell, question, 199)
    assert len(expected.windows) >= 2
    for ours, theirs in zip(found.windows[-len(expected.windows) :], expected.windows, strict=True):
        assert (ours.start, ours.end) == (theirs.start, theirs.end)
        for field in ("pictures", "classes", "stages", "outcomes", "truth"):
            assert _counted(getattr(ours, field)) == _counted(getattr(theirs, field)), field
    assert found.loaded == expected.loaded
    for ours, theirs in ((found.bake, expected.bake), (found.champion, expected.champion)):
        assert (ours and _counted(ours.classes)) == (theirs and _counted(theirs.classes))


def _counted(counts: object) -> object:
    """Leave out what was not counted: a series that is not there yet and one at zero say the same."""
    assert isinstance(counts, dict)
    return {name: each for name, each in counts.items() if (any(each) if isinstance(each, tuple) else each)}


def test_counts_are_whole_and_begin_with_the_first(url: str) -> None:
    """Nothing is stretched to the ends of a window, and the first value of a series counts."""
    found = in_prometheus(url, watch(plain_traffic), 199)
    assert told(found) == {-60: 0, 0: 5, 60: 0, 120: 5}
    assert found.windows[1].classes["one"][8] == 2
    assert sum(found.windows[1].stages["total"]) == 5
    assert found.windows[3].truth == {"wrong": 2}
    assert told(in_prometheus(url, watch(new_replica), 199)) == {-60: 0, 0: 7, 60: 5, 120: 0}


def test_a_restart_loses_nothing_that_was_seen(url: str) -> None:
    """Counters that fell, or rose past what they were, add up: bins too, whichever of them fell."""
    found = in_prometheus(url, watch(restarted), 199)
    assert told(found) == {-60: 5, 0: 12, 60: 1, 120: 0}
    window = found.windows[1]
    assert (sum(window.stages["total"]), window.stages["total"][14]) == (12, 2)
    assert min(window.stages["total"]) == 0
    assert told(in_prometheus(url, watch(outgrown), 199)) == {-60: 5, 0: 9, 60: 0, 120: 0}
    assert told(in_prometheus(url, watch(counted_anew), 199)) == {-60: 5, 0: 9, 60: 0, 120: 0}


def test_a_release_is_told_from_the_one_before(url: str) -> None:
    """The bake is what the new version did from its first loading until the end of the trial."""
    found = in_prometheus(url, watch(swapped, version=8, before=7, bake=60), 199)
    assert told(found) == {60: 7, 120: 51}
    assert (found.loaded, found.bake and (found.bake.end, found.bake.requests)) == (T0 + 80, (T0 + 140, 8))
    assert found.champion is not None
    assert found.champion.requests == 31
    on_trial = in_prometheus(url, watch(swapped, version=8, before=7, bake=60), 100)
    assert on_trial.bake is not None
    assert (on_trial.bake.end, on_trial.bake.requests) == (T0 + 100, 5)


@story()
def old_server_found_late(world: World) -> None:
    """One that Prometheus did not know of before."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(20, lambda: world.start("b", -4000, 7))
    world.at(20, lambda: world.answer("b", 7, 100))


@story()
def silent_at_the_end(world: World) -> None:
    """One that does not answer around the end of a window, and counts on."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(40, lambda: world.silent.add("a"))
    world.at(50, lambda: world.answer("a", 7, 8))
    world.at(80, lambda: world.silent.discard("a"))


@pytest.mark.parametrize("tell", [old_server_found_late, silent_at_the_end])
def test_what_was_not_seen_whole_is_not_told(url: str, tell: Story) -> None:
    """Counts that may be of another time are in no window."""
    found = told(in_prometheus(url, watch(tell), 199))
    assert found == ({-60: 0, 60: 0, 120: 0} if tell is old_server_found_late else {-60: 0, 120: 0})


@story(until=2400)
def gone_for_good(world: World) -> None:
    """A replica that counts, and is no target any more soon after."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    world.at(-120, lambda: world.start("b", -5000, 7))
    world.at(100, lambda: world.answer("b", 7, 6))
    world.at(200, lambda: world.servers.pop("b"))
    world.at(900, lambda: world.answer("a", 7, 1))


def test_what_a_replica_counted_before_it_went_stays(url: str) -> None:
    """Its last samples count although it has none at the end of the window."""
    found = in_prometheus(url, watch(gone_for_good, window=1200), 2399)
    assert told(found)[0] == 7


@story(until=600)
def scraped_rarely(world: World) -> None:
    """Looked at every 15 seconds."""
    world.at(-120, lambda: world.start("a", -5000, 7))
    for second in range(0, 600, 5):
        world.at(second, lambda: world.answer("a", 7, 1))


def test_windows_too_short_for_the_scrapes_are_a_trouble(url: str) -> None:
    """A window of less than four scrapes is never seen whole, and a person is told."""
    clock = Clock(T0 + 90)
    source = PrometheusTraffic(PrometheusApi(url), clock=clock, background=False)
    found = turned(source, clock, watch(scraped_rarely, window=20.0), 500)
    assert set(told(found)) <= set(range(-60, 600, 60))
    assert found.trouble.endswith("looks at the servers too rarely: a window must be at least four scrapes long")


def test_a_model_that_nobody_scrapes_is_a_trouble(url: str) -> None:
    """No series at all is no quiet model: somebody forgot to scrape it, or to keep its labels."""
    clock = Clock()
    source = PrometheusTraffic(PrometheusApi(url), clock=clock, background=False)
    found = turned(source, clock, Watch("nobody", 7, 6, WINDOW, 4), 199)
    words = "has no series of nobody: let it scrape the servers, and keep their labels"
    assert found.trouble == f"Prometheus at {url} {words}"


def test_a_time_when_prometheus_was_down_is_not_told(url: str) -> None:
    """Before its first sample of anything there are no windows, not even empty ones."""
    clock = Clock(T0 - 200)
    source = PrometheusTraffic(PrometheusApi(url), clock=clock, background=False)
    found = turned(source, clock, watch(plain_traffic), -70)
    assert (told(found), found.loaded) == ({}, T0 - 4999)
    words = "had no sample of anything (no `up`) when the last window began or ended"
    assert found.trouble == f"Prometheus at {url} {words}"


def test_steady_windows_are_asked_for_once(url: str) -> None:
    """Between two ends of windows nothing is asked, and then of the new one alone: what is over does not change."""
    clock, api = Clock(T0 + 100), CountingApi(url)
    source = PrometheusTraffic(api, clock=clock, background=False)
    source.look(watch(plain_traffic))
    assert source.turn() == pytest.approx(120 + 15 - 100)
    first, api.asked = api.asked, 0
    clock.now = T0 + 135
    source.turn()
    assert 0 < api.asked < first / 2


def test_an_outage_is_told_when_it_lasts_and_what_was_known_stays(url: str) -> None:
    """Down, refused or talking nonsense: the windows stay, the words stay the same, and no token is in them."""
    clock = Clock(T0 + 199)
    api = PrometheusApi(url)
    source = PrometheusTraffic(api, clock=clock, background=False)
    question = watch(plain_traffic)
    known = turned(source, clock, question, 199)
    api.url = "http://127.0.0.1:1"
    for look in range(1, PATIENCE + 2):
        clock.now = T0 + 200 + 60 * look
        source.turn()
        found = source.look(question)
        assert found is not None
        assert found.windows == known.windows
        words = "Prometheus at http://127.0.0.1:1 does not answer (ConnectError)"
        assert found.trouble == ("" if look < PATIENCE else words)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, b"starting", "answers HTTP 503"),
        (302, b"", "answers HTTP 302"),
        (422, b'{"status":"error","error":"query processing would load too many samples"}',
         "answers HTTP 422: query processing would load too many samples"),
        (200, b"<html>", "answers with something that is not Prometheus'"),
    ],
    ids=["down", "elsewhere", "refused", "nonsense"],
)  # fmt: skip
def test_what_is_no_answer_is_trouble(tmp_path: Path, status: int, body: bytes, words: str) -> None:
    """Whatever a server says instead of samples, nobody stumbles, and the token goes nowhere else."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    clock = Clock()
    with bad_server(status, body) as server:
        source = PrometheusTraffic(PrometheusApi(server.url, token), clock=clock, background=False)
        question = Watch("digits", 7, 6, WINDOW, 4)
        found = turned(source, clock, question, 100)
        assert found == Watched(trouble=f"Prometheus at {server.url} {words}")
        assert {headers["authorization"] for headers in server.headers} == {"Bearer s3cret"}
    assert "s3cret" not in str(found)


def test_a_password_opens_a_real_prometheus(tmp_path: Path) -> None:
    """``USER:PASSWORD`` in the file is basic authentication; without it the door stays shut."""
    hashed = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"  # of "secret"
    with prometheus(tmp_path, web={"basic_auth_users": {"ada": hashed}}) as url:
        (tmp_path / "token").write_text("ada:secret\n")
        assert PrometheusApi(url, tmp_path / "token").vector("vector(7)", time.time()) == [("", {}, 7.0)]
        assert httpx.get(f"{url}/api/v1/query?query=up").status_code == 401


def test_both_sources_look_at_living_servers(tmp_path: Path) -> None:
    """A real Prometheus that scrapes, and real threads: windows of two seconds, the same counts for both."""
    window, name = 2.0, "default.digits"
    with ExitStack() as stack:
        servers = [stack.enter_context(metrics_server()) for _ in range(2)]
        for each in servers:
            each.counting = Counting(time.time())
            each.counting.load(name, 7, time.time())
        targets = [each.url.removeprefix("http://") for each in servers]
        url = stack.enter_context(prometheus(tmp_path, targets))
        question = Watch(name, 7, None, window, 4)
        sources = (
            ScrapedTraffic(lambda _: [each.url for each in servers]), PrometheusTraffic(PrometheusApi(url), poll=0.5)
        )  # fmt: skip
        answered: dict[float, int] = {}
        ticks, give_up = threading.Event(), time.monotonic() + 60
        while time.monotonic() < give_up:
            began = time.time() // window * window
            if began not in answered and 0.6 < time.time() - began < 0.9:
                for each in servers:
                    each.counting.answer(name, 7, 3 + len(answered))
                late = time.time() - began > 1.4
                answered[began] = -1 if late else 2 * (3 + len(answered))
            known = [{each.start: each.requests for each in (s.look(question) or Watched()).windows} for s in sources]
            both = known[0].keys() & known[1].keys() & {start for start, count in answered.items() if count > 0}
            if both:
                assert [each[start] for each in known for start in both] == [answered[start] for start in both] * 2
                return
            ticks.wait(0.02)
        pytest.fail(f"no window was told by both: {known}, {answered}")


class PickyApi(PrometheusApi):
    """Refuses every question about one model, as where it would load too many samples."""

    def vector(self, question: str, at: float) -> list[Sample]:
        if "plain-traffic" in question:
            raise Transient("TrafficUnreachable", "too many samples")
        return super().vector(question, at)


def test_one_model_that_cannot_be_asked_about_slows_no_other(url: str) -> None:
    """A question that is refused is one model's trouble; the next model is asked about all the same."""
    clock = Clock(T0 + 199)
    source = PrometheusTraffic(PickyApi(url), clock=clock, background=False)
    for question in (watch(plain_traffic), watch(new_replica)):
        source.look(question)
    source.turn()
    assert source.look(watch(plain_traffic)) is None
    found = source.look(watch(new_replica))
    assert found is not None
    assert told(found) == {-60: 0, 0: 7, 60: 5, 120: 0}
