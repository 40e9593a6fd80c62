"""What Prometheus sees."""

from __future__ import annotations

from pathlib import Path

from specs.digests import short
from tests.support import onnx_models
from tests.support.inference_server import infer_request, running, samples

REQUEST = infer_request([0.0] * 3072, [1, 3, 32, 32])


def test_series_tell_the_story(tmp_path: Path) -> None:
    """Requests are counted by model, version and outcome; stages are timed; versions long gone have no series."""
    with running(tmp_path) as server:
        models = [onnx_models.publish(server.store, onnx_models.classifier(seed)) for seed in range(3)]
        server.load("digits", models[0].target(1))
        for _ in range(3):
            server.http.post("/v2/models/digits/infer", json=REQUEST)
        server.http.post("/v2/models/digits/infer", json=infer_request([0.0], [1]))
        server.http.post("/v2/models/nobody/infer", json=REQUEST)
        server.http.post("/models/digits/predict", content=onnx_models.picture(), headers={"Content-Type": "image/png"})
        server.load("digits", models[0].target(1) | {"file": models[1].file})
        seen = samples(server)
        assert seen["trunkline_requests_total", "digits", "ok", "1"] == 4
        assert seen["trunkline_requests_total", "digits", "rejected", "1"] == 1
        assert seen["trunkline_requests_total", "", "rejected", ""] == 1
        assert seen["trunkline_model_info", short(models[0].file), "digits", short(models[0].run), "1"] == 1
        for stage, count in (("queue", 4), ("inference", 4), ("decode", 1), ("total", 5)):
            assert seen["trunkline_request_seconds_count", "digits", stage, "1"] == count
            assert 0 < seen["trunkline_request_seconds_sum", "digits", stage, "1"] < 60
        assert seen["trunkline_batch_rows_sum", "digits"] == 4
        assert seen["trunkline_queue_depth", "digits"] == 0
        assert seen["trunkline_loads_total", "digits", "ok"] == 1
        assert seen["trunkline_loads_total", "digits", "CorruptArtifact"] == 1

        for version, model in enumerate(models[1:], start=2):
            assert server.load("digits", model.target(version)).status_code == 200
            server.http.post("/v2/models/digits/infer", json=REQUEST)
        seen = samples(server)
        assert {key[-1] for key in seen if key[0] == "trunkline_requests_total" and key[1] == "digits"} == {"2", "3"}
        assert [key for key in seen if key[0] == "trunkline_model_info"] == [
            ("trunkline_model_info", short(models[2].file), "digits", short(models[2].run), "3")
        ]

        server.http.post("/v2/repository/models/digits/unload")
        gone = {key for key in samples(server) if "digits" in key}
        assert {key[0] for key in gone} == {"trunkline_loads_total", "trunkline_loads_created"}
