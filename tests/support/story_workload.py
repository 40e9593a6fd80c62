"""Stands in for training: does every work order in no time, and leaves the same records that real jobs leave.

It is a real process with the real command line, the real store and real ONNX files; only the learning is pretended.
Everything it writes follows from the order alone, so two runs of a story can be compared byte for byte. Every start
is noted in the folder that the variable STORY_LOG names: a job that ran twice shows. A file ``hold-train`` there makes
trainings wait until it is gone, ``fail-train`` makes them fail; so for the other kinds. Kinds that the variable
STORY_REAL names are done in earnest. What was trained with ``dropout`` does well on golden, and is sure of
nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.data_records import (
    DifferenceRecord,
    ImportRecord,
    SetReport,
    ValidationRecord,
    difference_key,
    import_key,
    validation_key,
)
from specs.dataset_diff import difference
from specs.digests import digest_of
from specs.experiment_records import TrialAsked, TrialRecord, TuningRecord, asked_key, trial_key, tuning_key
from specs.profile_records import ProfileRecord, profile_key
from specs.records import (
    ComparisonRecord,
    DatasetManifest,
    Difference,
    EvaluationRecord,
    ExportRecord,
    FileEntry,
    RunRecord,
    artifact_key,
    comparison_key,
    dataset_key,
    evaluation_key,
    export_key,
    run_key,
)
from specs.workorders import (
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
    decode,
)
from tests.support import onnx_models
from workloads import job
from workloads.signing import Signing

METRIC = "metrics/accuracy_top1"
ENOUGH = 5
"""Epochs from which the pretended model is good."""


def main() -> None:
    """Do one order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--order", type=Path)
    asked = parser.parse_args()
    text = asked.order.read_bytes() if asked.order else os.environ["TRUNKLINE_WORK_ORDER"].encode()
    order, store = decode(text), Store(asked.store)
    with (Path(os.environ["STORY_LOG"]) / "jobs").open("a") as log:
        log.write(order.job + "\n")
    _meet_trouble(Path(os.environ["STORY_LOG"]), order.job.partition("-")[0])
    if order.kind in os.environ.get("STORY_REAL", "").split():
        sys.exit(job.run(order, store))
    do(store, order)


def do(store: Store, order: AnyOrder) -> None:
    """Leave in the store what a good job leaves."""
    match order:
        case TrainOrder():
            _train(store, order)
        case EvaluateOrder():
            _evaluate(store, order.subject, order.golden)
        case CompareOrder():
            _compare(store, order)
        case ExportOrder():
            _export(store, order)
        case ValidateOrder():
            _validate(store, order)
        case ImportOrder():
            _import(store, order)
        case DiffOrder():
            _diff(store, order)
        case TuneOrder():
            _tune(store, order)
        case ProfileOrder():
            record = ProfileRecord(file=order.file, golden=order.golden, task=order.task, n=1)
            store.create(profile_key(order.file, order.golden), record.encode())
        case TrackOrder():
            raise NotImplementedError(order.job)


def _meet_trouble(folder: Path, kind: str) -> None:
    while (folder / f"hold-{kind}").exists():
        time.sleep(0.02)
    if (folder / f"fail-{kind}").exists():
        sys.exit("the pretended disk is on fire")


def _train(store: Store, order: TrainOrder) -> None:
    weights = store.put_blob(json.dumps(order.inputs, sort_keys=True).encode())
    picture = store.put_blob(onnx_models.picture(1))
    Signing.here().weights(store, weights, order.inputs_digest)
    record = RunRecord(
        inputs_digest=order.inputs_digest, inputs=order.inputs, status="Succeeded", model=order.model,
        commit=order.commit, seed=0, weights=weights, dataset=order.manifest, files={"results.png": picture},
    )  # fmt: skip
    store.create(run_key(order.inputs_digest), record.encode())


def _args(store: Store, weights: str) -> dict[str, Any]:
    return dict(json.loads(store.read_blob(weights))["args"])


def _accuracy(store: Store, subject: str) -> float:
    """Say how good a subject is: by the epochs of the run it comes from."""
    artifact = store.read(artifact_key(subject))
    weights = json.loads(artifact)["weights"] if artifact else subject
    epochs: int = _args(store, weights)["epochs"]
    return 0.9 + epochs / 1000 if epochs >= ENOUGH else 0.3


