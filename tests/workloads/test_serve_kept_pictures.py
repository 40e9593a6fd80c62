"""A real server that keeps pictures for people: through a client's eyes, over a kill, with a store in trouble."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from specs.digests import digest_bytes
from specs.kept_records import KeptRecord
from tests.support import onnx_models
from tests.support.inference_server import INFER, REQUEST, ServerProcess, publish, running, wait_until

LABELLING = {"randomPercent": 100.0, "maxPerDay": 50}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Give a server that is ready, with nothing loaded."""
    with running(tmp_path) as server:
        yield server


def load(server: ServerProcess, labelling: dict[str, Any] | None, seed: int = 1, version: int = 1) -> None:
    """Serve a classifier as ``digits``, with these options."""
    options = {} if labelling is None else {"labelling": labelling}
    answer = server.load("digits", publish(server, seed).target(version) | {"options": options})
    assert answer.status_code == 200, answer.text


def predict(server: ServerProcess, picture: bytes, request: str) -> httpx.Response:
    """Upload a picture."""
    headers = {"Content-Type": "image/png", "Trunkline-Request": request}
    answer = server.http.post("/models/digits/predict", content=picture, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def kept(server: ServerProcess) -> dict[str, KeptRecord]:
    """Give what is kept, by request."""
    keys = [key for key in server.store.list("kept/digits/") if key.endswith(".json")]
    records = [KeptRecord.decode(server.store.read(key) or b"") for key in keys]
    return {record.request: record for record in records}


def dropped(server: ServerProcess, reason: str) -> bool:
    """Whether pictures were dropped for a reason."""
    return f'trunkline_kept_dropped_total{{model="digits",reason="{reason}"}}' in server.http.get("/metrics").text


def test_an_uploaded_picture_is_kept_and_its_truth_is_known_after_a_kill(server: ServerProcess) -> None:
    """What the client sent and got is on the shelf; a killed server that comes back finds it when the truth is told."""
    load(server, LABELLING)
    picture = onnx_models.picture(3)
    answer = predict(server, picture, "upload-1").json()
    form = {"file": ("x.png", onnx_models.picture(4), "image/png")}
    named = server.http.post("/models/digits/predict", files=form).headers["Trunkline-Request"]
    assert server.http.post(INFER, json=REQUEST | {"id": "tensor"}).status_code == 200
    wait_until(lambda: len(kept(server)) == 2)
    record = kept(server)["upload-1"]
    assert server.store.read(record.picture) == picture
    assert record.predictions == answer["results"]
    assert (record.version, record.file[7:19], record.why) == (1, answer["file"], ["random"])
    assert kept(server)[named].digest == digest_bytes(onnx_models.picture(4))
    assert "trunkline_kept_total" in server.http.get("/metrics").text

    assert server.end(signal.SIGKILL) != 0
    server.start()
    truth = {"request": "upload-1", "label": record.predictions[0]["name"]}
    told = server.http.post("/models/digits/truth", json=truth)
    assert told.status_code == 200, told.text
    assert (told.json()["right"], told.json()["version"], told.json()["counted"]) == (1, 1, True)
    for nobody in ({"request": "upload-2", "label": "x"}, {"request": "../upload-1", "label": "x"}):
        assert server.http.post("/models/digits/truth", json=nobody).status_code == 404
    assert server.http.post("/models/..%2Fruns/truth", json=truth).status_code == 404

    predict(server, picture, "upload-1")
    wait_until(lambda: dropped(server, "similar"))  # the same request again, also after a restart


def test_what_is_kept_changes_without_a_load(server: ServerProcess) -> None:
    """Options told to a running server hold from the next picture on; without any, nothing is kept."""
    load(server, None)
    predict(server, onnx_models.picture(1), "before")
    load(server, LABELLING)
    predict(server, onnx_models.picture(2), "asked")
    wait_until(lambda: "asked" in kept(server))
    load(server, None)
    predict(server, onnx_models.picture(3), "after")
    assert not dropped(server, "error")
    assert server.end() == 0, "whatever waited would be kept by now"
    assert set(kept(server)) == {"asked"}


def test_a_server_may_be_forbidden_to_keep_anything(tmp_path: Path) -> None:
    """With --no-keep the spec may ask as it likes."""
    with running(tmp_path, "--no-keep") as server:
        load(server, LABELLING)
        predict(server, onnx_models.picture(1), "a")
        assert server.http.post("/models/digits/truth", json={"request": "b", "label": "x"}).status_code == 404
        assert server.end() == 0
        assert server.store.list("kept/") == []


def test_answers_do_not_need_the_shelf(server: ServerProcess) -> None:
    """Where nothing can be kept, every answer comes as ever, and a metric tells."""
    load(server, LABELLING)
    (server.store_path / "kept").write_text("in the way")
    for number in range(10):
        predict(server, onnx_models.picture(number), f"r{number}")
    wait_until(lambda: dropped(server, "store"))
    assert server.end() == 0
