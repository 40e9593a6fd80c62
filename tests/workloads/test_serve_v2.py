"""The Open Inference Protocol, spoken with Triton's own client to the real server."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.support import onnx_models
from tests.support.inference_server import ServerProcess, infer_request, running
from tests.support.onnx_models import Published

MODEL = onnx_models.classifier(7)
SHAPE = [2, 3, onnx_models.SIDE, onnx_models.SIDE]
TENSOR = np.random.default_rng(1).random(SHAPE, np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a server without models."""
    with running(tmp_path_factory.mktemp("serve")) as server:
        yield server


@pytest.fixture(scope="module")
def digits(server: ServerProcess) -> Published:
    """Give the model that serves as ``digits``, version 3."""
    published = onnx_models.publish(server.store, MODEL)
    answer = server.load("digits", published.target(3))
    assert answer.status_code == 200, answer.text
    return published


@pytest.fixture
def client(server: ServerProcess, digits: Published) -> Iterator[InferenceServerClient]:
    """Give Triton's client, connected."""
    client = InferenceServerClient(server.host)
    yield client
    client.close()


def test_health_and_server_metadata(client: InferenceServerClient) -> None:
    """Triton's client finds a live, ready server with the extensions that it claims."""
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "trunkline"
    assert set(metadata["extensions"]) == {"binary_tensor_data", "model_repository"}


def test_model_metadata(client: InferenceServerClient, digits: Published) -> None:
    """Metadata says what the model takes and gives, and which release it is."""
    metadata = client.get_model_metadata("digits")
    assert metadata == client.get_model_metadata("digits", "3")
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert metadata["outputs"] == [{"name": "output0", "datatype": "FP32", "shape": [-1, 10]}]
    parameters = metadata["parameters"]
    assert (parameters["version"], parameters["file"], parameters["task"]) == (3, digits.file, "classify")
    assert (parameters["run"], parameters["weights"]) == (digits.run, digits.weights)


@pytest.mark.parametrize("binary_input", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("binary_output", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_inference(
    client: InferenceServerClient, *, binary_input: bool, binary_output: bool, compression: str | None
) -> None:
    """All ways of carrying tensors give what onnxruntime gives, with the request's id."""
    given = InferInput("images", SHAPE, "FP32")
    given.set_data_from_numpy(TENSOR, binary_data=binary_input)
    wanted = InferRequestedOutput("output0", binary_data=binary_output)
    result = client.infer(
        "digits", [given], outputs=[wanted], request_id="r-1", request_compression_algorithm=compression
    )
    expected = onnx_models.run(MODEL, TENSOR)["output0"]
    np.testing.assert_allclose(result.as_numpy("output0"), expected, rtol=1e-5)
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("r-1", "digits", "3")


def test_default_outputs(client: InferenceServerClient) -> None:
    """Without named outputs all come back."""
    given = InferInput("images", SHAPE, "FP32")
    given.set_data_from_numpy(TENSOR)
    result = client.infer("digits", [given], model_version="3")
    assert result.as_numpy("output0").shape == (2, 10)


@pytest.mark.parametrize(
    ("model", "version", "shape", "said"),
    [
        pytest.param("nobody", "", SHAPE, "no model 'nobody'", id="unknown-model"),
        pytest.param("digits", "4", SHAPE, "serves version 3", id="unknown-version"),
        pytest.param("digits", "", [1, 3, 8, 8], "expected FP32 of shape [-1, 3, 32, 32]", id="wrong-shape"),
    ],
)
def test_refusals_reach_the_client(
    client: InferenceServerClient, model: str, version: str, shape: list[int], said: str
) -> None:
    """Triton's client shows our sentences."""
    given = InferInput("images", shape, "FP32")
    given.set_data_from_numpy(np.zeros(shape, np.float32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [given], model_version=version)
    assert said in str(caught.value)


def test_repository_extension(server: ServerProcess, client: InferenceServerClient) -> None:
    """Models come and go, and the index says so."""
    published = onnx_models.publish(server.store, onnx_models.classifier(8))
    assert server.load("guest", published.target(1)).status_code == 200
    assert client.is_model_ready("guest")
    assert client.is_model_ready("guest", "1")
    assert {entry["name"]: entry["state"] for entry in client.get_model_repository_index()} == {
        "digits": "READY", "guest": "READY",
    }  # fmt: skip
    client.unload_model("guest")
    client.unload_model("guest")
    assert not client.is_model_ready("guest")
    assert [entry["name"] for entry in client.get_model_repository_index()] == ["digits"]


def test_failed_model_is_in_the_index(server: ServerProcess, client: InferenceServerClient) -> None:
    """A model that never loaded is unavailable with its reason, answers 503, and is hidden from the ready ones."""
    answers = {"output0": np.zeros((1, 10), np.float32)}
    broken = onnx_models.publish(server.store, onnx_models.classifier(9), answers=answers)
    answer = server.load("broken", broken.target())
    assert (answer.status_code, answer.json()["reason"]) == (422, "SelfTestFailed")
    index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert index["broken"]["state"] == "UNAVAILABLE"
    assert "self-test" in index["broken"]["reason"]
    assert server.http.get("/v2/models/broken/ready").status_code == 503
    assert server.http.post("/v2/models/broken/infer", json=infer_request([0], [1])).status_code == 503
    ready = server.http.post("/v2/repository/index", json={"ready": True}).json()
    assert "broken" not in {entry["name"] for entry in ready}
    client.unload_model("broken")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("x", {"version": 0}, id="version-zero"),
        pytest.param("x", {"file": "sha256:abc"}, id="short-digest"),
        pytest.param("x", {"file": None}, id="no-file"),
        pytest.param("UPPER", {}, id="bad-name"),
        pytest.param("..", {}, id="dots"),
        pytest.param("a/../../etc", {}, id="path"),
    ],
)
def test_wrong_load_requests(
    server: ServerProcess, digits: Published, name: str, changes: dict[str, Any]
) -> None:
    """A load request that makes no sense is refused, and leaves no trace."""
    before = server.models()
    answer = server.load(urllib.parse.quote(name, safe=""), digits.target() | changes)
    assert answer.status_code in {400, 404}
    assert "error" in answer.json()
    assert server.models() == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/nothing", 404, id="unknown-path"),
        pytest.param("GET", "/v2/models/digits/infer", 405, id="wrong-method"),
        pytest.param("GET", "/v2/models/nobody/ready", 404, id="unknown-model-ready"),
        pytest.param("GET", "/v2/models/digits/versions/9", 404, id="unknown-version"),
        pytest.param("POST", "/models/nobody/predict", 404, id="unknown-predict"),
    ],
)
def test_wrong_places(server: ServerProcess, digits: Published, method: str, path: str, status: int) -> None:
    """Every refusal is JSON with an error sentence."""
    answer = server.http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_predict_equals_infer(server: ServerProcess, digits: Published) -> None:
    """A picture sent plainly gets the classes that its tensor gets, and says who answered."""
    test = digits.artifact.self_tests[0]
    picture = server.store.read_blob(test.image)
    with np.load(Path(server.store_path / "blobs" / "sha256" / test.outputs.removeprefix("sha256:"))) as archive:
        scores = archive["output0"][0]
    for upload in (
        {"content": picture, "headers": {"Content-Type": "image/png"}},
        {"files": {"file": ("a.png", picture, "image/png")}},
    ):
        answer = server.http.post("/models/digits/predict", **upload)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["model"], body["version"], body["file"]) == ("digits", 3, digits.file[7:19])
        assert answer.headers["Trunkline-File"] == digits.file[7:19]
        assert body["image"] == {"height": 40, "width": 32}
        assert [entry["class"] for entry in body["results"]] == np.argsort(-scores)[:5].tolist()
        assert body["results"][0]["confidence"] == pytest.approx(float(scores.max()), rel=1e-4)


