"""Trainings that are killed and go on: checkpoints in the store, what resumes from them, and what does not."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.store import Store
from specs.checkpoint_records import ROOT as FOLDER
from specs.checkpoint_records import Checkpoint, checkpoint_file_key, checkpoint_key
from specs.digests import digest_bytes, hex_of
from specs.errors import Stalled, Transient
from specs.records import RunRecord, run_key
from specs.workorders import TrainOrder
from tests.support.orders import ROOT, Bench, bench
from workloads import checkpoints, progress
from workloads.checkpoints import Past
from workloads.keeper import INTERVAL, Keeper

INPUTS = digest_bytes(b"inputs")
OTHER = digest_bytes(b"others")


def killed_after(count: int, workplace: Bench, order: TrainOrder) -> None:
    """Train until so many checkpoints are in the store; the process is killed then."""
    environment = {
        **os.environ, "TRUNKLINE_WORK_ORDER": order.encode().decode(), "PYTHONPATH": str(ROOT), INTERVAL: "0",
        "TRUNKLINE_SCRATCH": str(workplace.scratch),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.support.killed_training", workplace.url, str(count)]
    done = subprocess.run(command, env=environment, cwd=workplace.scratch, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout[-2000:] + done.stderr[-2000:]


def newest(store: Store, inputs_digest: str) -> Checkpoint:
    """Give the checkpoint that another attempt would go on from."""
    text = store.read(checkpoint_key(inputs_digest))
    assert text is not None
    return Checkpoint.decode(text)


def run_of(workplace: Bench, order: TrainOrder) -> RunRecord:
    """Do the order; give its record."""
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]
    text = workplace.store.read(run_key(order.inputs_digest))
    assert text is not None
    return RunRecord.decode(text)


class Training:
    """What Ultralytics writes, as far as a listener sees it."""

    def __init__(self, folder: Path, epochs: int = 9) -> None:
        self.trainer = SimpleNamespace(
            epochs=epochs, stop=False, last=folder / "last.pt", best=folder / "best.pt", csv=folder / "results.csv"
        )
        folder.mkdir(parents=True, exist_ok=True)

    def epoch(self, keeper: Keeper, done: int) -> None:
        """End an epoch, the best one so far where its number is odd."""
        self.write(done)
        keeper.callbacks()["on_model_save"](self.trainer)

    def write(self, done: int) -> None:
        """Write the files of an epoch."""
        self.trainer.epoch = done - 1
        self.trainer.last.write_text(f"state after {done}")
        if done % 2:
            self.trainer.best.write_text(f"state after {done}")
        self.trainer.csv.write_text("epoch,time\n" + "".join(f"{n},{n}.5\n" for n in range(1, done + 1)))


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


class Counting(Store):
    """A store that says how often a checkpoint was begun, and lets a test wait until it was written."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.written: queue.SimpleQueue[int] = queue.SimpleQueue()

    def replace(self, key: str, data: bytes) -> None:
        """Write over what is there."""
        super().replace(key, data)
        self.written.put(Checkpoint.decode(data).epoch)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    """An empty store."""
    return Counting(str(tmp_path / "store"))


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """A training of nine epochs."""
    return Training(tmp_path / "runs")


def keeping(store: Store, tmp_path: Path, clock: Callable[[], float] | None = None, past: Past | None = None) -> Keeper:
    """Give a keeper with a folder of its own."""
    past = past or Past(started="2026-11-26T10:00:00+00:00")
    return Keeper(store, INPUTS, tmp_path / "aside", past, clock or Clock())


def held(store: Store, inputs_digest: str = INPUTS) -> dict[str, str]:
    """Give what the newest checkpoint's files say; each must be there."""
    keys = {name: checkpoint_file_key(inputs_digest, file) for name, file in newest(store, inputs_digest).files.items()}
    return {name: (store.read(key) or b"absent").decode() for name, key in keys.items()}


def evicted(keeper: Keeper, training: Training, *epochs: int, half: int = 0) -> None:
    """Go through epochs, and be ended from outside; while it writes ``half``, where that is given."""
    with contextlib.suppress(SystemExit), keeper:
        for done in epochs:
            training.epoch(keeper, done)
        if half:
            training.write(half)
        raise SystemExit(143)


