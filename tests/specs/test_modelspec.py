"""What a spec asks for: its inputs, and what must fit together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from specs.base import seconds
from specs.data import Source
from specs.modelspec import MAIN_METRIC, ModelKey, ModelSpec, Spec

HERE = Path(__file__).parent
FULL: dict[str, Any] = yaml.safe_load((HERE / "full.yaml").read_text())
SMALLEST: dict[str, Any] = yaml.safe_load((HERE / "smallest.yaml").read_text())


def spec(base: dict[str, Any] = SMALLEST, **changes: Any) -> Spec:
    """Give a spec with some dotted paths (written with ``__``) set; ``...`` removes."""
    data = copy.deepcopy(base["spec"])
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = data
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
        if value is ...:
            del section[last]
    return Spec.model_validate(data, by_alias=True, by_name=False)


def test_the_key_is_namespace_and_name() -> None:
    """A model without a namespace is in the default one, as in Kubernetes."""
    assert ModelSpec.model_validate(SMALLEST, by_alias=True, by_name=False).key == ModelKey("default", "digits")
    assert str(ModelSpec.model_validate(FULL, by_alias=True, by_name=False).key) == "retail/shelf-detector"


def test_other_metadata_is_kept() -> None:
    """Labels and annotations are nobody's business here, and stay."""
    data = SMALLEST | {"metadata": {"name": "a", "labels": {"team": "x"}}}
    model = ModelSpec.model_validate(data, by_alias=True, by_name=False)
    assert model.metadata.model_dump() == {"name": "a", "namespace": "default", "labels": {"team": "x"}}


DECIDES: dict[str, dict[str, Any]] = {
    "task": {"task": "detect"},
    "data": {"data__train__uri__digest": "sha256:" + "9" * 64},
    "model": {"training__model": "yolo26s-cls.yaml"},
    "model file": {"training__model": {"uri": {"url": "s3://a/b.pt", "digest": "sha256:" + "9" * 64}}},
    "an argument": {"training__args": {"epochs": 2}},
    "nonce": {"training__nonce": "again"},
    "pinned runtime": {"training__runtime": "ultralytics==8.4.190"},
}
DOES_NOT: dict[str, dict[str, Any]] = {
    "suspend": {"suspend": True},
    "where the data lies": {"data__train__uri__url": "s3://elsewhere/digits"},
    "golden": {"data__golden": {"uri": {"url": "store://golden"}}},
    "expectations": {"data__expect": {"minImages": 1}},
    "resources": {"training__resources": {"limits": {"cpu": "1"}}},
    "deadline": {"training__activeDeadlineSeconds": 9},
    "exports": {"exports": [{"name": "onnx", "format": "onnx", "args": {"opset": 17}}]},
    "serving": {"serving": ...},
    "policy": {"policy": {"maxOpenProposals": 2}},
    "empty arguments said": {"training__args": {}},
    "empty nonce said": {"training__nonce": ""},
}


@pytest.mark.parametrize("changes", DECIDES.values(), ids=DECIDES.keys())
def test_what_decides_the_weights_is_an_input(changes: dict[str, Any]) -> None:
    """Each of these names another run."""
    assert spec(**changes).inputs_digest != spec().inputs_digest


@pytest.mark.parametrize("changes", DOES_NOT.values(), ids=DOES_NOT.keys())
def test_what_does_not_decide_the_weights_never_retrains(changes: dict[str, Any]) -> None:
    """None of these names another run."""
    assert spec(**changes).inputs_digest == spec().inputs_digest


def test_inputs_digests_are_pinned() -> None:
    """These names are in stores and releases already: another canonical form would retrain the world."""
    digest = "sha256:" + "ab" * 32
    assert spec().inputs() == {
        "v": 1, "task": "classify", "data": digest, "model": {"name": "yolo26n-cls.yaml"}, "args": {}, "nonce": "",
    }  # fmt: skip
    assert spec().inputs_digest == PINNED


PINNED = "sha256:1b2ce8356492ce04ff6eafdb04ac8e1854c55766c8e3f6141a5fe3a1ae3bee85"


def test_where_a_file_of_weights_lies_is_no_input() -> None:
    """The same base weights from another place are the same weights."""
    one, other = (
        spec(training__model={"uri": {"url": url, "digest": "sha256:" + "9" * 64}})
        for url in ("s3://a/b.pt", "file:///b.pt")
    )
    assert one.inputs_digest == other.inputs_digest


def test_image_size_is_that_of_training() -> None:
    """Evaluation and export use the size that was trained for; the trainer's default where none is given."""
    assert spec(FULL).image_size == 640
    assert spec().image_size is None


def test_every_task_has_a_main_metric() -> None:
    """Parity and summaries always have a metric to mean."""
    assert set(MAIN_METRIC) == set(Spec.model_fields["task"].annotation.__args__)  # type: ignore[union-attr]


