"""What one device does about one model: serve what git says once a wave reaches it, and what it said before until then.

The device thinks for itself, with the same steps as any host; only what it may serve depends on waves. It needs git
and the store to learn of something new, and neither to go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from reconcilers.actions import Action, RollOut, Withdraw
from reconcilers.context import Context, Step, Verdict
from reconcilers.live_gate import judge, undoes
from reconcilers.observed import Observed
from reconcilers.observing_traffic import TrafficObserver
from reconcilers.ports import Calendar, Fleet, Servers, Store, TrafficSource
from reconcilers.records import Records
from reconcilers.rollout import plan_rollout
from reconcilers.vetting import Vetting
from specs.errors import TrunklineError
from specs.facts import SourcedSpec
from specs.fleet import Device, DeviceModel, Word, rank
from specs.manifest import parse
from specs.modelspec import ModelKey, Spec
from specs.moments import iso
from specs.names import serving_name
from specs.records import ArtifactRecord, RunRecord, artifact_key, run_key
from specs.release import Release
from specs.serving_facts import ServingState
from specs.status import Condition, ConditionType, ModelStatus, Reason

_REMEMBERED = 200


@dataclass(frozen=True)
class DevicePorts:
    """What a device reaches."""

    store: Store
    servers: Servers
    fleet: Fleet
    traffic: TrafficSource | None = None
    calendar: Calendar | None = None
    vetting: Vetting = field(default_factory=Vetting)


@dataclass(frozen=True)
class Looked:
    """What came of a look at one model."""

    told: DeviceModel | None
    """What to tell about it; None where this device has nothing to do with it."""
    trouble: TrunklineError | None = None
    """What was in the way; whatever serves goes on serving."""
    busy: bool = False
    """Whether looking again soon is worth while."""


def is_reached(spec: Spec, model: str, device: Device, below: int, state: ServingState | None) -> bool:
    """Whether a device may serve the release, which has reached ranks ``below``.

    What it serves already it never gives back because of a wave.
    """
    release, serving = spec.release, spec.serving
    if release is None or serving is None:
        return False
    file = release.exports.get(serving.export)
    has_it = state is not None and state.ready and (state.version, state.file) == (release.version, file)
    return undoes(release) or has_it or rank(model, device.name) < below


def as_reached(spec: Spec, *, reached: bool) -> Spec | None:
    """Give the spec as it is for a device: with the release before where no wave reaches it yet; None: with none."""
    release, serving = spec.release, spec.serving
    if release is None or serving is None:
        return None
    if not reached:
        if release.previous is None:
            return None
        release = Release(**release.previous.model_dump())
    return spec.model_copy(update={"release": release, "serving": serving.model_copy(update={"edge": None})})


class DeviceLoop:
    """Looks at one model at a time; never raises for expected trouble."""

    def __init__(self, ports: DevicePorts, device: Device, clock: Callable[[], float]) -> None:
        self._ports = ports
        self._device = device
        self._clock = clock
        self._records = Records(ports.store, _REMEMBERED)
        self._traffic = TrafficObserver(self._records, ports.traffic, ports.calendar, remembered=_REMEMBERED)
        self._gates: dict[str, Condition] = {}
        self._specs: dict[ModelKey, tuple[str, Spec]] = {}

    def look(self, source: SourcedSpec, before: DeviceModel | None) -> Looked:
        """Bring one model nearer to what git says. ``before``: what was told about it last."""
        model = serving_name(*source.key)
        state: ServingState | None = None
        try:
            state = self._ports.servers.state(model)  # first of all: a server that died is started again by this
            spec = self._spec(source)
            edge = spec.serving.edge if spec.serving is not None else None
            if edge is None or not self._device.has(edge.devices):
                return self._leave(model, state)
            source = self._ports.vetting.vet(source, ModelStatus())
            return self._serve(source, spec, state, before)
        except TrunklineError as error:
            return Looked(self._told(model, state, before, waits=False), error, busy=True)

    def _serve(
        self, source: SourcedSpec, spec: Spec, state: ServingState | None, before: DeviceModel | None
    ) -> Looked:  # fmt: skip
        model = serving_name(*source.key)
        reached = is_reached(spec, model, self._device, 0, state)
        if not reached and spec.release is not None and spec.serving is not None:
            release = spec.release
            below = self._ports.fleet.below(model, release.version, release.exports.get(spec.serving.export, ""))
            reached = is_reached(spec, model, self._device, below, state)
        mine = as_reached(spec, reached=reached)
        if spec.suspend or mine is None:
            return Looked(self._told(model, state, before, waits=not reached))
        step = self._decide(source, mine, state)
        trouble: TrunklineError | None = None
        for action in step.actions:
            try:
                self._do(action)
            except TrunklineError as error:
                trouble = error
        if step.actions:
            state = self._ports.servers.state(model)
        told = self._told(model, state, before, waits=not reached)
        if step.verdict is Verdict.STOP and told.state != "Failed":
            told = told.model_copy(update=_failed(mine, step))
        return Looked(told, trouble, busy=bool(step.actions) or step.verdict is Verdict.WAIT or step.after > 0)

    def _spec(self, source: SourcedSpec) -> Spec:
        """Parse, unless the same text was parsed before."""
        known = self._specs.get(source.key)
        if known is None or known[0] != source.text:
            known = self._specs[source.key] = (source.text, parse(source.text, source.path, source.key).model.spec)
        return known[1]

    def _decide(self, source: SourcedSpec, spec: Spec, state: ServingState | None) -> Step:
        """Decide like any host: what serves, what failed here, and how the release does in this device's traffic."""
        observed = Observed(source=source, serving=state, runs=self._runs(spec), artifacts=self._artifacts(spec))
        now = self._clock()
        ctx = Context(source.key, spec, observed, now)
        known = self._gates.get(str(source.key))
        observed = self._traffic.look(ctx, ModelStatus(conditions=[known] if known else []), now)
        ctx = replace(ctx, observed=observed)
        gate = judge(ctx)
        if gate is not None and gate.outcome.name == "PASSED":
            passed = Condition(
                type=ConditionType.LIVE_GATE, status="True", reason=Reason.LIVE_GATE_PASSED, message=gate.message
            )
            self._gates[str(source.key)] = passed
        return plan_rollout(ctx, gate)

    def _do(self, action: Action) -> None:
        if isinstance(action, RollOut):
            self._ports.servers.roll_out(action.target, action.rejected)
        elif isinstance(action, Withdraw):
            self._ports.servers.withdraw(action.name)

    def _leave(self, model: str, state: ServingState | None) -> Looked:
        """Stop serving what is not for this device any more."""
        if state is not None:
            self._ports.servers.withdraw(model)
        return Looked(None)

    def _runs(self, spec: Spec) -> dict[str, RunRecord]:
        found = {pin.run: self._records.get(run_key(pin.run), RunRecord) for pin in spec.pins}
        return {digest: run for digest, run in found.items() if run is not None}

    def _artifacts(self, spec: Spec) -> dict[str, ArtifactRecord]:
        export = spec.serving.export if spec.serving else ""
        files = {pin.exports[export] for pin in spec.pins if export in pin.exports}
        found = {file: self._records.get(artifact_key(file), ArtifactRecord) for file in files}
        return {file: record for file, record in found.items() if record is not None}

    def _told(
        self, model: str, state: ServingState | None, before: DeviceModel | None, *, waits: bool
    ) -> DeviceModel:  # fmt: skip
        """Say how a model stands here."""
        if state is None:
            return DeviceModel(model=model, state="Waiting" if waits else "Loading")
        ready = state.ready
        same = before is not None and (before.version, before.file) == (state.version, state.file) and before.since
        since = before.since if same and before else iso(self._clock())
        bad = (state.failed_file, state.failure)
        if state.rejected is not None:
            bad = (state.rejected.file, state.rejected.failure)
        word: Word = "Failed" if bad[0] is not None else "Waiting" if waits else "Serving" if ready else "Loading"
        return DeviceModel(
            model=model, state=word, version=state.version if ready else None, file=state.file if ready else None,
            since=since if ready else "", failed=bad[0], failure=bad[1] if bad[0] is not None else "",
        )  # fmt: skip


def _failed(spec: Spec, step: Step) -> dict[str, object]:
    """Say that the release cannot serve here for another reason than its file."""
    file = spec.release.exports.get(spec.serving.export) if spec.release and spec.serving else None
    return {"state": "Failed", "failed": file, "failure": step.message}
