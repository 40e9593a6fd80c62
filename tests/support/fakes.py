"""Hand-written ports in memory: a store, jobs that a test ends, a server that cannot load some files, a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from specs.data import Source
from specs.data_records import ImportRecord, import_key
from specs.engines import fits, refusal
from specs.errors import Problem, Stalled, TrunklineError
from specs.facts import JobPhase, JobState, SourcedSpec
from specs.modelspec import ModelKey
from specs.monitoring import OnData
from specs.placement import Placement
from specs.records import ExportRecord, Record, RunRecord, dataset_key, export_key, run_key
from specs.serving_facts import CanaryState, Rejected, ServingState, ServingTarget, Share
from specs.traffic import Traffic, Watch, Watched
from specs.workorders import AnyOrder, ExportOrder, ImportOrder, TrainOrder
from tests.support.builders import GOLDEN, KEY, PATH, TRAIN, Lab
from tests.support.fake_git import TRUNK, FakeRepository
from tests.support.wire import Wire


class FakeStore:
    """Records and files."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        for data in (TRAIN, GOLDEN):
            self.put(dataset_key(data.digest()), data)

    def put(self, key: str, record: Record) -> None:
        """Write as a job does: once."""
        self.records.setdefault(key, record.encode())

    def read(self, key: str) -> bytes | None:
        return self.records.get(key)

    def has_blob(self, digest: str) -> bool:
        return bool(digest)

    def read_blob(self, digest: str) -> bytes:
        return f"picture {digest}".encode()


@dataclass
class FakeJobs:
    """Jobs that do nothing until a test finishes them."""

    wire: Wire
    store: FakeStore
    clock: Callable[[], float]
    lab: Lab = field(default_factory=Lab)
    states: dict[str, JobState] = field(default_factory=dict)
    orders: dict[str, AnyOrder] = field(default_factory=dict)
    needless: list[str] = field(default_factory=list)
    """Trainings that began although their run was recorded."""

    def state(self, order: AnyOrder) -> JobState | None:
        return self.states.get(order.job)

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        return self.wire.effect(f"start {order.job}", lambda: self._start(order))

    def _start(self, order: AnyOrder) -> JobState:
        name, before = order.job, self.states.get(order.job)
        if before is None or before.phase is JobPhase.ENDED:
            attempts = before.attempts + 1 if before else 1
            self.states[name] = JobState(name, JobPhase.RUNNING, attempts, started=self.clock())
            self.orders[name] = order
            if isinstance(order, TrainOrder) and run_key(order.inputs_digest) in self.store.records:
                self.needless.append(name)
        return self.states[name]

    def running(self) -> list[str]:
        """Give the names of those that run."""
        return sorted(name for name, state in self.states.items() if state.phase is JobPhase.RUNNING)

    def finish(self, name: str, outcome: str = "ok") -> None:
        """End a job: ``ok`` leaves its records, ``killed`` nothing, ``hopeless`` the record that says so."""
        order, code, reason = self.orders[name], 0, ""
        if outcome == "ok":
            for key, record in self.lab.do(order):
                self.store.put(key, record)
            if isinstance(order, ImportOrder):
                found = self.lab.imported(order)
                self.store.put(dataset_key(found.digest()), found)
        elif outcome == "killed":
            code, reason = -9, "Killed"
        else:
            code, reason = 10, "Hopeless"
            self._record_failure(order)
        self.states[name] = replace(
            self.states[name], phase=JobPhase.ENDED, exit_code=code, reason=reason, ended=self.clock()
        )

    def _record_failure(self, order: AnyOrder) -> None:
        why: Any = {"status": "Failed", "reason": "Hopeless", "message": "It cannot work."}
        if isinstance(order, TrainOrder):
            run = RunRecord(inputs_digest=order.inputs_digest, inputs=order.inputs, model="x", commit="c", **why)
            self.store.put(run_key(order.inputs_digest), run)
        elif isinstance(order, ExportOrder):
            key: Any = {"weights": order.weights, "export_digest": order.export_digest}
            self.store.put(export_key(**key), ExportRecord(**key, format=order.format, args=order.args, **why))
        elif isinstance(order, ImportOrder):
            named: Any = {"import_digest": order.import_digest, "task": order.task, "source": order.source}
            self.store.put(import_key(order.import_digest), ImportRecord(**named, **why))


@dataclass
class FakeSources:
    """Where data lies. Whoever commits there sets what is newest; who cannot be reached raises."""

    latest: Source | None = None
    trouble: TrunklineError | None = None

    def resolve(self, source: Source) -> Source | None:
        return self.newest(source, OnData())

    def newest(self, source: Source, _follow: OnData) -> Source | None:
        if self.trouble is not None:
            raise self.trouble
        return self.latest if self.latest is not None and self.latest.kind == source.kind else None


@dataclass
class FakeTraffic:
    """Who counts live traffic. A test says what the windows were; what was asked for is remembered."""

    windows: dict[tuple[int, float], Traffic] = field(default_factory=dict)
    """By version and start."""
    loaded: dict[int, float] = field(default_factory=dict)
    """Since when a version serves; long since, unless it is said."""
    trials: dict[int, Traffic] = field(default_factory=dict)
    """What a version saw: as the one on trial, and as the one before it."""
    trouble: str = ""
    silent: bool = False
    """Whether no look ended yet."""
    asked: list[Watch] = field(default_factory=list)

    def look(self, asked: Watch) -> Watched | None:
        self.asked.append(asked)
        if self.silent:
            return None
        found = sorted(start for version, start in self.windows if version == asked.version)
        windows = tuple(self.windows[asked.version, start] for start in found[-asked.windows :] if asked.windows)
        champion = self.trials.get(asked.before) if asked.before is not None else None
        loaded = self.loaded.get(asked.version, 0.0)
        new, old = (self.trials.get(asked.canary), self.trials.get(asked.version)) if asked.canary else (None, None)
        return Watched(windows, loaded, self.trials.get(asked.version), champion, self.trouble, new, old)

    def had(self, version: int, start: float, window: float, *, errors: float, requests: int = 1000) -> None:
        """Let a window be over in which a share of the requests ended in an error of ours."""
        outcomes = {"ok": requests * (1 - errors), "error": requests * errors}
        self.windows[version, start] = Traffic(start, start + window, outcomes=outcomes)


