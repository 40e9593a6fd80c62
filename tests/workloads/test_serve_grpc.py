"""The Open Inference Protocol over gRPC, spoken with Triton's own client to the real server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from adapters.store import Store
from tests.support import onnx_models
from tests.support.inference_server import (
    REQUEST,
    ServerProcess,
    publish,
    publish_slow,
    running,
    samples,
    wait_until,
)
from tests.support.onnx_models import Published

MODEL = onnx_models.classifier(7)
SIDE = onnx_models.SIDE
TENSOR = np.random.default_rng(1).random((2, 3, SIDE, SIDE), np.float32)
BIG = 1000
"""Rows of a request of 12 MB, three times what gRPC takes where nobody says otherwise."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a server that speaks gRPC too, without models."""
    with running(tmp_path_factory.mktemp("serve"), "--grpc-port", "0", "--body-timeout", "0.5") as server:
        yield server


@pytest.fixture(scope="module")
def digits(server: ServerProcess) -> Published:
    """Give the model that serves as ``digits``, version 3."""
    published = onnx_models.publish(server.store, MODEL)
    assert server.load("digits", published.target(3)).status_code == 200
    return published


@pytest.fixture
def client(server: ServerProcess, digits: Published) -> Iterator[InferenceServerClient]:
    """Give Triton's client, connected."""
    client = InferenceServerClient(server.address["grpc"])
    yield client
    client.close()


@pytest.fixture
def channel(server: ServerProcess, digits: Published) -> Iterator[grpc.Channel]:
    """Give a bare connection."""
    with grpc.insecure_channel(server.address["grpc"]) as channel:
        yield channel


def image(tensor: NDArray[Any] = TENSOR, name: str = onnx_models.INPUT, datatype: str = "FP32") -> InferInput:
    """Give an input as Triton's client sends it."""
    given = InferInput(name, list(tensor.shape), datatype)
    given.set_data_from_numpy(tensor)
    return given


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Give the status code and the sentence of a call that must fail."""
    with pytest.raises((InferenceServerException, grpc.RpcError)) as caught:
        call()
    error = caught.value
    if isinstance(error, InferenceServerException):
        return error.status().removeprefix("StatusCode."), error.message()
    return error.code().name, error.details()


def test_health_and_metadata(client: InferenceServerClient, digits: Published) -> None:
    """Triton's client finds a live, ready server, and is told what its model takes and gives."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "trunkline"
    assert set(client.get_server_metadata().extensions) == {"binary_tensor_data", "model_repository"}
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "3")
    assert not client.is_model_ready("digits", "4")
    assert not client.is_model_ready("letters")
    about = client.get_model_metadata("digits")
    assert (about.name, list(about.versions), about.platform) == ("digits", ["3"], "onnxruntime_onnx")
    assert [(part.name, part.datatype, list(part.shape)) for part in about.inputs] == [
        ("images", "FP32", [-1, 3, SIDE, SIDE])
    ]
    assert [(part.name, part.datatype, list(part.shape)) for part in about.outputs] == [
        ("output0", "FP32", [-1, onnx_models.CLASSES])
    ]


def test_health_as_grpc_itself_has_it(channel: grpc.Channel) -> None:
    """The standard health service tells of the server, of the service and of each model."""
    ask = channel.unary_unary("/grpc.health.v1.Health/Check")
    statuses = {name: ask(b"\n" + bytes([len(name)]) + name.encode() if name else b"", timeout=30) for name in (
        "", "inference.GRPCInferenceService", "digits", "letters",
    )}  # fmt: skip
    assert list(statuses.values()) == [b"\x08\x01", b"\x08\x01", b"\x08\x01", b"\x08\x03"]


@pytest.mark.parametrize("rows", [1, 2, BIG])
def test_infer(client: InferenceServerClient, digits: Published, rows: int) -> None:
    """Answers are those of onnxruntime alone, bit for bit, of small and of very large requests."""
    tensor = np.resize(TENSOR, (rows, *TENSOR.shape[1:]))
    wanted = [InferRequestedOutput(onnx_models.OUTPUT)]
    result = client.infer("digits", [image(tensor)], model_version="3", outputs=wanted, request_id="seven")
    expected = onnx_models.run(MODEL, tensor)[onnx_models.OUTPUT]
    np.testing.assert_allclose(result.as_numpy(onnx_models.OUTPUT), expected, rtol=1e-5, atol=1e-7)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("digits", "3", "seven")
    assert answer.parameters["trunkline_request"].string_param == "seven"


def test_the_same_as_over_http(server: ServerProcess, client: InferenceServerClient, digits: Published) -> None:
    """Both ways lead to the same file, the same counts and the same memory for the truth."""
    before = samples(server)["trunkline_requests_total", "digits", "ok", "3"]
    result = client.infer("digits", [image(TENSOR[:1])])
    parameters = result.get_response().parameters
    http = server.http.post("/v2/models/digits/infer", json=REQUEST)
    assert parameters["trunkline_file"].string_param == http.headers["Trunkline-File"]
    assert samples(server)["trunkline_requests_total", "digits", "ok", "3"] == before + 2
    truth = {"request": parameters["trunkline_request"].string_param, "label": "class1"}
    told = server.http.post("/models/digits/truth", json=truth)
    assert told.json()["counted"], told.text


