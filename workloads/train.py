"""Trains once: a work order in, weights and a RunRecord out. The work itself is Ultralytics'."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.digests import digest_of
from specs.errors import Stalled, TrunklineError
from specs.records import DatasetManifest, Epoch, RunRecord, run_key
from specs.workorders import TrainOrder
from workloads import board, checkpoints, dataset, distributed, models, pictures, spread
from workloads.arguments import check_training
from workloads.checkpoints import Past, Resumed
from workloads.environment import cache, describe, packages, uncollected
from workloads.errors import Hopeless
from workloads.keeper import Keeper
from workloads.live import Live
from workloads.progress import Reporter, now
from workloads.signing import Signing
from workloads.watch import Listener, Watch, refuse_missing
from workloads.weights import settle

_DIVERGED = ("nan persisted", "loss nan/inf", "fitness nan/inf", "corrupted with nan")


def run(order: TrainOrder, store: Store, scratch: Path) -> None:
    """Train and write the RunRecord, after everything it names; or be one of several processes that do.

    Hopeless where these inputs can never train; Stalled where the store's material is not what the order names.
    """
    if digest_of(order.inputs) != order.inputs_digest:
        raise Stalled("WrongDigest", "the inputs do not have the digest that the order names; order the job again")
    signing = Signing.here()
    args, task = {"seed": 0, **order.inputs["args"]}, order.inputs["task"]
    manifest = dataset.load_manifest(store, order.manifest, task)
    check_training(args)
    _check_runtime(order.inputs.get("runtime"))
    team = distributed.team(args, os.environ)
    if distributed.is_member(os.environ):
        distributed.check(args, int(os.environ["WORLD_SIZE"]))
    if team is not None:
        distributed.check(args, team.size)
        shared = cache() or scratch / "shared"
        with Reporter(store, order.job) as reporter:
            dataset.for_training(store, manifest, scratch / "data", shared, _fetching(reporter, first=team.node == 0))
        distributed.launch(team, store.url, order, scratch, shared)
    elif distributed.leads(os.environ):
        _lead(order, store, scratch, args, manifest, signing)
    else:
        data = dataset.for_training(store, manifest, scratch / "data", cache())
        model, _ = models.base_model(store, order.inputs["model"], task, scratch)
        resumed = checkpoints.find(store, order.inputs_digest, model.overrides["model"], scratch / "resumed")
        fit(model, args, data, scratch, (), resumed)


def _lead(
    order: TrainOrder, store: Store, scratch: Path, args: dict[str, Any], manifest: DatasetManifest, signing: Signing
) -> None:  # fmt: skip
    """Train, tell how it goes, and record it."""
    started, clock = now(), time.monotonic()
    with Reporter(store, order.job) as reporter, Live(order, _epochs) as live, uncollected() as loaded:
        reporter.report("fetching data")
        data = dataset.for_training(store, manifest, scratch / "data", cache(), _fetching(reporter))
        reporter.report("preparing")
        model, base = models.base_model(store, order.inputs["model"], order.inputs["task"], scratch)
        model.add_callback("on_train_start", lambda _trainer: loaded())
        with suppress(TrunklineError):  # what is left lying may lie until the next time
            checkpoints.sweep(store, order.inputs_digest)
        resumed = checkpoints.find(store, order.inputs_digest, model.overrides["model"], scratch / "resumed")
        past = resumed.past if resumed else Past(started=started)
        with Keeper(store, order.inputs_digest, scratch / "checkpoint", past) as keeper:
            trainer = fit(model, args, data, scratch, (Watch(reporter), live, keeper), resumed)
    weights = _store_weights(store, trainer)
    signing.weights(store, weights, order.inputs_digest)
    curves = _curves(trainer.csv)
    record = RunRecord(
        inputs_digest=order.inputs_digest, inputs=order.inputs, status="Succeeded", model=order.model,
        commit=order.commit, seed=trainer.args.seed, environment=describe(), started=past.started,
        dataset=order.manifest, finished=now(), seconds=round(past.seconds + time.monotonic() - clock, 3),
        resumed_from=past.resumed_from, processes=max(int(trainer.world_size), 1),
        epochs=[epoch for epoch, _ in curves], metrics=finite(trainer.metrics), base_model=base, weights=weights,
        files=_store_files(store, Path(trainer.save_dir), scratch) | _store_events(order, store, trainer, curves),
    )  # fmt: skip
    _conclude(order, store, record)


def _fetching(reporter: Reporter, *, first: bool = True) -> dataset.Told:
    """Tell how far the data is; of several nodes only the first does."""

    def tell(done: int, total: int) -> None:
        if first:
            reporter.report("fetching data", done=done, total=total)

    return tell


def _conclude(order: TrainOrder, store: Store, record: RunRecord) -> None:
    """Write the record; with it, nobody needs the checkpoints any more."""
    store.create(run_key(order.inputs_digest), record.encode())
    with suppress(TrunklineError):
        checkpoints.forget(store, order.inputs_digest)


def record_failure(order: TrainOrder, store: Store, failure: Hopeless) -> None:
    """Write that these inputs can never train, and why."""
    record = RunRecord(
        inputs_digest=order.inputs_digest, inputs=order.inputs, status="Failed", reason=failure.reason,
        message=failure.message, model=order.model, commit=order.commit, environment=describe(), finished=now(),
    )  # fmt: skip
    _conclude(order, store, record)


def finite(metrics: dict[str, Any] | None) -> dict[str, float]:
    """Give the metrics that are numbers; a record has no place for NaN."""
    values = {name: float(value) for name, value in (metrics or {}).items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _check_runtime(wanted: str | None) -> None:
    """Another version would give other weights under the same digest. An image name cannot be checked from inside."""
    name, _, version = (wanted or "").partition("==")
    found = packages().get(name, "not installed") if version else version
    if found != version:
        raise Stalled("RuntimeMismatch", f"training.runtime pins {wanted}, but here {name} is {found}")


def fit(
    model: Any, args: dict[str, Any], data: dataset.Materialised, scratch: Path, listeners: Sequence[Listener],
    resumed: Resumed | None = None,
) -> Any:  # fmt: skip
    """Run Ultralytics; give its trainer. The data's path is relative, so that the weights do not depend on it."""
    import torch

    member = distributed.is_member(os.environ)
    if member:
        args = {**args, "device": distributed.device_of(args, os.environ, torch.cuda.device_count())}
    elif "device" not in args and not torch.cuda.is_available():
        args = {**args, "device": "cpu"}
    trainer = {"trainer": spread.spread(model)} if member else {}
    if resumed is not None:
        args = {**args, **resumed.restore(scratch / "runs" / "train")}
        listeners = (*listeners, resumed)
    for listener in listeners:
        for event, callback in listener.callbacks().items():
            model.add_callback(event, callback)
    if args.get("fraction", 1.0) == 1.0:
        model.add_callback("on_pretrain_routine_end", lambda trainer: _check_complete(trainer, data))
    try:
        model.train(**args, **trainer, data=data.argument, project=str(scratch / "runs"), name="train", exist_ok=True)
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _DIVERGED):
            raise _diverged(str(error)) from error
        raise
    spread.leave()
    if distributed.leads(os.environ):
        _check_weights(model, torch)
    return model.trainer


