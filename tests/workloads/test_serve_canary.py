"""A new version beside what serves: its share of requests, another share, its promotion and its end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from specs.digests import hex_of
from specs.kept_records import KeptRecord
from specs.serving import ServerOptions
from tests.support import onnx_models
from tests.support.inference_server import (
    INFER,
    REQUEST,
    ServerProcess,
    infer_request,
    publish,
    publish_slow,
    running,
    samples,
    serving,
    wait_until,
)  # fmt: skip
from tests.support.onnx_models import Published
from workloads.serve.lot import Lot

NOTHING = {"step": 0, "weight": 0, "mirror": 0}
PICTURE = onnx_models.picture()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give the server of most of these tests."""
    with running(tmp_path_factory.mktemp("server"), "--grpc-port", "0") as server:
        yield server


@pytest.fixture
def server(shared: ServerProcess) -> ServerProcess:
    """Give a server without a model."""
    shared.http.post("/v2/repository/models/digits/unload")
    return shared


def share(step: int, *, weight: int = 0, mirror: int = 0) -> dict[str, int]:
    """Give a share as a load asks for it."""
    return {"step": step, "weight": weight, "mirror": mirror}


def digits(server: ServerProcess) -> dict[str, Any]:
    """Give what the server says about its model."""
    return server.models()["digits"]


def ask(server: ServerProcess, model: Published, version: int, **more: Any) -> int:
    """Load a model and give the status."""
    return server.load("digits", model.target(version) | more).status_code


def beside(server: ServerProcess, part: dict[str, int]) -> tuple[Published, Published]:
    """Have version 1 serve, and version 2 beside it."""
    old, new = publish(server, 1), publish(server, 2)
    assert ask(server, old, 1) == 200
    assert ask(server, new, 2, share=part) == 200
    return old, new


def answers(server: ServerProcess, number: int) -> list[str]:
    """Give the version of each of so many answers."""
    return [server.http.post(INFER, json=REQUEST).json()["model_version"] for _ in range(number)]


def upload(server: ServerProcess) -> dict[str, Any]:
    """Have a picture looked at, and give the answer."""
    answer = server.http.post("/models/digits/predict", content=PICTURE, headers={"Content-Type": "image/png"})
    told: dict[str, Any] = answer.json()
    assert answer.headers["Trunkline-Version"] == str(told["version"])
    return told


def outcomes(server: ServerProcess, version: int) -> dict[str, float]:
    """Give how a version's requests ended, as far as any did."""
    found = {key[2]: value for key, value in samples(server).items()
             if key[0] == "trunkline_requests_total" and key[1] == "digits" and key[3] == str(version)}  # fmt: skip
    return {outcome: value for outcome, value in found.items() if value}


def test_a_canary_gets_nothing_until_it_is_told_to(server: ServerProcess) -> None:
    """At step 0 it is loaded and ready, and told apart from what serves; only those who name it are answered by it."""
    old, new = beside(server, share(0))
    entry = digits(server)
    assert (entry["version"], entry["file"], entry["ready"], entry["standby"]) == (1, old.file, True, None)
    canary = entry["canary"]
    assert (canary["version"], canary["file"], canary["ready"], canary["self_test"]) == (2, new.file, True, "")
    assert (canary["share"], canary["since"] > entry["since"]) == (NOTHING, True)
    assert set(answers(server, 20)) == {"1"}
    for version, model in ((1, old), (2, new)):
        answer = server.http.post(f"/v2/models/digits/versions/{version}/infer", json=REQUEST)
        assert (answer.json()["model_version"], answer.headers["Trunkline-File"]) == (
            str(version), hex_of(model.file)[:12]
        )  # fmt: skip
    assert server.http.post("/v2/models/digits/versions/3/infer", json=REQUEST).status_code == 404
    assert server.http.get("/v2/models/digits").json()["versions"] == ["1", "2"]
    index = server.http.post("/v2/repository/index", json={}).json()
    assert [(entry["version"], entry["state"]) for entry in index] == [("1", "READY"), ("2", "READY")]


