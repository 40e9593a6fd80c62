"""Values for tests: a small model, the records that good jobs leave, and snapshots of the world. All deterministic."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from reconcilers import orders
from reconcilers.actions import Action, Proposal, Propose, StartJob
from reconcilers.context import Context
from reconcilers.observed import DatasetFact, Observed
from reconcilers.plan import Plan, plan
from specs.data_records import (
    ClassDifference,
    DifferenceRecord,
    ImportRecord,
    SetReport,
    ValidationRecord,
    difference_key,
    import_key,
    validation_key,
)
from specs.digests import digest_of
from specs.engines import MACHINE_BOUND
from specs.experiment_records import TrackRecord, TrialRecord, TuningRecord, track_key, tuning_key
from specs.facts import Commit, ProposalState, PullRequest, PullState, SourcedSpec
from specs.modelspec import ModelKey, Spec
from specs.names import serving_name
from specs.profile_records import ProfileRecord, profile_key
from specs.records import (
    ArtifactRecord,
    ComparisonRecord,
    DatasetManifest,
    Difference,
    Environment,
    Epoch,
    EvaluationRecord,
    ExportRecord,
    FileEntry,
    Record,
    RunRecord,
    artifact_key,
    comparison_key,
    evaluation_key,
    export_key,
    run_key,
)  # fmt: skip
from specs.registry_facts import Registered
from specs.serving_facts import ServingState
from specs.status import Condition, ConditionType, Reason
from specs.workorders import (
    TIRELESS,
    AnyOrder,
    CompareOrder,
    DiffOrder,
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    ProfileOrder,
    TrackOrder,
    TrainOrder,
    TuneOrder,
    ValidateOrder,
)

KEY = ModelKey("retail", "shelf")
NAME = serving_name(*KEY)
TOP1 = "metrics/accuracy_top1"
NOW = 1_800_000_000.0
PATH = "models/shelf.yaml"
ENVIRONMENT = Environment(
    python="3.11.9", platform="Linux", device="cpu", packages={"torch": "2.9", "ultralytics": "8.4"}
)  # fmt: skip


BUILDER = {"gpu": "NVIDIA A10", "computeCapability": "8.6", "tensorrt": "10.4.0", "driver": "550.54"}
"""The machine that makes engines where nobody asks for another kind."""


def digest(*words: object) -> str:
    """Give a digest that stands for something, the same one each time."""
    return digest_of(["test", *words])


def manifest(name: str, images: int = 20, names: Iterable[str] = ("milk", "bread"), **changes: Any) -> DatasetManifest:
    """Give a classify data set with as many pictures of each class."""
    classes = list(names)
    files = [
        FileEntry(path=f"{classes[i % len(classes)]}/{i}.png", size=100, digest=digest(name, i)) for i in range(images)
    ]
    counts = {each: sum(f.path.startswith(f"{each}/") for f in files) for each in classes}
    made = DatasetManifest(task="classify", names=classes, files=files, images=images, class_counts=counts)
    return made.model_copy(update=changes)


TRAIN, GOLDEN = manifest("train"), manifest("golden", 10)

BASE: dict[str, Any] = {
    "task": "classify",
    "data": {
        "train": {"uri": {"url": "store://train", "digest": TRAIN.digest()}},
        "golden": {"uri": {"url": "store://golden", "digest": GOLDEN.digest()}},
    },
    "training": {"model": "yolo26n-cls.yaml", "args": {"epochs": 8, "imgsz": 32}, "nonce": ""},
    "exports": [{"name": "onnx", "format": "onnx"}],
    "gates": [{"name": "floor", "metric": TOP1, "min": 0.95}],
    "serving": {"export": "onnx"},
}
"""A spec whose candidate passes; two epochs would fail the gate."""


def spec(**changes: Any) -> Spec:
    """Give ``BASE`` with fields set by path, as in ``spec(training__args__epochs=2)``; None removes a field."""
    data = copy.deepcopy(BASE)
    for path, value in changes.items():
        section = data
        *parents, name = path.split("__")
        for part in parents:
            section = section.setdefault(part, {})
        if value is None:
            section.pop(name, None)
        else:
            section[name] = value
    return Spec.model_validate(data, by_alias=True, by_name=False)


def released(before: Spec, release: dict[str, Any] | None) -> Spec:
    """Give the spec with another release."""
    data = before.model_dump(mode="json", by_alias=True, exclude_none=True) | {"release": release}
    return Spec.model_validate(data, by_alias=True, by_name=False)


def accuracy(inputs: dict[str, Any]) -> float:
    """Give how good a training gets: 2 epochs 0.85, 5 epochs 0.976, 8 epochs 0.9906."""
    return round(1 - 0.6 / float(inputs["args"].get("epochs", 1)) ** 2, 6)


@dataclass
class Lab:
    """Does work orders well, at once: what they are about decides every number and digest."""

    records: dict[str, Record] = field(default_factory=dict)
    elsewhere: dict[str, DatasetManifest] = field(default_factory=dict)
    """What is found under a digest outside the store; anything is, by default."""

    def do(self, order: AnyOrder) -> list[tuple[str, Record]]:
        """Give what the job leaves, and remember it."""
        match order:
            case TrainOrder():
                made = self._train(order)
            case EvaluateOrder():
                made = [self._evaluate(order.subject, order.golden)]
            case CompareOrder():
                made = [self._compare(order)]
            case ExportOrder():
                made = self._export(order)
            case ValidateOrder():
                made = [self._validate(order)]
            case ImportOrder():
                made = self._import(order)
            case DiffOrder():
                made = [self._diff(order)]
            case TuneOrder():
                made = [(tuning_key(order.tuning_digest), searched(order))]
            case TrackOrder():
                made = [self._track(order)]
            case ProfileOrder():
                made = [(profile_key(order.file, order.golden), profiled(order))]
        self.records |= dict(made)
        return made

    def run_of(self, subject: str) -> RunRecord:
        """Give the run that weights or an export come from."""
        artifact = self.records.get(artifact_key(subject))
        weights = artifact.weights if isinstance(artifact, ArtifactRecord) else subject
        return next(r for r in self.records.values() if isinstance(r, RunRecord) and r.weights == weights)

    def _train(self, order: TrainOrder) -> list[tuple[str, Record]]:
        run = RunRecord(
            inputs_digest=order.inputs_digest, inputs=order.inputs, status="Succeeded", model=order.model,
            commit=order.commit, seed=0, environment=ENVIRONMENT, dataset=order.manifest,
            started="2026-11-23T10:00:00Z", finished="2026-11-23T10:00:35Z", seconds=35.0,
            weights=digest("weights", order.inputs_digest),
            epochs=[Epoch(epoch=1, metrics={TOP1: 0.5}), Epoch(epoch=2, metrics={TOP1: 0.7})],
            files={"results.png": digest("picture", "results"), "args.yaml": digest("args")},
        )  # fmt: skip
        return [(run_key(run.inputs_digest), run)]

    def _evaluate(self, subject: str, golden: str) -> tuple[str, Record]:
        value = accuracy(self.run_of(subject).inputs)
        record = EvaluationRecord(
            subject=subject, golden=golden, n=100, per_image=digest("per image", subject), values={TOP1: value},
            intervals={TOP1: {"0.95": (value - 0.02, value + 0.005)}},
            per_class={"milk": {TOP1: value - 0.01}, "bread": {TOP1: value + 0.01}},
            files={"confusion.png": digest("picture", "confusion")},
        )  # fmt: skip
        return evaluation_key(subject, golden), record

    def _compare(self, order: CompareOrder) -> tuple[str, Record]:
        delta = accuracy(self.run_of(order.subject).inputs) - accuracy(self.run_of(order.baseline).inputs)
        difference = Difference(delta=delta, intervals={"0.95": (delta - 0.01, delta + 0.01)})
        record = ComparisonRecord(
            subject=order.subject, baseline=order.baseline, golden=order.golden, n=100, differences={TOP1: difference}
        )
        return comparison_key(order.subject, order.baseline, order.golden), record

    def _validate(self, order: ValidateOrder) -> tuple[str, Record]:
        golden = SetReport(images=10) if order.golden else None
        record = ValidationRecord(
            train_digest=order.train, golden_digest=order.golden, task=order.task, train=SetReport(images=20),
            golden=golden, files={"train.jpg": digest("picture", order.train)},
        )  # fmt: skip
        return validation_key(order.train, order.golden), record

    @staticmethod
    def _named(order: ImportOrder) -> str:
        source = next(iter(order.source.values()))
        return source.get("digest") or digest("fetched", source["url"])

    def imported(self, order: ImportOrder) -> DatasetManifest:
        """Give the data set that an order fetches."""
        named = self._named(order)
        return self.elsewhere.get(named) or manifest(named)

    def _import(self, order: ImportOrder) -> list[tuple[str, Record]]:
        """Find what is there under the digest; a bare address has what its URL is called."""
        found, named = self.imported(order), self._named(order)
        orders = {each.import_digest: each for each in (order.pinned(named), order)}
        return [
            (import_key(each.import_digest), ImportRecord(
                import_digest=each.import_digest, task=each.task, source=each.source, status="Succeeded",
                digest=named, manifest=found.digest(), images=found.images,
            )) for each in orders.values()
        ]  # fmt: skip

    def _diff(self, order: DiffOrder) -> tuple[str, Record]:
        record = DifferenceRecord(
            before=order.before, after=order.after, images=(20, 30), added=12, removed=2, relabelled=1,
            classes=[ClassDifference(name="milk", before=10, after=15)],
            files={"difference.jpg": digest("picture", order.before, order.after)},
        )  # fmt: skip
        return difference_key(order.before, order.after), record

    def _track(self, order: TrackOrder) -> tuple[str, Record]:
        record = TrackRecord(
            track_digest=order.track_digest, inputs_digest=order.inputs_digest, tracking_uri=order.tracking_uri,
            experiment=order.experiment, run_id="1a2b", url=f"{order.tracking_uri}/#/experiments/1/runs/1a2b",
        )  # fmt: skip
        return track_key(order.track_digest), record

    def _export(self, order: ExportOrder) -> list[tuple[str, Record]]:
        file = digest("file", order.weights, order.export_digest)
        made_for = order.runtime or {}
        bound = {"runtime": (BUILDER | made_for) if order.format in MACHINE_BOUND else {}, "made_for": made_for}
        artifact = ArtifactRecord(
            file=file, format=order.format, task=order.task, names=["milk", "bread"], image_size=(32, 32),
            weights=order.weights, self_tests=[], **bound,
        )  # fmt: skip
        export = ExportRecord(
            weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
            status="Succeeded", file=file, size=1_500_000, metrics={"latency/p50_ms": 1.5, "latency/p95_ms": 2.5},
            calibration=order.calibration, **bound,
        )  # fmt: skip
        self.records[artifact_key(file)] = artifact  # the evaluation needs to know whose it is
        made: list[tuple[str, Record]] = [(artifact_key(file), artifact)]
        made += [self._evaluate(file, order.golden)] if order.golden else []
        return [*made, (export_key(order.weights, order.export_digest), export)]


def searched(
    order: TuneOrder, *, better: bool = True, status: Literal["Succeeded", "Failed"] = "Succeeded"
) -> TuningRecord:
    """Give what a search for ``lr0`` leaves: three trials, of which the second is the best, or the first."""
    values = [("Succeeded", 0.01, 0.9), ("Succeeded", 0.0123, 0.95 if better else 0.85), ("Pruned", 0.5, 0.2)]
    trials = [
        TrialRecord.model_validate({"number": n, "args": {"lr0": lr0}, "status": how, "value": value, "seconds": 40})
        for n, (how, lr0, value) in enumerate(values)
    ]
    return TuningRecord(
        tuning_digest=order.tuning_digest, status=status, inputs=order.inputs, dataset=order.manifest, metric=TOP1,
        best=trials[1 if better else 0] if status == "Succeeded" else None, trials=trials, stopped_by="TrialCount",
        reason="FailedTrials" if status == "Failed" else "", message="2 trials failed" if status == "Failed" else "",
        files={"history.png": digest("picture", "history"), "parameters.png": digest("picture", "parameters")},
    )  # fmt: skip


def profiled(order: ProfileOrder, **changes: Any) -> ProfileRecord:
    """Give what counting an export's answers on golden leaves: ten pictures, all sure and right."""
    sure = [0] * 17 + [10, 0]
    record = ProfileRecord(
        file=order.file, golden=order.golden, task=order.task, n=10, names=["milk", "bread"],
        pictures={"confidence": sure}, classes={"milk": sure}, right={"milk": sure},
    )  # fmt: skip
    return record.model_copy(update=changes)


