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


def test_what_a_backend_cannot_do_is_said() -> None:
    """Backends are a cluster's; what KServe or Triton cannot do of what is asked has a sentence each."""
    alone = "spec.serving.backend: acted on in a cluster only; `trunkline agent` ignores it"
    steps = {"canary": {"steps": [{"weight": 10}, {"mirror": 50}]}}
    serving = {"export": "onnx", "strategy": steps}
    signals = {"window": "1h", "signals": [{"name": "latency", "type": "Latency", "quantile": 0.95, "max": "80ms"}]}
    asked = {"monitoring": signals, "labelling": FULL["labelling"]}
    assert sentences(serving=serving | {"backend": "Deployment"}, **asked) == []
    kserve = sentences(serving=serving | {"backend": "KServe"}, **asked)
    assert kserve[0] == alone
    assert [told.partition(": ")[0] for told in kserve[1:]] == ["spec.serving.strategy.canary.steps[1].mirror"]
    triton = sentences(serving=serving | {"backend": "Triton"}, **asked)
    assert [told.partition(": ")[0] for told in triton] == [
        "spec.serving.backend", "spec.serving.strategy.canary", "spec.monitoring", "spec.labelling",
    ]  # fmt: skip


def test_pictures_are_kept_where_there_are_any() -> None:
    """Labelling needs a server; and asking people a task that they can answer by classes and boxes."""
    asked = {"labelling": FULL["labelling"]}
    assert sentences(**asked) == []
    assert sentences(**asked, serving=None) == ["spec.labelling: without spec.serving no picture ever comes"]
    (told,) = sentences(**asked, task="segment")
    assert told.startswith("spec.labelling.queue: people are asked for classes and boxes only")
    kept = {name: value for name, value in FULL["labelling"].items() if name != "queue"}
    assert sentences(labelling=kept, task="segment") == []


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


MODEL = {"model": "yolo26n.pt"}
EXPORT = {"name": "onnx", "format": "onnx"}
CLUSTER: dict[str, tuple[dict[str, Any], str]] = {
    "Kubeflow": ({"training": MODEL | {"backend": "TrainJob"}}, "spec.training.backend"),
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


def test_nodes_without_trainer_are_told() -> None:
    """A Job has one pod, whatever a TrainJob would have had."""
    told = sentences(training=MODEL | {"trainJob": {"numNodes": 2}})
    assert told == ["spec.training.trainJob: only where spec.training.backend is TrainJob"]


@pytest.mark.parametrize(
    ("batch", "gpus", "nodes", "processes"),
    [
        (16, "1", 1, 0), (16, "4", 1, 0), (16, "3", 1, 3), (-1, "2", 1, 2), (8, "2", 3, 6), (12, "2", 3, 0),
        (-1, "1", 1, 0),
    ],
)
def test_a_batch_that_processes_cannot_share_is_told(batch: int, gpus: str, nodes: int, processes: int) -> None:
    """Before the training is started, which would end with the same words. ``processes`` is 0 where all is well."""
    training = MODEL | {"args": {"batch": batch}, "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    if nodes > 1:
        training |= {"backend": "TrainJob", "trainJob": {"numNodes": nodes}}
    told = [sentence for sentence in sentences(training=training) if "cluster only" not in sentence]
    why = f"{batch} cannot be shared by {processes} processes, so the training would end at once"
    expected = [f"spec.training.args.batch: {why}; give a multiple of {processes}"]
    assert told == (expected if processes else [])


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