CVAT = {"url": "https://cvat.example.com", "project": "shelf"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two exports of one name": ({"exports": [{"name": "onnx", "format": "onnx"}] * 2}, "exports: onnx is given twice"),
    "two gates of one name": (
        {"gates": [{"name": "a", "metric": "latency/p95_ms", "max": 1}] * 2},
        "gates: a is given twice",
    ),
    "two signals of one name": (
        {"monitoring": {"window": "1h", "signals": [{"name": "a", "type": "Latency", "max": "1s"}] * 2}},
        "monitoring.signals: a is given",
    ),
    "trigger without signals": (
        {"triggers": {"onSignal": ["slow"]}},
        "no signal is named slow; spec.monitoring.signals is not there",
    ),
    "trigger of other signals": (
        {
            "monitoring": {"window": "1h", "signals": [{"name": "a", "type": "Latency", "max": "1s"}]},
            "triggers": {"onSignal": ["a", {"allOf": ["a", "b"]}, "c"]},
        },
        "triggers.onSignal: no signal is named b, c; spec.monitoring.signals has a",
    ),
    "serving of no export": ({"serving__export": "trt"}, "no export is named trt; spec.exports has onnx"),
    "gate of no export": (
        {"gates": [{"name": "a", "metric": "latency/p95_ms", "max": 1, "export": "trt"}]},
        "no export is named trt",
    ),
    "quality without golden": ({"gates": [{"name": "a", "metric": "metrics/x", "min": 0}]}, "needs spec.data.golden"),
    "two queues": ({"labelling": {"queue": {"directory": {}, "cvat": CVAT}}}, "give exactly one of directory"),
    "no queue": ({"labelling": {"queue": {}}}, "found none"),
    "queue without project": ({"labelling": {"queue": {"cvat": {"url": "https://a"}}}}, "Field required"),
    "queue that is a path": ({"labelling": {"queue": {"directory": {"path": "../a"}}}}, "should match pattern"),
    "queue with a password": (
        {"labelling": {"queue": {"labelStudio": CVAT | {"url": "https://a:b@c"}}}}, "without user, password"
    ),
    "queue with another scheme": ({"labelling": {"queue": {"cvat": CVAT | {"url": "ftp://a"}}}}, "match pattern"),
    "reserved argument": ({"training__args": {"project": "/"}}, "project: Trunkline sets this itself"),
    "reserved export argument": (
        {"exports": [{"name": "onnx", "format": "onnx", "args": {"format": "engine"}}]},
        "format: Trunkline sets this itself",
    ),
    "unknown format": ({"exports": [{"name": "onnx", "format": "onxx"}]}, "unknown format 'onxx'"),
    "model that is a path": ({"training__model": "../x.pt"}, "should match pattern"),
    "model that is an option": ({"training__model": "--help.pt"}, "should match pattern"),
    "name that is a path": ({"exports": [{"name": "../a", "format": "onnx"}]}, "should match pattern"),
    "revision with a line break": (
        {"data__train": {"dvc": {"repoURL": "https://a/b", "targetRevision": "a\nb", "path": "c"}}},
        "control characters",
    ),
    "number as a text": ({"serving__replicas": "3"}, "valid integer"),
    "unknown field": ({"serving__replica": 3}, "Extra inputs"),
    "snake case": ({"training__queue_name": "a"}, "Extra inputs"),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], words: str) -> None:
    """A spec that cannot mean anything is not a spec."""
    with pytest.raises(ValidationError, match=words.replace(".", r"\.")):
        spec(**changes)


def test_speed_gates_need_no_golden() -> None:
    """Latency and size are measured on any picture."""
    gates = [{"name": "a", "metric": "latency/p95_ms", "max": 1}, {"name": "b", "metric": "artifact/bytes", "max": 1}]
    assert not any(gate.needs_golden for gate in spec(gates=gates).gates)


@pytest.mark.parametrize(
    "given",
    [{}, {"uri": {"url": "s3://a"}, "platform": {"uri": "ul://a/datasets/b"}}, {"uri": None}],
    ids=["none", "two", "null"],
)
def test_a_source_is_exactly_one_place(given: dict[str, Any]) -> None:
    """Data comes from one place, so that its digest is one digest."""
    with pytest.raises(ValidationError, match="give exactly one of uri, dvc, platform"):
        Source.model_validate(given)


def test_a_source_that_is_not_pinned_has_no_digest() -> None:
    """A place without a digest says nothing about its bytes."""
    assert Source.model_validate({"uri": {"url": "s3://a"}}).digest is None
    assert spec(FULL).data.train.digest == "md5:" + "8c1d" * 8 + ".dir"


def test_releases_are_the_same_by_content() -> None:
    """Version and evidence are bookkeeping; run, weights and exports are the release."""
    release = spec(FULL).release
    assert release is not None
    assert release.content() == release.model_copy(update={"version": 9, "evidence": None}).content()
    assert release.previous is not None
    assert release.content() != release.previous.content()


@pytest.mark.parametrize(
    ("text", "value"),
    [("80ms", 0.08), ("30s", 30), ("15m", 900), ("1h", 3600), ("3d", 259200)],
    ids=["ms", "s", "m", "h", "d"],
)
def test_durations_are_read(text: str, value: float) -> None:
    """A whole number and a unit give seconds."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "1", "0s", "1.5h", "1 h", "-1s", "1w", "1h30m", "1s\n"], ids=repr)
def test_other_durations_are_refused(text: str) -> None:
    """Anything else is an error that shows how to write one."""
    with pytest.raises(ValueError, match="write for instance 80ms"):
        seconds(text)


@pytest.mark.parametrize(
    ("serving", "words"),
    [({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}, "resources": {"limits": {"cpu": "1"}}}, "is above"),
     ({"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}, "give resources.requests.cpu"),
     ({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}, "greater than or equal to 1"),
     ({"batching": {}}, "give maxRows, latencyBudget or both"),
     ({"batching": {"maxRows": 0}}, "greater than or equal to 1"),
     ({"batching": {"latencyBudget": "0ms"}}, "should match pattern")],
    ids=["bounds", "no share of nothing", "none", "no rule", "no rows", "no time"],
)  # fmt: skip
def test_serving_that_cannot_work_is_refused(serving: dict[str, Any], words: str) -> None:
    """What no server and no HorizontalPodAutoscaler could ever do is an error in the file, not a silent nothing."""
    with pytest.raises(ValidationError, match=words):
        Spec.model_validate(
            SMALLEST["spec"] | {"serving": {"export": "onnx", **serving}}, by_alias=True, by_name=False
        )