VALIDATED = ValidationRecord(
    train_digest=TRAIN.digest(), golden_digest=GOLDEN.digest(), task="classify", train=SetReport(images=20),
    golden=SetReport(images=10), files={"train.jpg": digest("picture", TRAIN.digest())},
)  # fmt: skip


def source(text: str = "", **changes: Any) -> SourcedSpec:
    """Give where a spec came from."""
    commit = Commit("c" * 40, "Ann", 1_799_999_000, "Change the model")
    made = SourcedSpec(KEY, PATH, text, "h" * 40, commit, repository="git@example.com:models", branch="main")
    return replace(made, **changes)


def observed(lab: Lab | None = None, **changes: Any) -> Observed:
    """Give a snapshot with both data sets, looked at and found good, all records of a lab, and nothing else."""
    lab = lab or Lab()
    records = list(lab.records.values())
    sets = {"train": DatasetFact(TRAIN.digest(), TRAIN), "golden": DatasetFact(GOLDEN.digest(), GOLDEN)} | changes
    train, golden = sets["train"], sets["golden"]
    pair = (train.digest if train else None, golden.digest if golden else None)
    validations = [r for r in records if isinstance(r, ValidationRecord)]
    looked_at = [r for r in validations if (r.train_digest, r.golden_digest) == pair]
    base = Observed(
        source=source(),
        train=train,
        golden=golden,
        validation=next(iter(looked_at), VALIDATED),
        calibration_validation=next((r for r in validations if r.train_digest != pair[0]), None),
        runs={r.inputs_digest: r for r in records if isinstance(r, RunRecord)},
        evaluations={(r.subject, r.golden): r for r in records if isinstance(r, EvaluationRecord)},
        comparisons={(r.subject, r.baseline, r.golden): r for r in records if isinstance(r, ComparisonRecord)},
        exports={(r.weights, r.export_digest): r for r in records if isinstance(r, ExportRecord)},
        artifacts={r.file: r for r in records if isinstance(r, ArtifactRecord)},
        tuning=next((r for r in reversed(records) if isinstance(r, TuningRecord)), None),
        tracked={r.inputs_digest: r for r in records if isinstance(r, TrackRecord)},
        profile=next((r for r in reversed(records) if isinstance(r, ProfileRecord)), None),
    )
    return replace(base, **changes)


