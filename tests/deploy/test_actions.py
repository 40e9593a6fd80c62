"""Argo CD's actions: one, on Jobs of ours that failed; a real Lua runs them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.deploy.lua import run
from tests.deploy.manifests import DEPLOY, built, one

KEY = "resource.customizations.actions.batch_Job"
ACTIONS = yaml.safe_load((DEPLOY / "argocd" / "actions-job.yaml").read_text())
DISCOVERY: str = ACTIONS["discovery.lua"]
SCRIPTS: dict[str, str] = {each["name"]: each["action.lua"] for each in ACTIONS["definitions"]}
OURS = {"app.kubernetes.io/managed-by": "trunkline", "trunkline.dev/job": "train-1"}


def job(labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """Give a Job that the cluster's controller wrote a status about."""
    made: dict[str, Any] = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train-1", "namespace": "retail"},
        "spec": {"backoffLimit": 0, "template": {"spec": {"containers": [{"name": "work", "image": "x"}]}}},
    }  # fmt: skip
    if labels is not None:
        made["metadata"]["labels"] = labels
    if status:
        made["status"] = status
    return made


def condition(type_: str, status: str = "True") -> dict[str, str]:
    """Give a condition of a Job."""
    return {"type": type_, "status": status}


FAILED = [condition("FailureTarget"), condition("Failed")]
OFFERED = [
    ("failed", job(OURS, conditions=FAILED), False),
    ("running", job(OURS, active=1), True),
    ("done", job(OURS, conditions=[condition("Complete")]), True),
    ("about to fail", job(OURS, conditions=[condition("Failed", "False")]), True),
    ("without a status", job(OURS), True),
]


@pytest.mark.parametrize(("given", "disabled"), [pytest.param(*row[1:], id=row[0]) for row in OFFERED])
def test_retry_is_offered_for_jobs_that_failed(given: dict[str, Any], disabled: object) -> None:
    """A Job of ours can be retried once it failed, and not before."""
    actions = run(DISCOVERY, given)
    assert set(actions) == set(SCRIPTS)
    assert actions["retry"]["disabled"] is disabled


@pytest.mark.parametrize("labels", [None, {}, {"app.kubernetes.io/managed-by": "helm"}])
def test_jobs_of_others_get_no_action_of_ours(labels: dict[str, str] | None) -> None:
    """Whatever is not Trunkline's keeps what Argo CD offers itself."""
    assert run(DISCOVERY, job(labels, conditions=FAILED)) == {}
    assert ACTIONS["mergeBuiltinActions"] is True


def test_retry_lets_the_job_be_cleared_away_and_changes_nothing_else() -> None:
    """No label, no annotation, no template: only the time after which the finished Job goes."""
    before = job(OURS, conditions=FAILED)
    wanted = copy.deepcopy(before)
    wanted["spec"]["ttlSecondsAfterFinished"] = 0
    assert run(SCRIPTS["retry"], before) == wanted


def test_modelspecs_have_no_actions() -> None:
    """Nothing in Argo CD's configuration patches a ModelSpec: git decides."""
    keys = set(one(built("argocd"), "ConfigMap")["data"])
    assert keys == {KEY, "resource.customizations.health.trunkline.dev_ModelSpec"}


def test_config_map_has_the_same_actions() -> None:
    """What is applied to argocd-cm is what is tested."""
    assert yaml.safe_load(one(built("argocd"), "ConfigMap")["data"][KEY]) == ACTIONS
