"""What the watches told: newest wins, own writes are no news, and what vanished unseen is found."""

from __future__ import annotations

import itertools
from typing import Any

from adapters.kubernetes_api import DEPLOYMENT, INFERENCE_SERVICE, JOB, MODEL_SPEC
from controller.informer import Change, Informer
from specs.modelspec import ModelKey

KEY = ModelKey("shop", "shelf")


def informer() -> Informer:
    """Make an empty one, whose clock ticks at every look."""
    ticks = itertools.count()
    return Informer(lambda: float(next(ticks)))


def model(version: int, *, epochs: int = 1, uid: str = "u1", status: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give a ModelSpec as a watch tells of it."""
    metadata = {"namespace": "shop", "name": "shelf", "uid": uid, "generation": 1, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"training": {"args": {"epochs": epochs}}}, "status": status or {}}


def child(version: int, name: str = "serve-shelf") -> dict[str, Any]:
    """Give a Deployment of the model."""
    metadata = {"namespace": "shop", "name": name, "resourceVersion": str(version), "uid": "d",
                "labels": {"trunkline.dev/model": "shelf"}, "managedFields": [{"much": "text"}]}  # fmt: skip
    template = {"metadata": {"annotations": {"trunkline.dev/version": "3"}}, "spec": {"containers": []}}
    return {"metadata": metadata, "spec": {"replicas": 2, "template": template}, "status": {"readyReplicas": 1}}


def test_a_change_of_what_is_asked_for_is_told_from_one_of_status() -> None:
    """A new spec, or a new object of the same name, is somebody's change; a new status is progress."""
    one = informer()
    assert one.saw(MODEL_SPEC, None, model(5)) == Change(KEY, desired=True)
    assert one.saw(MODEL_SPEC, "MODIFIED", model(6, status={"summary": "x"})) == Change(KEY, desired=False)
    assert one.saw(MODEL_SPEC, "MODIFIED", model(7, epochs=2)) == Change(KEY, desired=True)
    assert one.saw(MODEL_SPEC, "ADDED", model(9, epochs=2, uid="u2")) == Change(KEY, desired=True)


def test_what_is_known_or_older_is_no_news() -> None:
    """A relist tells of everything again, and a lagging watch of the past; neither changes anything."""
    one = informer()
    one.saw(MODEL_SPEC, None, model(10, epochs=2))
    assert one.saw(MODEL_SPEC, None, model(10, epochs=2)) is None
    assert one.saw(MODEL_SPEC, "MODIFIED", model(9, epochs=1)) is None
    live = one.model(KEY)
    assert live is not None
    assert live.version == "10"


def test_versions_are_compared_as_numbers() -> None:
    """100 is newer than 99."""
    one = informer()
    one.saw(MODEL_SPEC, None, model(99))
    assert one.saw(MODEL_SPEC, "MODIFIED", model(100, epochs=3)) == Change(KEY, desired=True)


def test_null_asks_for_nothing() -> None:
    """A spec with a field that is null is the spec without it."""
    one = informer()
    first = model(1)
    first["spec"]["release"] = None
    one.saw(MODEL_SPEC, None, first)
    assert one.saw(MODEL_SPEC, "MODIFIED", model(2)) == Change(KEY, desired=False)


def test_children_point_at_their_model_and_are_trimmed() -> None:
    """Jobs and Deployments wake their model by its label; of a Deployment only what is read again is kept."""
    one = informer()
    assert one.saw(DEPLOYMENT, "ADDED", child(1)) == Change(KEY, desired=False)
    assert one.saw(JOB, "ADDED", child(2, "train-shelf-1")) == Change(KEY, desired=False)
    kept = one.deployment("shop", "serve-shelf")
    assert kept is not None
    assert kept["spec"] == {
        "replicas": 2, "template": {"metadata": {"annotations": {"trunkline.dev/version": "3"}}}
    }  # fmt: skip
    assert "managedFields" not in kept["metadata"]


def test_of_an_inference_service_only_what_is_read_again_is_kept() -> None:
    """A predictor has a whole pod in it; its annotations, its share and its status are enough."""
    one = informer()
    body = child(1, "kserve-shelf")
    asked = {"annotations": {"trunkline.dev/version": "3"}, "canaryTrafficPercent": 10, "minReplicas": 2}
    body["spec"] = {"predictor": {**asked, "containers": [{"name": "kserve-container"}], "volumes": []}}
    assert one.saw(INFERENCE_SERVICE, "ADDED", body) == Change(KEY, desired=False)
    kept = one.child(INFERENCE_SERVICE, "shop", "kserve-shelf")
    assert kept is not None
    assert (kept["spec"], kept["status"]) == ({"predictor": asked}, body["status"])
    assert one.child(DEPLOYMENT, "shop", "kserve-shelf") is None


def test_deletions_are_told_once() -> None:
    """A model that is deleted is gone; hearing it again is no news."""
    one = informer()
    one.saw(MODEL_SPEC, None, model(1))
    one.saw(DEPLOYMENT, None, child(1))
    assert one.saw(MODEL_SPEC, "DELETED", model(2)) == Change(KEY, desired=True, gone=True)
    assert one.saw(MODEL_SPEC, "DELETED", model(2)) is None
    assert one.model(KEY) is None
    assert one.saw(DEPLOYMENT, "DELETED", child(3)) == Change(KEY, desired=False)
    assert one.deployment("shop", "serve-shelf") is None


def test_what_vanished_while_the_watch_was_broken_is_found() -> None:
    """Names that a list lacks are deletions, unless they changed after the list was asked for."""
    one = informer()
    one.saw(MODEL_SPEC, None, model(1))
    one.saw(DEPLOYMENT, None, child(1))
    one.saw(DEPLOYMENT, None, child(2, "serve-other"))
    models, children = one.snapshot(MODEL_SPEC), one.snapshot(DEPLOYMENT)
    one.saw(DEPLOYMENT, "MODIFIED", child(5, "serve-other"))
    assert one.vanished(MODEL_SPEC, models, []) == [Change(KEY, desired=True, gone=True)]
    assert one.vanished(DEPLOYMENT, children, []) == [Change(KEY, desired=False)]
    assert one.deployment("shop", "serve-other") is not None


def test_what_a_list_has_and_the_watch_has_not_is_missing() -> None:
    """Unknown objects and older versions are what a blind watch looks like."""
    one = informer()
    one.saw(DEPLOYMENT, None, child(5))
    listed = [child(5)["metadata"], child(6)["metadata"], child(1, "serve-new")["metadata"]]
    assert one.missing(DEPLOYMENT, listed) == [("shop", "serve-shelf"), ("shop", "serve-new")]


def test_conditions_are_counted() -> None:
    """Models by condition, for a graph."""
    one = informer()
    one.saw(MODEL_SPEC, None, model(1, status={"conditions": [{"type": "Ready", "status": "False"}]}))
    one.saw(MODEL_SPEC, "MODIFIED", model(2, status={"conditions": [{"type": "Ready", "status": "True"}]}))
    assert dict(one.conditions()) == {("Ready", "True"): 1}