def decide(given: Spec, world: Observed, now: float = NOW) -> Plan:
    """Ask the plan."""
    return plan(KEY, given, world, now)


def context(given: Spec, world: Observed, now: float = NOW) -> Context:
    """Give what steps read."""
    return Context(KEY, given, world, now)


def produce(given: Spec, lab: Lab) -> Lab:
    """Do all the work that a candidate needs before its gates are judged."""
    while missing := [o for o in orders.missing(context(given, observed(lab))) if o.kind != TIRELESS]:
        for order in missing:
            lab.do(order)
    return lab


def first(actions: Iterable[Action]) -> Propose:
    """Give the one proposal that a plan asks for."""
    (only,) = [action for action in actions if isinstance(action, Propose)]
    return only


def proposed(given: Spec, world: Observed) -> Proposal:
    """Give the proposal that the plan wants opened in a world without any."""
    return first(decide(given, replace(world, proposals=(), branches={}, leftovers={})).intended).proposal


def started(decided: Plan) -> list[str]:
    """Give the kinds of the jobs that a plan starts."""
    return [action.order.kind for action in decided.actions if isinstance(action, StartJob)]


def pull(proposal: Proposal, state: PullState = PullState.OPEN, number: int = 1, **changes: Any) -> ProposalState:
    """Give a pull request for a proposal, by default as we would have opened it."""
    facts = {"foreign", "conflicted", "branch_head", "retargeted"}
    mine = {name: changes.pop(name) for name in facts & changes.keys()}
    request = PullRequest(
        number, state, proposal.branch, "b" * 40, "main", proposal.title, proposal.body, "trunkline", 100 + number,
        0 if state is PullState.OPEN else 200 + number, url=f"local://{number}",
    )  # fmt: skip
    head = "b" * 40 if state is PullState.OPEN else None
    made = ProposalState(replace(request, **changes), proposal.intent, proposal.key[:12], branch_head=head)
    return replace(made, **mine)