def test_typed_tensors(channel: grpc.Channel) -> None:
    """Numbers in typed fields, as people write them by hand, are answered in typed fields."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = service_pb2.ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="images", datatype="FP32", shape=[1, 3, SIDE, SIDE])
    tensor.contents.fp32_contents.extend(TENSOR[0].ravel().tolist())
    answer = stub.ModelInfer(request, timeout=30)
    expected = onnx_models.run(MODEL, TENSOR[:1])[onnx_models.OUTPUT]
    np.testing.assert_allclose(answer.outputs[0].contents.fp32_contents, expected[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        pytest.param(lambda c: c.infer("letters", [image()]), "NOT_FOUND", "no model 'letters'", id="no-model"),
        pytest.param(lambda c: c.infer("digits", [image()], "9"), "NOT_FOUND", "serves version 3", id="no-version"),
        pytest.param(
            lambda c: c.infer("digits", [image(TENSOR[:, :1])]), "INVALID_ARGUMENT", r"got FP32 of shape \[2, 1",
            id="shape",
        ),
        pytest.param(
            lambda c: c.infer("digits", [image(name="x")]), "INVALID_ARGUMENT", "'images' is missing", id="name"
        ),
        pytest.param(
            lambda c: c.infer("digits", [image()], outputs=[InferRequestedOutput("x")]), "INVALID_ARGUMENT",
            "no output x", id="output",
        ),
        pytest.param(lambda c: c.get_model_metadata("letters"), "NOT_FOUND", "no model", id="no-metadata"),
        pytest.param(lambda c: c.load_model("Not A Name"), "INVALID_ARGUMENT", "lower-case", id="no-name"),
        pytest.param(lambda c: c.load_model("digits"), "INVALID_ARGUMENT", "version: Field required", id="no-target"),
        pytest.param(lambda c: c.load_model("digits", config="{"), "INVALID_ARGUMENT", "not JSON", id="no-json"),
        pytest.param(lambda c: c.get_inference_statistics(), "UNIMPLEMENTED", "", id="no-such-method"),
    ],
)  # fmt: skip
def test_refusals(client: InferenceServerClient, call: Callable[[Any], object], code: str, said: str) -> None:
    """What cannot be answered gets the status code that fits, and the sentence that HTTP has."""
    found, sentence = refused(lambda: call(client))
    assert found == code
    assert re.search(said, sentence), sentence


def test_what_is_no_message(channel: grpc.Channel) -> None:
    """Bytes that are no message, and calls without one, are the client's fault, and are told so."""
    path = "/inference.GRPCInferenceService/ModelInfer"
    code, sentence = refused(lambda: channel.unary_unary(path)(b"\xff\xff", timeout=30))
    assert (code, sentence.startswith("the message is no ModelInferRequest")) == ("INVALID_ARGUMENT", True)
    code, sentence = refused(lambda: channel.stream_unary(path)(iter(()), timeout=30))
    assert (code, sentence) == ("INVALID_ARGUMENT", "the call has no message")


def test_a_message_that_does_not_come(channel: grpc.Channel) -> None:
    """A client that begins a call and sends nothing is let go after --body-timeout."""
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait(60)
        yield from ()

    call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    code, sentence = refused(lambda: call(nothing(), timeout=30))
    end.set()
    assert (code, sentence) == ("DEADLINE_EXCEEDED", "the message did not end within 0.5 seconds")


def test_a_client_that_does_not_wait(server: ServerProcess, client: InferenceServerClient) -> None:
    """A call whose deadline passes is dropped, and counted as gone."""
    slow = publish_slow(server, 200)
    assert server.load("slow", slow.target()).status_code == 200
    code, _ = refused(lambda: client.infer("slow", [image(TENSOR[:1])], client_timeout=0.05))
    assert code == "DEADLINE_EXCEEDED"
    wait_until(lambda: samples(server)["trunkline_requests_total", "slow", "gone", "1"] == 1)


def test_repository(server: ServerProcess, client: InferenceServerClient, digits: Published) -> None:
    """Models are loaded, listed and unloaded as over HTTP; what fails leaves the old one in place."""
    other = publish(server, 9)
    client.load_model("letters", config=json.dumps(other.target(2)))
    listed = {each.name: (each.version, each.state) for each in client.get_model_repository_index().models}
    assert listed["digits"] == ("3", "READY")
    assert listed["letters"] == ("2", "READY")
    broken = onnx_models.publish(server.store, b"no model", tests=0)
    code, sentence = refused(lambda: client.load_model("letters", config=json.dumps(broken.target(3))))
    assert (code, "cannot load this file" in sentence) == ("FAILED_PRECONDITION", True)
    missing = {**other.target(4), "file": "sha256:" + "0" * 64}
    assert refused(lambda: client.load_model("letters", config=json.dumps(missing)))[0] == "NOT_FOUND"
    assert client.infer("letters", [image()]).get_response().model_version == "2"
    client.unload_model("letters")
    assert "letters" not in server.models()