def test_predict_boxes(server: ServerProcess) -> None:
    """A detector's boxes are in the picture's own pixels, and ``conf`` decides which are shown."""
    rows = np.array([[16, 8, 48, 40, 0.9, 1], [0, 0, 64, 64, 0.4, 0]], np.float32)
    model = onnx_models.publish(server.store, onnx_models.detector(rows), task="detect", side=64)
    assert server.load("boxes", model.target()).status_code == 200
    picture = {"content": onnx_models.picture(0, (100, 200)), "headers": {"Content-Type": "image/png"}}
    found = server.http.post("/models/boxes/predict?conf=0.5", **picture).json()["results"]  # type: ignore[arg-type]
    assert [entry["name"] for entry in found] == ["class1"]
    assert found[0]["box"] == pytest.approx({"x1": 50, "y1": 0, "x2": 150, "y2": 75}, abs=0.01)
    assert len(server.http.post("/models/boxes/predict", **picture).json()["results"]) == 2  # type: ignore[arg-type]
    for wrong in ("2", "-1", "nan", "much"):
        assert server.http.post(f"/models/boxes/predict?conf={wrong}", **picture).status_code == 400  # type: ignore[arg-type]
    server.http.post("/v2/repository/models/boxes/unload")


def test_task_without_decoder(server: ServerProcess) -> None:
    """A task whose results cannot be decoded yet says so with 501; its raw outputs are served."""
    model = onnx_models.publish(server.store, onnx_models.classifier(10), task="pose")
    assert server.load("pose", model.target()).status_code == 200
    answer = server.http.post(
        "/models/pose/predict", content=onnx_models.picture(), headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 501
    assert "pose" in answer.json()["error"]
    server.http.post("/v2/repository/models/pose/unload")


def test_non_finite_numbers(server: ServerProcess, digits: Published) -> None:
    """A model that answers NaN is no server error: JSON clients read NaN as Python writes it."""
    values = np.full((1, 3, 32, 32), np.nan, np.float32)
    body = json.dumps(infer_request(values.ravel().tolist(), [1, 3, 32, 32]))
    answer = server.http.post("/v2/models/digits/infer", content=body)
    assert answer.status_code == 200
    assert np.isnan(json.loads(answer.text)["outputs"][0]["data"]).all()
