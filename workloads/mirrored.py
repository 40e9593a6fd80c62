"""What a tracking server is told about a run: the same words while it trains and when it is over. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from adapters.mlflow_api import Point, legal
from specs.digests import short
from specs.records import DatasetManifest, Epoch, Metrics, RunRecord
from specs.workorders import TrackOrder

_PLACES = frozenset({
    "cfg", "data", "exist_ok", "mode", "model", "name", "project", "resume", "save_dir", "source", "tracker",
})  # fmt: skip
"""Arguments that say where a job had its files, and nothing about the training."""
_ENTRY = re.compile(r"([A-Za-z_][\w.-]*):(?:\s+(.*))?$")
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


def run_name(model: str, inputs_digest: str) -> str:
    """Name a run for people."""
    return f"{model.rpartition('/')[2]}-{short(inputs_digest)}"


def params(inputs: Mapping[str, Any], arguments: str) -> dict[str, str]:
    """Give the params of a training: what Ultralytics made of the arguments (``args.yaml``), and what it began with.

    Both are the same for all attempts at these inputs by the same version of the trainer.
    """
    found = {legal(key): value for key, value in _entries(arguments).items() if key not in _PLACES}
    model = inputs["model"]
    asked = {
        "model": str(model.get("name") or model.get("digest")), "data": str(inputs["data"]), "task": inputs["task"],
        "nonce": inputs.get("nonce", ""), "runtime": inputs.get("runtime", ""),
    }  # fmt: skip
    return found | {key: value for key, value in asked.items() if value}


def _entries(text: str) -> dict[str, str]:
    """Read Ultralytics' flat file: a key and its value as it is written; items of a list follow on their own lines."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            key = entry[1]
            found[key] = [(entry[2] or "").strip().strip("'\"")]
        elif key and line.strip():
            found[key].append(line.strip().removeprefix("- "))
    return {key: ", ".join(part for part in parts if part) for key, parts in found.items()}


def points(epochs: Iterable[Epoch], when: Mapping[int, int] | int) -> list[Point]:
    """Give the curves. ``when`` is Unix time in milliseconds, of each epoch or of all."""
    return [
        Point(legal(key), value, each.epoch, when if isinstance(when, int) else when[each.epoch])
        for each in epochs
        for key, value in sorted(each.metrics.items())
    ]


def milliseconds(stamp: str) -> int:
    """Read a record's time; 0 where it has none."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000) if stamp else 0


def moments(record: RunRecord) -> dict[int, int]:
    """Give when each epoch ended, as if all had taken the same time: nobody wrote it down."""
    began, end = milliseconds(record.started or record.finished), milliseconds(record.finished)
    most = max((each.epoch for each in record.epochs), default=1)
    return {each.epoch: began + (end - began) * each.epoch // most for each in record.epochs}


def last_points(record: RunRecord, golden: Metrics | None) -> list[Point]:
    """Give what was measured once: the chosen weights on the validation part, and on golden."""
    when, step = milliseconds(record.finished), max((each.epoch for each in record.epochs), default=0)
    found = {f"best/{name}": value for name, value in record.metrics.items()}
    if golden is not None:
        found |= {f"golden/{name}": value for name, value in golden.values.items()}
    return [Point(legal(name), value, step, when) for name, value in sorted(found.items())]


def tags(record: RunRecord) -> dict[str, str]:
    """Give what names the run everywhere else, so that whoever sees it can go on from there."""
    environment = record.environment
    found = {
        "trunkline.model": record.model, "trunkline.commit": record.commit, "trunkline.status": record.status,
        "trunkline.weights": record.weights or "", "trunkline.baseModel": record.base_model or "",
        "trunkline.data": str(record.inputs.get("data", "")), "trunkline.dataset": record.dataset or "",
        "mlflow.source.name": record.model, "mlflow.source.type": "JOB", "mlflow.source.git.commit": record.commit,
        "mlflow.note.content": _note(record),
    }  # fmt: skip
    if environment is not None:
        found |= {
            "environment.python": environment.python, "environment.platform": environment.platform,
            "environment.device": environment.device, "environment.cpu": environment.cpu,
            "environment.cores": str(environment.cores),
        }  # fmt: skip
        for name in ("ultralytics", "torch", "numpy"):
            found[f"environment.{name}"] = environment.packages.get(name, "")
    return {key: value for key, value in found.items() if value}


def _note(record: RunRecord) -> str:
    if record.status == "Failed":
        return f"**{record.reason}**: {record.message}"
    text = f"Trained for ModelSpec `{record.model}` at commit `{record.commit[:12]}`."
    return f"{text} This page is a copy: what is released is decided in git (`trunkline why {record.weights}`)."


def dataset_input(
    name: str, context: str, digest: str, manifest: DatasetManifest, source: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Give a data set as MLflow lists it. ``digest`` is what git names; MLflow has room for a part of it only."""
    profile = {
        "images": manifest.images, "files": len(manifest.files), "bytes": sum(each.size for each in manifest.files),
        "class_counts": manifest.class_counts, "digest": digest, "manifest": manifest.digest(),
    }  # fmt: skip
    schema = {"task": manifest.task, "names": manifest.names, "kpt_shape": manifest.kpt_shape}
    kind = next(iter(source), "store") if source else "store"
    place = json.dumps(source or {"store": digest}, sort_keys=True)
    return {
        "dataset": {
            "name": name, "digest": short(digest), "source_type": kind, "source": _PASSWORD.sub("", place),
            "schema": json.dumps({"trunkline": schema}), "profile": json.dumps(profile),
        },
        "tags": [{"key": "mlflow.data.context", "value": context}],
    }  # fmt: skip


def pinned(order: TrackOrder, record: RunRecord) -> Mapping[str, Any] | None:
    """Give where the training data came from, where the order tells."""
    digests = [place.get("digest") for place in (order.source or {}).values()]
    return order.source if digests == [record.inputs.get("data")] else None