def test_parameters_of_a_load_by_name(server: ServerProcess, channel: grpc.Channel, digits: Published) -> None:
    """A load can name its target in plain parameters, too."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = service_pb2.RepositoryModelLoadRequest(model_name="again")
    for name, value in digits.target(5).items():
        field = "int64_param" if isinstance(value, int) else "string_param"
        setattr(request.parameters[name], field, value)
    request.parameters["options"].string_param = '{"standby": 30}'
    stub.RepositoryModelLoad(request, timeout=30)
    assert server.models()["again"]["version"] == 5
    stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="again"), timeout=30)
    assert "again" not in server.models()


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[ServerProcess]:
    """Give a server of tight limits, which a test may stop."""
    options = ["--grpc-port", "0", "--max-body", "100000", "--queue", "1", "--drain-delay", "2"]
    with running(tmp_path, *options) as server:
        slow = publish_slow(server, 60)
        assert server.load("digits", slow.target()).status_code == 200
        yield server


def test_limits_and_an_end_without_loss(narrow: ServerProcess) -> None:
    """Too large and too many are refused; whoever was accepted before SIGTERM, or in the drain, is answered."""
    client = InferenceServerClient(narrow.address["grpc"])
    code, sentence = refused(lambda: client.infer("digits", [image(np.resize(TENSOR, (50, 3, SIDE, SIDE)))]))
    assert (code, "larger than max" in sentence) == ("RESOURCE_EXHAUSTED", True)
    codes: list[str] = []

    def ask() -> str:
        try:
            client.infer("digits", [image(TENSOR[:1])])
        except InferenceServerException as error:
            codes.append(f"{error.status()} {error.message()}")
        else:
            codes.append("ok")
        return codes[-1]

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: any(code != "ok" for code in codes))  # one runs, one waits, the others are too many
    assert narrow.process is not None
    narrow.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not client.is_server_ready())
    wait_until(lambda: ask() == "ok")
    for thread in threads:
        thread.join()
    assert narrow.process.wait(30) == 0
    assert codes.count("ok") >= 2
    refusals = {code for code in codes if code != "ok"}
    assert all(code.startswith("StatusCode.RESOURCE_EXHAUSTED") and "--queue" in code for code in refusals)
    assert refused(client.is_server_live)[0] == "UNAVAILABLE"
    client.close()


def test_calls_under_way_when_the_server_stops(tmp_path: Path) -> None:
    """Without any drain delay, too, a call that was accepted is answered."""
    with running(tmp_path, "--grpc-port", "0") as server:
        assert server.load("digits", publish_slow(server, 80).target()).status_code == 200
        client, answers = InferenceServerClient(server.address["grpc"]), []

        def ask() -> None:
            answers.append(client.infer("digits", [image(TENSOR[:1])]).get_response().model_name)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: samples(server)["trunkline_queue_depth", "digits"] == 2)
        assert server.end() == 0
        for thread in threads:
            thread.join()
        assert answers == ["digits"] * 3
        client.close()


def test_a_server_that_was_told_takes_no_orders(tmp_path: Path) -> None:
    """What serves by its Deployment cannot be changed over gRPC either."""
    published = onnx_models.publish(Store(f"file://{tmp_path / 'store'}"), MODEL)
    target = json.dumps({"name": "digits", **published.target()})
    with running(tmp_path, "--grpc-port", "0", "--target", target) as server:
        client = InferenceServerClient(server.address["grpc"])
        for call in (lambda: client.load_model("digits"), lambda: client.unload_model("digits")):
            code, sentence = refused(call)
            assert (code, "takes no other orders" in sentence) == ("PERMISSION_DENIED", True)
        client.close()


def test_a_taken_port(server: ServerProcess, tmp_path: Path) -> None:
    """A port that another server has is an error at the start, told in one line, and never shared."""
    port = server.address["grpc"].rpartition(":")[2]
    command = [sys.executable, "-m", "workloads.serve", "--store", server.store.url, "--state", str(tmp_path)]
    result = subprocess.run(
        [*command, "--port", "0", "--grpc-port", port], capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert result.returncode == 1
    assert f"cannot listen for gRPC at 127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_who_does_not_ask_for_it_does_not_pay() -> None:
    """Without --grpc-port the server's process never loads gRPC or protobuf."""
    code = (
        "import sys, workloads.serve.__main__, onnxruntime; "
        "print([m for m in sys.modules if m.split('.')[0] == 'grpc' or m.startswith('google.protobuf')])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
