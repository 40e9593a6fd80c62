"""What Prometheus sees."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.http import InferenceServerClient, InferInput

from specs.digests import digest_of, short
from specs.traffic import OF_PICTURES, OUTCOMES, SECONDS, VERDICTS
from tests.support import onnx_models
from tests.support.counted import counted
from tests.support.inference_server import infer_request, running, samples
from workloads.preprocess import decode, preprocess
from workloads.serve.exposition import Metrics
from workloads.serve.state import Target

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


def target(version: int, file: str = "a") -> Target:
    """Give a release."""
    return Target(version=version, file=digest_of(file), run=digest_of("run"), weights=digest_of("weights"))


def versions(metrics: Metrics, metric: str) -> set[str]:
    """Give the versions that a metric has series for."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.labels["version"] for family in families for sample in family.samples if sample.name == metric}


def test_pictures_are_counted_by_both_ways_in(tmp_path: Path) -> None:
    """Uploads, JSON and binary tensors of several rows count the same; refused and failed requests count no picture."""
    with running(tmp_path) as server:
        model = onnx_models.publish(server.store, onnx_models.classifier(1))
        server.load("digits", model.target(3))
        empty = counted(server.http.get("/metrics").text, "digits", 3)
        assert empty.pictures.keys() == OF_PICTURES.keys()
        assert list(empty.classes) == onnx_models.NAMES
        assert (empty.outcomes, empty.truth) == (dict.fromkeys(OUTCOMES, 0), dict.fromkeys(VERDICTS, 0))
        assert not any(map(sum, [*empty.pictures.values(), *empty.classes.values(), *empty.stages.values()]))

        image = onnx_models.picture(5)
        server.http.post("/models/digits/predict", content=image, headers={"Content-Type": "image/png"})
        tensor = preprocess(decode(image), "classify", (32, 32))
        three = np.concatenate([tensor] * 3)
        server.http.post("/v2/models/digits/infer", json=infer_request(tensor.ravel().tolist(), [1, 3, 32, 32]))
        given = InferInput("images", list(three.shape), "FP32")
        given.set_data_from_numpy(three)
        with InferenceServerClient(server.host) as client:
            client.infer("digits", [given])
        server.http.post("/v2/models/digits/infer", json=infer_request([0.0], [1]))
        server.http.post("/models/digits/predict", content=b"no picture", headers={"Content-Type": "image/png"})

        seen = counted(server.http.get("/metrics").text, "digits", 3)
        assert (seen.outcomes["ok"], seen.outcomes["rejected"], seen.requests) == (3, 2, 5)
        for name in ("confidence", "brightness", "contrast", "sharpness"):
            assert sorted(seen.pictures[name])[-2:] == [0, 5], name  # five equal pictures
        assert (sum(seen.pictures["size"]), sum(seen.pictures["detections"])) == (1, 0)
        assert sorted(seen.mix.values())[-2:] == [0, 5]
        assert {stage: sum(counts) for stage, counts in seen.stages.items()} == {
            "decode": 2, "queue": 3, "inference": 3, "total": 5,
        }  # fmt: skip
        assert counted(server.http.get("/metrics").text, "digits", 3) == seen  # looking changes nothing


def test_when_a_version_began_to_serve_outlives_a_restart(tmp_path: Path) -> None:
    """It is the moment of the swap, whoever asks: metrics, the controller, or a server that was started again."""
    with running(tmp_path) as server:
        before = time.time()
        server.load("digits", onnx_models.publish(server.store, onnx_models.classifier(1)).target(1))
        first = server.models()["digits"]["since"]
        assert before <= first <= time.time()
        assert samples(server)["trunkline_model_loaded_timestamp_seconds", "digits", "1"] == first
        server.end()
        server.start()
        assert server.models()["digits"]["since"] == first
        assert samples(server)["trunkline_model_loaded_timestamp_seconds", "digits", "1"] == first
        server.load("digits", onnx_models.publish(server.store, onnx_models.classifier(2)).target(2))
        assert server.models()["digits"]["since"] > first


