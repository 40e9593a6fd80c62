"""The model repository that Triton serves from: what is in it, what never gets in, and that it is whole or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from adapters.store import Store
from specs.digests import digest_bytes, digest_of
from specs.errors import CorruptArtifact, Stalled
from specs.records import ArtifactRecord, artifact_key, blob_key
from tests.support import onnx_models, signing
from tests.support.onnx_models import Published
from workloads.serve.limits import Limits
from workloads.serve.startup import Wanted
from workloads.serve.trust import Trust
from workloads.triton_config import PLAN, Model, config_text
from workloads.triton_repository import Kind, Source, main, without_metadata, write

NAME = "retail.digits"


class Killed(BaseException):
    """The process is killed here."""


class Deaths:
    """Ends what runs at its n-th touch of a folder; between the tests it sleeps, for a hook can never be taken off."""

    def __init__(self) -> None:
        self.folder, self.left = "", 0
        sys.addaudithook(self._saw)

    def _saw(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.left or event not in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove"):
            return
        if any(isinstance(word, str | os.PathLike) and str(word).startswith(self.folder) for word in arguments):
            self.left -= 1
            if not self.left:
                raise Killed


DEATHS = Deaths()


@pytest.fixture
def deaths(tmp_path: Path) -> Iterator[Deaths]:
    """Give what kills in the repository's folder, asleep again afterwards."""
    DEATHS.folder = str(tmp_path / "models")
    yield DEATHS
    DEATHS.left = 0


class Shelf:
    """A store, a cache and a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.models = folder, folder / "models"
        self.store = Store(f"file://{folder / 'store'}")

    def source(self, *keys: Any) -> Source:
        """Give the writer's view of the store."""
        return Source(self.store, self.folder / "cache", Trust(keys), 2)

    def write(self, published: Published, version: int = 3, kind: Kind | None = None) -> Path:
        """Write the repository; give the model's folder."""
        write(self.models, wanted(published, version), self.source(), kind or Kind())
        return self.models / NAME


def publish_engine(store: Store, content: bytes) -> Published:
    """Put bytes into a store as the file of a TensorRT engine."""
    file = store.put_blob(content)
    artifact = ArtifactRecord(
        file=file, format="engine", task="classify", names=["a"], image_size=(32, 32), weights=digest_of("weights"),
        self_tests=[],
    )  # fmt: skip
    store.create(artifact_key(file), artifact.encode())
    return Published(file, digest_of("weights"), digest_of("run"), artifact)


def wanted(published: Published, version: int = 3) -> Wanted:
    """Give what the pod is told."""
    return Wanted.model_validate({"name": NAME, **published.target(version)})


def parsed(folder: Path) -> Any:
    """Read a configuration as Triton does; fails where a word of it is none of Triton's."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Give an empty one."""
    return Shelf(tmp_path)


def test_a_model_becomes_a_repository(shelf: Shelf) -> None:
    """The file lies under its version byte for byte, and Triton's own schema reads the configuration."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier(1), tests=2)
    folder = shelf.write(published)
    assert digest_bytes((folder / "3/model.onnx").read_bytes()) == published.file
    config = parsed(folder)
    assert (config.name, config.backend, config.max_batch_size) == (NAME, "onnxruntime", Limits().max_batch)
    assert list(config.version_policy.specific.versions) == [3]
    (taken,), (given,) = config.input, config.output
    assert (taken.name, taken.data_type, list(taken.dims)) == ("images", model_config_pb2.TYPE_FP32, [3, 32, 32])
    assert (given.name, list(given.dims)) == ("output0", [10])
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert told["trunkline.file"] == published.file
    assert told["intra_op_thread_count"] == "2"


def test_triton_warms_up_with_the_self_tests(shelf: Shelf) -> None:
    """Each self-test's input is there as raw bytes, in the type and shape that the configuration says."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier(1), tests=2)
    folder = shelf.write(published)
    warmups = parsed(folder).model_warmup
    assert len(warmups) == 2
    for number, warmup in enumerate(warmups):
        value = warmup.inputs["images"]
        assert (warmup.batch_size, list(value.dims)) == (1, [3, 32, 32])
        raw = (folder / "warmup" / value.input_data_file).read_bytes()
        expected = np.load(_file(shelf, published.artifact.self_tests[number].input))
        np.testing.assert_array_equal(np.frombuffer(raw, np.float32).reshape(expected.shape), expected)


