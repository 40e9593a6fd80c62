"""Several processes that share one training: who they are, who writes, and how they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.store import Store
from specs.digests import digest_bytes, digest_of
from specs.errors import Stalled, Transient
from specs.records import Progress, RunRecord, progress_key, run_key
from specs.workorders import TrainOrder
from tests.support.apiserver import free_port
from tests.support.orders import MODELS, ROOT, WHO, bench
from workloads import distributed
from workloads.distributed import ENDINGS, PROCESSES, Team
from workloads.errors import Hopeless

TRAINER = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "t-node-0-0.t",
           "PET_MASTER_PORT": "29400"}  # fmt: skip
MEMBER = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
FIRST = {"WORLD_SIZE": "4", "RANK": "0"}
DATA = digest_bytes(b"no such data set")

TEAMS: dict[str, tuple[dict[str, Any], dict[str, str], Team | None]] = {
    "nothing said": ({}, {}, None),
    "one device": ({"device": 0}, {}, None),
    "the processor": ({"device": "cpu"}, {}, None),
    "devices of the arguments": ({"device": "0,1"}, {}, Team(1, 2, port=0)),
    "a list of devices": ({"device": [2, 3, 5]}, {}, Team(1, 3, port=0)),
    "GPUs of the pod": ({}, {PROCESSES: "2"}, Team(1, 2, port=0)),
    "nodes of Trainer": ({}, TRAINER, Team(2, 1, 1, "t-node-0-0.t", 29400)),
    "one node of Trainer": ({}, TRAINER | {"PET_NNODES": "1", "PET_NODE_RANK": "0"}, None),
    "as many as there are": ({}, {**TRAINER, "PET_NPROC_PER_NODE": "auto", PROCESSES: "4"},
                             Team(2, 4, 1, "t-node-0-0.t", 29400)),
    "a member": ({"device": "0,1"}, MEMBER, None),
}  # fmt: skip


@pytest.mark.parametrize("name", TEAMS)
def test_who_is_started(name: str) -> None:
    """Arguments, the pod's GPUs and Kubeflow Trainer say how many; whoever was started by torchrun starts nobody."""
    args, environment, expected = TEAMS[name]
    assert distributed.team(args, environment) == expected


def test_one_of_all_leads() -> None:
    """The first of all nodes, not of each; and whoever is alone, whatever a shell left in its environment."""
    assert distributed.leads({})
    assert distributed.leads({"RANK": "3"})
    assert distributed.leads({"WORLD_SIZE": "1", "RANK": "0"})
    assert distributed.leads(FIRST)
    assert not distributed.leads(MEMBER)


def test_each_member_has_a_device() -> None:
    """All members of a node see its devices, and take the one of their number; too few are said before anything."""
    assert distributed.device_of({}, MEMBER, 8) == "0,1"
    assert distributed.device_of({"device": "4,5"}, MEMBER, 8) == "4,5"
    assert distributed.device_of({}, {**MEMBER, "LOCAL_WORLD_SIZE": "1"}, 1) == "0"
    assert distributed.device_of({}, MEMBER, 0) == "cpu"
    with pytest.raises(Stalled, match="2 processes of this node need a GPU each, and there are 1"):
        distributed.device_of({}, MEMBER, 1)
    with pytest.raises(Stalled, match=r"args.device names 3"):
        distributed.device_of({"device": "0,1,2"}, MEMBER, 8)


