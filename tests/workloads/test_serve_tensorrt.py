"""TensorRT without a GPU: our half of every call, against stand-ins for NVIDIA's library and driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specs.digests import digest_of
from specs.engines import MISMATCH, refused_by
from specs.records import artifact_key
from tests.support import onnx_models
from tests.support.inference_server import INFER, REQUEST, ServerProcess, infer_request, publish
from tests.support.needed import needed
from tests.support.onnx_models import Published
from workloads.serve.engine_header import join, split

NO_GPU = Path(__file__).parents[1] / "support/no_gpu"
ROOT = Path(__file__).parents[2]
HERE = {"gpu": "NVIDIA Stand-in", "computeCapability": "8.9", "tensorrt": "10.9.0", "cuda": "12.8"}


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a driver that is none."""
    folder = tmp_path_factory.mktemp("driver")
    compile_ = [needed("cc", "gcc"), "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(NO_GPU / "cuda.c")]
    subprocess.run(compile_, check=True)
    return folder


@pytest.fixture
def server(tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """Give a server on a machine with the stand-ins."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(NO_GPU), str(ROOT))))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # a real GPU, where there is one, is none of these tests' business
    server = ServerProcess(tmp_path)
    server.start()
    yield server
    server.close()


def engine(server: ServerProcess, seed: int, *, plan: bytes | None = None, facts: dict[str, str] | None = None) -> Any:
    """Put an engine into the store, as an export job does: the file, and what it says about where it was made."""
    model = onnx_models.classifier(seed)
    told = {"version": "10.9.0", "gpu": "NVIDIA Stand-in", "rows": 4, "half": False}
    file = join({"imgsz": [32, 32], "stride": 32}, plan or json.dumps(told).encode() + b"\n" + model)
    made = publish(server, seed)
    digest = server.store.put_blob(file)
    changes = {"file": digest, "format": "engine", "runtime": HERE if facts is None else facts}
    artifact = made.artifact.model_copy(update=changes)
    server.store.create(artifact_key(digest), artifact.encode())
    return Published(digest, made.weights, digest_of({"run of": digest}), artifact)


def answer(server: ServerProcess) -> list[float]:
    """Give what serves says to the usual request."""
    told = server.http.post(INFER, json=REQUEST)
    assert told.status_code == 200, told.text
    values: list[float] = told.json()["outputs"][0]["data"]
    return values


def test_serves_an_engine(server: ServerProcess) -> None:
    """An engine of this device serves: alone, in batches up to its profile, and refuses what that does not take."""
    model = engine(server, 1)
    assert server.load("digits", model.target()).status_code == 200
    half = np.full((1, 3, 32, 32), 0.5, np.float32)
    expected = onnx_models.run(onnx_models.classifier(1), half)["output0"][0]
    np.testing.assert_allclose(answer(server), expected, rtol=1e-4)
    described = server.http.get("/v2/models/digits").json()
    assert described["platform"] == "tensorrt_plan"
    assert described["parameters"]["runtime"] == "tensorrt 10.9.0 on NVIDIA Stand-in"
    assert described["inputs"][0]["shape"] == [-1, 3, 32, 32]
    pictures = np.random.default_rng(1).random((4, 3, 32, 32), np.float32)
    four = server.http.post(INFER, json=infer_request(pictures.ravel().tolist(), [4, 3, 32, 32])).json()
    expected = onnx_models.run(onnx_models.classifier(1), pictures)["output0"].ravel()
    np.testing.assert_allclose(four["outputs"][0]["data"], expected, rtol=1e-4)
    five = server.http.post(INFER, json=infer_request([0.5] * 5 * 3072, [5, 3, 32, 32]))
    assert (five.status_code, five.json()["error"]) == (
        400, "the engine takes at most 4 rows at once; the request has 5",
    )  # fmt: skip


OTHERS: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"facts": HERE | {"gpu": "NVIDIA L4"}}, MISMATCH, "gpu=NVIDIA L4"),
    ({"facts": HERE | {"tensorrt": "10.8.0"}, "plan": b"1"}, MISMATCH, "tensorrt=10.8.0"),
    ({"facts": {}, "plan": b"of who knows where"}, MISMATCH, "made for nobody knows what"),
    ({"plan": b"broken"}, "LoadFailed", "the version tag does not match"),
)


def test_an_engine_of_another_device(server: ServerProcess) -> None:
    """It is a verdict with this device's facts, for people and programs; what serves goes on, nothing crashes."""
    server.load("digits", publish(server, 1).target())
    before = answer(server)
    for made, reason, said in OTHERS:
        model = engine(server, 2, **made)
        refused = server.load("digits", model.target(2))
        assert (refused.status_code, refused.json()["reason"]) == (422, reason)
        assert said in refused.json()["error"]
        entry = server.models()["digits"]
        assert (entry["version"], entry["failed_file"]) == (1, model.file)
        facts = HERE if reason == MISMATCH else {}
        assert {name: entry["device"].get(name) for name in facts} == facts
        assert entry["device"] == refused_by(entry["failure"])
        assert answer(server) == before


def test_made_on_the_device(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine made of ONNX is kept and attested; after an update of TensorRT it is made anew at the next start."""
    model = publish(server, 1)
    assert server.load("digits", model.target() | {"build": "engine:fp16"}).status_code == 200
    first = server.models()["digits"]["engine"]
    assert {name: first["device"][name] for name in HERE} == HERE
    assert (first["versions"], first["precision"]) == ({"tensorrt": "10.9.0"}, "fp16")
    before = answer(server)
    server.end(signal.SIGKILL)
    server.start()
    assert server.models()["digits"]["engine"] == first
    server.end(signal.SIGKILL)
    monkeypatch.setenv("STAND_IN_TENSORRT", "11.0.0")
    server.start()
    second = server.models()["digits"]["engine"]
    assert second["versions"] == {"tensorrt": "11.0.0"}
    assert second["engine"] != first["engine"]
    assert answer(server) == before
    assert len(server.store.list("attestations/")) == 2
    assert len(list((server.state / "builds").glob("*.engine"))) == 1


def test_what_cannot_be_made(server: ServerProcess) -> None:
    """A graph that TensorRT does not take is a verdict with its words, and the same file still serves as it is."""
    model = publish(server, 1)
    broken = server.store.put_blob(b"no graph")
    artifact = model.artifact.model_copy(update={"file": broken})
    server.store.create(artifact_key(broken), artifact.encode())
    target = model.target() | {"file": broken, "build": "engine"}
    refused = server.load("digits", target)
    assert (refused.status_code, refused.json()["reason"]) == (422, "BuildFailed")
    assert refused.json()["error"].endswith("this is no graph")


def test_a_machine_without_a_gpu(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorRT is installed and no GPU is there, that is told, and ONNX is served."""
    server.end(signal.SIGTERM)
    monkeypatch.setenv("STAND_IN_NO_GPU", "1")
    server.start()
    refused = server.load("digits", engine(server, 1).target())
    assert (refused.status_code, refused.json()["reason"]) == (422, "LoadFailed")
    assert "no GPU here that NVIDIA's driver can use" in refused.json()["error"]
    assert server.load("digits", publish(server, 1).target()).status_code == 200


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"plan", b"\x04\0\0\0null and more", b"\xff\xff\xff\x7f{}", b"\x02\0\0\0{}"[:5]],
)  # fmt: skip
def test_files_without_a_header(data: bytes) -> None:
    """Whatever is no length with JSON behind it is the engine itself."""
    assert split(data) == ({}, data)


def test_the_header_of_ultralytics() -> None:
    """Its metadata is read and taken off; what is written is read back."""
    told = {"imgsz": [640, 640], "names": {"0": "milk"}, "args": {"half": True}}
    head = json.dumps(told).encode()
    assert split(len(head).to_bytes(4, "little") + head + b"the plan") == (told, b"the plan")
    assert split(join(told, b"the plan")) == (told, b"the plan")


def test_without_tensorrt_nothing_of_it_is_imported() -> None:
    """The header is read, and the list of runtimes looked at, where TensorRT is not installed."""
    program = (
        "import sys; from workloads.serve import runtimes, engine_header;"
        "print([name for name, runtime in runtimes.RUNTIMES.items() if runtime.is_here], 'tensorrt' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.split("]")[1].strip() == "False"