def test_without_golden_pictures_zeros_are_tried(shelf: Shelf) -> None:
    """Where there are no self-tests, Triton at least runs the model once."""
    folder = shelf.write(onnx_models.publish(shelf.store, onnx_models.classifier(1), tests=0))
    (warmup,) = parsed(folder).model_warmup
    assert warmup.inputs["images"].zero_data


def test_a_fixed_batch_is_not_batched(shelf: Shelf) -> None:
    """A model that takes one picture at a time keeps its first dimension, and Triton puts nothing together."""
    folder = shelf.write(onnx_models.publish(shelf.store, onnx_models.classifier(1, batch=1)))
    config = parsed(folder)
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [1, 3, 32, 32])
    assert not config.HasField("dynamic_batching")
    assert list(config.model_warmup[0].inputs["images"].dims) == [1, 3, 32, 32]


@pytest.mark.parametrize(("build", "device"), [("engine", "gpu"), ("openvino", "cpu")])
def test_triton_may_make_another_format(shelf: Shelf, build: str, device: Any) -> None:
    """What is built on the device, Triton builds of the ONNX file by its own accelerators."""
    published = onnx_models.publish(shelf.store, onnx_models.classifier(1))
    chosen = parsed(shelf.write(published, kind=Kind(device, build))).optimization.execution_accelerators
    found = chosen.gpu_execution_accelerator if device == "gpu" else chosen.cpu_execution_accelerator
    assert [one.name for one in found] == ["tensorrt" if build == "engine" else "openvino"]


def test_an_engine_loses_what_ultralytics_wrote_before_it(shelf: Shelf) -> None:
    """TensorRT reads a plan from its first byte; the metadata before it goes, and Triton asks the plan for the rest."""
    told = json.dumps({"task": "classify", "imgsz": [32, 32]}).encode()
    published = publish_engine(shelf.store, len(told).to_bytes(4, "little") + told + b"ftrt plan")
    folder = shelf.write(published, kind=Kind("gpu"))
    assert (folder / "3/model.plan").read_bytes() == b"ftrt plan"
    config = parsed(folder)
    assert (config.backend, len(config.input)) == ("tensorrt", 0)
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


@pytest.mark.parametrize("plan", [b"", b"ftrt", b"\x05\x00\x00\x00hello plan", b"\x02\x00\x00\x00[] plan", b"\xff" * 9])
def test_a_bare_plan_stays(plan: bytes) -> None:
    """What does not begin with a length and JSON is the plan itself."""
    assert without_metadata(plan) == plan


def test_an_engine_needs_a_gpu(shelf: Shelf) -> None:
    """Where no GPU is asked for, the reason says what to ask for instead of Triton failing over and over."""
    with pytest.raises(Stalled, match=r"spec\.serving\.resources") as told:
        shelf.write(publish_engine(shelf.store, b"plan"))
    assert told.value.reason == "LoadFailed"