@pytest.mark.parametrize("percent", [0, 1, 10, 33, 50, 67, 99, 100])
def test_a_lot_is_exact(percent: int) -> None:
    """Of a hundred draws exactly the share succeed, and of any ten in a row as many as can be."""
    lot = Lot()
    drawn = [lot.drawn(percent) for _ in range(200)]
    assert sum(drawn[:100]) == sum(drawn[100:]) == percent
    for start in range(190):
        assert abs(sum(drawn[start : start + 10]) - percent / 10) < 1


def test_a_share_of_the_requests_is_the_canary_s(server: ServerProcess) -> None:
    """So many of a hundred requests are answered by it, whatever way they come in, and counted as its own."""
    beside(server, share(1, weight=30))
    given = answers(server, 10)
    given += [str(upload(server)["version"]) for _ in range(10)]
    assert (given.count("1"), given[:10].count("2"), given[10:].count("2")) == (14, 3, 3)
    assert (outcomes(server, 1), outcomes(server, 2)) == ({"ok": 14}, {"ok": 6})


def test_another_share_changes_nothing_else(server: ServerProcess) -> None:
    """Asked for with another share a canary takes that one, from then on; the same share is not news."""
    _old, new = beside(server, share(0))
    first = digits(server)
    (server.state / "cache").rename(server.state / "aside")
    assert ask(server, new, 2, share=share(1, weight=50)) == 200
    second = digits(server)
    assert second["canary"]["share"] == share(1, weight=50)
    assert second["canary"]["since"] > first["canary"]["since"]
    assert {**second, "canary": None} == {**first, "canary": None}
    written = (server.state / "serving/digits.json").stat().st_mtime_ns
    assert ask(server, new, 2, share=share(1, weight=50)) == 200
    assert digits(server) == second
    assert (server.state / "serving/digits.json").stat().st_mtime_ns == written
    (server.state / "aside").rename(server.state / "cache")


def test_a_canary_takes_over_without_a_load(server: ServerProcess) -> None:
    """Asked for without a share it is all that serves, without store or cache; the one before may stand by."""
    old, new = beside(server, share(1, weight=10))
    told = {"options": ServerOptions(standby=600).plain()}
    (server.store_path / "artifacts").rename(server.store_path / "aside")
    for file in (server.state / "cache").iterdir():
        file.unlink()
    assert ask(server, new, 2, **told) == 200
    entry = digits(server)
    assert (entry["version"], entry["file"], entry["standby"], entry["canary"]) == (2, new.file, 1, None)
    assert set(answers(server, 10)) == {"2"}
    assert ask(server, old, 1, **told) == 200, "the way back is as short"
    assert serving(server) == hex_of(old.file)[:12]
    (server.store_path / "aside").rename(server.store_path / "artifacts")


def test_asking_for_what_serves_lets_the_canary_go(server: ServerProcess) -> None:
    """A canary that was given up is gone with its series and its files; what serves did not even blink."""
    old, new = beside(server, share(1, weight=50))
    before = digits(server)
    answers(server, 4)
    assert outcomes(server, 2) == {"ok": 2}
    assert ask(server, old, 1) == 200
    assert digits(server) == {**before, "canary": None}
    assert set(answers(server, 4)) == {"1"}
    assert outcomes(server, 2) == {}
    assert not (server.state / "cache" / hex_of(new.file)).exists()
    assert server.http.post("/v2/models/digits/versions/2/infer", json=REQUEST).status_code == 404


