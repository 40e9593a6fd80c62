"""``trunkline reproduce``, without its words: trains a release again in a place of its own, and compares.

Nothing is written to the real store, and no record of it is taken for an answer: what the training needs is copied
into a fresh one. That place has a name, so that a second call after a kill adopts the training that still runs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from adapters import processes
from adapters.artifact_copy import copy_blobs, copy_dataset
from adapters.jobs_local import LocalJobs
from adapters.store import Store
from controller.recorded import RecordedRelease
from reconcilers.reproduction import ExportAgain, Reproduction, compare, export_again
from specs.digests import short
from specs.errors import Stalled, Transient
from specs.facts import JobPhase
from specs.modelspec import image_size
from specs.records import (
    EvaluationRecord,
    ExportRecord,
    Progress,
    Record,
    RunRecord,
    evaluation_key,
    export_key,
    progress_key,
    run_key,
)
from specs.ways import way_of
from specs.workorders import AnyOrder, EvaluateOrder, ExportOrder, TrainOrder

Watch = Callable[[str, int, int], None]
"""Is told what goes on, how far it is, and how far it goes (0 where unknown)."""
R = TypeVar("R", bound=Record)
_PAUSE = 0.2


class Reproducer:
    """Trains releases again below ``folder``, from the material of ``store``, with the trainer ``command``."""

    def __init__(self, store: Store, folder: Path, *, command: list[str], watch: Watch) -> None:
        self._source, self._folder, self._command, self._watch = store, folder, tuple(command), watch

    def reproduce(self, release: RecordedRelease, *, exports: bool = False, keep: bool = False) -> Reproduction:
        """Do it all; Stalled where it cannot be trained any more, Transient where somebody else is at it."""
        place = self._folder / f"{'.'.join(release.key)}-v{release.version}-{short(release.run.inputs_digest)}"
        with processes.locked(place.with_name(f"{place.name}.lock")) as lock:
            if lock is None:
                text = f"v{release.version} of {release.key} is being reproduced by somebody else, in {place}"
                raise Transient("ReproductionRunning", text)
            try:
                answer = _Attempt(release, self._source, place, self._command, self._watch).compare(exports=exports)
            except Stalled:  # a person will change something; what is there now must not be taken for an answer then
                shutil.rmtree(place, ignore_errors=True)
                raise
            kept = place.with_name(f"{place.name}.kept")
            shutil.rmtree(kept if keep else place, ignore_errors=True)
            if keep:
                place.rename(kept)
            return answer


class _Attempt:
    """One release in one place."""

    def __init__(
        self, release: RecordedRelease, source: Store, place: Path, command: tuple[str, ...], watch: Watch
    ) -> None:
        self._release, self._source, self._watch, self._place = release, source, watch, place
        self._store = Store(str(place / "store"))
        scratch = {"TRUNKLINE_SCRATCH": str(place / "scratch")}
        self._jobs = LocalJobs(place / "state", self._store.url, command=command, environment=scratch)
        self._who: dict[str, Any] = {"model": str(release.key), "commit": release.run.commit or release.commit}

    def compare(self, *, exports: bool) -> Reproduction:
        """Train, and measure or export as far as that says more."""
        release, then = self._release, self._release.run
        now = self._train()
        measured: tuple[EvaluationRecord | None, EvaluationRecord | None] = (None, None)
        again: tuple[ExportAgain, ...] = ()
        if now.weights == then.weights:
            again = tuple(self._exported(name, record) for name, record in release.exports) if exports else ()
        elif release.evaluation is not None:
            measured = (release.evaluation, self._measure(now, release.evaluation))
        return compare(then, now, measured, release.spec.task, release.gates, again)

    def _train(self) -> RunRecord:
        inputs, dataset = self._release.run.inputs, self._release.run.dataset
        copy_dataset(self._source, self._store, dataset or inputs["data"], self._told("bringing the data"))
        if "digest" in inputs["model"]:
            copy_blobs(self._source, self._store, [inputs["model"]["digest"]])
        order = TrainOrder(
            **self._who, inputs_digest=self._release.run.inputs_digest, inputs=inputs,
            dataset=None if dataset == inputs["data"] else dataset,
        )  # fmt: skip
        record = self._do(order, run_key(order.inputs_digest), RunRecord, "training again")
        if record.status != "Succeeded":
            text = f"these inputs do not train any more: {record.reason}: {record.message}"
            raise Stalled("ReproductionFailed", text)
        return record

    def _measure(self, now: RunRecord, then: EvaluationRecord) -> EvaluationRecord:
        golden = then.golden
        copy_dataset(self._source, self._store, golden, self._told("bringing golden"))
        order = EvaluateOrder(
            **self._who, subject=now.weights or "", format="pt", task=self._release.spec.task, golden=golden,
            image_size=image_size(self._release.run.inputs["args"]),
        )  # fmt: skip
        return self._do(order, evaluation_key(order.subject, golden), EvaluationRecord, "measuring on golden")

    def _exported(self, name: str, then: ExportRecord) -> ExportAgain:
        size = image_size(self._release.run.inputs["args"])
        if way_of(then, size) != then.export_digest:
            return ExportAgain(name, then.file or "", None, "it was exported at another size than it was trained at")
        if then.calibration:
            copy_dataset(self._source, self._store, then.calibration, self._told("bringing calibration data"))
        order = ExportOrder(
            **self._who, weights=then.weights, export_digest=then.export_digest, task=self._release.spec.task,
            format=then.format, args=then.args, image_size=size, calibration=then.calibration,
            runtime=then.made_for or None,
        )  # fmt: skip
        record = self._do(order, export_key(order.weights, order.export_digest), ExportRecord, f"exporting {name}")
        return export_again(name, then, record)

    def _told(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._watch(what, done, total)

    def _do(self, order: AnyOrder, key: str, type_: type[R], what: str) -> R:
        """Let a job do an order, and give its record; a job that an earlier call began is adopted."""
        try:
            while (text := self._store.read(key)) is None:
                self._step(order, key, what)
        except BaseException:
            self._jobs.stop_all(grace=2)
            raise
        return type_.decode(text)

    def _step(self, order: AnyOrder, key: str, what: str) -> None:
        """Start the job, or see how far it is; Stalled where it ended and left nothing."""
        state = self._jobs.state(order) or self._jobs.start(order)
        self._tell(order, what)
        if state.phase is not JobPhase.ENDED:
            time.sleep(_PAUSE)
        elif self._store.read(key) is None:
            text = f"{what} ended without a record: {state.message or state.reason}"
            raise Stalled("ReproductionFailed", text)

    def _tell(self, order: AnyOrder, what: str) -> None:
        text = self._store.read(progress_key(order.job))
        progress = Progress.decode(text) if text else Progress(job=order.job)
        self._watch(what, progress.epoch, progress.epochs)
