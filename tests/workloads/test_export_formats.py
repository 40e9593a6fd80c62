"""Every format of Ultralytics is known by its right name; those whose packages are here are made, run and measured."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from specs.base import Args
from specs.exports import FORMATS, needs_calibration
from specs.modelspec import MAIN_METRIC, Task
from specs.records import (
    ArtifactRecord,
    EvaluationRecord,
    ExportRecord,
    RunRecord,
    artifact_key,
    evaluation_key,
    export_key,
    run_key,
)  # fmt: skip
from tests.support.orders import Bench, bench
from workloads import archive, dataset, formats
from workloads.errors import Hopeless
from workloads.export import Made, _opened  # the only way to see what happens to files of other machines
from workloads.footprint import footprint
from workloads.selftest import tolerance_of

pytestmark = pytest.mark.ml
HERE: list[tuple[Task, str, Args]] = [
    ("detect", "onnx", {"quantize": 8}),
    ("detect", "openvino", {"quantize": 8}),
    ("detect", "mnn", {"quantize": 16}),
    ("classify", "ncnn", {}),
    ("classify", "onnx", {"quantize": 16}),
]
"""What is made here; each task in ONNX and TorchScript elsewhere. All together: benchmarks/exports.py."""


def known() -> dict[str, dict[str, Any]]:
    """Give Ultralytics' own table, by the argument that names a format."""
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    return {row["Argument"]: row for row in rows if row["Argument"] != "-"}


def test_every_format_of_ultralytics_is_known() -> None:
    """Names, suffixes, what each needs, and whether it writes a folder, as Ultralytics has it."""
    assert {name: row["Suffix"] for name, row in known().items()} == FORMATS
    assert formats.NEEDS.keys() == FORMATS.keys()
    folders = {name for name in FORMATS if archive.is_folder(name)}
    assert folders == {
        "openvino", "coreml", "coreai", "saved_model", "paddle", "ncnn", "imx", "rknn", "executorch", "axelera",
        "deepx", "hailo", "ascend", "xilinx",
    }  # fmt: skip


def test_calibration_is_asked_for_where_ultralytics_looks_at_pictures() -> None:
    """The rule of the spec is that of the exporter, for each format and each way of writing a precision."""
    from ultralytics.cfg import get_cfg
    from ultralytics.engine import exporter

    always = exporter.FP32_UNSUPPORTED_FORMATS - exporter.FP16_FORMATS
    for name, row in known().items():
        takes = "data" in row["Arguments"]
        assert needs_calibration(name, {}) is (takes and name in always), name
        for written in (8, "8", "int8", "w8a8", "w8a16", 16, "fp16", 32, None):
            canonical = get_cfg(overrides={"quantize": written}).quantize
            wanted = takes and (canonical in (8, "w8a16") or name in always)
            assert needs_calibration(name, {"quantize": written}) is wanted, (name, written)
    assert needs_calibration("rknn", {"name": "rv1106"})
    assert not needs_calibration("rknn", {"name": "rk3588", "quantize": 16})


def test_what_is_missing_is_named_with_what_brings_it() -> None:
    """Nothing is installed by a job: the sentence says what to install, and where."""
    with pytest.raises(Hopeless, match=r"rknn needs rknn; install it .*rknn-toolkit2.*jobs install nothing"):
        formats.check_needs("rknn", {})
    with pytest.raises(Hopeless, match=r"ascend needs the program atc; install it where exports run .Huawei"):
        formats.check_needs("ascend", {})
    with pytest.raises(Hopeless, match=r"INT8 for litert|litert needs"):
        formats.check_needs("litert", {"quantize": 8})
    formats.check_needs("openvino", {"quantize": 8})


@pytest.fixture(scope="module")
def workplaces(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, tuple[Bench, str]]:
    """A tiny model of each task, trained once and measured."""
    found: dict[Task, tuple[Bench, str]] = {}
    for task in ("detect", "classify"):
        workplace = bench(tmp_path_factory.mktemp(task), task)  # type: ignore[arg-type]
        train = workplace.train()
        assert workplace.run_here(train).code == 0
        run = RunRecord.decode(workplace.store.read(run_key(train.inputs_digest)) or b"")
        assert run.weights is not None
        assert workplace.run_here(workplace.evaluate(run.weights)).code == 0
        found[task] = (workplace, run.weights)  # type: ignore[index]
    return found


