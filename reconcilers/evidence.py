"""Evidence: what an auditor needs to judge a release with nothing but the repository. Pure and deterministic."""

from __future__ import annotations

import json
from typing import Any

from reconcilers import orders, report
from reconcilers.context import Context
from reconcilers.data_steps import validation
from reconcilers.observed import DatasetFact
from reconcilers.steps import gate_results, parity
from specs.data import Source
from specs.digests import digest_bytes
from specs.names import evidence_dir
from specs.records import Record

SCHEMA = "trunkline.dev/evidence/v1"


def evidence_files(
    ctx: Context, content: dict[str, Any], version: int
) -> tuple[dict[str, bytes], dict[str, str], str]:
    """Give (path to bytes, path to blob digest, digest of evidence.json) for a release of the candidate."""
    folder = evidence_dir(*ctx.key, version)
    text = json.dumps(evidence(ctx, content, version), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    data = text.encode() + b"\n"
    blobs = {f"{folder}/{name}": digest for name, digest in pictures(ctx).items()}
    page = report.page(ctx, version, sorted(pictures(ctx)))
    return {f"{folder}/evidence.json": data, f"{folder}/report.md": page.encode()}, blobs, digest_bytes(data)


def pictures(ctx: Context) -> dict[str, str]:
    """Give the pictures that belong to the candidate: name in the evidence folder to digest."""
    found: dict[str, str] = {}
    run = ctx.run
    looked_at = validation(ctx)
    if looked_at is not None:
        found |= {f"data-{name}": digest for name, digest in looked_at.files.items() if name.endswith((".png", ".jpg"))}
    if run is not None:
        found |= {f"training-{name}": digest for name, digest in run.files.items() if name.endswith((".png", ".jpg"))}
    evaluation = ctx.observed.evaluations.get((ctx.weights or "", ctx.golden or ""))
    if evaluation is not None:
        found |= {f"golden-{name}": d for name, d in evaluation.files.items() if name.endswith((".png", ".jpg"))}
    return found


def evidence(ctx: Context, content: dict[str, Any], version: int) -> dict[str, Any]:
    """Give the whole argument for a release as plain JSON values."""
    source, spec = ctx.observed.source, ctx.spec
    golden = ctx.golden or ""
    return {
        "schema": SCHEMA,
        "model": str(ctx.key),
        "version": version,
        "release": content,
        "inputs": spec.inputs(),
        "source": {"repository": source.repository, "path": source.path, "commit": source.changed.sha},
        "data": {
            "train": _dataset(ctx.observed.train, spec.data.train),
            "golden": _dataset(ctx.observed.golden, spec.data.golden),
            "validation": _dump(validation(ctx)),
            **_calibration(ctx),
        },
        "run": _dump(ctx.run),
        "evaluation": _dump(ctx.observed.evaluations.get((ctx.weights or "", golden))),
        "champion": {
            "weights": ctx.champion,
            "version": spec.release.version if spec.release and ctx.champion else None,
            "evaluation": _dump(ctx.observed.evaluations.get((ctx.champion or "", golden))),
            "comparison": _dump(ctx.observed.comparisons.get((ctx.weights or "", ctx.champion or "", golden))),
        },
        "exports": [_export(ctx, index) for index in range(len(spec.exports))],
        "gates": [
            {
                "gate": gate.model_dump(mode="json", by_alias=True, exclude_none=True),
                "passed": result.passed, "value": result.value, "bound": result.bound, "text": result.text,
            }
            for gate, result in zip(spec.gates, gate_results(ctx), strict=True)
        ],
    }  # fmt: skip


def _calibration(ctx: Context) -> dict[str, Any]:
    """Give the pictures for INT8, where there are any of their own."""
    found = _dataset(ctx.observed.calibration, ctx.spec.data.calibration)
    return {"calibration": found} if found else {}


def _export(ctx: Context, index: int) -> dict[str, Any]:
    export = ctx.spec.exports[index]
    record = orders.export_record(ctx, export)
    found = parity(ctx, export, record) if record else None
    golden, file = ctx.golden or "", (record.file if record else None) or ""
    baseline = ctx.spec.release.exports.get(export.name, "") if ctx.spec.release else ""
    return {
        "name": export.name,
        "parity": {"metric": found[0], "drop": found[1], "maxDrop": export.parity.max_drop if export.parity else None}
        if found
        else None,
        "record": _dump(record),
        "evaluation": _dump(ctx.observed.evaluations.get((file, golden))),
        "comparison": _dump(ctx.observed.comparisons.get((file, baseline, golden))),
    }


def _dataset(fact: DatasetFact | None, source: Source | None) -> dict[str, Any] | None:
    """Give a data set in numbers, and what git names it by where that is not its manifest."""
    if fact is None or fact.manifest is None or source is None:
        return None
    manifest = fact.manifest
    told = {
        "digest": fact.digest, "images": manifest.images, "names": manifest.names, "classCounts": manifest.class_counts,
        "files": len(manifest.files),
    }  # fmt: skip
    return told if source.in_store else told | {"source": source.plain(), "imported": _dump(fact.imported)}


def _dump(record: Record | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump(mode="json", exclude_none=True)
