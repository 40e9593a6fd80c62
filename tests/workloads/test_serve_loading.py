"""From a target to an engine that has proved itself, and all the ways not to get there."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from adapters.store import Store
from specs.digests import digest_of
from specs.errors import CorruptArtifact, Stalled
from specs.records import ArtifactRecord, artifact_key, blob_key
from tests.support import onnx_models
from tests.support.onnx_models import Published
from workloads.serve.cache import Cache
from workloads.serve.limits import Limits
from workloads.serve.loading import Proven, load, read_artifact
from workloads.serve.state import Target


class Shelf:
    """A store on disk and a cache beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "store"
        self.store = Store(f"file://{self.root}")
        self.cache = Cache(root / "cache", self.store)

    def load(self, published: Published, **changes: Any) -> Proven:
        """Do what the server does."""
        target = Target(**(published.target() | changes))
        return load(read_artifact(self.store, target), self.cache, Limits())

    def damage(self, digest: str) -> None:
        """Flip a byte in the middle of a stored file."""
        path = self.root / blob_key(digest)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)

    def remove(self, digest: str) -> None:
        """Lose a stored file."""
        (self.root / blob_key(digest)).unlink()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Give an empty store."""
    return Shelf(tmp_path)


@pytest.mark.parametrize("tests", [0, 1, 3], ids=["no-golden", "one", "three"])
def test_good_artifact(shelf: Shelf, tests: int) -> None:
    """A published model loads; where there was no golden set it must at least run."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier(), tests=tests)
    proven = shelf.load(published)
    assert proven.artifact == published.artifact
    assert proven.engine.batched


def test_good_detector(shelf: Shelf) -> None:
    """Detections, which are compared as sets, prove a model as well."""
    rows = np.array([[1, 2, 30, 40, 0.9, 1], [5, 5, 9, 9, 0.4, 0]], np.float32)
    published = onnx_models.publish(shelf.store, onnx_models.detector(rows), task="detect", side=64)
    assert shelf.load(published).artifact.task == "detect"


def test_missing_record(shelf: Shelf) -> None:
    """A file that no export recorded is ArtifactMissing."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier())
    with pytest.raises(Stalled) as caught:
        shelf.load(published, file=digest_of("another"))
    assert caught.value.reason == "ArtifactMissing"


@pytest.mark.parametrize("text", [b"", b"{}", b"not json", b'{"file": 1}'], ids=["empty", "hollow", "noise", "types"])
def test_tampered_record(shelf: Shelf, text: bytes) -> None:
    """A record that is not one is CorruptArtifact."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier())
    path = shelf.root / artifact_key(published.file)
    path.chmod(0o644)
    path.write_bytes(text)
    with pytest.raises(CorruptArtifact):
        shelf.load(published)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"file": digest_of("another")}, "CorruptArtifact", id="about-another-file"),
        pytest.param({"weights": digest_of("another")}, "CorruptArtifact", id="of-other-weights"),
        pytest.param({"format": "engine"}, "LoadFailed", id="other-format"),
    ],
)
def test_record_that_contradicts_the_target(shelf: Shelf, changes: dict[str, Any], reason: str) -> None:
    """A record must be about the file that was asked for, made from the weights that were released."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier())
    path = shelf.root / artifact_key(published.file)
    path.chmod(0o644)
    path.write_bytes(published.artifact.model_copy(update=changes).encode())
    with pytest.raises(Stalled) as caught:
        shelf.load(published)
    assert caught.value.reason == reason


def blobs_of(published: Published) -> list[str]:
    """Give every file that a load needs."""
    test = published.artifact.self_tests[0]
    return [published.file, test.image, test.input, test.outputs]


@pytest.mark.parametrize("which", range(4), ids=["model", "image", "input", "outputs"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(Shelf.damage, "CorruptArtifact", id="damaged"),
        pytest.param(Shelf.remove, "ArtifactMissing", id="missing"),
    ],
)
def test_harmed_files(shelf: Shelf, which: int, harm: Callable[[Shelf, str], None], reason: str) -> None:
    """One flipped bit or one missing file, of the model or of its self-test, and nothing loads."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier())
    harm(shelf, blobs_of(published)[which])
    with pytest.raises(Stalled) as caught:
        shelf.load(published)
    assert caught.value.reason == reason


