"""What TensorBoard shows of a training, read back by TensorBoard itself."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as theirs

from specs.records import EVENT_FILE, Epoch
from tests.support.pictures import scene
from workloads.board import event_file
from workloads.crc32c import crc32c

CURVES = [
    (Epoch(epoch=1, metrics={"train/loss": 2.5, "metrics/accuracy_top1": 0.5, "lr/pg0": 0.01}), 10.0),
    (Epoch(epoch=2, metrics={"train/loss": 1.25, "metrics/accuracy_top1": 0.75, "lr/pg0": 0.005}), 19.5),
]
STARTED = 1_767_258_000.0


def layer(number: int, source: int | list[int], kind: str, parameters: int = 0) -> SimpleNamespace:
    """A layer as Ultralytics marks it."""
    return SimpleNamespace(i=number, f=source, type=f"ultralytics.nn.modules.{kind}", np=parameters)


NETWORK = SimpleNamespace(model=[layer(0, -1, "Conv", 464), layer(1, -1, "C3k2"), layer(2, [-1, 0], "Concat")])


def read(folder: Path, made: bytes | None) -> EventAccumulator:
    """Let TensorBoard read an event file."""
    assert made is not None
    (folder / EVENT_FILE).write_bytes(made)
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize("length", [0, 1, 4, 100, 4095, 4096, 4097, 5000, 10_240, 200_001])
def test_the_checksum_is_the_one_that_is_meant(length: int) -> None:
    """Short or long, in one lane or many, it is what TensorBoard computes."""
    data = random.Random(length).randbytes(length)
    assert crc32c(data) == theirs(data)
    assert crc32c(b"123456789") == 0xE3069283


def test_curves_have_their_steps_and_times(tmp_path: Path) -> None:
    """Every metric of every epoch, under its own name, at the time the epoch ended."""
    found = read(tmp_path, event_file(CURVES, tmp_path, None, STARTED))
    assert found.Tags()["scalars"] == ["lr/pg0", "metrics/accuracy_top1", "train/loss"]
    assert [(s.step, s.value, s.wall_time) for s in found.Scalars("train/loss")] == [
        (1, 2.5, STARTED + 10.0), (2, 1.25, STARTED + 19.5),
    ]  # fmt: skip
    assert found.FirstEventTimestamp() == STARTED


def test_pictures_are_shown_as_they_are(tmp_path: Path) -> None:
    """The very bytes, with their size, at the last epoch; what is no picture, or too large, is left out."""
    picture, _ = scene("a", (220, 40, 40))
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "results.png").write_bytes(picture)
    (drawn / "results.csv").write_text("epoch")
    (drawn / "huge.png").write_bytes(bytes(3 * 2**20))
    (drawn / "empty.jpg").touch()
    found = read(tmp_path, event_file(CURVES, drawn, None, STARTED))
    assert found.Tags()["images"] == ["pictures/results"]
    (image,) = found.Images("pictures/results")
    assert (image.step, image.width, image.height, image.encoded_image_string) == (2, 32, 32, picture)


def test_the_graph_is_the_layers(tmp_path: Path) -> None:
    """Named by number and kind, wired as the model definition says, with how many parameters each has."""
    graph = read(tmp_path, event_file(CURVES, tmp_path, NETWORK, STARTED)).Graph()
    assert {node.name: list(node.input) for node in graph.node} == {
        "images": [], "network/00_Conv": ["images"], "network/01_C3k2": ["network/00_Conv"],
        "network/02_Concat": ["network/01_C3k2", "network/00_Conv"],
    }  # fmt: skip
    assert graph.node[1].attr["parameters"].i == 464


@pytest.mark.parametrize("network", [None, SimpleNamespace(), SimpleNamespace(model=[object()])])
def test_a_network_without_layers_has_no_graph(tmp_path: Path, network: Any) -> None:
    """Curves and pictures are there all the same."""
    found = read(tmp_path, event_file(CURVES, tmp_path, network, STARTED))
    assert (found.Tags()["graph"], len(found.Tags()["scalars"])) == (False, 3)


def test_a_training_without_an_epoch_is_an_empty_board(tmp_path: Path) -> None:
    """A file without curves is still one that TensorBoard reads."""
    assert read(tmp_path, event_file([], tmp_path, NETWORK, STARTED)).Tags()["scalars"] == []


def test_an_image_without_tensorboard_says_so_and_goes_on(tmp_path: Path) -> None:
    """No events, one line in the log, and nothing raised."""
    code = """if True:
        import pathlib, sys
        sys.modules["tensorboard"] = None
        from workloads.board import event_file
        sys.exit(event_file([], pathlib.Path("."), None, 0.0) is not None)
    """
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "no events for TensorBoard" in line
    assert "install tensorboard" in line
