"""The jobs for real, one after the other: train, evaluate, export, evaluate the export, compare."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapters.store import Store
from reconcilers.data_report import faults
from specs.data_records import ValidationRecord, validation_key
from specs.modelspec import MAIN_METRIC, Task
from specs.profile_records import ProfileRecord, profile_key
from specs.records import (
    EVENT_FILE,
    ArtifactRecord,
    ComparisonRecord,
    DatasetManifest,
    EvaluationRecord,
    ExportRecord,
    Record,
    RunRecord,
    artifact_key,
    comparison_key,
    dataset_key,
    evaluation_key,
    export_key,
    run_key,
)  # fmt: skip
from specs.training import Tracking
from tests.support.counted import counted
from tests.support.inference_server import running
from tests.support.orders import Bench, bench
from workloads.bootstrap import measured
from workloads.inference import open_export
from workloads.preprocess import decode, preprocess
from workloads.results import decode as decode_results

pytestmark = pytest.mark.ml
R = TypeVar("R", bound=Record)


def read(store: Store, key: str, kind: type[R]) -> R:
    """Read a record that must be there."""
    text = store.read(key)
    assert text is not None, key
    return kind.decode(text)


def done(workplace: Bench, order: object) -> None:
    """Do an order and show its log if it fails."""
    finished = workplace.run_here(order)  # type: ignore[arg-type]
    assert finished.code == 0, finished.log[-3000:]


def check_run(workplace: Bench, record: RunRecord) -> None:
    """A run record must let an auditor repeat the run."""
    assert (record.status, record.seed, record.model) == ("Succeeded", 0, "default/tiny")
    assert [epoch.epoch for epoch in record.epochs] == [1]
    assert {MAIN_METRIC[workplace.task]} <= record.metrics.keys() <= record.epochs[0].metrics.keys()
    assert record.environment is not None
    assert record.environment.packages["ultralytics"]
    assert {"results.csv", "args.yaml"} <= record.files.keys()
    assert str(workplace.scratch) not in workplace.store.read_blob(record.files["args.yaml"]).decode()
    assert record.weights is not None
    assert workplace.store.has_blob(record.weights)


def check_events(workplace: Bench, record: RunRecord, folder: Path) -> None:
    """TensorBoard's own reader must find the curves of the record, the layers, and what Ultralytics drew."""
    workplace.store.fetch_blob(record.files[EVENT_FILE], folder / EVENT_FILE)
    found = EventAccumulator(str(folder)).Reload()
    for epoch in record.epochs:
        curves = {tag: {s.step: s.value for s in found.Scalars(tag)} for tag in found.Tags()["scalars"]}
        assert {tag: points[epoch.epoch] for tag, points in curves.items()} == pytest.approx(epoch.metrics)
    assert {"train", "val", "metrics", "lr"} == {tag.partition("/")[0] for tag in curves}
    nodes = found.Graph().node
    assert sum(node.attr["parameters"].i for node in nodes) > 1_000_000
    assert all(set(node.input) <= {other.name for other in nodes} for node in nodes)
    drawn = {"pictures/results", "pictures/confusion_matrix", "pictures/train_batch0", "pictures/val_batch0_pred"}
    assert (drawn <= set(found.Tags()["images"])) is record.inputs["args"]["plots"]


def check_evaluation(workplace: Bench, subject: str) -> EvaluationRecord:
    """Point values computed from the kept results must be those of Ultralytics."""
    record = read(workplace.store, evaluation_key(subject, workplace.golden), EvaluationRecord)
    results = decode_results(workplace.store.read_blob(record.per_image))
    assert record.n == len(results.images) == 10
    assert results.images == sorted(results.images)
    overall, per_class = measured(results)
    assert overall.keys() == record.values.keys() == record.intervals.keys()
    for metric, value in record.values.items():
        assert overall[metric] == pytest.approx(value, abs=1e-6 if workplace.task == "classify" else 1e-3), metric
    assert per_class == record.per_class
    assert list(per_class) == ["green", "red"]
    return record


