"""What every step of a plan reads, and what every step answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from reconcilers.actions import Action
from reconcilers.engines import made_for
from reconcilers.observed import Observed
from specs.experiment_records import TuningRecord
from specs.modelspec import ModelKey, Spec
from specs.records import RunRecord
from specs.status import ConditionType, Reason
from specs.ways import export_digest
from specs.workorders import tuning_digest


class Verdict(Enum):
    """How a step ends, and what follows for the steps after it."""

    DONE = "done"
    """As desired; go on."""
    WAIT = "wait"
    """Work is under way; look again."""
    STOP = "stop"
    """A person must act (Stalled)."""
    REST = "rest"
    """Nothing more to do, and that is what people decided (reverted, held, taken over, not released)."""


@dataclass(frozen=True)
class Step:
    """One step's answer: a condition, what to do, and whether the next step may look."""

    type: ConditionType
    verdict: Verdict
    reason: Reason
    message: str = ""
    actions: tuple[Action, ...] = ()
    after: float = 0.0
    """Seconds until looking again is useful; 0 means the host's own pace."""


@dataclass(frozen=True)
class Context:
    """One model, one look at the world, one moment (Unix time, seconds)."""

    key: ModelKey
    spec: Spec
    observed: Observed
    now: float

    @cached_property
    def inputs_digest(self) -> str:
        """The name of the candidate's run. Steps ask for it often, so it is computed once."""
        return self.spec.inputs_digest

    @property
    def run(self) -> RunRecord | None:
        """The candidate: the run that the current inputs ask for."""
        return self.observed.runs.get(self.inputs_digest)

    @property
    def auto_merge(self) -> str:
        """What the forge may merge by itself: ``Never``, ``RollbackOnly`` or ``WhenGatesPass``, which includes it."""
        policy = self.spec.policy
        return (policy.auto_merge if policy else None) or "Never"

    @cached_property
    def weights(self) -> str | None:
        """Digest of the candidate's weights."""
        run = self.run
        return run.weights if run and run.status == "Succeeded" else None

    @cached_property
    def champion(self) -> str | None:
        """Digest of the released weights, where they are not the candidate's own."""
        release = self.spec.release
        return release.weights if release and release.weights != self.weights else None

    @cached_property
    def golden(self) -> str | None:
        """Digest of the golden set's manifest; None while that is not known."""
        source, fact = self.spec.data.golden, self.observed.golden
        if source is None or source.in_store:
            return source.digest if source else None
        return fact.digest if fact is not None and fact.manifest is not None else None

    @property
    def dataset(self) -> str | None:
        """Digest of the training data's manifest; None while that is not known."""
        source, fact = self.spec.data.train, self.observed.train
        if source.in_store:
            return source.digest
        return fact.digest if fact is not None and fact.manifest is not None else None

    @cached_property
    def tuning_digest(self) -> str | None:
        """The name of the search that the spec asks for, None where it asks for none."""
        return tuning_digest(self.key, self.spec)

    @property
    def tuned(self) -> TuningRecord | None:
        """The answer of that search."""
        record = self.observed.tuning
        return record if record is not None and record.tuning_digest == self.tuning_digest else None

    @cached_property
    def calibration(self) -> str | None:
        """Digest of the manifest of the pictures for INT8: those that were trained on, where the spec names no others.

        None while that is not known.
        """
        source, fact = self.spec.data.calibration, self.observed.calibration
        if source is None:
            run = self.run
            return (run.dataset if run else None) or self.dataset
        if source.in_store:
            return source.digest
        return fact.digest if fact is not None and fact.manifest is not None else None

    @cached_property
    def made_for(self) -> dict[str, dict[str, str]]:
        """Export name to what a device must be like, where its file works on one kind only and that is known."""
        return made_for(self.spec, self.observed)

    @cached_property
    def export_digests(self) -> dict[str, str]:
        """Export name to the digest that names its way of exporting."""
        size = self.spec.image_size
        return {
            export.name: export_digest(
                export.released_format, export.released_args, size,
                calibration=self.calibration, runtime=self.made_for.get(export.name),
            )
            for export in self.spec.exports
        }  # fmt: skip
