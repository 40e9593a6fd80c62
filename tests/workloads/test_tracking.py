"""The mirror of a run on a real MLflow server: whole, once, whatever happens on the way."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.mlflow_api import MlflowApi, Point
from adapters.tracking_access import Access
from tests.support.mlflow_server import Fate, Looking, an_experiment, bad_server, free_port, gateway, is_effect
from tests.support.trained import Trained, trained

WHOLE = ["args.yaml", "environment.json", "golden/confusion_matrix.png", "model/MLmodel", "model/weights.pt",
         "pictures/results.png", "requirements.txt", "results.csv"]  # fmt: skip


def check_whole(server: str, experiment: str, run: Trained) -> None:
    """A mirror is whole where there is one run that says all the record says, each point once."""
    looking = Looking(server)
    found = looking.everything(experiment)
    assert found["status"] == "FINISHED"
    assert found["params"].items() >= {"epochs": "2", "lr0": "0.01", "classes": "0, 1", "optimizer": "auto"}.items()
    assert found["params"]["model"] == "yolo26n-cls.yaml"
    assert found["params"]["data"] == run.record.inputs["data"]
    assert not {"save_dir", "mode"} & found["params"].keys()
    assert found["curves"] == {
        "best/metrics/mAP50-95B": [(2, 0.5)], "golden/metrics/mAP50-95B": [(2, 0.45)],
        "metrics/mAP50-95B": [(1, 0.25), (2, 0.5)], "train/loss": [(1, 0.7), (2, 0.5)],
    }  # fmt: skip
    assert found["inputs"] == [
        ("retail/shelf:golden", run.bench.golden[7:19], "evaluation"),
        ("retail/shelf:train", run.bench.data[7:19], "training"),
    ]
    assert found["files"] == WHOLE
    tags = found["tags"]
    assert tags["trunkline.inputsDigest"] == run.record.inputs_digest
    assert tags["trunkline.weights"] == run.record.weights
    assert (tags["mlflow.source.git.commit"], tags["environment.torch"]) == (run.record.commit, "2.9.0")


def test_a_mirror_has_everything_and_says_where_it_is(tmp_path: Path, mlflow_server: str) -> None:
    """MLflow's own client reads back params, curves, data sets, files, model and environment as recorded."""
    run, experiment = trained(tmp_path), an_experiment()
    order = run.order(mlflow_server, experiment)
    finished = run.bench.run_here(order)
    assert finished.code == 0, finished.log
    check_whole(mlflow_server, experiment, run)
    looking = Looking(mlflow_server)
    found = looking.run(experiment)
    assert looking.read(found, "model/weights.pt", tmp_path) == run.bench.store.read_blob(run.record.weights or "")
    assert b"ultralytics" in looking.read(found, "model/MLmodel", tmp_path)
    assert looking.read(found, "requirements.txt", tmp_path) == b"torch==2.9.0\nultralytics==8.4.190\n"
    inputs = {each.dataset.name: each.dataset for each in found.inputs.dataset_inputs}
    data = inputs["retail/shelf:train"]
    assert "s3://shelves/2026" in data.source
    assert '"images": 4' in data.profile
    assert '"green"' in data.schema
    record = run.tracked(order)
    assert record is not None
    assert record.run_id == found.info.run_id
    assert record.url == f"{mlflow_server}/#/experiments/{found.info.experiment_id}/runs/{record.run_id}"


def test_a_run_that_failed_is_shown_as_failed(tmp_path: Path, mlflow_server: str) -> None:
    """What can never work has a page too, with the reason on it."""
    run, experiment = trained(tmp_path, failed=True), an_experiment()
    assert run.bench.run_here(run.order(mlflow_server, experiment)).code == 0
    found = Looking(mlflow_server).run(experiment)
    assert found.info.status == "FAILED"
    assert "Diverged" in found.data.tags["mlflow.note.content"]


EFFECTS = ["experiments/create", "runs/create", "runs/log-batch", "runs/log-batch#2", "runs/log-inputs",
           "model/weights.pt", "runs/log-batch#3", "runs/update"]  # fmt: skip


def at(effect: str, fate: Fate) -> Callable[[str, str], Fate]:
    """Let one effect, named by the end of its path and which of them it is, meet its fate; once, or all retries of it.

    MLflow's own client tries a file a second time.
    """
    path, _, number = effect.partition("#")
    seen: list[str] = []

    def decide(verb: str, where: str) -> Fate:
        if not is_effect(verb, where) or not where.endswith(path):
            return None
        seen.append(where)
        hit = len(seen) == int(number or 1) or verb == "PUT"
        return fate if hit else None

    return decide


@pytest.mark.parametrize(
    ("effect", "fate"), [(EFFECTS[0], "refuse"), ("model/weights.pt", "refuse"), *((each, "lose") for each in EFFECTS)]
)
def test_cut_off_at_an_effect_and_done_again_it_is_one_whole_run(
    tmp_path: Path, mlflow_server: str, effect: str, fate: Fate
) -> None:
    """Ended after any effect, its answer lost, the job says "later"; done again it leaves one run, whole.

    Ended before an effect is ended after the one before it.
    """
    run, experiment = trained(tmp_path), an_experiment()
    with gateway(mlflow_server) as between:
        order = run.order(between.url, experiment)
        between.fate = at(effect, fate)
        finished = run.bench.run_here(order)
        assert finished.code == 75, finished.log
        assert run.tracked(order) is None
        between.fate = lambda verb, path: None
        assert run.bench.run_here(order).code == 0
        assert run.tracked(order) is not None
    check_whole(mlflow_server, experiment, run)