def test_a_canary_that_does_not_load(server: ServerProcess) -> None:
    """What serves goes on as it was, and the failure is told, until something else is asked for."""
    old, new = publish(server, 1), publish(server, 2)
    ask(server, old, 1)
    before = digits(server)
    broken = new.target(2) | {"file": "sha256:" + "0" * 64, "share": share(0), "options": {"standby": 5.0}}
    answer = server.load("digits", broken)
    assert (answer.status_code, answer.json()["reason"]) == (404, "ArtifactMissing")
    failed = {"failed_file": broken["file"], "failed_build": "", "failure": answer.json()["error"]}
    assert digits(server) == before | failed
    same = server.load("digits", new.target(1) | {"share": share(0)})
    assert same.status_code == 422
    assert "a version of its own" in same.json()["error"]
    assert ask(server, new, 2, share=share(0)) == 200
    assert (digits(server)["failed_file"], digits(server)["canary"]["ready"]) == (None, True)


def test_without_anything_to_be_beside_of(server: ServerProcess) -> None:
    """A share has no meaning where nothing serves yet, nor for what serves already."""
    model = publish(server, 1)
    for _ in range(2):
        assert ask(server, model, 1, share=share(1, weight=10)) == 200
        entry = digits(server)
        assert (entry["version"], entry["ready"], entry["canary"]) == (1, True, None)


@pytest.mark.parametrize("wrong", [{"weight": 101}, {"mirror": -1}, {"step": "x"}, 3])
def test_a_share_that_is_none(server: ServerProcess, wrong: object) -> None:
    """What is no share is refused, and changes nothing."""
    beside(server, share(0))
    before = digits(server)
    answer = server.load("digits", publish(server, 3).target(3) | {"share": wrong})
    assert (answer.status_code, digits(server)) == (400, before)


def test_a_canary_that_is_loading_is_told(server: ServerProcess) -> None:
    """While it loads it is told with the share it is to have, not ready; another one asked for replaces it."""
    old, new = beside(server, share(1, weight=100))
    slow = publish_slow(server, 30)
    asking = threading.Thread(target=ask, args=(server, slow, 3), kwargs={"share": share(2, weight=20)})
    asking.start()
    wait_until(lambda: digits(server)["loading"])
    entry = digits(server)
    assert (entry["version"], entry["canary"]) == (1, {
        **slow.target(3), "build": "", "share": share(2, weight=20), "ready": False, "since": 0.0, "self_test": "",
    })  # fmt: skip
    assert set(answers(server, 3)) == {"1"}, "the canary before is not wanted any more"
    asking.join()
    assert digits(server)["canary"]["ready"] is True
    assert (digits(server)["file"], new.file != old.file) == (old.file, True)


def test_clients_never_see_its_trouble(server: ServerProcess) -> None:
    """What the canary fails at what serves answers; it counts as an error of the canary, and no client is told."""
    old = publish(server, 1)
    new = onnx_models.publish(server.store, onnx_models.fragile_classifier(2))
    ask(server, old, 1)
    ask(server, new, 2, share=share(1, weight=50))
    bad = infer_request([666.0] * 3072, [1, 3, 32, 32])
    given = [server.http.post(INFER, json=bad) for _ in range(4)]
    assert [answer.status_code for answer in given] == [200] * 4
    assert {answer.headers["Trunkline-File"] for answer in given} == {hex_of(old.file)[:12]}
    assert (outcomes(server, 1), outcomes(server, 2)) == ({"ok": 4}, {"error": 2})
    assert answers(server, 2) == ["1", "2"]
    exactly = server.http.post("/v2/models/digits/versions/2/infer", json=bad)
    assert exactly.status_code == 500, "who names it gets it"
    wrong = [server.http.post(INFER, json=infer_request([0.0], [1])).status_code for _ in range(4)]
    assert wrong == [400] * 4
    assert outcomes(server, 2) == {"ok": 1, "error": 3}, "what both refuse is the client's fault"


