"""Exports weights: a file, what a server must know about it, how fast it is, and how good on golden."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.errors import Stalled
from specs.records import ArtifactRecord, ExportRecord, artifact_key, evaluation_key, export_key
from specs.workorders import ExportOrder, export_digest
from workloads import archive, dataset, evaluate, models, selftest
from workloads.arguments import check_export
from workloads.environment import cache, describe
from workloads.errors import Hopeless
from workloads.inference import latency, open_export
from workloads.preprocess import decode, preprocess
from workloads.progress import Reporter, now
from workloads.signing import Signing

_NEEDS = {
    "onnx": ("onnx", "onnxruntime", "onnxslim"), "openvino": ("openvino",), "engine": ("tensorrt", "onnx"),
    "coreml": ("coremltools",), "saved_model": ("tensorflow", "onnx2tf"), "litert": ("litert_torch", "ai_edge_litert"),
    "ncnn": ("ncnn", "pnnx"), "paddle": ("paddle", "x2paddle"), "mnn": ("MNN",), "rknn": ("rknn",),
    "imx": ("model_compression_toolkit",), "executorch": ("executorch",),
}  # fmt: skip
"""Format to the modules that making and running it needs."""


def run(order: ExportOrder, store: Store, scratch: Path) -> None:
    """Write artifact, signature (with a key), evaluation (with golden) and, last, the ExportRecord.

    Hopeless ``InvalidArguments``, ``FormatUnavailable`` or ``ExportFailed``; Stalled where material is wrong.
    """
    if export_digest(order.format, order.args, order.image_size) != order.export_digest:
        raise Stalled(
            "WrongDigest", "the way of exporting does not have the digest that the order names; order it again"
        )
    started = now()
    signing = Signing.here()
    signing.demand_weights(store, order.weights)
    _check_format(order.format)
    check_export(order.format, dict(order.args))
    with Reporter(store, order.job) as reporter:
        reporter.report("exporting")
        manifest = dataset.load_manifest(store, order.golden, order.task) if order.golden else None
        weights = models.fetch_subject(store, order.weights, "pt", scratch)
        made, size, names = _export(weights, order)
        digest, length = _keep(store, made, order.format, scratch)
        reporter.report("timing")
        infer, samples = open_export(made, order.format), selftest.sample_pictures(store, manifest)
        artifact = ArtifactRecord(
            file=digest, format=order.format, task=order.task, names=names, image_size=size, weights=order.weights,
            self_tests=selftest.make(store, samples, order.task, size, infer),
        )  # fmt: skip
        store.create(artifact_key(digest), artifact.encode())
        signing.export(store, artifact)
        timed = latency(infer, preprocess(decode(samples[0][1]), order.task, size))
        metrics = {"artifact/bytes": float(length), **timed}
        if manifest is not None and order.golden and store.read(evaluation_key(digest, order.golden)) is None:
            reporter.report("measuring")
            golden = dataset.for_golden(store, manifest, scratch / "golden", cache())
            measurement = evaluate.measure(made, order.task, golden, list(size), scratch / "runs", plots=False)
            evaluate.record(store, digest, order.golden, measurement)
    record = ExportRecord(
        weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
        status="Succeeded", file=digest, size=length, metrics=metrics, environment=describe(), started=started,
        finished=now(),
    )  # fmt: skip
    store.create(export_key(order.weights, order.export_digest), record.encode())


def record_failure(order: ExportOrder, store: Store, failure: Hopeless) -> None:
    """Write that this export can never be made, and why."""
    record = ExportRecord(
        weights=order.weights, export_digest=order.export_digest, format=order.format, args=order.args,
        status="Failed", reason=failure.reason, message=failure.message, environment=describe(), finished=now(),
    )  # fmt: skip
    store.create(export_key(order.weights, order.export_digest), record.encode())


def _check_format(format_: str) -> None:
    missing = [module for module in _NEEDS.get(format_, ()) if importlib.util.find_spec(module) is None]
    if missing:
        message = f"exporting to {format_} needs {', '.join(missing)}; install it where exports run"
        raise Hopeless("FormatUnavailable", message)


def _export(weights: Path, order: ExportOrder) -> tuple[Path, tuple[int, int], list[str]]:
    """Let Ultralytics export; give the file, its height and width, and the class names."""
    from ultralytics.utils.checks import check_imgsz

    model = models.load(weights, order.task)
    if model.task != order.task:
        raise Hopeless("TaskMismatch", f"the weights are for {model.task}, but the task is {order.task}")
    args: dict[str, Any] = {"imgsz": order.image_size or model.overrides.get("imgsz", 640), **order.args}
    try:
        made = Path(model.export(format=order.format, **args))
    except ImportError as error:
        raise Hopeless("FormatUnavailable", f"exporting to {order.format}: {error}") from error
    except (AssertionError, ValueError, TypeError, NotImplementedError) as error:
        raise Hopeless("ExportFailed", f"Ultralytics cannot export this to {order.format}: {error}") from error
    height, width = check_imgsz(args["imgsz"], stride=int(max(model.model.stride)), min_dim=2)
    _forget_date(made, order.format)
    return made, (height, width), [str(model.names[index]) for index in sorted(model.names)]


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