def _check_complete(trainer: Any, data: dataset.Materialised) -> None:
    """Ultralytics leaves out what it cannot read; here a data set is what its digest says, or nothing."""
    for loader, expected in ((trainer.train_loader, data.train), (trainer.test_loader, data.val)):
        refuse_missing(loader.dataset, expected)


def _check_weights(model: Any, torch: Any) -> None:
    """Ultralytics goes back an epoch where a loss is no number, except in the first, whose ruin it keeps."""
    loss = model.trainer.loss
    if loss is not None and not torch.isfinite(loss).all():
        raise _diverged("the loss is not a finite number")
    state = model.model.state_dict().values()
    if not all(torch.isfinite(tensor).all() for tensor in state if tensor.is_floating_point()):
        raise _diverged("the weights are not finite numbers")


def _diverged(what: str) -> Hopeless:
    return Hopeless("Diverged", f"training diverged: {what}; try a lower lr0, or amp: false")


def _curves(path: Path) -> list[tuple[Epoch, float]]:
    """Read the curves, and the seconds to the end of each epoch, from the file Ultralytics keeps.

    It also is there after training on several devices.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [{name.strip(): value for name, value in row.items()} for row in csv.DictReader(lines)]
    found = []
    for row in rows:
        epoch = int(float(row.pop("epoch")))
        seconds = float(row.pop("time", "") or 0)
        found.append((Epoch(epoch=epoch, metrics=finite({k: v for k, v in row.items() if v})), seconds))
    return found


def _epochs(path: Path) -> list[Epoch]:
    return [epoch for epoch, _ in _curves(path)]


def _store_weights(store: Store, trainer: Any) -> str:
    path = trainer.best if trainer.best.exists() else trainer.last
    settle(path)
    return store.put_blob(path)


def _store_files(store: Store, folder: Path, scratch: Path) -> dict[str, str]:
    """Store curves, arguments and pictures; the arguments without this machine's paths."""
    files = pictures.keep_pictures(store, folder)
    for name in ("results.csv", "args.yaml"):
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8").replace(f"{scratch}/", "")
            files[name] = store.put_blob(text.encode())
    return files


def _store_events(order: TrainOrder, store: Store, trainer: Any, curves: list[tuple[Epoch, float]]) -> dict[str, str]:
    """Store what TensorBoard shows, where the order asks for it."""
    if order.tracking is None or not order.tracking.tensorboard:
        return {}
    started = getattr(trainer, "train_time_start", time.time())  # on several devices others know
    made = board.event_file(curves, Path(trainer.save_dir), trainer.model, started)
    return {} if made is None else {board.EVENT_FILE: store.put_blob(made)}
