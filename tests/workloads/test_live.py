"""A training that shows itself on a tracking server: as it goes, and whatever the server does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from specs.records import Epoch, RunRecord, run_key
from specs.training import MLflow, Tracking
from specs.workorders import TrackOrder, TrainOrder
from tests.support.mlflow_server import Fate, Looking, an_experiment, bad_server, free_port, gateway
from tests.support.orders import bench
from tests.support.trained import ARGUMENTS, trained
from workloads import live
from workloads.live import Live


def order(root: Path, uri: str | None, experiment: str = "x") -> TrainOrder:
    """Order the training whose record ``trained`` made."""
    record = trained(root).record
    tracking = Tracking(mlflow=MLflow(tracking_uri=uri, experiment=experiment)) if uri else Tracking(tensorboard=True)
    return TrainOrder(
        model=record.model, commit=record.commit, inputs_digest=record.inputs_digest, inputs=record.inputs,
        tracking=tracking,
    )  # fmt: skip


class Training:
    """What Ultralytics does, as far as a listener sees it: files, and a trainer with an epoch."""

    def __init__(self, folder: Path, listener: Live) -> None:
        self.folder = folder
        self.epochs: list[Epoch] = []
        self._callbacks = listener.callbacks()
        folder.mkdir(exist_ok=True)
        (folder / "args.yaml").write_bytes(ARGUMENTS)
        self._callbacks["on_pretrain_routine_end"](SimpleNamespace(save_dir=folder))

    def epoch(self, loss: float) -> None:
        """Train for one epoch."""
        self.epochs.append(Epoch(epoch=len(self.epochs) + 1, metrics={"train/loss": loss}))
        self._callbacks["on_fit_epoch_end"](SimpleNamespace(epoch=len(self.epochs) - 1, epochs=2))


def listening(given: TrainOrder) -> tuple[Live, list[Epoch]]:
    """Give a listener, and the list that it takes for Ultralytics' file of curves."""
    epochs: list[Epoch] = []
    return Live(given, lambda path: list(epochs)), epochs


def train(folder: Path, given: TrainOrder, *losses: float, error: BaseException | None = None) -> None:
    """Go through a training."""
    listener, epochs = listening(given)
    with contextlib.suppress(RuntimeError, SystemExit), listener:
        training = Training(folder, listener)
        training.epochs = epochs
        for loss in losses:
            training.epoch(loss)
        if error is not None:
            raise error


@pytest.mark.ml
def test_a_real_training_is_shown_and_then_made_whole(tmp_path: Path, mlflow_server: str) -> None:
    """Two epochs for real: the run is there before there is a record, and the mirror job goes on with it."""
    place, experiment = bench(tmp_path, "classify"), an_experiment()
    tracking = Tracking(mlflow=MLflow(tracking_uri=mlflow_server, experiment=experiment))
    asked = place.train(epochs=2, plots=True).model_copy(update={"tracking": tracking})
    finished = place.run_here(asked)
    assert finished.code == 0, finished.log[-3000:]
    text = place.store.read(run_key(asked.inputs_digest))
    assert text is not None
    record = RunRecord.decode(text)
    looking = Looking(mlflow_server)
    shown = looking.run(experiment)
    assert shown.info.status == "FINISHED"
    expected = {key: [(e.epoch, e.metrics[key]) for e in record.epochs] for key in record.epochs[0].metrics}
    assert {key.replace("(B)", "B"): curve for key, curve in expected.items()} == {
        key: looking.curve(shown, key) for key in shown.data.metrics
    }
    assert [step for step, _ in looking.curve(shown, "metrics/accuracy_top1")] == [1, 2]
    assert shown.data.params["epochs"] == "2"

    assert place.run_here(_mirror(record, mlflow_server, experiment)).code == 0
    whole = looking.run(experiment)
    assert whole.info.run_id == shown.info.run_id
    assert whole.data.params.items() >= shown.data.params.items()
    for key, curve in expected.items():
        assert looking.curve(whole, key.replace("(B)", "B")) == curve
    assert {"pictures/results.png", "model/weights.pt", "results.csv"} <= set(looking.files(whole))
    assert str(tmp_path) not in looking.read(whole, "args.yaml", tmp_path).decode()


def _mirror(record: RunRecord, uri: str, experiment: str) -> TrackOrder:
    return TrackOrder(
        model=record.model, commit=record.commit, inputs_digest=record.inputs_digest, tracking_uri=uri,
        experiment=experiment,
    )  # fmt: skip


