"""Looking at the world: ports in, one frozen snapshot out. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconcilers import orders, tracking
from reconcilers.context import Context
from reconcilers.limits import Allowance, Crowd, Limits
from reconcilers.observed import Observed
from reconcilers.observing_data import DataObserver
from reconcilers.observing_traffic import TrafficObserver
from reconcilers.progress import reported
from reconcilers.records import CACHE_SIZE, Records
from reconcilers.waves import members
from reconcilers.world import Ports
from specs.experiment_records import TrackRecord, TuningRecord, track_key, tuning_key
from specs.facts import ProposalState, PullRequest, PullState, SourcedSpec
from specs.modelspec import ModelKey, Spec
from specs.names import BRANCH_PREFIX, parse_branch, serving_name
from specs.records import (
    ArtifactRecord,
    ComparisonRecord,
    EvaluationRecord,
    ExportRecord,
    RunRecord,
    artifact_key,
    comparison_key,
    evaluation_key,
    export_key,
    run_key,
)  # fmt: skip
from specs.status import ModelStatus
from specs.workorders import tuning_digest

_NOTHING = ModelStatus()


@dataclass(frozen=True)
class Shared:
    """What one look at forge and repository tells about all models; one list call serves them all."""

    head: str
    pulls: Mapping[ModelKey, tuple[PullRequest, ...]]
    branches: Mapping[ModelKey, Mapping[str, str]]
    crowd: Crowd = field(default_factory=Crowd)
    allowance: Allowance = field(default_factory=Allowance)
    """What may be opened on the strength of this look, whoever decides on it."""
    rules: str = ""
    """Names what is required of commits now."""


class Observer:
    """Gathers ``Observed`` through the ports."""

    def __init__(self, ports: Ports, remembered: int = CACHE_SIZE, *, limits: Limits | None = None) -> None:
        """``limits`` of the repository, for all its models together; None sets none."""
        self._allowance = Allowance(limits)
        self._records = Records(ports.store, remembered)
        self._data = DataObserver(self._records, ports.data)
        self.traffic = TrafficObserver(self._records, ports.traffic, ports.calendar)
        self._store = ports.store
        self._repository = ports.repository
        self._forge = ports.forge
        self._jobs = ports.jobs
        self._servers = ports.servers
        self._registry = ports.registry
        self._fleet = ports.fleet

    def share(self) -> Shared:
        """Look at what all models share. The forge comes first, so that git is never older than it."""
        pulls: dict[ModelKey, list[PullRequest]] = {}
        listed = self._forge.list()
        for pull in listed:
            parsed = parse_branch(pull.branch)
            if parsed:
                pulls.setdefault(ModelKey(parsed[1], parsed[2]), []).append(pull)
        head = self._repository.fetch()
        branches: dict[ModelKey, dict[str, str]] = {}
        for branch, commit in self._repository.branches(BRANCH_PREFIX).items():
            parsed = parse_branch(branch)
            if parsed:
                branches.setdefault(ModelKey(parsed[1], parsed[2]), {})[branch] = commit
        every = {key: tuple(found) for key, found in pulls.items()}
        return Shared(head, every, branches, self._allowance.looked(listed), self._allowance)

    def observe(
        self, source: SourcedSpec, spec: Spec, shared: Shared, previous: ModelStatus = _NOTHING, now: float = 0.0
    ) -> Observed:
        """Give the snapshot for one model. ``previous`` is its last status; ``now`` is Unix time, for schedules."""
        key = source.key
        branches = shared.branches.get(key, {})
        proposals = self._proposals(source.branch, shared.pulls.get(key, ()), branches, shared.head)
        runs = self._runs(spec)
        observed = Observed(
            source=source,
            runs=runs,
            artifacts=self._artifacts(spec),
            tuning=self._tuning(key, spec),
            serving=self._servers.state(serving_name(*key)),
            proposals=proposals,
            branches=branches,
            leftovers=self._leftovers(proposals, branches, shared.head),
            crowd=shared.crowd,
        )
        observed = self._devices(key, spec, observed)
        observed = self._data.look(spec, observed)
        observed = replace(observed, exports=self._exports(Context(key, spec, observed, 0.0)))
        observed = self._measurements(key, spec, observed)
        observed = self._mirrors(Context(key, spec, observed, 0.0))
        observed = self.traffic.look(Context(key, spec, observed, 0.0), previous, now)
        states = {o.job: self._jobs.state(o) for o in orders.missing(Context(key, spec, observed, 0.0))}
        jobs = {name: state for name, state in states.items() if state is not None}
        return replace(observed, jobs=jobs, progress=reported(self._store, jobs.values()))

    def _runs(self, spec: Spec) -> dict[str, RunRecord]:
        wanted = {spec.inputs_digest}
        if spec.release is not None:
            wanted.add(spec.release.run)
            wanted |= {spec.release.previous.run} if spec.release.previous else set()
        found = {digest: self._records.get(run_key(digest), RunRecord) for digest in wanted}
        return {digest: run for digest, run in found.items() if run is not None}

    def _exports(self, ctx: Context) -> dict[tuple[str, str], ExportRecord]:
        """Look up the exports of the candidate, which its data and the device that serves have a part in."""
        if ctx.weights is None:
            return {}
        keys = [(ctx.weights, digest) for digest in ctx.export_digests.values()]
        found = {key: self._records.get(export_key(*key), ExportRecord) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def _artifacts(self, spec: Spec) -> dict[str, ArtifactRecord]:
        files = {digest for pin in spec.pins for digest in pin.exports.values()}
        found = {digest: self._records.get(artifact_key(digest), ArtifactRecord) for digest in files}
        return {digest: record for digest, record in found.items() if record is not None}

    def _devices(self, key: ModelKey, spec: Spec, observed: Observed) -> Observed:
        """Add devices, and how far the release has come on them, where the model is for any."""
        serving, release = spec.serving, spec.release
        if self._fleet is None or serving is None or serving.edge is None or release is None:
            return observed
        file = release.exports.get(serving.export)
        if file is None:
            return observed
        devices = members(self._fleet.devices(), serving.edge)
        return replace(observed, devices=devices, waves=self._fleet.waves(serving_name(*key), release.version, file))

    def _tuning(self, key: ModelKey, spec: Spec) -> TuningRecord | None:
        digest = tuning_digest(key, spec)
        return self._records.get(tuning_key(digest), TuningRecord) if digest else None

    def _measurements(self, key: ModelKey, spec: Spec, observed: Observed) -> Observed:
        ctx = Context(key, spec, observed, 0.0)
        golden = ctx.golden
        if golden is None:
            return observed
        pairs = _pairs(ctx)
        subjects = {subject for pair in pairs for subject in pair if subject}
        found = {(s, golden): self._records.get(evaluation_key(s, golden), EvaluationRecord) for s in subjects}
        compared = {
            (s, b, golden): self._records.get(comparison_key(s, b, golden), ComparisonRecord) for s, b in pairs if b
        }
        evaluations = {key: record for key, record in found.items() if record is not None}
        comparisons = {key: record for key, record in compared.items() if record is not None}
        return replace(observed, evaluations=evaluations, comparisons=comparisons)

    def _mirrors(self, ctx: Context) -> Observed:
        """Add what tracking servers have, as the store and a look in the background tell."""
        keys = {order.inputs_digest: track_key(order.track_digest) for order in orders.tracking(ctx)}
        found = {digest: self._records.get(key, TrackRecord) for digest, key in keys.items()}
        wanted = tracking.registration(ctx)
        registered = self._registry.state(wanted) if self._registry is not None and wanted is not None else None
        tracked = {digest: record for digest, record in found.items() if record is not None}
        return replace(ctx.observed, tracked=tracked, registered=registered, asks_registry=self._registry is not None)

    def _proposals(
        self, trunk: str, pulls: Sequence[PullRequest], branches: Mapping[str, str], head: str
    ) -> tuple[ProposalState, ...]:
        states = []
        for pull in pulls:
            parsed = parse_branch(pull.branch)
            if parsed is None:
                continue
            states.append(self._stands(head, ProposalState(
                pull, parsed[0], parsed[3], branch_head=branches.get(pull.branch), retargeted=pull.base != trunk,
            )))  # fmt: skip
        return tuple(states)

    def _stands(self, head: str, state: ProposalState) -> ProposalState:
        """Add what git says about the branch, where that may matter."""
        ours = self._repository
        if state.pull.state is not PullState.OPEN or state.branch_head is None or state.retargeted:
            return state
        if ours.is_foreign(head, state.branch_head):
            return replace(state, foreign=True)
        stuck = ours.conflicts(head, state.branch_head) or ours.is_adrift(head, state.branch_head)
        return replace(state, conflicted=stuck)

    def _leftovers(
        self, proposals: Sequence[ProposalState], branches: Mapping[str, str], head: str
    ) -> dict[str, str]:
        needed = {p.pull.branch for p in proposals if p.pull.state is PullState.OPEN}
        return {
            branch: commit
            for branch, commit in branches.items()
            if branch not in needed and not self._repository.is_foreign(head, commit)
        }


def _pairs(ctx: Context) -> list[tuple[str, str | None]]:
    """Give every (subject, baseline) that some step may want measured."""
    pairs: list[tuple[str, str | None]] = []
    if ctx.weights is not None:
        pairs.append((ctx.weights, ctx.champion))
    for export in ctx.spec.exports:
        record = orders.export_record(ctx, export)
        if record is not None and record.file is not None:
            pairs.append((record.file, orders.export_baseline(ctx, export, record.file)))
    return pairs