def test_all_effects_are_cut_off_above(tmp_path: Path, mlflow_server: str) -> None:
    """The list of effects is what a job does; files are brought by MLflow's client, one request each."""
    run = trained(tmp_path)
    with gateway(mlflow_server) as between:
        assert run.bench.run_here(run.order(between.url, an_experiment())).code == 0
        told = [path.partition("/mlflow/")[2] for verb, path in between.effects if verb != "PUT"]
    assert told == [effect.partition("#")[0] for effect in EFFECTS if effect != "model/weights.pt"]


def test_killed_while_a_run_is_made_it_is_found_again(tmp_path: Path, mlflow_server: str) -> None:
    """A job killed for good, its run created and the answer never read, leaves no second run behind."""
    run, experiment = trained(tmp_path), an_experiment()
    with gateway(mlflow_server) as between:
        order = run.order(between.url, experiment)
        between.fate = lambda verb, path: "hold" if path.endswith("runs/create") else None
        process = run.bench.start(order)
        assert between.held.wait(60)
        process.kill()
        process.communicate()
        between.fate = lambda verb, path: None
        assert run.bench.run_here(order).code == 0
    check_whole(mlflow_server, experiment, run)


def test_two_at_once_make_one_run(tmp_path: Path, mlflow_server: str) -> None:
    """Two jobs that both saw nothing agree on one run; whoever finds his gone comes back."""
    run, experiment = trained(tmp_path), an_experiment()
    order = run.order(mlflow_server, experiment)
    both: list[subprocess.Popen[str]] = [run.bench.start(order) for _ in range(2)]
    codes = [(process.communicate(), process.returncode)[1] for process in both]
    assert set(codes) <= {0, 65, 75}
    if run.tracked(order) is None:
        assert run.bench.run_here(order).code == 0
    check_whole(mlflow_server, experiment, run)


def test_curves_of_an_attempt_that_came_to_nothing_are_not_mixed_in(tmp_path: Path, mlflow_server: str) -> None:
    """A run with other values than the record's is taken away, and the record's own is made."""
    run, experiment = trained(tmp_path), an_experiment()
    api = MlflowApi(mlflow_server, Access())
    number = api.experiment(experiment)
    old = api.create(number, run.record.inputs_digest, "killed", 1)
    api.log(old, metrics=[Point("train/loss", 0.9, 1, 1)])
    assert run.bench.run_here(run.order(mlflow_server, experiment)).code == 0
    check_whole(mlflow_server, experiment, run)
    assert Looking(mlflow_server).run(experiment).info.run_id != old.id


def test_what_was_shown_live_is_gone_on_with(tmp_path: Path, mlflow_server: str) -> None:
    """The run that a training showed itself in is the one that is made whole: its own times stay, nothing is twice."""
    run, experiment = trained(tmp_path), an_experiment()
    api = MlflowApi(mlflow_server, Access())
    live = api.create(api.experiment(experiment), run.record.inputs_digest, "live", 1)
    api.log(live, metrics=[Point("train/loss", 0.7, 1, 77)], params={"epochs": "2"})
    assert run.bench.run_here(run.order(mlflow_server, experiment)).code == 0
    check_whole(mlflow_server, experiment, run)
    looking = Looking(mlflow_server)
    found = looking.run(experiment)
    assert found.info.run_id == live.id
    assert 77 in {each.timestamp for each in looking.client.get_metric_history(live.id, "train/loss")}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_cannot_now_is_tried_later(tmp_path: Path, status: int) -> None:
    """Nothing is recorded, and the exit code asks for another attempt."""
    run = trained(tmp_path)
    with bad_server(status) as server:
        order = run.order(server.url, "x")
        finished = run.bench.run_here(order)
    assert finished.code == 75
    assert f"answered {status}" in finished.log
    assert run.tracked(order) is None


def test_a_server_that_is_not_there_is_tried_later(tmp_path: Path) -> None:
    """Nobody listens: another attempt."""
    run = trained(tmp_path)
    assert run.bench.run_here(run.order(f"http://127.0.0.1:{free_port()}", "x")).code == 75


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(401, b"{}", "TrackingUnauthorized"), (302, b"", "TrackingMoved"), (400, b'{"message": "so not"}', "so not")],
)
def test_what_a_person_must_mend_is_said(tmp_path: Path, status: int, body: bytes, said: str) -> None:
    """No way in, another address, a request that is refused: with the words that help, and no redirect followed."""
    run = trained(tmp_path)
    with bad_server(status, body) as server:
        finished = run.bench.run_here(run.order(server.url, "x"))
    assert finished.code == 65
    assert said in finished.log


def test_an_answer_that_is_no_mlflow_is_tried_later(tmp_path: Path) -> None:
    """A proxy's page of HTML is taken for trouble, not for an answer."""
    run = trained(tmp_path)
    with bad_server(200, b"<html>") as server:
        assert run.bench.run_here(run.order(server.url, "x")).code == 75
