"""Runs as trainings would have left them, without the training: records, files, and orders to mirror them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.digests import digest_of
from specs.experiment_records import TrackRecord, track_key
from specs.records import (
    Environment,
    Epoch,
    EvaluationRecord,
    RunRecord,
    evaluation_key,
    run_key,
)
from specs.workorders import TrackOrder
from tests.support import pictures
from tests.support.orders import Bench

ARGUMENTS = b"""\
task: classify
mode: train
model: somewhere/yolo26n-cls.yaml
data: somewhere/data
epochs: 2
lr0: 0.01
classes:
- 0
- 1
optimizer: auto
save_dir: runs/train
"""
ENVIRONMENT = Environment(
    python="3.11.9", platform="Linux-6", device="cpu", cpu="A CPU", cores=2,
    packages={"torch": "2.9.0", "ultralytics": "8.4.190"},
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A run in a store, and how to have it mirrored."""

    bench: Bench
    record: RunRecord

    def order(self, uri: str, experiment: str) -> TrackOrder:
        """Order its mirror."""
        source = {"uri": {"url": "s3://shelves/2026", "digest": self.record.inputs["data"]}}
        return TrackOrder(
            model=self.record.model, commit=self.record.commit, inputs_digest=self.record.inputs_digest,
            tracking_uri=uri, experiment=experiment, source=source, golden=self.bench.golden,
        )  # fmt: skip

    def tracked(self, order: TrackOrder) -> TrackRecord | None:
        """Give the record that the mirror is whole."""
        text = self.bench.store.read(track_key(order.track_digest))
        return None if text is None else TrackRecord.decode(text)


def trained(root: Path, *, failed: bool = False) -> Trained:
    """Make a store below ``root`` with a run of two epochs, measured on golden; or one that can never work."""
    scratch, url = root / "scratch", f"file://{root}/store"
    scratch.mkdir(parents=True)
    store = Store(url)
    train = add_folder(store, pictures.folder(root / "train", "classify", 4), task="classify").digest()
    golden = add_folder(store, pictures.folder(root / "golden", "classify", 2, seed="golden"), task="classify").digest()
    bench = Bench(store, url, "classify", scratch, train, golden)
    inputs = {"v": 1, "task": "classify", "data": train, "model": {"name": "yolo26n-cls.yaml"},
              "args": {"epochs": 2}, "nonce": os.urandom(8).hex()}  # fmt: skip
    about = {"inputs_digest": digest_of(inputs), "inputs": inputs, "model": "retail/shelf", "commit": "c" * 40}
    if failed:
        record = RunRecord(
            **about, status="Failed", reason="Diverged", message="the loss is not finite", environment=ENVIRONMENT,
            finished="2026-11-26T07:00:05+00:00",
        )  # fmt: skip
        store.create(run_key(record.inputs_digest), record.encode())
        return Trained(bench, record)
    weights = store.put_blob(b"weights " + os.urandom(8))
    files = {"args.yaml": ARGUMENTS, "results.csv": b"epoch,x\n1,2\n", "results.png": b"a picture"}
    record = RunRecord(
        **about, status="Succeeded", seed=0, environment=ENVIRONMENT, weights=weights, dataset=train,
        started="2026-11-26T07:00:00+00:00", finished="2026-11-26T07:00:10+00:00",
        epochs=[
            Epoch(epoch=1, metrics={"train/loss": 0.7, "metrics/mAP50-95(B)": 0.25}),
            Epoch(epoch=2, metrics={"train/loss": 0.5, "metrics/mAP50-95(B)": 0.5}),
        ],
        metrics={"metrics/mAP50-95(B)": 0.5}, files={name: store.put_blob(data) for name, data in files.items()},
    )  # fmt: skip
    store.create(run_key(record.inputs_digest), record.encode())
    measured = EvaluationRecord(
        subject=weights, golden=golden, n=2, values={"metrics/mAP50-95(B)": 0.45}, per_image=store.put_blob(b"{}"),
        files={"confusion_matrix.png": store.put_blob(b"another picture")},
    )  # fmt: skip
    store.create(evaluation_key(weights, golden), measured.encode())
    return Trained(bench, record)