def serving(given: Spec, **changes: Any) -> ServingState:
    """Give a server on which the release answers."""
    release = given.release
    file = release.exports[given.serving.export] if release and given.serving else None
    made = ServingState(NAME, True, release.version if release else None, file, "http://127.0.0.1:1/v2/models/x")
    return replace(made, **changes)


@dataclass(frozen=True)
class Stage:
    """A spec and the world it is in."""

    spec: Spec
    world: Observed
    lab: Lab

    @property
    def plan(self) -> Plan:
        """What the plan says."""
        return decide(self.spec, self.world)

    def but(self, **changes: Any) -> Stage:
        """Give the same spec in another world."""
        return replace(self, world=replace(self.world, **changes))


def candidate_ready(lab: Lab | None = None, **changes: Any) -> Stage:
    """Give a spec whose candidate is complete and not released."""
    given = spec(**changes)
    lab = produce(given, lab or Lab())
    return Stage(given, observed(lab), lab)


def settled(**changes: Any) -> Stage:
    """Give a spec whose candidate is released as v1 and serves."""
    stage = candidate_ready(**changes)
    value = proposed(stage.spec, stage.world).value
    assert isinstance(value, dict)
    given = released(stage.spec, value)
    serves = serving(given) if given.serving else None
    origin = replace(stage.world.source, last_version=1)
    return Stage(given, replace(stage.world, source=origin, serving=serves), stage.lab)