def test_grpc_takes_part(server: ServerProcess) -> None:
    """What comes by gRPC is shared, saved from the canary's trouble, and copied like all else."""
    old = publish(server, 1)
    new = onnx_models.publish(server.store, onnx_models.fragile_classifier(2))
    ask(server, old, 1)
    ask(server, new, 2, share=share(1, weight=50))
    with contextlib.closing(InferenceServerClient(server.address["grpc"])) as client:

        def answering(value: float, version: str = "") -> str:
            given = InferInput("images", [1, 3, 32, 32], "FP32")
            given.set_data_from_numpy(np.full((1, 3, 32, 32), value, np.float32))
            return str(client.infer("digits", [given], version).get_response().model_version)

        assert [answering(0.5) for _ in range(4)] == ["1", "2", "1", "2"]
        assert [answering(666) for _ in range(2)] == ["1", "1"]
        with pytest.raises(InferenceServerException, match="the model failed"):
            answering(666, "2")
        assert (outcomes(server, 1), outcomes(server, 2)) == ({"ok": 4}, {"ok": 2, "error": 2})
        ask(server, new, 2, share=share(2, mirror=100))
        assert answering(0.5) == "1"
    wait_until(lambda: outcomes(server, 2) == {"ok": 3, "error": 2})


def test_a_canary_of_another_size(server: ServerProcess) -> None:
    """Pictures are prepared for whoever answers, also for copies; tensors that only one takes that one answers."""
    rows = np.array([[4, 4, 20, 20, 0.9, 1]], np.float32)
    for version, side in ((1, 32), (2, 64)):
        model = onnx_models.publish(server.store, onnx_models.detector(rows, side), task="detect", side=side)
        assert ask(server, model, version, share=share(1, weight=50)) == 200
    versions = [upload(server)["version"] for _ in range(4)]
    assert sorted(versions) == [1, 1, 2, 2]
    assert answers(server, 4) == ["1"] * 4
    assert outcomes(server, 2) == {"ok": 2, "error": 2}
    assert ask(server, model, 2, share=share(2, mirror=100)) == 200
    assert [upload(server)["version"] for _ in range(3)] == [1] * 3
    wait_until(lambda: outcomes(server, 2) == {"ok": 5, "error": 2})


def test_copies_are_nobody_s_business(server: ServerProcess) -> None:
    """Clients get the answers of what serves; those of the canary to copies are only counted, and never judged."""
    old = publish(server, 1)
    new = onnx_models.publish(server.store, onnx_models.fragile_classifier(2))
    ask(server, old, 1)
    ask(server, new, 2, share=share(1, mirror=50))
    assert set(answers(server, 6)) == {"1"}
    named = [upload(server) for _ in range(4)]
    assert {answer["version"] for answer in named} == {1}
    server.http.post(INFER, json=infer_request([666.0] * 3072, [1, 3, 32, 32]))
    server.http.post(INFER, json=infer_request([666.0] * 3072, [1, 3, 32, 32]))
    wait_until(lambda: outcomes(server, 2) == {"ok": 5, "error": 1})
    seen = samples(server)
    assert seen["trunkline_confidence_count", "digits", "1"] == 12
    assert seen["trunkline_confidence_count", "digits", "2"] == 5
    assert seen["trunkline_canary_percent", "digits", "mirror", "2"] == 50
    assert seen["trunkline_mirror_dropped_total", "digits"] == 0
    told = server.http.post("/models/digits/truth", json={"request": named[0]["request"], "label": "class1"}).json()
    assert told["version"] == 1


def test_the_truth_finds_who_answered(server: ServerProcess) -> None:
    """What a client was told by the canary is judged as the canary's, also after it took over."""
    _old, new = beside(server, share(1, weight=50))
    given = [upload(server) for _ in range(4)]
    for answer in given[:2]:
        truth = {"request": answer["request"], "label": "class1"}
        told = server.http.post("/models/digits/truth", json=truth).json()
        assert (told["version"], told["counted"]) == (answer["version"], True)
    assert ask(server, new, 2) == 200
    for answer in given[2:]:
        truth = {"request": answer["request"], "label": "class1"}
        assert server.http.post("/models/digits/truth", json=truth).json()["counted"] is True
    seen = samples(server)
    for version in ("1", "2"):
        judged = [seen["trunkline_truth_total", "digits", verdict, version] for verdict in ("right", "wrong")]
        assert sum(judged) == 2
    assert ("trunkline_canary_percent", "digits", "weight", "2") not in seen


