"""Exports weights: a file, what a server must know about it, how fast and how large it is, and how good on golden."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.store import Store
from specs.digests import Digest
from specs.engines import MACHINE_BOUND
from specs.errors import Stalled, Transient
from specs.exports import needs_calibration
from specs.records import ArtifactRecord, DatasetManifest, ExportRecord, artifact_key, evaluation_key, export_key
from specs.workorders import ExportOrder
from workloads import archive, dataset, device_facts, evaluate, models, selftest
from workloads.arguments import check_export
from workloads.environment import cache, describe
from workloads.errors import Hopeless
from workloads.footprint import footprint
from workloads.formats import NEEDS, check_needs
from workloads.inference import latency, open_export
from workloads.preprocess import decode, preprocess
from workloads.progress import Reporter, now
from workloads.selftest import Infer
from workloads.signing import Signing


@dataclass(frozen=True)
class Made:
    """An export on disk and in the store."""

    path: Path
    digest: Digest
    length: int
    """Bytes of what is stored."""
    size: tuple[int, int]
    """Height and width of the pictures that it takes."""
    names: list[str]
    points: tuple[int, int] | None = None
    """Shape of key points; None but for pose."""


def run(order: ExportOrder, store: Store, scratch: Path) -> None:
    """Write artifact, signature (with a key), evaluation (with golden) and, last, the ExportRecord.

    Hopeless ``InvalidArguments``, ``FormatUnavailable`` or ``ExportFailed``; Stalled where material is wrong; Transient
    ``WrongDevice`` where the order names another kind of device than this.
    """
    if order.way != order.export_digest:
        raise Stalled(
            "WrongDigest", "the way of exporting does not have the digest that the order names; order it again"
        )
    started, signing = now(), Signing.here()
    signing.demand_weights(store, order.weights)
    check_needs(order.format, order.args)
    check_export(order.format, dict(order.args))
    runtime = _machine(order)
    with Reporter(store, order.job) as reporter:
        reporter.report("exporting")
        golden = dataset.load_manifest(store, order.golden, order.task) if order.golden else None
        made = _make(order, store, scratch)
        reporter.report("timing")
        infer, unmeasured = _opened(made, order.format)
        samples = selftest.sample_pictures(store, golden)
        tolerance = selftest.tolerance_of(order.format, order.args)
        tests = selftest.make(store, samples, order.task, made.size, infer, tolerance) if infer else []
        artifact = ArtifactRecord(
            file=made.digest, format=order.format, task=order.task, names=made.names, image_size=made.size,
            weights=order.weights, self_tests=tests, runtime=runtime, made_for=order.runtime or {},
            kpt_shape=made.points,
        )  # fmt: skip
        store.create(artifact_key(made.digest), artifact.encode())
        signing.export(store, artifact)
        metrics = {"artifact/bytes": float(made.length)}
        if infer:
            metrics |= latency(infer, preprocess(decode(samples[0][1]), order.task, made.size))
            metrics |= footprint(made.path, order.format, made.size)
            reporter.report("measuring")
            _measure(order, store, made, golden, scratch)
    record = ExportRecord(
        weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
        status="Succeeded", file=made.digest, size=made.length, metrics=metrics, unmeasured=unmeasured,
        calibration=order.calibration, runtime=runtime, made_for=order.runtime or {}, environment=describe(),
        started=started, finished=now(),
    )  # fmt: skip
    store.create(export_key(order.weights, order.export_digest), record.encode())


def _machine(order: ExportOrder) -> dict[str, str]:
    """Give what this machine is like, where the file will depend on that."""
    here = device_facts.facts() if order.format in MACHINE_BOUND else {}
    unlike = device_facts.unlike(order.runtime or {}, here)
    if unlike:
        advice = "let the export run on a machine like the one that serves (exports[].nodeSelector)"
        raise Transient("WrongDevice", f"the engine is for another device than this one: {unlike}; {advice}")
    return here


def _make(order: ExportOrder, store: Store, scratch: Path) -> Made:
    """Export, and store the file."""
    weights = models.fetch_subject(store, order.weights, "pt", scratch)
    path, size, names, points = _export(weights, order, _calibration(order, store, scratch))
    digest, length = _keep(store, path, order.format, scratch)
    return Made(path, digest, length, size, names, points)


def _calibration(order: ExportOrder, store: Store, scratch: Path) -> dict[str, Any]:
    """Lay out the pictures for INT8, and give the argument that names them: without it Ultralytics takes its own."""
    if not needs_calibration(order.format, order.args):
        return {}
    if order.calibration is None:
        raise Hopeless("NoCalibrationData", "INT8 needs calibration pictures, and the order names none; order it again")
    manifest = dataset.load_manifest(store, order.calibration, order.task)
    return {"data": dataset.for_calibration(store, manifest, scratch / "calibration", cache()).argument}


def _opened(made: Made, format_: str) -> tuple[Infer | None, str]:
    """Give how to run an export, or why that is not possible here: some formats run on other machines only."""
    needs = NEEDS[format_]
    try:
        infer = open_export(made.path, format_)
        infer(np.zeros((1, 3, *made.size), np.float32))
    except Exception as error:  # whatever the runtimes of other machines do not find here
        if not needs.runs_on or needs.gpu:
            raise
        return None, f"it runs on {needs.runs_on} ({type(error).__name__} here)"
    return infer, ""


def _measure(
    order: ExportOrder, store: Store, made: Made, manifest: DatasetManifest | None, scratch: Path
) -> None:  # fmt: skip
    """Measure it on golden, where there is one and nobody did so before."""
    if manifest is None or order.golden is None or store.read(evaluation_key(made.digest, order.golden)) is not None:
        return
    golden = dataset.for_golden(store, manifest, scratch / "golden", cache())
    measurement = evaluate.measure(made.path, order.task, golden, list(made.size), scratch / "runs", plots=False)
    evaluate.record(store, made.digest, order.golden, measurement)


def record_failure(order: ExportOrder, store: Store, failure: Hopeless) -> None:
    """Write that this export can never be made, and why."""
    record = ExportRecord(
        weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
        status="Failed", reason=failure.reason, message=failure.message, calibration=order.calibration,
        made_for=order.runtime or {}, environment=describe(), finished=now(),
    )  # fmt: skip
    store.create(export_key(order.weights, order.export_digest), record.encode())


def _export(
    weights: Path, order: ExportOrder, data: dict[str, Any]
) -> tuple[Path, tuple[int, int], list[str], tuple[int, int] | None]:
    """Let Ultralytics export; give the file, its height and width, class names, and the shape of key points."""
    from ultralytics.utils.checks import check_imgsz

    model = models.load(weights, order.task)
    if model.task != order.task:
        raise Hopeless("TaskMismatch", f"the weights are for {model.task}, but the task is {order.task}")
    args: dict[str, Any] = {"imgsz": order.image_size or model.overrides.get("imgsz", 640), **order.args, **data}
    try:
        made = Path(model.export(format=order.format, **args))
    except (ImportError, SystemError) as error:
        raise Hopeless("FormatUnavailable", f"exporting to {order.format}: {error}") from error
    except (AssertionError, ValueError, TypeError, NotImplementedError, subprocess.CalledProcessError) as error:
        raise Hopeless("ExportFailed", f"Ultralytics cannot export this to {order.format}: {error}") from error
    height, width = check_imgsz(args["imgsz"], stride=int(max(model.model.stride)), min_dim=2)
    _forget_date(made, order.format)
    shape = getattr(model.model, "kpt_shape", None)
    points = (int(shape[0]), int(shape[1])) if shape else None
    return made, (height, width), [str(model.names[index]) for index in sorted(model.names)], points


def _forget_date(made: Path, format_: str) -> None:
    """Take the time of day out of the file, so that exporting again gives the same bytes and the same digest."""
    if format_ == "onnx":
        import onnx

        graph = onnx.load(str(made))
        for entry in [entry for entry in graph.metadata_props if entry.key == "date"]:
            graph.metadata_props.remove(entry)
        made.write_bytes(graph.SerializeToString(deterministic=True))
        return
    described = made / "metadata.yaml"
    if described.is_file():
        lines = described.read_text(encoding="utf-8").splitlines(keepends=True)
        described.write_text("".join(line for line in lines if not line.startswith("date:")), encoding="utf-8")


def _keep(store: Store, made: Path, format_: str, scratch: Path) -> tuple[str, int]:
    """Store the export; give its digest and size in bytes."""
    file = archive.pack(made, scratch / "export.tar") if made.is_dir() else made
    if made.is_dir() != archive.is_folder(format_):
        raise Hopeless("ExportFailed", f"Ultralytics wrote {made.name} for {format_}, which is not what was expected")
    return store.put_blob(file), file.stat().st_size
