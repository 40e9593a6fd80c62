"""Stories of servers that count, played to whoever looks: the same one to a source that scrapes and to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from adapters.traffic_rounds import Rounds
from adapters.traffic_scrape import ScrapedTraffic
from specs.traffic import Watch, Watched
from tests.support.metrics_server import Counting, MetricsServer, metrics_server
from tests.support.prometheus_server import Past

T0 = 1_790_000_400.0
"""A moment at which a window of a whole number of minutes, up to an hour, begins."""


class Clock:
    """The time that the test says."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """Servers by name, and what happens to them at which second after T0."""

    model: str
    servers: dict[str, Counting] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Those that are there and do not answer."""
    _acts: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Let something happen."""
        self._acts.append((seconds, act))
        self._acts.sort(key=lambda each: each[0])

    def start(self, name: str, at: float, *versions: int) -> None:
        """Start a server that serves versions from the next second on; one that ran before has loaded them before."""
        again = name in self.servers
        self.servers[name] = Counting(T0 + at)
        for version in versions:
            self.servers[name].load(self.model, version, T0 - 4999 if again else T0 + at + 1)

    def answer(self, server: str, version: int, count: int, **how: object) -> None:
        """Let a server answer."""
        self.servers[server].answer(self.model, version, count, **how)  # type: ignore[arg-type]

    def go_on(self, seconds: float) -> None:
        """Let everything happen that is due."""
        while self._acts and self._acts[0][0] <= seconds:
            self._acts.pop(0)[1]()


Story = Callable[[World], None]
"""Says what happens."""


def remember(past: Past, world: World, until: float, every: float = 15.0) -> None:
    """Let Prometheus look at a world every so many seconds, from two minutes before T0."""
    for number in range(int((until + 120) / every) + 1):
        seconds = number * every - 120
        world.go_on(seconds)
        for name, counting in world.servers.items():
            text = None if name in world.silent else counting.text()
            past.scrape(T0 + seconds, text, instance=f"{world.model}/{name}")
        past.scrape(T0 + seconds, b"", instance=f"{world.model}/another")


@contextmanager
def asked(world: World, poll: float = 15.0) -> Iterator[Callable[[Watch, float], Watched]]:
    """Let a source ask the servers of a world themselves; give what tells what it knows so many seconds after T0."""
    clock = Clock(T0 - 120)
    with ExitStack() as stack:
        real: dict[str, MetricsServer] = {}

        def roots(_model: str) -> list[str]:
            return [real[name].url for name in world.servers]

        source = ScrapedTraffic(roots, poll=poll, clock=clock, background=False)

        def prepare() -> None:
            world.go_on(clock.now - T0)
            for name, counting in world.servers.items():
                if name not in real:
                    real[name] = stack.enter_context(metrics_server())
                real[name].counting, real[name].down = counting, name in world.silent

        yield lambda watch, seconds: turned(source, clock, watch, seconds, prepare)


def turned(
    source: Rounds[object] | ScrapedTraffic, clock: Clock, watch: Watch, seconds: float,
    prepare: Callable[[], None] = lambda: None,
) -> Watched:  # fmt: skip
    """Let a source look whenever that is due, until so many seconds after T0; give what it knows then."""
    source.look(watch)
    while True:
        prepare()
        pause = source.turn()
        if clock.now + pause > T0 + seconds:
            break
        clock.now += pause
    clock.now = T0 + seconds
    found = source.look(watch)
    assert found is not None
    return found


def told(watched: Watched) -> Mapping[float, float]:
    """Give the number of requests in each window, by its start in seconds after T0."""
    return {each.start - T0: each.requests for each in watched.windows}
