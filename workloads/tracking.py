"""Mirrors a run to MLflow, whole, from what the store says. Done twice, by two, or cut off anywhere, it is one run."""

from __future__ import annotations

import math
import os
from pathlib import Path

from adapters.mlflow_api import MlflowApi, Point, Run
from adapters.store import Store
from adapters.tracking_access import Access
from specs.errors import Stalled, Transient
from specs.experiment_records import TrackRecord, track_key
from specs.records import (
    DatasetManifest,
    EvaluationRecord,
    RunRecord,
    dataset_key,
    evaluation_key,
    run_key,
)
from specs.workorders import TrackOrder
from workloads import mirrored, mirrored_files
from workloads.mirror_run import adopt
from workloads.progress import now

_TIMEOUT = 20.0


def run(order: TrackOrder, store: Store, scratch: Path) -> None:
    """Make the mirror whole, then write the TrackRecord. Transient where the server cannot take it now."""
    text = store.read(run_key(order.inputs_digest))
    if text is None:
        raise Stalled("RunMissing", f"there is no record of the run {order.inputs_digest}; train it first")
    record = RunRecord.decode(text)
    api = MlflowApi(order.tracking_uri, Access.of(os.environ), timeout=_TIMEOUT)
    try:
        _Mirror(api, order, store, record).make(scratch)
    finally:
        api.close()


class _Mirror:
    """One record, and the run that shall say the same."""

    def __init__(self, api: MlflowApi, order: TrackOrder, store: Store, record: RunRecord) -> None:
        self._api, self._order, self._store, self._record = api, order, store, record
        arguments = record.files.get("args.yaml")
        text = store.read_blob(arguments).decode() if arguments else ""
        self._params = mirrored.params(record.inputs, text)
        self._points = mirrored.points(record.epochs, mirrored.moments(record))

    def make(self, scratch: Path) -> None:
        """Go through all that a run has; each part looks at what is there, or is the same when it is done twice."""
        api, order, record = self._api, self._order, self._record
        experiment = api.experiment(order.experiment)
        run = adopt(
            api, experiment, record.inputs_digest, name=mirrored.run_name(record.model, record.inputs_digest),
            started=mirrored.milliseconds(record.started or record.finished), fits=self._fits,
        )  # fmt: skip
        api.log(run, params={key: value for key, value in self._params.items() if key not in run.params})
        api.log(run, metrics=self._missing(run, [*self._points, *mirrored.last_points(record, self._golden())]))
        api.add_inputs(run, self._datasets(run))
        mirrored_files.upload(self._store, order, record, self._golden(), run, scratch)
        api.log(run, tags=mirrored.tags(record))
        ended = "FINISHED" if record.status == "Succeeded" else "FAILED"
        api.end(run, ended, mirrored.milliseconds(record.finished))
        if [each.id for each in api.runs(experiment, record.inputs_digest)][:1] != [run.id]:
            raise Transient("TrackingMoved", f"somebody made or removed a run beside {run.id}; it is looked at anew")
        done = TrackRecord(
            track_digest=order.track_digest, inputs_digest=order.inputs_digest, tracking_uri=order.tracking_uri,
            experiment=order.experiment, run_id=run.id, finished=now(),
            url=f"{api.uri}/#/experiments/{experiment}/runs/{run.id}",
        )  # fmt: skip
        self._store.create(track_key(order.track_digest), done.encode())

    def _fits(self, run: Run) -> bool:
        """Whether nothing in a run contradicts the record: attempts that came to nothing leave other curves."""
        if any(run.params.get(key, value) != value for key, value in self._params.items()):
            return False
        expected = {(point.key, point.step): point.value for point in self._points}
        for key in sorted({point.key for point in self._points} & run.latest.keys()):
            seen = set()
            for step, value in self._api.history(run, key):
                if (key, step) in seen or not _same(expected.get((key, step)), value):
                    return False
                seen.add((key, step))
        return True

    def _missing(self, run: Run, points: list[Point]) -> list[Point]:
        """Give the points that the run does not have: MLflow would show a second one beside the first."""
        there = {
            key: {step for step, _ in self._api.history(run, key)}
            for key in sorted({point.key for point in points} & run.latest.keys())
        }
        return [point for point in points if point.step not in there.get(point.key, ())]

    def _golden(self) -> EvaluationRecord | None:
        """Give what was measured on golden, where the order names the set."""
        order, weights = self._order, self._record.weights
        text = self._store.read(evaluation_key(weights, order.golden)) if weights and order.golden else None
        return EvaluationRecord.decode(text) if text else None

    def _datasets(self, run: Run) -> list[dict[str, object]]:
        record, golden = self._record, self._order.golden
        asked = str(record.inputs["data"])
        wanted = [("train", "training", record.dataset or asked, asked, mirrored.pinned(self._order, record))]
        wanted += [("golden", "evaluation", golden, golden, None)] if golden else []
        found = []
        for part, context, digest, named, source in wanted:
            text = self._store.read(dataset_key(digest)) if digest.startswith("sha256:") else None
            name = f"{record.model}:{part}"
            if text is not None and name not in run.datasets:
                manifest = DatasetManifest.decode(text)
                found.append(mirrored.dataset_input(name, context, named, manifest, source))
        return found


def _same(expected: float | None, value: float) -> bool:
    return expected is not None and math.isclose(expected, value, rel_tol=1e-6, abs_tol=1e-12)