@dataclass
class FakeCalendar:
    """A calendar on which every cron line names the multiples of a number of seconds; ``bad`` is no cron line."""

    every: float = 86_400.0

    def last(self, schedule: str, now: float) -> float:
        if "bad" in schedule:
            raise Stalled("ScheduleInvalid", f'"{schedule}" is no cron line')
        return now - now % self.every

    def next(self, schedule: str, now: float) -> float:
        return self.last(schedule, now) + self.every


@dataclass
class FakeServers:
    """A server that cannot load some files."""

    wire: Wire
    clock: Callable[[], float] = time.time
    engines: Callable[[str], Mapping[str, str]] = lambda _file: {}
    """By the digest of a file: on which kind of device it works alone."""
    device: Mapping[str, str] = field(default_factory=dict)
    """What the server's own is like."""
    states: dict[str, ServingState] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)
    """Every file that ever answered."""
    shares: list[tuple[int, int, Share]] = field(default_factory=list)
    """What served, what was beside it, and with what share, as it was asked for."""

    def state(self, name: str) -> ServingState | None:
        return self.states.get(name)

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        step = "" if target.share is None else f" step {target.share.step}"
        return self.wire.effect(f"roll out v{target.version}{step}", lambda: self._roll_out(target, rejected))

    def withdraw(self, name: str) -> None:
        self.wire.effect(f"withdraw {name}", lambda: self.states.pop(name, None))

    def names(self) -> Sequence[str]:
        return sorted(self.states)

    def _roll_out(self, target: ServingTarget, rejected: Rejected | None) -> ServingState:
        before = self.states.get(target.name, ServingState(target.name, ready=False))
        beside = before.canary if target.share is not None and before.ready else None
        same = (target.version, target.file) in ((before.version, before.file), _named(beside))
        before = replace(before, rejected=(before.rejected if same else None) or rejected)
        built = self.engines(target.file)
        if not fits(built, self.device):
            failure = refusal(built, self.device)
            self.states[target.name] = replace(before, failed_file=target.file, failure=failure)
        elif target.share is not None and before.ready:
            self.states[target.name] = self._put_beside(before, target, target.share)
        elif target.file in self.bad and not (before.ready and before.file == target.file):
            failure = f"{target.file[:15]} does not load"
            self.states[target.name] = replace(before, failed_file=target.file, failure=failure, canary=None)
        else:
            self.states[target.name] = ServingState(
                target.name, True, target.version, target.file, "local://x", options=target.options.digest,
                rejected=before.rejected,
            )  # fmt: skip
            self.ever.add(target.file)
        return self.states[target.name]

    def _put_beside(self, before: ServingState, target: ServingTarget, share: Share) -> ServingState:
        known = before.canary if _named(before.canary) == (target.version, target.file) else None
        if known is None and target.file in self.bad:
            failure = f"{target.file[:15]} does not load"
            return replace(before, failed_file=target.file, failure=failure, canary=None)
        since = known.since if known is not None and known.share == share else self.clock()
        self.shares.append((before.version or 0, target.version, share))
        self.ever |= {target.file} if share.weight else set()
        made = CanaryState(target.version, target.file, share, ready=True, since=since)
        return replace(before, canary=made, options=target.options.digest, failed_file=None, failure="")

    def restart(self) -> None:
        """Die and come back: what loads is loaded again, failures are forgotten, but not what was given up for good."""
        for name, state in list(self.states.items()):
            beside = None if state.canary is None or state.canary.file in self.bad else state.canary
            state = replace(state, canary=beside)  # noqa: PLW2901  it may not load again
            if state.ready and state.file not in self.bad:
                self.states[name] = replace(state, failed_file=None, failure="")
            elif state.rejected is not None:
                self.states[name] = ServingState(name, ready=False, rejected=state.rejected)
            else:
                del self.states[name]


def _named(canary: CanaryState | None) -> tuple[int, str] | None:
    return (canary.version, canary.file) if canary is not None else None


@dataclass
class FakeSource:
    """The one model of the tracked branch."""

    repository: FakeRepository
    found: SourcedSpec | None = None

    def refresh(self) -> None:
        head = self.repository.heads[TRUNK]
        text = (self.repository.read(head, PATH) or b"").decode()
        versions = [int(release_of(commit.tree[PATH]).get("version", 0)) for _, commit in self.repository.line(head)]
        changed = self.repository.last_change(head, PATH)
        self.found = SourcedSpec(KEY, PATH, text, head, changed, 1, "local://models", TRUNK, max(versions))

    def keys(self) -> Sequence[ModelKey]:
        return [KEY]

    def get(self, key: ModelKey) -> SourcedSpec | None:
        return self.found if key == KEY else None

    @property
    def problems(self) -> Sequence[Problem]:
        return ()


_RELEASES: dict[bytes, Mapping[str, Any]] = {}


def release_of(text: bytes) -> Mapping[str, Any]:
    """Give ``spec.release`` of a manifest, empty where there is none."""
    if text not in _RELEASES:
        _RELEASES[text] = yaml.safe_load(text)["spec"].get("release") or {}
    return _RELEASES[text]
