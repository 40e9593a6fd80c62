"""The truth about pictures that were answered, told later, by those who ran into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from specs.traffic import VERDICTS
from tests.support import onnx_models
from tests.support.inference_server import REQUEST, ServerProcess, infer_request, running, samples
from tests.support.onnx_models import Published

PICTURE = {"Content-Type": "image/png"}
ROWS = np.array([[16, 16, 48, 48, 0.9, 1], [2, 2, 12, 12, 0.6, 0], [16, 16, 47, 47, 0.4, 1]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a server without models."""
    with running(tmp_path_factory.mktemp("truth")) as server:
        yield server


@pytest.fixture
def digits(server: ServerProcess) -> Iterator[Published]:
    """Give a classifier, freshly loaded as ``digits``, version 1."""
    model = onnx_models.publish(server.store, onnx_models.classifier(1))
    assert server.load("digits", model.target(1)).status_code == 200
    yield model
    server.http.post("/v2/repository/models/digits/unload")


@pytest.fixture
def shelf(server: ServerProcess) -> Iterator[Published]:
    """Give a model that finds ``ROWS`` in every picture of 64 pixels, as ``shelf``."""
    model = onnx_models.publish(server.store, onnx_models.detector(ROWS), task="detect", side=64)
    assert server.load("shelf", model.target(1)).status_code == 200
    yield model
    server.http.post("/v2/repository/models/shelf/unload")