@pytest.mark.parametrize(
    ("task", "format_", "args"), HERE, ids=[f"{t}-{f}-{a.get('quantize', 32)}" for t, f, a in HERE]
)
def test_format_is_made_and_measured(
    workplaces: dict[Task, tuple[Bench, str]], task: Task, format_: str, args: Args, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Latency, size, memory and metrics are recorded, self-tests are kept, little is lost, nothing is installed.

    MNN's converter calls pip when it is imported, unless it is kept from that.
    """
    workplace, weights = workplaces[task]
    pip = tmp_path / "pip"
    pip.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    order = workplace.export(weights, format_, **args)
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]
    record = ExportRecord.decode(workplace.store.read(export_key(weights, order.export_digest)) or b"")
    assert record.file is not None
    assert (record.calibration, record.unmeasured, record.runtime) == (order.calibration, "", {})
    assert (record.calibration is not None) is (args.get("quantize") == 8)
    metrics = record.metrics
    assert 0 < metrics["latency/p50_ms"] <= metrics["latency/p95_ms"] <= metrics["latency/p99_ms"]
    assert metrics["artifact/bytes"] == record.size == len(workplace.store.read_blob(record.file))
    assert metrics["memory/peak_bytes"] > metrics["memory/added_bytes"] > 0
    artifact = ArtifactRecord.decode(workplace.store.read(artifact_key(record.file)) or b"")
    assert [test.tolerance for test in artifact.self_tests] == [tolerance_of(format_, args)] * 3
    whole, part = (
        EvaluationRecord.decode(workplace.store.read(evaluation_key(subject, workplace.golden)) or b"")
        for subject in (weights, record.file)
    )
    metric = MAIN_METRIC[task]
    assert part.values[metric] == pytest.approx(whole.values[metric], abs=0.2)
    assert list(workplace.scratch.iterdir()) == []
    assert not (tmp_path / "called").exists()


def test_calibration_pictures_are_always_the_same(
    workplaces: dict[Task, tuple[Bench, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large set those with the smallest digests are taken, so that the same digest gives the same ranges."""
    monkeypatch.chdir(tmp_path)
    workplace, _ = workplaces["detect"]
    manifest = dataset.load_manifest(workplace.store, workplace.data, "detect")
    whole = dataset.for_calibration(workplace.store, manifest, tmp_path / "all", None)
    assert len(whole.val) == manifest.images
    digests = sorted(each.file.digest for each in whole.val.values())
    some = dataset.for_calibration(workplace.store, manifest, tmp_path / "some", None, most=5)
    assert sorted(each.file.digest for each in some.val.values()) == digests[:5]


def test_export_without_its_calibration_is_refused(workplaces: dict[Task, tuple[Bench, str]]) -> None:
    """Ultralytics would take pictures of its own, which nobody asked for; an altered order is no order."""
    workplace, weights = workplaces["detect"]
    order = workplace.export(weights, "openvino", quantize=8, imgsz=64)
    finished = workplace.run_here(order.model_copy(update={"calibration": None}))
    assert finished.code == 65
    assert "WrongDigest" in finished.log


def test_engine_for_another_device_waits_for_one(workplaces: dict[Task, tuple[Bench, str]]) -> None:
    """Where the order names a device, another machine makes nothing: neither the GPU nor the packages are here."""
    workplace, weights = workplaces["detect"]
    finished = workplace.run_here(workplace.export(weights, "engine"))
    assert finished.code == 10
    assert "FormatUnavailable" in finished.log


def test_file_of_another_machine_is_kept_unmeasured(tmp_path: Path) -> None:
    """A format that runs elsewhere only is recorded with why nothing but its size is known."""
    folder = tmp_path / "model_rknn_model"
    folder.mkdir()
    (folder / "model.rknn").write_bytes(b"anything")
    infer, why = _opened(Made(folder, "sha256:" + "0" * 64, 8, (32, 32), []), "rknn")
    assert infer is None
    assert why.startswith("it runs on Rockchip boards (")


def test_export_that_cannot_run_has_no_footprint(tmp_path: Path) -> None:
    """Memory that was not measured is no number: the attempt fails with the last words, and another may go well."""
    from specs.errors import Transient

    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(Transient, match=r"the process that runs the export ended with 1: .*"):
        footprint(tmp_path / "model.onnx", "onnx", (32, 32))


def test_engine_is_made_where_a_gpu_is(workplaces: dict[Task, tuple[Bench, str]]) -> None:
    """An engine records its device and is measured like any other export; skipped where there is no GPU."""
    torch = pytest.importorskip("torch")
    if shutil.which("nvidia-smi") is None or not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU is here: TensorRT engines cannot be made")
    pytest.importorskip("tensorrt", reason="TensorRT is not installed: engines cannot be made")
    workplace, weights = workplaces["detect"]
    order = workplace.export(weights, "engine", quantize=16)
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]
    record = ExportRecord.decode(workplace.store.read(export_key(weights, order.export_digest)) or b"")
    assert {"gpu", "computeCapability", "tensorrt"} <= record.runtime.keys()
    assert record.metrics["latency/p95_ms"] > 0