def test_a_checkpoint_is_whole(
    store: Counting, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, best weights and curves of one epoch; the one before goes, and what both have stays."""
    monkeypatch.setenv(INTERVAL, "0")
    with keeping(store, tmp_path) as keeper:
        for done in (1, 2):
            training.epoch(keeper, done)
            assert store.written.get(timeout=30) == done
            keeper.rest()
    assert held(store) == {"last.pt": "state after 2", "best.pt": "state after 1",
                           "results.csv": "epoch,time\n1,1.5\n2,2.5\n"}  # fmt: skip
    assert len(store.list(FOLDER)) == 4
    record = newest(store, INPUTS)
    assert (record.epoch, record.epochs, record.resumed_from) == (2, 9, [])


def test_checkpoints_are_as_seldom_as_asked(store: Counting, training: Training, tmp_path: Path) -> None:
    """Without a word a minute lies between two, and before the first."""
    clock = Clock()
    with keeping(store, tmp_path, clock) as keeper:
        for done, when in enumerate((130, 159, 161, 200, 219, 222), 1):
            clock.now = when
            training.epoch(keeper, done)
            keeper.rest()
    assert [store.written.get_nowait() for _ in range(2)] == [3, 6]
    assert store.written.empty()


@pytest.mark.parametrize(("done", "stop"), [(9, False), (4, True)], ids=["last epoch", "stopped early"])
def test_the_end_needs_no_checkpoint(
    store: Counting, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int, *, stop: bool
) -> None:
    """After the last epoch there is nothing to go on with: Ultralytics would refuse to."""
    monkeypatch.setenv(INTERVAL, "0")
    training.trainer.stop = stop
    evicted(keeping(store, tmp_path), training, done)
    assert store.list(FOLDER) == []


def test_what_is_ended_from_outside_leaves_its_last_epoch(store: Counting, training: Training, tmp_path: Path) -> None:
    """Evicted long before a checkpoint is due, a training loses what it did since its last epoch, and no more."""
    evicted(keeping(store, tmp_path), training, 1, 2)
    assert held(store)["last.pt"] == "state after 2"


def test_half_written_files_are_no_checkpoint(store: Counting, training: Training, tmp_path: Path) -> None:
    """Ended while it wrote the next epoch, a training leaves nothing that does not belong together."""
    evicted(keeping(store, tmp_path), training, 1, half=2)
    assert store.list(FOLDER) == []


def test_a_training_that_ends_well_leaves_none(store: Counting, training: Training, tmp_path: Path) -> None:
    """Its record comes next."""
    with keeping(store, tmp_path) as keeper:
        training.epoch(keeper, 1)
    assert store.list(FOLDER) == []


def test_none_are_written_where_nobody_wants_them(
    store: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable may say off; a word that is no number is refused before anything is spent."""
    monkeypatch.setenv(INTERVAL, "off")
    with keeping(store, tmp_path) as keeper:
        assert keeper.callbacks() == {}
    monkeypatch.setenv(INTERVAL, "often")
    with pytest.raises(Stalled, match="no number of seconds"):
        keeping(store, tmp_path)


class Failing(Store):
    """A store whose COUNTth change of a checkpoint comes to nothing, and none after it."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(url)
        self._left = count

    def _change(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Transient("StoreUnavailable", "the store is away")

    def keep(self, key: str, data: Path | bytes) -> bool:
        """Write once."""
        self._change()
        return super().keep(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Write over what is there."""
        self._change()
        super().replace(key, data)

    def forget(self, key: str) -> None:
        """Remove."""
        self._change()
        super().forget(key)


@pytest.mark.parametrize("count", range(10))
def test_cut_off_anywhere_a_whole_checkpoint_is_there(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """Whichever of its writes is the last one, the older checkpoint is whole, or the newer one; training goes on."""
    monkeypatch.setenv(INTERVAL, "0")
    failing = Failing(str(tmp_path / "store"), count)
    with keeping(failing, tmp_path) as keeper:
        for done in (1, 2):
            training.epoch(keeper, done)
            keeper.rest()
    if count < 4:
        assert failing.read(checkpoint_key(INPUTS)) is None
    else:
        assert held(failing)["last.pt"] == f"state after {1 if count < 8 else 2}"
        assert held(failing)["best.pt"] == "state after 1"
    assert ("the store is away" in capsys.readouterr().err) is (count < 9)


def test_two_attempts_at_once_leave_a_whole_checkpoint(
    store: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was thought dead writes on: whoever wrote last, all that the record names is there."""
    monkeypatch.setenv(INTERVAL, "0")
    one, other = Training(tmp_path / "one"), Training(tmp_path / "other")
    with keeping(store, tmp_path / "1") as first, keeping(store, tmp_path / "2") as second:
        for done in range(1, 6):
            for training, keeper, number in ((one, first, done), (other, second, done + 2)):
                training.epoch(keeper, number)
                keeper.rest()
                assert held(store)["last.pt"] == f"state after {number}"
                assert "absent" not in held(store).values()


def recorded(store: Store, inputs_digest: str) -> None:
    """Leave the record of a run."""
    record = RunRecord(inputs_digest=inputs_digest, inputs={}, status="Succeeded", model="a/b", commit="c")
    store.create(run_key(inputs_digest), record.encode())


def left(store: Store, inputs_digest: str, when: str = "") -> None:
    """Leave a checkpoint, as one that was killed would have, and a file that belongs to none."""
    files = {}
    for name in ("last.pt", "best.pt", "results.csv"):
        files[name] = digest_bytes(name.encode())
        store.keep(checkpoint_file_key(inputs_digest, files[name]), name.encode())
    store.keep(checkpoint_file_key(inputs_digest, OTHER), b"half a checkpoint")
    record = Checkpoint(inputs_digest=inputs_digest, epoch=3, epochs=9, files=files,
                        trainer=metadata.version("ultralytics"), when=when or progress.now())  # fmt: skip
    store.replace(checkpoint_key(inputs_digest), record.encode())


def test_what_nobody_needs_is_swept(store: Counting) -> None:
    """Of runs that are recorded and of trainings given up long ago all goes; of this one what no record names."""
    done, old, young = (digest_bytes(name) for name in (b"done", b"old", b"young"))
    for digest in (done, young, INPUTS):
        left(store, digest)
    left(store, old, "2026-01-01T00:00:00+00:00")
    recorded(store, done)
    checkpoints.sweep(store, INPUTS)
    folders = Counter(key.split("/")[1] for key in store.list(FOLDER))
    assert folders == {hex_of(young): 5, hex_of(INPUTS): 4}
    assert store.read(checkpoint_file_key(INPUTS, OTHER)) is None


def test_forgetting_takes_all(store: Counting) -> None:
    """Nothing is left of a training's checkpoints; another's stay, and twice is no trouble."""
    for digest in (INPUTS, OTHER):
        left(store, digest)
    for _ in range(2):
        checkpoints.forget(store, INPUTS)
    assert {key.split("/")[1] for key in store.list(FOLDER)} == {hex_of(OTHER)}


def test_without_a_checkpoint_training_begins(store: Counting, tmp_path: Path) -> None:
    """There is nothing to say about it."""
    assert checkpoints.find(store, INPUTS, "m", tmp_path) is None


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no record at all": (lambda _: [], "ValidationError"),
    "another training's": (lambda r: r | {"inputs_digest": OTHER}, "another training"),
    "another trainer's": (lambda r: r | {"trainer": "7.0"}, "Ultralytics 7.0 wrote it"),
    "finished": (lambda r: r | {"epoch": 9}, "epoch 9 of 9"),
    "without best": (lambda r: r | {"files": {"last.pt": r["files"]["last.pt"]}}, "KeyError"),
    "a file is gone": (lambda r: r | {"files": r["files"] | {"best.pt": INPUTS}}, "is not in the store"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_checkpoint_that_cannot_be_used_is_passed_over(
    store: Counting, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    """Training begins anew, and one line says why."""
    left(store, INPUTS)
    change, words = SPOILT[spoil]
    spoilt = change(json.loads(store.read(checkpoint_key(INPUTS)) or b""))
    Store(store.url).replace(checkpoint_key(INPUTS), json.dumps(spoilt).encode())
    assert checkpoints.find(store, INPUTS, "m", tmp_path / "resumed") is None
    assert words in capsys.readouterr().err


@pytest.mark.ml
@pytest.mark.parametrize("damaged", [True, False], ids=["other bytes", "no pickle"])
def test_bytes_that_are_no_state_are_passed_over(
    store: Counting, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, damaged: bool
) -> None:
    """A file is checked against its digest, then read as Ultralytics reads what it does not trust."""
    left(store, INPUTS)
    if damaged:
        path = tmp_path / "store" / checkpoint_file_key(INPUTS, digest_bytes(b"last.pt"))
        path.chmod(0o644)
        path.write_bytes(b"!")
    assert checkpoints.find(store, INPUTS, "m", tmp_path / "resumed") is None
    assert ("is damaged" if damaged else "cannot read it") in capsys.readouterr().err


def test_a_store_that_does_not_answer_is_no_answer(tmp_path: Path) -> None:
    """Nobody knows then whether there is one: the attempt ends, and the next one asks again."""

    class Away(Store):
        """Answers nothing."""

        def read(self, key: str) -> bytes | None:
            raise Transient("StoreUnavailable", key)

    with pytest.raises(Transient):
        checkpoints.find(Away(str(tmp_path)), INPUTS, "m", tmp_path / "resumed")


@pytest.mark.ml
def test_a_killed_training_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, it ends with the curves of all epochs, the best weights of all, and says where it was resumed.

    Nothing tells of the machine or of the folders in between, and no checkpoint is left.
    """
    workplace = bench(tmp_path, "classify", count=8)
    order = workplace.train(epochs=9, batch=4, patience=100)
    killed_after(2, workplace, order)
    first = newest(workplace.store, order.inputs_digest)
    assert (first.resumed_from, first.epochs) == ([], 9)
    monkeypatch.setenv(INTERVAL, "0")
    record = run_of(workplace, order)
    assert record.resumed_from == [first.epoch]
    assert [epoch.epoch for epoch in record.epochs] == list(range(1, 10))
    assert (record.started, record.seed) == (first.started, 0)
    assert record.seconds > first.seconds > 0
    assert workplace.store.list(FOLDER) == []
    arguments = workplace.store.read_blob(record.files["args.yaml"]).decode()
    assert "resume: false" in arguments
    assert str(workplace.scratch) not in arguments
    assert "model: yolo26n-cls.yaml" in arguments
    assert record.weights is not None
    weights = workplace.store.read_blob(record.weights)
    assert str(tmp_path).encode() not in weights
    best = max(record.epochs, key=lambda epoch: epoch.metrics["metrics/accuracy_top1"])
    assert record.metrics["metrics/accuracy_top1"] == best.metrics["metrics/accuracy_top1"]