@pytest.mark.parametrize(
    ("args", "size", "words"),
    [
        ({"batch": 16}, 3, r"spec.training.args.batch: 16 cannot be shared by 3 processes; give a multiple of 3"),
        ({}, 3, "batch: 16 cannot be shared"),
        ({"batch": -1}, 2, "batch: -1 lets one GPU find out what fits"),
        ({"batch": 0.7}, 2, "batch: 0.7 lets one GPU find out"),
        ({"batch": 4, "rect": True}, 2, "rect: pictures of like shape"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(args: dict[str, Any], size: int, words: str) -> None:
    """Before anything is spent, with what to do; nothing is recorded, since one device could do it."""
    with pytest.raises(Stalled, match=words) as caught:
        distributed.check(args, size)
    assert not isinstance(caught.value, Hopeless)
    distributed.check({"batch": 2 * size}, size)


# ------------------------------------------------------------------------------------------------ for real


def order(data: str, task: str = "classify") -> TrainOrder:
    """Order a training that ends before it begins."""
    inputs = {"v": 1, "task": task, "data": data, "model": {"name": MODELS["classify"]}, "args": {}, "nonce": ""}
    return TrainOrder(**WHO, inputs_digest=digest_of(inputs), inputs=inputs)


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Path]]:
    """A store, and the scratch folder of a job that starts two processes."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield Store(f"file://{tmp_path}/store"), tmp_path / "scratch"
    assert ENDINGS not in os.environ


@pytest.mark.ml
def test_a_launcher_says_how_its_processes_ended(launcher: tuple[Store, Path]) -> None:
    """Torchrun says only that something failed: the launcher passes on what the process itself said."""
    store, scratch = launcher
    missing = order(DATA)
    with pytest.raises(Stalled, match=DATA) as caught:
        distributed.launch(Team(1, 2), store.url, missing, scratch, scratch)
    assert caught.value.reason == "DatasetMissing"
    assert store.read(run_key(missing.inputs_digest)) is None


SAID = {
    10: (Hopeless, "UnknownModel"), 65: (Stalled, "DatasetMissing"), 75: (Transient, "StoreFull"),
}  # fmt: skip


@pytest.mark.parametrize("code", SAID)
def test_what_members_say_reaches_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """One that knows why is heard before those that only lost their peers."""
    monkeypatch.setenv(ENDINGS, str(tmp_path))
    for rank, said in (("0", (75, "PeerLost: others are gone")), ("1", (code, f"{SAID[code][1]}: the: cause"))):
        for name, value in (MEMBER | {"RANK": rank}).items():
            monkeypatch.setenv(name, value)
        if rank == "1" or code != 75:
            distributed.say_ending(*said)
    with pytest.raises(SAID[code][0]) as caught:
        distributed.fail(tmp_path)
    assert (caught.value.reason, caught.value.message) == (SAID[code][1], "the: cause")


def test_a_death_without_a_word_is_tried_again(tmp_path: Path) -> None:
    """Killed, or on another node: nobody says why, and the next attempt may fare better."""
    with pytest.raises(Transient) as caught:
        distributed.fail(tmp_path)
    assert caught.value.reason == "PeerLost"


def test_a_process_that_works_alone_leaves_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only members have a launcher to tell."""
    monkeypatch.setenv(ENDINGS, str(tmp_path))
    distributed.say_ending(10, "x: y")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ml
def test_two_nodes_train_one_model(tmp_path: Path) -> None:
    """Two processes without GPUs, as torchrun starts them on two nodes: one record, by the first of them alone.

    Both end well. The second has written nothing: progress and record are the first one's, and no checkpoint is left.
    """
    workplace = bench(tmp_path, "classify", count=16)
    train = workplace.train(epochs=2, batch=4, imgsz=64)
    common = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", "TRUNKLINE_CHECKPOINT_SECONDS": "0"}  # fmt: skip
    members = [workplace.start(train, **common, RANK=rank) for rank in "10"]
    logs = [member.communicate(timeout=240)[0] for member in members]
    assert [member.returncode for member in members] == [0, 0], "\n".join(log[-3000:] for log in logs)
    record = RunRecord.decode(workplace.store.read(run_key(train.inputs_digest)) or b"")
    assert (record.status, record.processes) == ("Succeeded", 2)
    assert [epoch.epoch for epoch in record.epochs] == [1, 2]
    best = max(epoch.metrics["metrics/accuracy_top1"] for epoch in record.epochs)
    assert record.metrics["metrics/accuracy_top1"] == best
    assert not [name for name in record.metrics if name.startswith("val/")]
    assert record.weights is not None
    assert workplace.store.has_blob(record.weights)
    assert workplace.store.list("checkpoints/") == []
    progress = Progress.decode(workplace.store.read(progress_key(train.job)) or b"")
    assert (progress.epoch, progress.epochs) == (2, 2)
    assert list(workplace.scratch.iterdir()) == []
