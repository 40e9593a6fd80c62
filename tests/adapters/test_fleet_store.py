"""Reports and waves in the store: only news is read, what was written first stands, and nonsense is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.fleet_store import StoreFleet
from adapters.store import Store
from specs.errors import Stalled
from specs.fleet import RANKS, DeviceModel, DeviceReport, HaltRecord, WaveRecord, Waves, device_key, halt_key, wave_key
from tests.support.devices import Link, LinkedStore
from tests.support.s3 import BUCKET, s3_server

FILE = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Give the address of a running S3 server."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Give an empty store, once as a folder and once in a bucket."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Store(f"s3://{BUCKET}/{tmp_path.name}")
    return Store(str(tmp_path / "store"))


class Clock:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def report(device: str, version: int) -> DeviceReport:
    """Give a report."""
    return DeviceReport(device=device, models=[DeviceModel(model="digits", state="Serving", version=version)])


def wave(number: int, below: int) -> WaveRecord:
    """Give a wave's record."""
    return WaveRecord(
        model="digits", version=3, file=FILE, wave=number, of=2, below=below, devices=1, opened="2026-11-26T10:00:00Z"
    )


def test_a_look_reads_what_is_new_and_nothing_else(store: Store) -> None:
    """Within ``poll`` nobody is asked; after it, one list, and a read for each report that changed."""
    clock, link = Clock(), Link()
    fleet, devices = StoreFleet(LinkedStore(store, link), clock, poll=10), StoreFleet(store, clock)
    assert fleet.devices() == []
    for name in ("cam-1", "cam-2"):
        devices.tell(report(name, 1))
    assert fleet.devices() == [], "seldom older than a minute, but not asked each time"
    clock.now = 10
    assert [each.device for each in fleet.devices()] == ["cam-1", "cam-2"]
    link.asked.clear()
    devices.tell(report("cam-2", 2))
    clock.now = 20
    (_, second) = fleet.devices()
    assert second.models[0].version == 2
    assert link.asked == {"list": 1, "read": 1}


def test_what_is_no_report_or_another_devices_is_left_out(store: Store) -> None:
    """One device cannot speak for another, and nonsense stops nobody."""
    clock = Clock()
    store.replace(device_key("cam-1"), b"{nonsense")
    store.replace(device_key("cam-2"), report("cam-3", 1).encode())
    StoreFleet(store, clock).tell(report("cam-4", 1))
    assert [each.device for each in StoreFleet(store, clock).devices()] == ["cam-4"]


def test_waves_are_read_in_order_up_to_the_first_that_is_missing_and_once(store: Store) -> None:
    """A gap ends them; what was opened first stands; after the last wave only a halt is looked for."""
    link = Link()
    fleet = StoreFleet(LinkedStore(store, link), Clock())
    assert fleet.waves("digits", 3, FILE) == Waves()
    fleet.open(wave(2, RANKS))
    assert fleet.waves("digits", 3, FILE) == Waves(), "the second without the first is none"
    fleet.open(wave(1, 100))
    fleet.open(wave(1, 999))
    found = fleet.waves("digits", 3, FILE)
    assert [each.below for each in found.opened] == [100, RANKS]
    assert found.complete
    assert fleet.below("digits", 3, FILE) == RANKS
    link.asked.clear()
    assert fleet.waves("digits", 3, FILE) == found
    assert link.asked == {"read": 1}
    halt = HaltRecord(model="digits", version=3, file=FILE, wave=2, failures={}, failed=1, halted="2026-11-26T10:00Z")
    fleet.halt(halt)
    fleet.halt(halt.model_copy(update={"failed": 9}))
    assert fleet.waves("digits", 3, FILE).halt == halt
    link.asked.clear()
    assert fleet.waves("digits", 3, FILE).halt == halt
    assert not link.asked
    assert fleet.waves("digits", 4, FILE) == Waves(), "another release begins anew"


def test_a_record_that_is_none_stops_the_rollout_with_a_way_out(store: Store) -> None:
    """Nobody guesses how far a release may go."""
    store.create(wave_key("digits", 3, FILE, 1), b"x")
    with pytest.raises(Stalled, match="remove it"):
        StoreFleet(store, Clock()).waves("digits", 3, FILE)
    store.create(halt_key("digits", 5, FILE), b"x")
    with pytest.raises(Stalled, match="not a HaltRecord"):
        StoreFleet(store, Clock()).waves("digits", 5, FILE)