def predict(server: ServerProcess, model: str, seed: int = 0, **headers: str) -> dict[str, Any]:
    """Upload a picture; the name of the request is in header and body alike."""
    side = onnx_models.SIDE if model == "digits" else 128
    answer = server.http.post(
        f"/models/{model}/predict", content=onnx_models.picture(seed, (side, side)), headers=PICTURE | headers
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["Trunkline-Request"] == found["request"]
    return found


def tell(server: ServerProcess, model: str, truth: object) -> httpx.Response:
    """Tell the truth."""
    return server.http.post(f"/models/{model}/truth", json=truth)


def told(server: ServerProcess, model: str = "digits", version: str = "1") -> dict[str, float]:
    """Give what is counted."""
    found = samples(server)
    return {verdict: found["trunkline_truth_total", model, verdict, version] for verdict in VERDICTS}


def test_a_picture_is_right_or_wrong_once(server: ServerProcess, digits: Published) -> None:
    """The best class counts, under the version that answered; what is told again is judged again, and not counted."""
    first, second = predict(server, "digits"), predict(server, "digits", 1)
    assert first["request"] != second["request"]
    assert told(server) == {"right": 0, "wrong": 0, "missed": 0}
    best = first["results"][0]["name"]
    expected = {"model": "digits", "request": first["request"], "version": 1, "right": 1, "wrong": 0, "missed": 0}
    assert tell(server, "digits", {"request": first["request"], "label": best}).json() == expected | {"counted": True}
    again = tell(server, "digits", {"request": first["request"], "label": best})
    assert (again.status_code, again.json()) == (200, expected | {"counted": False})
    assert tell(server, "digits", {"request": second["request"], "label": "something new"}).json()["wrong"] == 1
    assert told(server) == {"right": 1, "wrong": 1, "missed": 0}

    assert server.load("digits", digits.target(2)).status_code == 200
    third = predict(server, "digits", 2)
    tell(server, "digits", {"request": third["request"], "label": third["results"][0]["name"]})
    assert told(server) == {"right": 1, "wrong": 1, "missed": 0}
    assert told(server, version="2") == {"right": 1, "wrong": 0, "missed": 0}


def test_clients_may_name_their_requests(server: ServerProcess, digits: Published) -> None:
    """A header names an upload, the protocol's id an inference; without one the answer tells which name it got."""
    assert predict(server, "digits", **{"Trunkline-Request": "belt-7/0001"})["request"] == "belt-7/0001"
    assert tell(server, "digits", {"request": "belt-7/0001", "label": "class0"}).status_code == 200
    named = server.http.post("/v2/models/digits/infer", json=REQUEST | {"id": "mine"})
    assert (named.json()["id"], named.headers["Trunkline-Request"]) == ("mine", "mine")
    best = onnx_models.NAMES[int(np.argmax(named.json()["outputs"][0]["data"]))]
    assert tell(server, "digits", {"request": "mine", "label": best}).json()["right"] == 1
    unnamed = server.http.post("/v2/models/digits/infer", json=REQUEST)
    assert "id" not in unnamed.json()
    given = unnamed.headers["Trunkline-Request"]
    assert tell(server, "digits", {"request": given, "label": best}).json()["right"] == 1
    odd = server.http.post("/v2/models/digits/infer", json=REQUEST | {"id": "a\r\nb: c"})
    assert odd.json()["id"] == "a\r\nb: c"
    assert odd.headers["Trunkline-Request"].isalnum() is False
    refused = server.http.post("/models/digits/predict", content=b"x", headers=PICTURE | {"Trunkline-Request": "a b"})
    assert refused.status_code == 400
    assert "without spaces" in refused.json()["error"]


def test_pictures_of_one_request(server: ServerProcess, digits: Published) -> None:
    """Of an inference with several pictures each has its own truth, told by its number."""
    values = np.random.default_rng(3).random((3, 3, 32, 32), np.float32)
    asked = infer_request(values.ravel().tolist(), list(values.shape)) | {"id": "three"}
    scores = np.array(server.http.post("/v2/models/digits/infer", json=asked).json()["outputs"][0]["data"])
    best = [onnx_models.NAMES[number] for number in scores.reshape(3, -1).argmax(axis=1)]
    truths = [{"request": "three", "picture": number, "label": name} for number, name in enumerate(best)]
    answer = tell(server, "digits", truths)
    assert [each["right"] for each in answer.json()["truths"]] == [1, 1, 1]
    assert told(server) == {"right": 3, "wrong": 0, "missed": 0}
    for wrong, said in (({}, "say which by picture"), ({"picture": 3}, "there is no 3")):
        refused = tell(server, "digits", {"request": "three", "label": "class1"} | wrong)
        assert refused.status_code == 400
        assert said in refused.json()["error"]


def test_objects_are_right_wrong_or_missed(server: ServerProcess, shelf: Published) -> None:
    """Detections are matched with the boxes told, best first, by class, at an overlap of one half, in its pixels."""
    found = predict(server, "shelf")
    assert [each["class"] for each in found["results"]] == [1, 0, 1]
    boxes = [
        {"name": "class1", "box": {"x1": 30, "y1": 34, "x2": 96, "y2": 96}},  # the picture is twice the input's size
        {"class": 2, "box": {"x1": 4, "y1": 4, "x2": 24, "y2": 24}},  # there, but of another class
        {"name": "class9", "box": {"x1": 100, "y1": 100, "x2": 120, "y2": 120}},
    ]
    answer = tell(server, "shelf", {"request": found["request"], "boxes": boxes}).json()
    assert (answer["right"], answer["wrong"], answer["missed"]) == (1, 2, 2)
    empty = tell(server, "shelf", {"request": predict(server, "shelf", 1)["request"], "boxes": []}).json()
    assert (empty["right"], empty["wrong"], empty["missed"]) == (0, 3, 0)
    assert told(server, "shelf") == {"right": 1, "wrong": 5, "missed": 2}


def test_one_bad_truth_among_many(server: ServerProcess, digits: Published) -> None:
    """In a list each is answered on its own: an unknown one keeps no other from being counted."""
    known = predict(server, "digits")
    best = known["results"][0]["name"]
    answer = tell(server, "digits", [
        {"request": "nobody", "label": best}, {"request": known["request"], "label": best},
        {"request": known["request"], "label": best},
    ])  # fmt: skip
    assert answer.status_code == 200
    unknown, counted, again = answer.json()["truths"]
    assert "nothing is known of request 'nobody'" in unknown["error"]
    assert (counted["counted"], again["counted"]) == (True, False)
    assert told(server)["right"] == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param(b'{"request": "nobody", "label": "x"}', 404, "nothing is known of request", id="unknown"),
        pytest.param(b"{", 400, "not a truth", id="no-json"),
        pytest.param(b"7", 400, "not a truth", id="no-object"),
        pytest.param(b'{"request": "r"}', 400, "either label", id="says-nothing"),
        pytest.param(b'{"request": "r", "label": "x", "boxes": []}', 400, "either label", id="says-two-things"),
        pytest.param(b'{"request": "r", "label": "x", "more": 1}', 400, "more", id="unknown-field"),
        pytest.param(b'{"request": "known", "boxes": []}', 400, "give its label", id="boxes-of-a-classifier"),
        pytest.param(
            b'{"request": "r", "boxes": [{"class": 1, "box": {"x1": 2, "y1": 0, "x2": 1, "y2": 1}}]}', 400,
            "x1 must be below x2", id="turned-box",
        ),
        pytest.param(
            b'{"request": "r", "boxes": [{"box": {"x1": 0, "y1": 0, "x2": 1, "y2": 1}}]}', 400, "either class or name",
            id="no-class",
        ),
        pytest.param(
            b'{"request": "r", "boxes": [{"class": 1, "box": {"x1": NaN, "y1": 0, "x2": 1, "y2": 1}}]}', 400,
            "not a truth", id="no-number",
        ),
    ],
)  # fmt: skip
def test_what_is_no_truth(server: ServerProcess, digits: Published, body: bytes, status: int, said: str) -> None:
    """A truth that cannot be understood is refused with a sentence, and nothing is counted."""
    predict(server, "digits", **{"Trunkline-Request": "known"})
    answer = server.http.post("/models/digits/truth", content=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]
    assert told(server) == {"right": 0, "wrong": 0, "missed": 0}


def test_a_server_that_does_not_watch(tmp_path: Path) -> None:
    """With --no-watch requests are counted and timed as ever, pictures are not, and no truth can be told."""
    with running(tmp_path, "--no-watch") as server:
        model = onnx_models.publish(server.store, onnx_models.classifier(1))
        server.load("digits", model.target(1))
        request = predict(server, "digits")["request"]
        assert tell(server, "digits", {"request": request, "label": "class1"}).status_code == 404
        found = samples(server)
        assert found["trunkline_requests_total", "digits", "ok", "1"] == 1
        assert found["trunkline_request_seconds_count", "digits", "total", "1"] == 1
        assert not [key for key in found if key[0].startswith(("trunkline_image", "trunkline_confidence"))]
