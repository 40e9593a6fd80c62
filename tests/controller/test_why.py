"""Why a model waits: every cause has its sentence, and the advice fits."""

from __future__ import annotations

from typing import Any

import pytest

from controller.why import why
from specs.modelspec import ModelKey

KEY = ModelKey("shop", "shelf")


def model(*conditions: tuple[str, str, str, str], generation: int = 2, observed: int = 2) -> dict[str, Any]:
    """Give a ModelSpec with these conditions: type, status, reason, message."""
    names = ("type", "status", "reason", "message")
    status = {"observedGeneration": observed, "conditions": [dict(zip(names, one, strict=True)) for one in conditions]}
    return {"metadata": {"generation": generation}, "status": status if conditions else {}}


TRAINING = model(
    ("Ready", "False", "Training", "train-shelf-1 is working"),
    ("Reconciling", "True", "Training", "train-shelf-1 is working"),
    ("DataReady", "True", "DataVerified", ""),
    ("Trained", "False", "Training", "train-shelf-1 is working"),
)


def job(**status: Any) -> dict[str, Any]:
    """Give a Job."""
    return {"metadata": {"name": "train-shelf-1", "labels": {}}, "spec": {}, "status": status}


def test_never_seen_by_an_operator() -> None:
    """A model without status is one that no operator watches."""
    answer = why(KEY, model(), [], [])
    assert "never looked at" in answer.headline
    assert answer.advice == ("kubectl -n trunkline-system get pods,lease",)


def test_the_condition_in_the_way_is_told_once() -> None:
    """Ready and Reconciling say what another condition says; good ones say nothing."""
    answer = why(KEY, TRAINING, [], [])
    assert answer.headline == "shop/shelf is not ready: Training"
    assert answer.findings == ("Trained: train-shelf-1 is working",)


def test_a_change_that_was_not_seen_yet() -> None:
    """Everything below may be about the spec before."""
    ready = ("Ready", "True", "AsDesired", "")
    assert why(KEY, model(ready, observed=1), [], []).findings == ("the operator has not seen the last change yet",)
    assert why(KEY, model(ready), [], []).findings == ()


def test_a_conflict_in_the_cluster_shows() -> None:
    """Trouble that belongs to no step is in Stalled alone."""
    stalled = ("Stalled", "True", "Conflict", "serve-shelf is somebody else's")
    answer = why(KEY, model(("Ready", "False", "Conflict", "x"), stalled), [], [])
    assert answer.findings == ("Stalled: serve-shelf is somebody else's",)


@pytest.mark.parametrize(
    ("jobs", "pods", "sentence"),
    [
        ([{"metadata": {"name": "j", "labels": {"kueue.x-k8s.io/queue-name": "gpu"}}, "spec": {"suspend": True}}],
         [], "job j waits in the queue gpu"),
        ([{**job(), "spec": {"suspend": True}}], [], "job train-shelf-1 is suspended"),
        ([job(conditions=[{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}])],
         [], "job train-shelf-1 failed: DeadlineExceeded too long"),
        ([], [{"metadata": {"name": "p"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes have a GPU"}]}}],
         "pod p has no node: 0/3 nodes have a GPU"),
        ([], [{"metadata": {"name": "p"}, "status": {"containerStatuses": [
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}],
         "pod p waits: ImagePullBackOff: no such image"),
        ([], [{"metadata": {"name": "p"}, "status": {"containerStatuses": [{"restartCount": 4, "lastState": {
            "terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "went\n  away"}}}]}}],
         "pod p ended 4 times, last with exit code 137 (OOMKilled): went away"),
    ],
    ids=["queue", "suspended", "deadline", "no node", "image", "restarts"],
)  # fmt: skip
def test_what_jobs_and_pods_say(jobs: list[dict[str, Any]], pods: list[dict[str, Any]], sentence: str) -> None:
    """The cluster's own trouble is told beside the conditions."""
    assert sentence in why(KEY, TRAINING, jobs, pods).findings


def test_advice_fits_the_reason() -> None:
    """A person learns what to do, not only what is."""
    refused = ("SourceVerified", "False", "NotInGit", "not in the history")
    answer = why(KEY, model(("Ready", "False", "NotInGit", "x"), refused), [], [])
    assert answer.advice == ("change the model by pull request, or undo the change that was made in the cluster",)


@pytest.mark.parametrize(
    ("reason", "words"),
    [("ProposalLimit", "max_open"), ("ProposalPaused", "opens it again"), ("ProposalRetargeted", "tracked branch")],
)
def test_advice_about_proposals(reason: str, words: str) -> None:
    """Who waits for a proposal learns whether there is anything to do, and what."""
    stuck = model(("Ready", "True", "AsDesired", ""), ("Proposed", "False", reason, "it waits"))
    (advice,) = why(KEY, stuck, [], []).advice
    assert words in advice