@pytest.mark.ml
def test_a_real_training_ends_while_the_server_still_holds_the_line(tmp_path: Path) -> None:
    """A server that never answers delays no training and fails none: the record is there, the connection still open."""
    place = bench(tmp_path, "classify")
    with bad_server(0) as server:
        tracking = Tracking(mlflow=MLflow(tracking_uri=server.url))
        asked = place.train().model_copy(update={"tracking": tracking})
        finished = place.run_here(asked)
        assert finished.code == 0, finished.log[-3000:]
        assert place.store.read(run_key(asked.inputs_digest)) is not None
        assert server.holding > 0
        assert not server.release.is_set()


@pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"<html>"), (200, b'{"experiment": 7}'), (401, b"")])
def test_trouble_is_one_line_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, body: bytes
) -> None:
    """Whatever a server answers is said once; it is not asked at each epoch, and nothing is raised."""
    with bad_server(status, body) as server:
        given = order(tmp_path, server.url)
        listener, epochs = listening(given)
        with listener:
            training = Training(tmp_path / "run", listener)
            training.epochs = epochs
            with server.changed:
                assert server.changed.wait_for(lambda: server.asked, timeout=60)
            for _ in range(50):
                training.epoch(0.5)
            assert len(server.asked) == 1
    assert capsys.readouterr().err.count("MLflow is not told for now") == 1


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens: the training goes on."""
    train(tmp_path / "run", order(tmp_path, f"http://127.0.0.1:{free_port()}"), 0.7, 0.5)
    assert "Traceback" not in capsys.readouterr().err


def test_callbacks_return_while_the_server_holds_the_line(tmp_path: Path) -> None:
    """The thread that trains only leaves notes: it goes through all epochs while the first request is unanswered."""
    with bad_server(0) as server:
        listener, epochs = listening(order(tmp_path, server.url))
        listener.__enter__()
        training = Training(tmp_path / "run", listener)
        training.epochs = epochs
        with server.changed:
            assert server.changed.wait_for(lambda: server.holding, timeout=60)
        for _ in range(1000):
            training.epoch(0.5)
        assert server.holding == 1
        assert len(training.epochs) == 1000


def test_an_order_without_a_server_starts_nothing(tmp_path: Path) -> None:
    """TensorBoard alone needs no thread."""
    before = threading.active_count()
    with Live(order(tmp_path, None), lambda path: []) as listener:
        assert threading.active_count() == before
        assert listener.callbacks().keys() == {"on_pretrain_routine_end", "on_fit_epoch_end"}


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (RuntimeError("diverged"), "FAILED"), (SystemExit(143), "KILLED")],
    ids=["well", "error", "told to stop"],
)
def test_how_a_training_ended_is_shown(
    tmp_path: Path, mlflow_server: str, error: BaseException | None, status: str
) -> None:
    """Curves up to then, and the word that MLflow has for the end."""
    experiment = an_experiment()
    train(tmp_path / "run", order(tmp_path, mlflow_server, experiment), 0.7, 0.5, error=error)
    looking = Looking(mlflow_server)
    found = looking.run(experiment)
    assert found.info.status == status
    assert looking.curve(found, "train/loss") == [(1, 0.7), (2, 0.5)]


def test_another_attempt_is_a_page_of_its_own(tmp_path: Path, mlflow_server: str) -> None:
    """What a killed attempt left is taken away, so that no curve has two values at a step."""
    experiment = an_experiment()
    given = order(tmp_path, mlflow_server, experiment)
    train(tmp_path / "run", given, 0.9, error=SystemExit(143))
    first = Looking(mlflow_server).run(experiment)
    train(tmp_path / "run", given, 0.7, 0.5)
    second = Looking(mlflow_server).run(experiment)
    assert second.info.run_id != first.info.run_id
    assert Looking(mlflow_server).curve(second, "train/loss") == [(1, 0.7), (2, 0.5)]


def _first(path: str, lost: threading.Event) -> Callable[[str, str], Fate]:
    def decide(_verb: str, where: str) -> Fate:
        if not where.endswith(path) or lost.is_set():
            return None
        lost.set()
        return "lose"

    return decide


@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch"])
def test_after_a_lost_answer_it_goes_on_without_a_second_run(
    tmp_path: Path, mlflow_server: str, path: str
) -> None:
    """The pause after trouble ends with the training; the last try finds what was made, and tells each point once."""
    experiment = an_experiment()
    with gateway(mlflow_server) as between:
        lost = threading.Event()
        between.fate = _first(path, lost)
        listener, epochs = listening(order(tmp_path, between.url, experiment))
        with listener:
            training = Training(tmp_path / "run", listener)
            training.epochs = epochs
            training.epoch(0.7)
            assert lost.wait(60)
        listener.join()
    looking = Looking(mlflow_server)
    assert looking.curve(looking.run(experiment), "train/loss") == [(1, 0.7)]


def test_the_goodbye_is_bounded() -> None:
    """A job waits for a tracking server at its end for seconds, whatever hangs."""
    assert live.GOODBYE <= 5.0