def check_artifact(workplace: Bench, file: str, folder: Path) -> None:
    """Self-tests must be reproducible by whoever has only the record and the store."""
    artifact = read(workplace.store, artifact_key(file), ArtifactRecord)
    assert (artifact.task, artifact.names, artifact.image_size) == (workplace.task, ["green", "red"], (32, 32))
    assert artifact.kpt_shape == ((2, 3) if workplace.task == "pose" else None)
    workplace.store.fetch_blob(file, folder / "model.onnx")
    infer = open_export(folder / "model.onnx", "onnx")
    assert len(artifact.self_tests) == 3
    for test in artifact.self_tests:
        tensor = np.load(io.BytesIO(workplace.store.read_blob(test.input)), allow_pickle=False)
        picture = decode(workplace.store.read_blob(test.image))
        np.testing.assert_array_equal(tensor, preprocess(picture, artifact.task, artifact.image_size))
        with np.load(io.BytesIO(workplace.store.read_blob(test.outputs)), allow_pickle=False) as expected:
            outputs = infer(tensor)
            assert outputs.keys() == set(expected.files)
            for name in expected.files:
                np.testing.assert_allclose(outputs[name], expected[name], atol=test.tolerance)


def check_profile(workplace: Bench, run: str, weights: str, file: str, folder: Path) -> None:
    """The profile of golden is what a live server counts when golden's pictures are posted to it."""
    order = workplace.profile(file)
    done(workplace, order)
    made = read(workplace.store, profile_key(file, workplace.golden), ProfileRecord)
    assert (made.status, made.n, list(made.classes), made.names) == ("Succeeded", 10, *[["green", "red"]] * 2)
    assert sum(made.pictures["brightness"]) == sum(made.pictures["size"]) == 10
    assert sum(map(sum, made.right.values())) <= sum(map(sum, made.classes.values()))
    if workplace.task in ("segment", "pose"):
        return  # what is counted of these are boxes, as of detect; rotated ones have a layout of their own
    with running(folder) as server:
        assert server.load("tiny", {"version": 1, "file": file, "run": run, "weights": weights}).status_code == 200
        for entry in DatasetManifest.decode(workplace.store.read(dataset_key(workplace.golden)) or b"").files:
            if entry.path.endswith(".png"):
                picture, kind = workplace.store.read_blob(entry.digest), {"Content-Type": "image/png"}
                server.http.post("/models/tiny/predict", content=picture, headers=kind).raise_for_status()
        live = counted(server.http.get("/metrics").text, "tiny")
    assert (live.pictures, live.classes) == (made.traffic.pictures, made.traffic.classes)


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "pose", "obb"])
def test_every_task_goes_the_same_way(tmp_path: Path, task: Task) -> None:
    """Validate, train, evaluate, export and compare leave complete records that agree, and nothing else."""
    workplace = bench(tmp_path, task)
    done(workplace, workplace.validate())
    looked = read(workplace.store, validation_key(workplace.data, workplace.golden), ValidationRecord)
    assert (faults(looked, None), looked.train.images, looked.train.objects) == ([], 24, 24)

    train = workplace.train(tracking=Tracking(tensorboard=True), plots=task == "classify")
    done(workplace, train)
    run = read(workplace.store, run_key(train.inputs_digest), RunRecord)
    check_run(workplace, run)
    check_events(workplace, run, tmp_path)
    assert run.weights is not None

    done(workplace, workplace.evaluate(run.weights))
    weights = check_evaluation(workplace, run.weights)
    assert "confusion_matrix.png" in weights.files

    order = workplace.export(run.weights)
    done(workplace, order)
    export = read(workplace.store, export_key(run.weights, order.export_digest), ExportRecord)
    assert export.file is not None
    assert export.metrics["artifact/bytes"] == export.size == len(workplace.store.read_blob(export.file))
    assert 0 < export.metrics["latency/p50_ms"] <= export.metrics["latency/p95_ms"] <= export.metrics["latency/p99_ms"]
    measured_export = check_evaluation(workplace, export.file)
    assert measured_export.values == pytest.approx(weights.values, abs=0.02)
    check_artifact(workplace, export.file, tmp_path)
    check_profile(workplace, train.inputs_digest, run.weights, export.file, tmp_path)

    done(workplace, workplace.compare(export.file, run.weights))
    key = comparison_key(export.file, run.weights, workplace.golden)
    comparison = read(workplace.store, key, ComparisonRecord)
    for metric, found in comparison.differences.items():
        assert found.delta == pytest.approx(measured_export.values[metric] - weights.values[metric], abs=2e-3)
    assert list(workplace.scratch.iterdir()) == []