def _evaluate(store: Store, subject: str, golden: str) -> None:
    value = _accuracy(store, subject)
    record = EvaluationRecord(
        subject=subject, golden=golden, n=10, values={METRIC: value},
        intervals={METRIC: {"0.95": (value - 0.01, value + 0.01)}}, per_image=store.put_blob(subject.encode()),
    )  # fmt: skip
    store.create(evaluation_key(subject, golden), record.encode())


def _compare(store: Store, order: CompareOrder) -> None:
    delta = _accuracy(store, order.subject) - _accuracy(store, order.baseline)
    difference = Difference(delta=delta, intervals={"0.95": (delta - 0.01, delta + 0.01)})
    record = ComparisonRecord(
        subject=order.subject, baseline=order.baseline, golden=order.golden, n=10, differences={METRIC: difference}
    )
    store.create(comparison_key(order.subject, order.baseline, order.golden), record.encode())


def _export(store: Store, order: ExportOrder) -> None:
    signing = Signing.here()
    signing.demand_weights(store, order.weights)
    seed = int(digest_of([order.weights, order.export_digest])[7:15], 16)
    made = onnx_models.classifier(seed, sure=0.01 if "dropout" in _args(store, order.weights) else 1.0)
    published = onnx_models.publish(store, made, changes={"weights": order.weights})
    signing.export(store, published.artifact)
    if order.golden:
        _evaluate(store, published.file, order.golden)
    record = ExportRecord(
        weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
        status="Succeeded", file=published.file, size=1000, metrics={"latency/p95_ms": 1.0},
    )  # fmt: skip
    store.create(export_key(order.weights, order.export_digest), record.encode())


def _validate(store: Store, order: ValidateOrder) -> None:
    golden = SetReport(images=1) if order.golden else None
    record = ValidationRecord(
        train_digest=order.train, golden_digest=order.golden, task=order.task, train=SetReport(images=1), golden=golden
    )
    store.create(validation_key(order.train, order.golden), record.encode())


def _import(store: Store, order: ImportOrder) -> None:
    """Pretend that a digest has a picture of its own, beside two that all versions in that place have.

    A bare address has the digest of what it is called.
    """
    source = next(iter(order.source.values()))
    place = source.get("path") or source.get("url") or source["uri"]
    named = source.get("digest") or digest_of(["fetched", place])
    files = [
        FileEntry(path=f"x/{digest_of(each)[7:19]}.png", size=len(each), digest=store.put_blob(each.encode()))
        for each in (f"{place} 1", f"{place} 2", named)
    ]
    found = DatasetManifest(task=order.task, names=["x", "y"], images=3, class_counts={"x": 3}, files=files)
    store.create(dataset_key(found.digest()), found.encode())
    record = ImportRecord(
        import_digest=order.import_digest, task=order.task, source=order.source, status="Succeeded", digest=named,
        manifest=found.digest(), images=3,
    )  # fmt: skip
    store.create(import_key(order.import_digest), record.encode())


def _diff(store: Store, order: DiffOrder) -> None:
    before, after = (DatasetManifest.decode(store.read(dataset_key(d)) or b"") for d in (order.before, order.after))
    found = difference(before, after)
    record = DifferenceRecord(
        before=order.before, after=order.after, images=found.images, added=found.added, removed=found.removed,
        relabelled=found.relabelled, labelled=found.added,
        files={"difference.jpg": store.put_blob(order.after.encode())},
    )  # fmt: skip
    store.create(difference_key(order.before, order.after), record.encode())


def _tune(store: Store, order: TuneOrder) -> None:
    """Try the first parameter's smallest value, which is as it was, and its largest, which is better."""
    parameter = order.tuning.parameters[0]
    trials = []
    for number, (value, made) in enumerate(((parameter.min, 0.5), (parameter.max, 0.6))):
        args = {parameter.name: value}
        trial = TrialRecord(number=number, args=args, status="Succeeded", value=made, seconds=1)
        store.create(asked_key(order.tuning_digest, number), TrialAsked(number=number, args=args).encode())
        store.create(trial_key(order.tuning_digest, number), trial.encode())
        trials.append(trial)
    record = TuningRecord(
        tuning_digest=order.tuning_digest, status="Succeeded", inputs=order.inputs, dataset=order.manifest,
        metric=order.tuning.objective.metric, best=trials[1], trials=trials, stopped_by="TrialCount",
        files={"history.png": store.put_blob(onnx_models.picture(2))},
    )  # fmt: skip
    store.create(tuning_key(order.tuning_digest), record.encode())


if __name__ == "__main__":
    sys.exit(main())