def test_wrong_answer(shelf: Shelf) -> None:
    """A model that answers otherwise than recorded fails its self-test."""
    answers = {"output0": np.full((1, 10), 0.1, np.float32)}
    published = onnx_models.publish(shelf.store, onnx_models.classifier(), answers=answers)
    with pytest.raises(Stalled, match="tensor input: output 'output0'") as caught:
        shelf.load(published)
    assert caught.value.reason == "SelfTestFailed"


@pytest.mark.parametrize(
    "answers",
    [{}, {"other": np.zeros((1, 10), np.float32)}, {"output0": np.zeros((1, 9), np.float32)}],
    ids=["none", "other-name", "other-shape"],
)
def test_other_outputs(shelf: Shelf, answers: dict[str, Any]) -> None:
    """Outputs of another name or shape fail the self-test."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier(), answers=answers)
    with pytest.raises(Stalled) as caught:
        shelf.load(published)
    assert caught.value.reason == "SelfTestFailed"


def with_test(shelf: Shelf, **changes: Any) -> Published:
    """Publish a classifier whose self-test has other files."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier())
    test = published.artifact.self_tests[0].model_copy(update=changes)
    artifact: ArtifactRecord = published.artifact.model_copy(update={"self_tests": [test]})
    path = shelf.root / artifact_key(published.file)
    path.chmod(0o644)
    path.write_bytes(artifact.encode())
    return published


@pytest.mark.parametrize(
    "image", [onnx_models.picture(99, (40, 32)), onnx_models.picture(0, (32, 32)), b"noise"],
    ids=["other-picture", "other-size", "no-picture"],
)  # fmt: skip
def test_picture_path(shelf: Shelf, image: bytes) -> None:
    """Where the picture does not become the recorded tensor, uploads would be answered wrongly: SelfTestFailed."""
    published = with_test(shelf, image=shelf.store.put_blob(image))
    with pytest.raises(Stalled, match="picture") as caught:
        shelf.load(published)
    assert caught.value.reason == "SelfTestFailed"


def test_input_of_another_shape(shelf: Shelf) -> None:
    """A self-test whose input the model does not take fails with both shapes."""
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 3, 8, 8), np.float32))
    published = with_test(shelf, input=shelf.store.put_blob(stream.getvalue()))
    with pytest.raises(Stalled, match=r"\[1, 3, 8, 8\].*\[-1, 3, 32, 32\]"):
        shelf.load(published)


class Bomb:
    """Unpickling this would leave a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("field", ["input", "outputs"])
def test_arrays_are_never_unpickled(shelf: Shelf, tmp_path: Path, field: str) -> None:
    """Code hidden in the arrays of a self-test does not run; the artifact is refused."""
    trace = tmp_path / "trace"
    published = with_test(shelf, **{field: shelf.store.put_blob(pickle.dumps(Bomb(trace)))})
    with pytest.raises(CorruptArtifact):
        shelf.load(published)
    assert not trace.exists()


def test_batch_must_not_change_the_answer(shelf: Shelf) -> None:
    """A graph whose rows influence each other is refused: batching would mix the answers of strangers."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=1),
        helper.make_node("Add", ["images", "mean"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["flat"]),
        helper.make_node("CumSum", ["flat", "axis"], ["output0"]),
    ]
    takes = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])
    gives = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 3072])
    axis = helper.make_tensor("axis", TensorProto.INT64, [], [0])
    graph = helper.make_graph(nodes, "g", [takes], [gives], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    published = onnx_models.publish(shelf.store, model)
    with pytest.raises(Stalled, match="as part of a batch") as caught:
        shelf.load(published)
    assert caught.value.reason == "SelfTestFailed"


