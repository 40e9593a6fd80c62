"""What jobs do when something is wrong: killed, lied to, asked for the impossible."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapters.dataset_folder import add_folder
from specs.digests import digest_bytes
from specs.records import EVENT_FILE, ExportRecord, Progress, RunRecord, blob_key, export_key, progress_key, run_key
from specs.training import Tracking
from specs.workorders import TrainOrder
from tests.support import pictures
from tests.support.orders import Bench, bench

pytestmark = pytest.mark.ml


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Data sets for classify; each test orders a training of its own."""
    return bench(tmp_path_factory.mktemp("bench"), "classify")


@pytest.fixture(scope="module")
def weights(workplace: Bench) -> str:
    """Digest of trained weights."""
    order = workplace.train(seed=1)
    finished = workplace.run(order)
    assert finished.code == 0, finished.log[-3000:]
    return str(record(workplace, order).weights)


def record(workplace: Bench, order: TrainOrder) -> RunRecord:
    """Read the record of a training, which must be there."""
    text = workplace.store.read(run_key(order.inputs_digest))
    assert text is not None
    return RunRecord.decode(text)


def progress(workplace: Bench, order: TrainOrder) -> Progress | None:
    """Read how far a training is."""
    text = workplace.store.read(progress_key(order.job))
    return Progress.decode(text) if text else None


def started_training(workplace: Bench, order: TrainOrder) -> Any:
    """Start a training and wait until it is in its epochs."""
    process = workplace.start(order)
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        seen = progress(workplace, order)
        if seen and seen.epochs:
            return process
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"never began: {process.communicate()[0][-3000:]}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)], ids=["kill", "term"])
def test_an_ended_training_leaves_nothing_and_can_be_done_again(
    workplace: Bench, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """Ended amid training there is no record; the next attempt cleans up, trains once, and says how far it got.

    What TensorBoard shows is of the attempt that ended well, and of no other.
    """
    tracked = Tracking(tensorboard=True)
    order = workplace.train(epochs=60, seed=int(number), tracking=tracked)
    process = started_training(workplace, order)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert workplace.store.read(run_key(order.inputs_digest)) is None
    assert bool(list(workplace.scratch.iterdir())) is (number == signal.SIGKILL)
    order_again = workplace.train(epochs=2, seed=int(number), tracking=tracked)
    left = [path for path in workplace.scratch.iterdir() if path.name.startswith(order.job)]
    for path in left:  # the short training is another job; let it find the leftovers as its own
        path.rename(path.with_name(f"{order_again.job}.left"))
    assert workplace.run(order_again).code == 0
    done = record(workplace, order_again)
    assert [epoch.epoch for epoch in done.epochs] == [1, 2]
    workplace.store.fetch_blob(done.files[EVENT_FILE], tmp_path / EVENT_FILE)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [point.step for point in events.Scalars("lr/pg0")] == [1, 2]
    last = progress(workplace, order_again)
    assert last is not None
    assert (last.epoch, last.epochs, last.phase) == (2, 2, "finishing")
    assert list(workplace.scratch.iterdir()) == []


def test_two_attempts_leave_one_record(workplace: Bench) -> None:
    """Both end well, and the record is that of whoever was first; a third finds it at once."""
    order = workplace.train(seed=5)
    both = [workplace.start(order), workplace.start(order)]
    logs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    first = workplace.store.read(run_key(order.inputs_digest))
    assert "done before" in workplace.run(order).log
    assert workplace.store.read(run_key(order.inputs_digest)) == first
    assert len([key for key in workplace.store.list("runs/") if key == run_key(order.inputs_digest)]) == 1


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"epoch": 3}, "InvalidArguments", "did you mean epochs?"),
        ({"model": {"name": "yolo26n.yaml"}}, "TaskMismatch", "use yolo26n-cls.yaml"),
        ({"model": {"name": "yolo99.yaml"}}, "UnknownModel", "yolo99.yaml"),
        ({"model": {"name": "yolo26x-clz.pt"}}, "UnknownModel", "did you mean yolo26x-cls.pt?"),
    ],
    ids=["argument", "task", "architecture", "weights"],
)
def test_the_impossible_is_recorded(workplace: Bench, changes: dict[str, Any], reason: str, said: str) -> None:
    """Inputs that can never train end with exit code 10 and a record that says why, so that nobody tries again."""
    order = workplace.train(**changes)
    finished = workplace.run_here(order)
    assert finished.code == 10, finished.log[-3000:]
    found = record(workplace, order)
    assert (found.status, found.reason, found.weights) == ("Failed", reason, None)
    assert said in found.message
    assert f"trunkline: {reason}: " in finished.log


def test_a_loss_that_is_no_number_is_no_success(tmp_path: Path) -> None:
    """A loss that overflows in the only epoch: Ultralytics ends such a training as if nothing had happened."""
    detecting = bench(tmp_path, "detect", count=8)
    order = detecting.train(box=1e38)
    assert detecting.run_here(order).code == 10
    assert record(detecting, order).reason == "Diverged"
    assert "lower lr0" in record(detecting, order).message