def test_series_of_both_and_of_the_one_before(server: ServerProcess) -> None:
    """What serves, its canary and what served before have series; the next release leaves two of them."""
    third = publish(server, 3)
    ask(server, third, 1)
    old, new = publish(server, 1), publish(server, 2)
    ask(server, old, 2)
    ask(server, new, 3, share=share(1, weight=10))

    def versions() -> set[str]:
        return {key[-1] for key in samples(server) if key[:2] == ("trunkline_requests_total", "digits")}

    assert versions() == {"1", "2", "3"}
    info = [key[-1] for key in samples(server) if key[0] == "trunkline_model_info"]
    assert info == ["2"]
    ask(server, new, 3)
    assert versions() == {"2", "3"}
    assert [key[-1] for key in samples(server) if key[0] == "trunkline_model_info"] == ["3"]


def test_options_are_the_model_s(server: ServerProcess) -> None:
    """Options that come with a canary are in force for both, at once; one without any changes none."""
    _old, new = beside(server, share(0))
    options = ServerOptions.model_validate({"standby": 3, "labelling": {"randomPercent": 10.0, "maxPerDay": 5}})
    assert ask(server, new, 2, share=share(0), options=options.plain()) == 200
    assert digits(server)["options"] == options.digest
    assert ask(server, new, 2, share=share(1, weight=1)) == 200
    assert digits(server)["options"] == options.digest


def test_a_kill_takes_neither(tmp_path: Path) -> None:
    """Killed, it comes back with both, share and since; a canary that it dies of again and again stays away at last."""
    server = ServerProcess(tmp_path)
    try:
        server.start()
        _old, new = beside(server, share(1, weight=50))
        before = server.models()
        for _ in range(2):
            server.end(signal.SIGKILL)
            server.start()
            assert server.models() == before
        assert sorted(answers(server, 4)) == ["1", "1", "2", "2"]
        server.end(signal.SIGKILL)
        server.start()
        entry = digits(server)
        assert (entry["version"], entry["ready"], entry["canary"]) == (1, True, None)
        assert entry["failed_file"] == new.file
        assert "died 3 times" in entry["failure"]
        assert ask(server, new, 2, share=share(1, weight=50)) == 200, "asked for once more it is tried once more"
        assert digits(server)["canary"]["ready"] is True
    finally:
        server.close()


def test_pictures_are_kept_of_what_clients_were_told(server: ServerProcess) -> None:
    """Pictures that either version answered are kept, with that version, by the options of the model; copies never."""
    labelling = {"randomPercent": 100.0, "maxPerDay": 50}
    _old, new = beside(server, share(1, weight=50))
    assert ask(server, new, 2, share=share(1, weight=50), options={"labelling": labelling}) == 200
    answered = {}
    for seed in range(4):
        answer = server.http.post(
            "/models/digits/predict", content=onnx_models.picture(seed), headers={"Content-Type": "image/png"}
        ).json()
        answered[answer["request"]] = answer["version"]
    assert sorted(answered.values()) == [1, 1, 2, 2]

    def kept() -> dict[str, int]:
        keys = [key for key in server.store.list("kept/digits/") if key.endswith(".json")]
        records = [KeptRecord.decode(server.store.read(key) or b"") for key in keys]
        return {record.request: record.version for record in records}

    wait_until(lambda: kept() == answered)
    assert ask(server, new, 2, share=share(2, mirror=100)) == 200
    told = server.http.post(
        "/models/digits/predict", content=onnx_models.picture(9), headers={"Content-Type": "image/png"}
    ).json()
    wait_until(lambda: outcomes(server, 2) == {"ok": 3})
    wait_until(lambda: kept() == answered | {told["request"]: 1})