MLFLOW = {"mlflow": {"trackingUri": "http://mlflow:5000"}}


def mirrored(**changes: Any) -> Stage:
    """Give a spec whose candidate is released, serves, and is mirrored and registered, with changes to the last."""
    stage = settled(tracking=MLFLOW)
    lab = Lab(dict(stage.lab.records))
    for order in orders.tracking(context(stage.spec, stage.world)):
        lab.do(order)
    registered = Registered(owner=str(KEY), version="3", source="1a2b", champion="3", ours="3")
    told = observed(lab).tracked
    return replace(stage.but(tracked=told, registered=replace(registered, **changes), asks_registry=True), lab=lab)


def moved_on(stage: Stage, change: Callable[[dict[str, Any]], object], *, work: bool = True) -> Stage:
    """Give the stage after a person changed the spec and, with ``work``, all jobs are done."""
    data = stage.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    change(data)
    given = Spec.model_validate(data, by_alias=True, by_name=False)
    lab = Lab(dict(stage.lab.records))
    if work:
        produce(given, lab)
    kept = {name: getattr(stage.world, name) for name in ("source", "serving", "proposals", "branches", "leftovers")}
    return Stage(given, observed(lab, **kept), lab)


def condition(type_: ConditionType, status: Literal["True", "False"], reason: Reason) -> Condition:
    """Give a condition since a moment long ago."""
    return Condition(type=type_, status=status, reason=reason, last_transition_time="2026-11-26T10:00:00Z")
