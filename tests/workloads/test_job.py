from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapters.store import Store
from specs.digests import digest_bytes, digest_of
from specs.records import EvaluationRecord, RunRecord, evaluation_key, run_key
from specs.workorders import CompareOrder, TrainOrder
from tests.support.orders import WHO, Finished

DATA = digest_bytes(b"no such data set")


def train_order(**changes: object) -> TrainOrder:
    """Order a training that needs a data set nobody added."""
    inputs = {
        "v": 1, "task": "classify", "data": DATA, "model": {"name": "yolo26n-cls.yaml"}, "args": {}, "nonce": "",
    }  # fmt: skip
    return TrainOrder(**{**WHO, "inputs_digest": digest_of(inputs), "inputs": inputs, **changes})


def workloads(*arguments: str, cwd: Path, **environment: str) -> Finished:
    """Run ``python -m workloads``."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "workloads", *arguments], cwd=cwd, check=False, text=True, timeout=60,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "TRUNKLINE_SCRATCH": str(cwd / "scratch"), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(f"file://{tmp_path}/store")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param([], 2, "--store", id="no store"),
        pytest.param(["--store", "file:///tmp/x"], 2, "TRUNKLINE_WORK_ORDER", id="no order"),
        pytest.param(["--store", "file:///tmp/x", "--order", "absent.json"], 2, "absent.json", id="no such file"),
        pytest.param(["--store", "gopher://x", "--order", "good.json"], 2, "must be a path", id="bad store"),
        pytest.param(["--store", "file:///tmp/x", "--order", "bad.json"], 10, "InvalidOrder", id="bad order"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    """Bad input ends at once, with an exit code of its own and a sentence."""
    (tmp_path / "bad.json").write_text('{"kind": "dance"}')
    (tmp_path / "good.json").write_bytes(train_order().encode())
    finished = workloads(*arguments, cwd=tmp_path)
    assert finished.code == code
    assert said in finished.log


def test_what_is_done_is_not_done_again(store: Store, tmp_path: Path) -> None:
    """With the record there, a job ends well at once: no data is asked for, and the record stays as it is."""
    order = train_order()
    record = RunRecord(
        inputs_digest=order.inputs_digest, inputs=order.inputs, status="Succeeded", model="a/b", commit="c"
    )
    store.create(run_key(order.inputs_digest), record.encode())
    finished = workloads("--store", store.url, cwd=tmp_path, TRUNKLINE_WORK_ORDER=order.encode().decode())
    assert finished.code == 0
    assert "done before" in finished.log
    assert store.read(run_key(order.inputs_digest)) == record.encode()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        pytest.param(train_order(), "DatasetMissing", id="absent data"),
        pytest.param(train_order(inputs_digest=digest_bytes(b"other")), "WrongDigest", id="wrong digest"),
        pytest.param(
            CompareOrder(**WHO, subject=DATA, baseline=DATA, golden=DATA, task="detect"), "EvaluationMissing",
            id="nothing to compare",
        ),
    ],
)  # fmt: skip
def test_bad_material_can_be_repaired(
    store: Store, tmp_path: Path, order: TrainOrder | CompareOrder, reason: str
) -> None:
    """Where the store is at fault no failure is recorded: the same order works once the store is right."""
    (tmp_path / "order.json").write_bytes(order.encode())
    finished = workloads("--store", store.url, "--order", "order.json", cwd=tmp_path)
    assert finished.code == 65
    assert f"trunkline: {reason}: " in finished.log
    assert store.list() == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_comparing_loads_no_torch(store: Store, tmp_path: Path) -> None:
    """A comparison is arithmetic on two small files; it must not wait for a training framework."""
    code = """if True:
        import sys
        from adapters.store import Store
        from specs.workorders import decode
        from workloads.job import run
        print(run(decode(open(sys.argv[2], "rb").read()), Store(sys.argv[1])))
        sys.exit(bool({"torch", "ultralytics", "cv2", "onnxruntime", "matplotlib"} & set(sys.modules)))
    """
    order = CompareOrder(**WHO, subject=DATA, baseline=DATA, golden=DATA, task="detect")
    (tmp_path / "order.json").write_bytes(order.encode())
    command = [sys.executable, "-c", code, store.url, str(tmp_path / "order.json")]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_a_training_that_nobody_follows_loads_no_client() -> None:
    """What an order does not ask for, every training would pay for: an HTTP client, MLflow, TensorBoard's messages."""
    code = """if True:
        import sys
        import workloads.train
        sys.exit(bool({"httpx", "mlflow", "tensorboard"} & set(sys.modules)))
    """
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_evaluations_that_point_nowhere_are_bad_material(store: Store, tmp_path: Path) -> None:
    """A record whose file is gone is said with the file's digest."""
    record = EvaluationRecord(subject=DATA, golden=DATA, n=1, per_image=digest_bytes(b"gone"), values={})
    store.create(evaluation_key(DATA, DATA), record.encode())
    order = CompareOrder(**WHO, subject=DATA, baseline=DATA, golden=DATA, task="detect")
    finished = workloads("--store", store.url, cwd=tmp_path, TRUNKLINE_WORK_ORDER=order.encode().decode())
    assert finished.code == 65
    assert digest_bytes(b"gone") in finished.log


def test_a_store_that_cannot_be_reached_is_tried_again(tmp_path: Path) -> None:
    """A store below a file is no store; nothing is said about the inputs, so a later attempt may work."""
    (tmp_path / "file").write_text("in the way")
    order = train_order().encode().decode()
    finished = workloads("--store", f"file://{tmp_path}/file/store", cwd=tmp_path, TRUNKLINE_WORK_ORDER=order)
    assert finished.code in (65, 75)
    assert "trunkline: " in finished.log