def test_the_last_two_versions_that_served_have_series() -> None:
    """One that comes back goes on counting, and stays when the next one comes; the one that never came back goes."""
    metrics = Metrics()
    observer = metrics.observer("digits", ["a", "b"])
    for version in (1, 2):
        metrics.serve("digits", target(version), observer, int, since=version)
        observer.series.truth["right"] += version
    metrics.serve("digits", target(1), observer, int, since=3)
    observer.series.truth["right"] += 10
    assert observer.series.loaded == 3
    metrics.serve("digits", target(3), observer, int, since=4)
    found = counted(metrics.text().decode(), "digits", 1)
    assert found.truth["right"] == 11
    for metric in ("trunkline_truth_total", "trunkline_confidence_count", "trunkline_model_loaded_timestamp_seconds"):
        assert versions(metrics, metric) == {"1", "3"}


def test_a_number_that_means_another_file_begins_anew() -> None:
    """Counts of two files are never added up, though both were called the same version."""
    metrics = Metrics()
    observer = metrics.observer("digits", ["a", "b"])
    metrics.serve("digits", target(1), observer, int, since=1)
    observer.series.truth["right"] += 1
    metrics.serve("digits", target(1, "b"), observer, int, since=2)
    assert counted(metrics.text().decode(), "digits", 1).truth["right"] == 0


def test_a_version_long_gone_stays_gone() -> None:
    """A request that outlives its version's series does not bring them back."""
    metrics = Metrics()
    old = metrics.observer("digits", ["a"])
    metrics.serve("digits", target(1), old, int, since=1)
    with metrics.request() as tally:
        tally.series = old.series
        for version in (2, 3):
            metrics.serve("digits", target(version), metrics.observer("digits", ["a"]), int, since=version)
    old.inference(1, 0.1, [0.1])
    assert versions(metrics, "trunkline_requests_total") == {"2", "3"}


def test_class_names_are_whatever_people_write() -> None:
    """Quotes, backslashes and line ends in a class's name reach Prometheus as they are."""
    names = ['a "quoted" one', "back\\slash", "two\nlines", "ünïcödé", 'b,le="1"}']
    metrics = Metrics()
    observer = metrics.observer("digits", names)
    metrics.serve("digits", target(1), observer, int, since=1)
    assert observer.series.seen is not None
    observer.series.seen.saw(np.zeros((1, 3, 8, 8), np.float32), [np.array([[0, 0.1, 0, 0.2, 0.7]], np.float32)])
    found = counted(metrics.text().decode(), "digits", 1)
    assert list(found.classes) == names
    assert found.mix == dict.fromkeys(names, 0) | {names[-1]: 1}


def test_a_histogram_is_what_prometheus_expects() -> None:
    """Buckets add up to the last one, which is the count; the sum is that of the values, by the parser of others."""
    metrics = Metrics()
    observer = metrics.observer("digits", ["a"])
    metrics.serve("digits", target(1), observer, int, since=1)
    for seconds in (0.0002, 0.02, 0.02, 70.0):
        observer.series.stages["total"].add(seconds)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    family = families[SECONDS.metric]
    assert (family.type, family.documentation) == ("histogram", SECONDS.help)
    samples = [sample for sample in family.samples if sample.labels["stage"] == "total"]
    buckets = {float(s.labels["le"]): s.value for s in samples if s.name.endswith("_bucket")}
    assert list(buckets) == [*SECONDS.edges, math.inf]
    assert [buckets[edge] for edge in (0.0005, 0.015, 0.02, 10.0, math.inf)] == [1, 1, 3, 3, 4]
    others = {sample.name: sample.value for sample in samples if not sample.name.endswith("_bucket")}
    assert others == {f"{SECONDS.metric}_sum": pytest.approx(70.0402), f"{SECONDS.metric}_count": 4}
