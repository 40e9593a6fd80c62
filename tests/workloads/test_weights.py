"""Weights as files: equal trainings give equal bytes, which say nothing about where and when they were made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from specs.records import ExportRecord, RunRecord, export_key, run_key
from specs.ways import export_digest
from specs.workorders import ExportOrder, TrainOrder
from tests.support.orders import Bench, bench
from tests.support.released_in_git import Released, manifest
from tests.support.typed import ROOT, process

pytestmark = pytest.mark.ml


def _trained(workplace: Bench, order: TrainOrder) -> RunRecord:
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]
    text = workplace.store.read(run_key(order.inputs_digest))
    assert text is not None
    return RunRecord.decode(text)


def test_training_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same order in another place, at another time: one digest, and no date, folder or commit in the file."""
    one, other = (bench(tmp_path / name, "detect", count=8) for name in ("one", "a longer name"))
    assert one.data == other.data
    first, second = (_trained(workplace, workplace.train()) for workplace in (one, other))
    assert first.weights == second.weights
    held = one.store.read_blob(first.weights or "")
    for secret in (str(tmp_path), "scratch", first.started[:10], str(ROOT)):
        assert secret.encode() not in held, secret


def test_a_real_release_is_reproduced_bit_for_bit(tmp_path: Path) -> None:
    """A tiny model, trained and exported for real, released, and trained again by the command: weights and export."""
    workplace = bench(tmp_path / "bench", "classify", count=8)
    args = {"epochs": 1, "imgsz": 32, "batch": 8, "plots": False}
    order = workplace.train()
    run = _trained(workplace, order)
    asked = ExportOrder(
        model="default/tiny", commit="0" * 40, weights=run.weights or "", export_digest=export_digest("onnx", {}, 32),
        task="classify", format="onnx", args={}, image_size=32,
    )  # fmt: skip
    assert workplace.run_here(asked).code == 0
    export = ExportRecord.decode(workplace.store.read(export_key(asked.weights, asked.export_digest)) or b"")
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "workloads"]
    text = manifest(workplace.data, workplace.golden, args)
    released = Released(tmp_path / "place", workplace.store, text, command)
    released.release(1, run, exports={"onnx": export})
    done = process(released.folder, "reproduce", "tiny@v1", "--exports", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["verdict"], told["environment"]) == ("identical", [])
    assert told["sentence"] == "bit for bit the same weights; the environment is the same"
    assert [(e["name"], e["then"] == e["now"]) for e in told["exports"]] == [("onnx", True)]