def test_a_model_with_foreign_code_is_not_loaded(workplace: Bench, tmp_path: Path) -> None:
    """A checkpoint is a program; one that calls anything but known layers is refused before it runs."""
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"model": Evil(), "epoch": -1}, tmp_path / "evil.pt")
    order = workplace.train(model={"digest": workplace.store.put_blob(tmp_path / "evil.pt")})
    assert workplace.run(order).code == 10
    assert record(workplace, order).reason == "UnreadableModel"
    assert not (tmp_path / "executed").exists()


def test_training_starts_from_given_weights(workplace: Bench, weights: str) -> None:
    """Weights from the store are a base like any other."""
    order = workplace.train(model={"digest": weights})
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]
    assert record(workplace, order).base_model is None


def test_a_picture_that_cannot_be_read_is_named(workplace: Bench, tmp_path: Path) -> None:
    """Ultralytics would train without it; here the data set is what its digest says, or the run fails."""
    folder = pictures.folder(tmp_path / "d", "classify", 24)
    whole = (folder / "red" / "005.png").read_bytes()
    (folder / "red" / "005.png").write_bytes(whole[: len(whole) // 2])
    order = workplace.train(data=add_folder(workplace.store, folder, task="classify").digest())
    assert workplace.run_here(order).code == 10
    assert record(workplace, order).reason == "UnreadablePictures"
    assert record(workplace, order).message.startswith("red/005.png: ")


def test_changed_data_stops_a_training_until_it_is_repaired(workplace: Bench, tmp_path: Path) -> None:
    """Bytes that are not those of the digest end the job without a record; the same order then works once repaired."""
    folder = pictures.folder(tmp_path / "d", "classify", 24, seed="changed")
    manifest = add_folder(workplace.store, folder, task="classify")
    path = Path(workplace.url.removeprefix("file://")) / blob_key(manifest.files[0].digest)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good + b"!")
    order = workplace.train(data=manifest.digest())
    finished = workplace.run_here(order)
    assert finished.code == 65
    assert manifest.files[0].digest in finished.log
    assert workplace.store.read(run_key(order.inputs_digest)) is None
    path.write_bytes(good)
    assert workplace.run_here(order).code == 0


def test_golden_with_classes_the_model_does_not_know(workplace: Bench, weights: str, tmp_path: Path) -> None:
    """Ultralytics would leave those pictures out; a metric on the rest would flatter."""
    folder = pictures.folder(tmp_path / "g", "classify", 10)
    (folder / "red").rename(folder / "blue")
    golden = add_folder(workplace.store, folder, task="classify").digest()
    order = workplace.evaluate(weights).model_copy(update={"golden": golden})
    finished = workplace.run_here(order)
    assert finished.code == 10
    assert "ClassMismatch: golden holds classes the model does not know: blue" in finished.log


def test_exporting_again_gives_the_same_bytes(workplace: Bench, weights: str) -> None:
    """After a kill just before the record, the next attempt makes the very same file: nothing is there twice."""
    order = workplace.export(weights)
    assert workplace.run(order).code == 0
    key = export_key(order.weights, order.export_digest)
    (Path(workplace.url.removeprefix("file://")) / key).unlink()
    before = set(workplace.store.list("artifacts/") + workplace.store.list("evaluations/"))
    assert workplace.run_here(order).code == 0
    text = workplace.store.read(key)
    assert text is not None
    assert ExportRecord.decode(text).status == "Succeeded"
    assert set(workplace.store.list("artifacts/") + workplace.store.list("evaluations/")) == before


def test_another_format_and_precision(workplace: Bench, weights: str) -> None:
    """TorchScript goes the way of ONNX, without golden too: then the self-test is a generated picture."""
    order = workplace.export(weights, "torchscript").model_copy(update={"golden": None})
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]
    text = workplace.store.read(export_key(order.weights, order.export_digest))
    assert text is not None
    assert ExportRecord.decode(text).metrics["latency/p95_ms"] > 0


@pytest.mark.parametrize(
    ("format_", "args", "reason", "said"),
    [
        ("onnx", {"workspace": 4}, "InvalidArguments", "workspace"),
        ("paddle", {}, "FormatUnavailable", "needs paddle"),
    ],
    ids=["argument", "format"],
)
def test_an_impossible_export_is_recorded(
    workplace: Bench, format_: str, args: dict[str, Any], reason: str, said: str
) -> None:
    """The record says what to change or to install; weights are not even fetched."""
    order = workplace.export(digest_bytes(b"any weights"), format_, **args)
    assert workplace.run_here(order).code == 10
    text = workplace.store.read(export_key(order.weights, order.export_digest))
    assert text is not None
    found = ExportRecord.decode(text)
    assert (found.status, found.reason) == ("Failed", reason)
    assert said in found.message
