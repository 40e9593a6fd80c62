"""Devices by the hundred, in one process: the real device, the real store and git, and a pretended model server.

Devices of one site share a mirror of the repository, as behind a gateway; each asks it by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.fleet_store import StoreFleet
from adapters.store import Store
from adapters.trunk_git import GitTrunk, TrackedBranch
from controller.device import DeviceAgent
from reconcilers.devices import DeviceLoop, DevicePorts
from specs.errors import Problem, Transient
from specs.facts import SourcedSpec
from specs.fleet import Device
from specs.modelspec import ModelKey
from tests.support.fakes import FakeServers
from tests.support.released import Released
from tests.support.wire import Wire


@dataclass
class Link:
    """A device's way to git and store: up or down, and everything that went over it is counted."""

    up: bool = True
    loses: int = 0
    """So many answers to writes get lost, after what was written is there."""
    asked: Counter[str] = field(default_factory=Counter)

    def use(self, what: str) -> None:
        """Go over it once; Transient where it is down."""
        if not self.up:
            raise Transient("NoNetwork", "the network is down")
        self.asked[what] += 1


class LinkedStore:
    """The store, at the end of a link."""

    def __init__(self, store: Store, link: Link) -> None:
        self._store, self._link = store, link

    def read(self, key: str) -> bytes | None:
        self._link.use("read")
        return self._store.read(key)

    def create(self, key: str, data: bytes) -> bool:
        self._link.use("create")
        return self._store.create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._link.use("replace")
        self._store.replace(key, data)
        if self._link.loses:
            self._link.loses -= 1
            raise Transient("NoAnswer", "the answer was lost")

    def stamps(self, prefix: str) -> dict[str, str]:
        self._link.use("list")
        return self._store.stamps(prefix)

    def has_blob(self, digest: str) -> bool:
        self._link.use("read")
        return self._store.has_blob(digest)

    def read_blob(self, digest: str) -> bytes:
        self._link.use("read")
        return self._store.read_blob(digest)


class Site:
    """A mirror that the devices of a site share. Once a round it looks at the remote, whoever asks."""

    def __init__(self, url: str, workdir: Path) -> None:
        self._trunk = GitTrunk(TrackedBranch(url, workdir))
        self._fresh = False
        self._seen = Seen()

    def look(self) -> Seen:
        """Give what the branch says now."""
        if not self._fresh:
            self._trunk.refresh()
            self._fresh = True
            found = {key: self._trunk.get(key) for key in self._trunk.keys()}  # noqa: SIM118  no mapping
            models = {key: source for key, source in found.items() if source is not None}
            self._seen = Seen(self._trunk.head, models, self._trunk.problems)
        return self._seen

    def next_round(self) -> None:
        """Forget what the last look said."""
        self._fresh = False


@dataclass
class Seen:
    """What a device has seen of the branch."""

    head: str = ""
    models: dict[ModelKey, SourcedSpec] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class LinkedTrunk:
    """The tracked branch, at the end of a link: what was seen last is on the device's disk."""

    def __init__(self, site: Site, link: Link, disk: list[Seen]) -> None:
        self._site, self._link, self._disk, self._seen = site, link, disk, Seen()

    def refresh(self) -> None:
        self._link.use("git")
        self._seen = self._site.look()
        self._disk[:] = [self._seen]

    def recall(self) -> None:
        self._seen = self._disk[0] if self._disk else Seen()

    @property
    def head(self) -> str:
        return self._seen.head

    def keys(self) -> tuple[ModelKey, ...]:
        return tuple(self._seen.models)

    def get(self, key: ModelKey) -> SourcedSpec | None:
        return self._seen.models.get(key)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._seen.problems


class Simulated:
    """One device."""

    def __init__(self, story: Released, site: Site, folder: Path, name: str, labels: dict[str, str]) -> None:
        self.name, self.link, self.servers = name, Link(), FakeServers(Wire())
        self._disk: list[Seen] = []
        self._make = lambda: self._agent(story, site, folder / name, Device(name, labels))
        self.agent = self._make()

    def _agent(self, story: Released, site: Site, folder: Path, device: Device) -> DeviceAgent:
        store = LinkedStore(story.store, self.link)
        fleet = StoreFleet(store, lambda: story.now)
        loop = DeviceLoop(DevicePorts(store, self.servers, fleet), device, lambda: story.now)
        trunk = LinkedTrunk(site, self.link, self._disk)
        return DeviceAgent(device, loop, trunk, self.servers, fleet.tell, folder, lambda: story.now)

    def restart(self) -> None:
        """Lose all that is in memory."""
        self.agent = self._make()

    def version(self) -> int | None:
        """Give the version that answers."""
        state = self.servers.states.get("digits")
        return state.version if state is not None and state.ready else None


class Devices:
    """Many devices that follow the repository of a story."""

    def __init__(self, story: Released, count: int, *, site: int = 50) -> None:
        self.story = story
        story.fleet = StoreFleet(story.store, lambda: story.now, poll=0)
        folder = story.folder / "devices"
        self.sites = [Site(str(story.path), folder / f"site-{n}") for n in range(-(-count // site))]
        self.all = [
            Simulated(story, self.sites[n // site], folder, f"cam-{n:04}", {"line": "a" if n % 2 else "b"})
            for n in range(count)
        ]

    def round(self, devices: Sequence[Simulated] | None = None) -> None:
        """Let devices look once, each by itself."""
        for site in self.sites:
            site.next_round()
        for device in self.all if devices is None else devices:
            device.agent.once()

    def turn(self, rounds: int = 2, wait: float = 0) -> None:
        """Let time go by, then devices and coordinator look in turn."""
        self.story.now += int(wait)
        for _ in range(rounds):
            self.round()
            self.story.converge()

    def versions(self) -> Counter[int | None]:
        """Give how many devices serve which version."""
        return Counter(device.version() for device in self.all)

    def asked(self) -> Counter[str]:
        """Give what went over all links since the last time, and forget it."""
        total: Counter[str] = Counter()
        for device in self.all:
            total += device.link.asked
            device.link.asked.clear()
        return total
