"""What is understood but not acted on is said, never ignored in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from specs.coverage import not_acted_on
from specs.modelspec import Spec

HERE = Path(__file__).parent
FULL: dict[str, Any] = yaml.safe_load((HERE / "full.yaml").read_text())["spec"]
SMALLEST: dict[str, Any] = yaml.safe_load((HERE / "smallest.yaml").read_text())["spec"]


def sentences(**sections: Any) -> list[str]:
    """Give what is said about the smallest spec with some sections set."""
    return not_acted_on(Spec.model_validate(SMALLEST | sections, by_alias=True, by_name=False))


def test_nothing_is_said_about_the_smallest_spec() -> None:
    """Data from the store, training, exports, gates, serving and a release are all acted on."""
    pin = {
        "version": 1,
        "run": "sha256:" + "a" * 64,
        "weights": "sha256:" + "b" * 64,
        "exports": {"onnx": "sha256:" + "c" * 64},
    }
    gate = {"name": "a", "metric": "latency/p95_ms", "max": 3}
    assert sentences(release=pin, suspend=True, tuning=FULL["tuning"], gates=[gate]) == []


MODEL = {"model": "yolo26n.pt"}
EXPORT = {"name": "onnx", "format": "onnx"}
SAID: dict[str, tuple[dict[str, Any], str]] = {
    "Kubeflow": ({"training": MODEL | {"backend": "TrainJob"}}, "spec.training.backend"),
    "serving backend": ({"serving": {"export": "onnx", "backend": "Triton"}}, "spec.serving.backend"),
}


@pytest.mark.parametrize(("sections", "field"), SAID.values(), ids=SAID.keys())
def test_each_field_that_nothing_acts_on_has_its_sentence(sections: dict[str, Any], field: str) -> None:
    """The sentence names the field as it stands in the file."""
    assert sentences(**sections) == [f"{field}: understood, but not acted on yet"]


def test_pictures_are_kept_where_there_are_any() -> None:
    """Labelling needs a server, and a task whose results that can read; else the sentence says which is missing."""
    asked = {"labelling": FULL["labelling"]}
    assert sentences(**asked) == []
    assert sentences(**asked, serving=None) == ["spec.labelling: without spec.serving no picture ever comes"]
    (told,) = sentences(**asked, task="segment")
    assert told.startswith("spec.labelling: what a model of this task finds cannot be read")


def test_base_weights_elsewhere_are_named() -> None:
    """A base model that is not in the store is not fetched yet, and the sentence says what would work."""
    told = sentences(training={"model": {"uri": {"url": "s3://a/b.pt"}}})
    assert told == ["spec.training.model.uri.url: only base models in the store (store://NAME) are read yet"]


def test_data_from_anywhere_is_acted_on() -> None:
    """DVC repositories, the Platform and addresses; only the last have no versions that could be followed."""
    dvc = {"dvc": {"repoURL": "https://git.example.com/d.git", "targetRevision": "main", "path": "d.dvc"}}
    for train in (dvc, {"platform": {"uri": "ul://a/datasets/b"}}):
        assert sentences(data={"train": train, "golden": dvc}, triggers={"onData": True}) == []
    address = {"train": {"uri": {"url": "s3://a/b"}}}
    assert sentences(data=address) == []
    assert sentences(data=address, triggers={"onData": True}) == [
        "spec.triggers.onData: an address has no versions to follow; store://NAME, dvc and platform have"
    ]
    named = {"train": {"uri": {"url": "store://shelf", "digest": "sha256:" + "a" * 64}}}
    assert sentences(data=named, triggers={"onData": True}) == []


CLUSTER: dict[str, tuple[dict[str, Any], str]] = {
    "Kueue": ({"training": MODEL | {"queueName": "gpu"}}, "spec.training.queueName"),
    "resources": ({"training": MODEL | {"resources": {"limits": {"cpu": "1"}}}}, "spec.training.resources"),
    "nodes": ({"training": MODEL | {"nodeSelector": {"gpu": "l4"}}}, "spec.training.nodeSelector"),
    "export's nodes": ({"exports": [EXPORT | {"nodeSelector": {"gpu": "l4"}}]}, "spec.exports[0].nodeSelector"),
    "export's resources": ({"exports": [EXPORT | {"resources": {}}]}, "spec.exports[0].resources"),
    "replicas": ({"serving": {"export": "onnx", "replicas": 3}}, "spec.serving.replicas"),
    "autoscaling": (
        {"serving": {"export": "onnx", "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
                     "resources": {"requests": {"cpu": "1"}}}}, "spec.serving.autoscaling",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sections", "field"), CLUSTER.values(), ids=CLUSTER.keys())
def test_what_only_a_cluster_acts_on_says_so(sections: dict[str, Any], field: str) -> None:
    """An agent has one machine, so it has no use for places and amounts."""
    assert f"{field}: acted on in a cluster only; `trunkline agent` ignores it" in sentences(**sections)


def test_auto_merge_without_gates_is_told() -> None:
    """Where nothing could say no, a person merges promotions whatever the policy is; with a gate it holds."""
    gate = {"name": "floor", "metric": "metrics/mAP50-95(B)", "min": 0.5}
    (sentence,) = sentences(policy={"autoMerge": "WhenGatesPass"})
    assert sentence.startswith("spec.policy.autoMerge: WhenGatesPass needs at least one gate")
    data = SMALLEST["data"] | {"golden": {"uri": {"url": "store://golden"}}}
    assert sentences(policy={"autoMerge": "WhenGatesPass"}, gates=[gate], data=data) == []
    assert sentences(policy={"autoMerge": "RollbackOnly"}) == []


HARMLESS: dict[str, dict[str, Any]] = {
    "Job": {"training": MODEL | {"backend": "Job"}},
    "Deployment": {"serving": {"export": "onnx", "backend": "Deployment", "replicas": 1}},
    "Never": {"policy": {"autoMerge": "Never", "maxOpenProposals": 1}},
}


@pytest.mark.parametrize("sections", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_asks_for_no_more_than_is_done_anyway_is_not_mentioned(sections: dict[str, Any]) -> None:
    """Saying the default is no cause for a warning."""
    assert sentences(**sections) == []


LATENCY = {"name": "slow", "type": "Latency", "max": "80ms"}
LIGHT = {"name": "light", "type": "Input", "feature": "brightness", "max": 0.3}
SERVED = {"serving": {"export": "onnx"}}


def test_watching_needs_something_that_answers() -> None:
    """Without a server there is no traffic."""
    watched = {"window": "1h", "signals": [LATENCY]}
    assert sentences(monitoring=watched, **SERVED) == []
    assert sentences(monitoring=watched, serving=None) == [
        "spec.monitoring: without spec.serving nothing answers, so there is no traffic to watch"
    ]


def test_what_is_compared_needs_golden() -> None:
    """Latencies do not."""
    (told,) = sentences(monitoring={"window": "1h", "signals": [LATENCY, LIGHT]}, **SERVED)
    assert told == "spec.monitoring.signals[1]: it is held against golden, and spec.data.golden is not given"


def test_labels_cannot_come_where_data_has_no_versions() -> None:
    """A trigger that wants some would never ask."""
    data = {"train": {"uri": {"url": "s3://bucket/x", "digest": "sha256:" + "a" * 64}}}
    watched = {"monitoring": {"window": "1h", "signals": [LATENCY]}, **SERVED}
    triggers = {"onSignal": ["slow"], "require": {"newLabels": 3}}
    (told,) = sentences(triggers=triggers, data=data, **watched)
    assert told.startswith("spec.triggers.require.newLabels: nothing newer can come of this data")
