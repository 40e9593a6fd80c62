"""What would happen: the plan, asked again and again in a world where every job succeeds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconcilers import canary
from reconcilers.actions import Action, OpenWave, Propose, RollOut, StartJob, Withdraw
from reconcilers.context import Context, Verdict
from reconcilers.limits import Crowd
from reconcilers.live_gate import duration, undoes
from reconcilers.observed import DatasetFact, Observed
from reconcilers.pinning import INTENT as PIN
from reconcilers.plan import plan
from reconcilers.promotion import is_released
from reconcilers.proposals import was_decided
from reconcilers.targets import bake_time
from specs.data import Source
from specs.data_records import SetReport, ValidationRecord
from specs.digests import digest_of, short
from specs.experiment_records import TuningRecord
from specs.modelspec import ModelKey, Spec, Task
from specs.profile_records import ProfileRecord
from specs.records import ComparisonRecord, DatasetManifest, EvaluationRecord, ExportRecord, RunRecord
from specs.serving_facts import ServingState
from specs.status import ConditionType as Type
from specs.workorders import (
    AnyOrder,
    CompareOrder,
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    ProfileOrder,
    TrainOrder,
    TuneOrder,
    ValidateOrder,
)

_ROUNDS = 12
_IMAGINED = "imagined"
_MEASURES = "measures on golden"


@dataclass(frozen=True)
class Forecast:
    """What merging does: short phrases in order, the gates that will decide, and where it stops."""

    effects: tuple[str, ...]
    gates: tuple[str, ...] = ()
    stopped: str = ""
    """Why it does not get further, where a person must act first."""
    suspended: bool = False
    """Nothing of this happens before ``spec.suspend`` is false."""

    @property
    def sentence(self) -> str:
        """One line, such as ``retrains; re-exports onnx``."""
        text = "; ".join(self.effects) or "nothing changes"
        return f"nothing while suspended; without that: {text}" if self.suspended else text


def forecast(
    key: ModelKey, spec: Spec, observed: Observed, now: float, *, again: bool = False, blind: bool = False
) -> Forecast:
    """Say what reconciling ``spec`` in this world leads to, up to the question that only measuring answers.

    ``again`` chooses the words: what a model had before is done *again* (retrains, re-exports). Jobs go well, what is
    fetched is as expected; newer data, what a search found, and what live traffic or a schedule asks for are questions
    of their own. Open proposals are left out, since what is being asked about may be one of them. ``blind`` is for a
    world that is imagined altogether: then no number is known, and every gate is a question.
    """
    spec = untracked(spec)
    effects: list[str] = []
    decided_before = tuple(p for p in observed.proposals if was_decided(p))
    world = replace(
        observed, jobs={}, proposals=decided_before, branches={}, leftovers={}, crowd=Crowd(), newer=None,
        tuning=observed.tuning.model_copy(update={"best": None}) if observed.tuning else None,
        resolved={**dict(_pinned(spec)), **observed.resolved},
        watched=None, readings={}, signals=(), schedule_due=None,
    )  # fmt: skip
    imagined, judged = blind, bool(spec.gates) or any(export.parity for export in spec.exports)
    stopped = ""
    for _ in range(_ROUNDS):
        decided = plan(key, spec, world, now)
        asked = imagined and judged and decided.step(Type.GATES_PASSED) is not None
        asked = asked and not (blind and decided.intended)  # what is not about the candidate comes first
        stops = [step for step in decided.steps if step.verdict is Verdict.STOP]
        stopped = "; ".join(step.message for step in stops if not (asked and step.type is Type.GATES_PASSED))
        if asked and blind and is_released(Context(key, spec, world, now)):
            return Forecast(_told(effects), (), stopped, spec.suspend)
        if asked:
            effects.append("then the gates decide whether a release is proposed")
            effects += [_phrase(a, spec, again=again) for a in decided.intended if _is_beside(a)]
            return Forecast(_told(effects), _gate_lines(spec), stopped, spec.suspend)
        for action in decided.intended:
            effects.append(_served(action, spec, world) or _phrase(action, spec, again=again))
            world = assume(world, action)
            if isinstance(action, StartJob) and isinstance(action.order, ImportOrder):
                spec = without_expectations(spec)
        made = [action for action in decided.intended if isinstance(action, StartJob) and not _is_beside(action)]
        imagined = imagined or bool(made)
        if not decided.intended or any(isinstance(action, Propose) for action in decided.intended):
            break
    return Forecast(_told(effects), (), stopped, spec.suspend)


def without_expectations(spec: Spec) -> Spec:
    """Give a spec that takes any data: what is in the data is not known here."""
    return spec.model_copy(update={"data": spec.data.model_copy(update={"expect": None})})


def untracked(spec: Spec) -> Spec:
    """Give a spec that is mirrored nowhere: what a mirror shows changes nothing."""
    return spec.model_copy(update={"tracking": None})


def _pinned(spec: Spec) -> Iterator[tuple[str, Source]]:
    """Pretend to know what bare references stand for."""
    made = {"uri": digest_of(_IMAGINED), "dvc": f"md5:{'0' * 32}.dir", "platform": _IMAGINED}
    for field, source in spec.unpinned:
        named = source.plain()
        named[source.kind]["digest"] = made[source.kind]
        yield field, Source.model_validate(named, by_alias=True, by_name=False)


def _told(phrases: list[str]) -> tuple[str, ...]:
    """Give each phrase once; measuring what was just made goes without saying."""
    told = tuple(phrase for phrase in dict.fromkeys(phrases) if phrase)
    made = any(phrase.startswith(("trains", "retrains", "exports", "re-exports")) for phrase in told)
    return tuple(phrase for phrase in told if not (made and phrase == _MEASURES))


def _gate_lines(spec: Spec) -> tuple[str, ...]:
    lines = []
    for gate in spec.gates:
        bound = (
            f">= {gate.min:g}" if gate.min is not None
            else f"<= {gate.max:g}" if gate.max is not None
            else f"at most {gate.max_regression:g} worse than the champion"
        )  # fmt: skip
        lines.append(f"{gate.name}: {gate.metric} {bound}")
    return tuple(lines)


def _served(action: Action, spec: Spec, world: Observed) -> str:
    """Say in a few words what becomes of what serves; empty where an action is not about that."""
    if not isinstance(action, RollOut):
        return ""
    target, state, release, bake = action.target, world.serving, spec.release, bake_time(spec)
    if action.rejected is not None:
        return f"goes back to v{target.version}"
    if state is not None and state.ready and (state.version, state.file) == (target.version, target.file):
        return "tells its server what else to do" if state.options != target.options.digest else "serves anew"
    text = f"serves v{target.version}"
    if target.share is not None and state is not None:
        text += f" in steps beside v{state.version}: {canary.told(spec)}, then alone"
    if not bake or release is None or release.previous is None or undoes(release):
        return text
    return f"{text}, on trial for {duration(bake)} beside v{release.previous.version}"


def _phrase(action: Action, spec: Spec, *, again: bool) -> str:
    """Say an effect in a few words."""
    if isinstance(action, OpenWave):
        record = action.record
        return f"lets devices serve v{record.version}, in {record.of} wave{'s' if record.of > 1 else ''}"
    if isinstance(action, Withdraw):
        return "stops serving"
    if isinstance(action, Propose):
        return "asks to pin its data" if action.proposal.intent == PIN else f"proposes to {action.proposal.intent}"
    order = action.order if isinstance(action, StartJob) else None
    if isinstance(order, TrainOrder):
        return "retrains" if again else "trains"
    if isinstance(order, ExportOrder):
        names = ", ".join(export.name for export in spec.exports if order.is_of(export))
        return f"{'re-exports' if again else 'exports'} {names}"
    if isinstance(order, ImportOrder):
        return "fetches the data"
    if isinstance(order, TuneOrder):
        return "searches for better training arguments"
    if isinstance(order, ProfileOrder) and spec.monitoring is not None:
        count = len(spec.monitoring.signals)
        return f"watches {count} signal{'s' if count > 1 else ''} of live traffic"
    return _MEASURES if isinstance(order, (EvaluateOrder, CompareOrder)) else ""


def _is_beside(action: Action) -> bool:
    """Whether it is a job that changes nothing about the candidate."""
    return isinstance(action, StartJob) and isinstance(action.order, TuneOrder | ProfileOrder)


def assume(world: Observed, action: Action) -> Observed:
    """Give the world after an action went well."""
    if isinstance(action, RollOut):
        target = action.target
        state = ServingState(target.name, True, target.version, target.file, rejected=action.rejected)
        return replace(world, serving=state)
    if isinstance(action, Withdraw):
        return replace(world, serving=None)
    return _assume_job(world, action.order) if isinstance(action, StartJob) else world


def _assume_job(world: Observed, order: AnyOrder) -> Observed:
    if isinstance(order, TrainOrder):
        weights = digest_of(["imagined weights", short(order.inputs_digest)])
        run = RunRecord(
            inputs_digest=order.inputs_digest, inputs=order.inputs, status="Succeeded", model=_IMAGINED,
            commit=order.commit, weights=weights,
        )  # fmt: skip
        return replace(world, runs={**world.runs, order.inputs_digest: run})
    if isinstance(order, ExportOrder):
        file = digest_of(["imagined file", order.weights, order.export_digest])
        export = ExportRecord(
            weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
            status="Succeeded", file=file,
        )  # fmt: skip
        done = replace(world, exports={**world.exports, (order.weights, order.export_digest): export})
        return _assume_measured(done, file, order.golden) if order.golden else done
    if isinstance(order, EvaluateOrder):
        return _assume_measured(world, order.subject, order.golden)
    if isinstance(order, ImportOrder):
        return _assume_imported(world, order)
    if isinstance(order, ValidateOrder):
        found = ValidationRecord(
            train_digest=order.train, golden_digest=order.golden, task=order.task, train=SetReport(images=0)
        )
        if world.calibration is not None and order.train == world.calibration.digest:
            return replace(world, calibration_validation=found)
        return replace(world, validation=found)
    if isinstance(order, TuneOrder):
        nothing = TuningRecord(
            tuning_digest=order.tuning_digest, status="Succeeded", inputs=order.inputs,
            metric=order.tuning.objective.metric,
        )  # fmt: skip
        return replace(world, tuning=nothing)
    if isinstance(order, ProfileOrder):
        return replace(world, profile=ProfileRecord(file=order.file, golden=order.golden, task=order.task))
    if not isinstance(order, CompareOrder):
        return world  # what those find out decides nothing here
    comparison = ComparisonRecord(
        subject=order.subject, baseline=order.baseline, golden=order.golden, n=0, differences={}
    )
    key = (order.subject, order.baseline, order.golden)
    return replace(world, comparisons={**world.comparisons, key: comparison})


def _assume_measured(world: Observed, subject: str, golden: str) -> Observed:
    record = EvaluationRecord(subject=subject, golden=golden, n=0, values={}, per_image=digest_of("imagined"))
    return replace(world, evaluations={**world.evaluations, (subject, golden): record})


def imagined_dataset(task: Task, named: str, names: list[str]) -> DatasetFact:
    """Give a data set of which only its name outside the store is known."""
    manifest = DatasetManifest(task=task, names=names, files=[], images=0, class_counts={})
    return DatasetFact(digest_of(["imagined data", named]), manifest)


def _assume_imported(world: Observed, order: ImportOrder) -> Observed:
    """Put a data set where it is missing; its classes are those of the other one."""
    named = next(iter(order.source.values())).get("digest", "")
    every = (world.train, world.golden, world.calibration)
    names = [fact.manifest.names for fact in every if fact and fact.manifest]
    made = imagined_dataset(order.task, named, names[0] if names else [])
    train, golden, calibration = (
        made if fact is not None and fact.manifest is None and fact.digest == named else fact for fact in every
    )
    return replace(world, train=train, golden=golden, calibration=calibration)
