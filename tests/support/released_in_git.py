"""A release with its evidence in a real repository, of whatever records a store holds: nobody's agent in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.digests import digest_bytes
from specs.manifest import edit
from specs.modelspec import ModelKey
from specs.names import evidence_dir
from specs.records import EvaluationRecord, ExportRecord, RunRecord
from tests.support.gitrepo import Hub

KEY = ModelKey("default", "tiny")
FILE = "tiny.yaml"


def manifest(data: str, golden: str, args: dict[str, Any]) -> str:
    """Give a model's file."""
    return (
        "apiVersion: trunkline.dev/v1alpha1\nkind: ModelSpec\nmetadata: {name: tiny}\nspec:\n  task: classify\n"
        f'  data:\n    train: {{uri: {{url: "store://train", digest: "{data}"}}}}\n'
        f'    golden: {{uri: {{url: "store://golden", digest: "{golden}"}}}}\n'
        f"  training: {{model: yolo26n-cls.yaml, args: {json.dumps(args)}}}\n"
        "  exports: [{name: onnx, format: onnx}]\n"
    )


class Released:
    """A folder with settings, a repository and one model; the store may be anywhere."""

    def __init__(self, folder: Path, store: Store, text: str, command: list[str] | None = None) -> None:
        self.folder, self.store, self.text = folder, store, text
        self.hub = Hub(folder)
        self.hub.commit({FILE: text}, "A model")
        line = f"workload_command = {json.dumps(command)}\n" if command else ""
        settings = f'repository = "hub.git"\nstore = "{store.url}"\nstate = "state"\n{line}'
        (folder / "trunkline.toml").write_text(settings)

    def release(
        self, version: int, run: RunRecord, *, evaluation: EvaluationRecord | None = None,
        exports: dict[str, ExportRecord] | None = None, proof: bool = True, **changes: Any,
    ) -> None:  # fmt: skip
        """Pin a run on the tracked branch; ``changes`` are made to its evidence after its digest was taken."""
        exports = exports or {}
        files = {name: record.file for name, record in exports.items()}
        content = {"run": run.inputs_digest, "weights": run.weights, "exports": files or {"onnx": run.inputs_digest}}
        told: dict[str, Any] = {
            "model": str(KEY), "version": version, "release": content, "run": run.model_dump(mode="json"), "gates": [],
            "evaluation": evaluation.model_dump(mode="json") if evaluation else None,
            "exports": [{"name": name, "record": record.model_dump(mode="json")} for name, record in exports.items()],
        }  # fmt: skip
        data = json.dumps(told).encode()
        value = {"version": version, **content, **({"evidence": digest_bytes(data)} if proof else {})}
        written: dict[str, str | bytes | None] = {FILE: edit(self.text, KEY, "spec.release", value)}
        if proof:
            written[f"{evidence_dir(*KEY, version)}/evidence.json"] = json.dumps(told | changes).encode()
        self.hub.commit(written, f"Promote v{version}")