def test_what_cannot_be_believed_gets_in_nowhere(shelf: Shelf, tmp_path: Path) -> None:
    """Another answer than the recorded one, other bytes, a missing signature: nothing is written."""
    wrong = onnx_models.publish(
        shelf.store, onnx_models.classifier(1), answers={"output0": np.zeros((1, 10), np.float32)}
    )
    with pytest.raises(Stalled, match="differs"):
        shelf.write(wrong)
    rotten = onnx_models.publish(shelf.store, onnx_models.classifier(2))
    place = _file(shelf, rotten.file)
    place.chmod(0o644)
    place.write_bytes(b"other bytes")
    with pytest.raises(CorruptArtifact):
        shelf.write(rotten)
    signer = signing.key(tmp_path)
    unsigned = onnx_models.publish(shelf.store, onnx_models.classifier(3))
    with pytest.raises(Stalled) as told:
        write(shelf.models, wanted(unsigned), shelf.source(signer.public))
    assert told.value.reason == "SignatureMissing"
    assert not shelf.models.exists() or not list(shelf.models.iterdir())
    signed = signing.signed_model(shelf.store, 4, signer)
    write(shelf.models, wanted(signed), shelf.source(signer.public))
    assert (shelf.models / NAME / "3/model.onnx").exists()


def test_the_repository_is_whole_or_not_there(shelf: Shelf, deaths: Deaths) -> None:
    """Killed at any touch of its folder: what Triton would see is whole, or nothing; and doing it again is enough."""
    old = onnx_models.publish(shelf.store, onnx_models.classifier(1))
    new = onnx_models.publish(shelf.store, onnx_models.classifier(2))
    for number in range(1, 100):
        shelf.write(old, 3)
        deaths.left = number
        try:
            shelf.write(new, 4)
        except Killed:
            pass
        else:
            break
        finally:
            deaths.left = 0
        assert _seen(shelf) in (None, (3, old.file), (4, new.file))
        shelf.write(new, 4)
        assert (_seen(shelf), [place.name for place in shelf.models.iterdir()]) == ((4, new.file), [NAME])
    else:
        pytest.fail("it never came to its end")
    assert number > 8


def test_exit_codes_are_the_servers(shelf: Shelf) -> None:
    """A file that never can serve ends the init container with 10 and the reason; one that can, with 0."""
    good = onnx_models.publish(shelf.store, onnx_models.classifier(1))
    bad = onnx_models.publish(shelf.store, b"no model", tests=0, changes={"self_tests": []})
    assert _run(shelf, good).returncode == 0
    assert _seen(shelf) == (3, good.file)
    ended = _run(shelf, bad)
    assert ended.returncode == 10
    assert ended.stderr.splitlines()[-1].startswith("trunkline: LoadFailed: onnxruntime cannot load this file")


def test_nonsense_is_no_verdict_on_the_file(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a target there is nothing to judge: exit code 1, and a sentence."""
    folders = ["--repository", str(shelf.models), "--cache", str(shelf.folder / "cache")]
    assert main(["--store", f"file://{shelf.folder}/store", *folders]) == 1
    assert "the repository cannot be made" in capsys.readouterr().err


def test_names_are_quoted() -> None:
    """Nothing that a file says about itself can add a word to the configuration."""
    text = config_text(Model('a"\n b: "c', 1, PLAN, "gpu", parameters={'k"}': 'v"\\'}))
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.name, config.parameters['k"}'].string_value) == ('a"\n b: "c', 'v"\\')


def _file(shelf: Shelf, digest: str) -> Path:
    return shelf.folder / "store" / blob_key(digest)


def _seen(shelf: Shelf) -> tuple[int, str] | None:
    """Give version and digest of what Triton would find; fails where that is not whole."""
    folder = shelf.models / NAME
    if not folder.exists():
        return None
    (version,) = parsed(folder).version_policy.specific.versions
    assert len(list((folder / "warmup").iterdir())) == 1
    return version, digest_bytes((folder / str(version) / "model.onnx").read_bytes())


def _run(shelf: Shelf, published: Published) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "TRUNKLINE_SERVING_TARGET": wanted(published).model_dump_json()}
    command = [sys.executable, "-m", "workloads.triton_repository", "--store", f"file://{shelf.folder}/store",
               "--repository", str(shelf.models), "--cache", str(shelf.folder / "cache")]  # fmt: skip
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)
