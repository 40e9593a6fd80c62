"""Argo CD's health of a ModelSpec: every row of the table in docs/install.md, judged by a real Lua."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from reconcilers.actions import StartJob
from reconcilers.apply import Trouble
from reconcilers.observed import DatasetFact
from reconcilers.summary import awaiting_status, refused_status, summarize, trouble_status
from specs.errors import InvalidManifest, Problem, Stalled, Transient, TrunklineError
from specs.facts import PullState
from specs.status import ConditionType, ModelStatus, Reason
from tests.deploy.lua import run
from tests.deploy.manifests import DEPLOY, ROOT, built, one
from tests.support.builders import (
    TOP1,
    Lab,
    Stage,
    candidate_ready,
    context,
    moved_on,
    observed,
    proposed,
    pull,
    released,
    settled,
    spec,
)  # fmt: skip
from tests.support.data_stages import BARE, elsewhere, pinned
from tests.support.in_steps import beside

KEY = "resource.customizations.health.trunkline.dev_ModelSpec"
SCRIPT = (DEPLOY / "argocd" / "health.lua").read_text()
NOW = "2026-11-24T10:00:00Z"
GENERATION = 4


@dataclass(frozen=True)
class Model:
    """A ModelSpec in a cluster: what is asked for, and the status that Trunkline wrote about it."""

    stage: Stage
    status: ModelStatus
    generation: int = GENERATION

    @property
    def body(self) -> dict[str, Any]:
        """The object, as the API server gives it."""
        asked = self.stage.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        told = self.status.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {
            "apiVersion": "trunkline.dev/v1alpha1", "kind": "ModelSpec",
            "metadata": {"name": "shelf", "namespace": "retail", "generation": self.generation},
            "spec": asked, "status": {"observedGeneration": -1} | told,
        }  # fmt: skip


def looked_at(stage: Stage, *errors: TrunklineError) -> Model:
    """Give a model after a pass that met these errors."""
    decided = stage.plan
    start = decided.actions[0] if decided.actions else StartJob(None)  # type: ignore[arg-type]
    troubles = [Trouble(start, error) for error in errors]
    before = ModelStatus(observed_generation=GENERATION)
    return Model(stage, summarize(context(stage.spec, stage.world), decided, troubles, before, NOW))


def then(model: Model, judged: Callable[[ModelStatus], ModelStatus]) -> Model:
    """Give the model after another look, which could not see everything."""
    return replace(model, status=judged(model.status))


def fresh() -> Stage:
    """Nothing was ever done about the model."""
    return Stage(spec(), observed(), Lab())


def retraining() -> Stage:
    """A release serves, and a person asked for another training."""
    return moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9), work=False)


def next_release(**serving: Any) -> Stage:
    """v1 answers as ``serving`` changes it; v2 was merged."""
    stage = settled()
    newer = moved_on(stage, lambda data: data["training"]["args"].update(epochs=9))
    value = proposed(newer.spec, newer.world).value
    assert isinstance(value, dict)
    assert stage.world.serving is not None
    answers = replace(stage.world.serving, **serving)
    return Stage(released(newer.spec, value), replace(newer.world, serving=answers), newer.lab)


def fallen_back() -> Stage:
    """v2 could not be loaded, v1 answers."""
    stage = next_release()
    assert stage.spec.release is not None
    file = stage.spec.release.exports["onnx"]
    return next_release(failed_file=file, failure="self-test failed")


def failed_rollout() -> Stage:
    """v1 could not be loaded, and there is nothing before it."""
    stage = settled()
    assert stage.world.serving is not None
    state = replace(stage.world.serving, ready=False, failed_file=stage.world.serving.file, failure="out of memory")
    return stage.but(serving=state)


def data_not_pinned() -> Stage:
    """Give a model whose data is not pinned, and the pull request that does it is open."""
    stage = elsewhere(None, data__train=BARE).but(resolved={"spec.data.train": pinned(1)})
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world)),))


def pull_request_open() -> Stage:
    """The candidate is proposed, nothing was ever released."""
    stage = candidate_ready()
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world)),))


def rejected() -> Stage:
    """A person closed the first proposal."""
    stage = candidate_ready()
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), PullState.CLOSED),))


def taken_over() -> Stage:
    """A person committed to the branch of the first proposal."""
    stage = candidate_ready()
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), foreign=True),))


def nothing_to_serve(stage: Stage) -> Stage:
    """The same, for a model that is not served."""
    data = stage.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    del data["serving"]
    bare = type(stage.spec).model_validate(data, by_alias=True, by_name=False)
    return Stage(bare, replace(stage.world, serving=None), stage.lab)


def held() -> Stage:
    """A release serves, a newer candidate is on hold."""
    return moved_on(retraining(), lambda data: data["release"].update(hold={"reason": "week"}))


def corrupt_data() -> Stage:
    """A release serves; the training data is damaged."""
    return settled().but(train=DatasetFact("sha256:" + "0" * 64, reason="DataCorrupt", message="other bytes"))


DOWN = Transient("StoreUnavailable", "no route")
BROKEN = InvalidManifest((Problem("m.yaml", 3, 5, "spec.task", "is missing"),))
NOT_IN_GIT = Stalled("NotInGit", "no commit has this spec")

ROWS: list[tuple[str, Callable[[], Model], str, str]] = [
    # Suspended
    ("suspended while it serves", lambda: looked_at(settled(suspend=True)), "Suspended", "spec.suspend is true"),
    ("suspended before the first look", lambda: Model(Stage(spec(suspend=True), observed(), Lab()), ModelStatus()),
     "Suspended", "spec.suspend is true"),
    # Not looked at
    ("no status", lambda: Model(fresh(), ModelStatus()), "Progressing", "waits for Trunkline to look at it"),
    ("status of an older generation", lambda: replace(looked_at(settled()), generation=GENERATION + 1),
     "Progressing", "waits for Trunkline to look at it"),
    ("status without conditions", lambda: Model(fresh(), ModelStatus(observed_generation=GENERATION)),
     "Progressing", "waits for Trunkline to look at it"),
    # A person must act
    ("candidate failed its gates behind a serving release",
     lambda: looked_at(moved_on(settled(), lambda data: data["gates"][0].update(min=0.999))),
     "Degraded", "v1 answers; GateFailed: "),
    ("data damaged behind a serving release",
     lambda: looked_at(corrupt_data()), "Degraded", "v1 answers; DataCorrupt: "),
    ("gates failed, never released",
     lambda: looked_at(candidate_ready(gates=[{"name": "g", "metric": TOP1, "min": 1}])), "Degraded",
     "nothing is released; GateFailed: "),
    ("rejected, never released", lambda: looked_at(rejected()), "Degraded",
     "nothing is released; ProposalRejected: "),
    ("not in git, though something serves",
     lambda: then(looked_at(settled()), lambda was: refused_status(NOT_IN_GIT, was, NOW)),
     "Degraded", "no commit has this spec"),
    ("broken file", lambda: then(looked_at(settled()), lambda was: trouble_status(BROKEN, was, NOW)),
     "Degraded", "m.yaml:3:5: spec.task: is missing"),
    ("on fallback",
     lambda: looked_at(fallen_back()), "Degraded", "v2 could not be loaded: self-test failed. v1 answers."),
    ("rollout failed", lambda: looked_at(failed_rollout()), "Degraded", "v1 could not be loaded: out of memory."),
    # The release serves
    ("as desired", lambda: looked_at(settled()), "Healthy", "v1 answers"),
    ("retraining behind a serving release", lambda: looked_at(retraining()), "Healthy", "v1 answers; Training"),
    ("next release proposed behind a serving one",
     lambda: looked_at(moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))),
     "Healthy", "v1 answers; PullRequestOpen: "),
    ("candidate on hold behind a serving release", lambda: looked_at(held()), "Healthy", "v1 answers; OnHold: "),
    ("trouble that may pass behind a serving release",
     lambda: looked_at(settled(), DOWN), "Healthy", "v1 answers; no route"),
    ("store out of reach while a release serves",
     lambda: then(looked_at(settled()), lambda was: trouble_status(DOWN, was, NOW)), "Healthy", "no route"),
    ("cluster behind git while a release serves",
     lambda: then(looked_at(settled()), lambda was: awaiting_status("waits for sync", was, NOW)),
     "Healthy", "waits for sync"),
    ("released, nothing to serve",
     lambda: looked_at(nothing_to_serve(settled())), "Healthy", "spec.serving is not given"),
    ("retraining, nothing to serve",
     lambda: looked_at(nothing_to_serve(retraining())), "Healthy", "spec.serving is not given"),
    ("release in its steps beside the last good one", lambda: looked_at(beside(2)), "Healthy",
     "v2 answers 10 % beside v1 (step 2 of 3); Baking: "),
    ("release that waits at its last step for traffic", lambda: looked_at(beside(3, 9999)), "Healthy",
     "v2 answers 50 % beside v1 (step 3 of 3); BakeInconclusive: "),
    # Nothing is wrong, and the release does not serve
    ("first rollout", lambda: looked_at(settled().but(serving=None)), "Progressing", "v1 is being loaded"),
    ("next rollout while the last good one serves", lambda: looked_at(next_release()),
     "Progressing", "v2 is being loaded; v1 answers until then"),
    ("release lost its server",
     lambda: looked_at(settled().but(serving=replace(settled().world.serving, ready=False))),  # type: ignore[type-var]
     "Progressing", "v1 is being loaded"),
    ("first training", lambda: looked_at(fresh()), "Progressing", "nothing is released; Training"),
    ("first training, nothing to serve",
     lambda: looked_at(nothing_to_serve(fresh())), "Progressing", "spec.serving is not given"),
    ("trouble that may pass before the first release",
     lambda: then(Model(fresh(), ModelStatus(observed_generation=GENERATION)),
                  lambda was: trouble_status(DOWN, was, NOW)),
     "Progressing", "no route"),
    # Nothing is released, and that is what git says
    ("first release waits for a person to merge", lambda: looked_at(pull_request_open()),
     "Healthy", "nothing is released; PullRequestOpen: pull request #1 waits for a person to merge it"),
    ("its data waits for a person to pin it", lambda: looked_at(data_not_pinned()),
     "Healthy", "nothing is released; DataNotPinned: "),
    ("a person took the first proposal over",
     lambda: looked_at(taken_over()), "Healthy", "nothing is released; ProposalDetached: "),
]  # fmt: skip


@pytest.mark.parametrize(("build", "status", "message"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_health(build: Callable[[], Model], status: str, message: str) -> None:
    """Health says whether the release serves, in the words of the status."""
    told = run(SCRIPT, build().body)
    assert set(told) == {"status", "message"}
    assert told["status"] == status
    assert told["message"].startswith(message)


def test_fallback_is_degraded_also_where_nothing_is_stalled() -> None:
    """A version of the operator that says FallbackToPrevious without Stalled is Degraded all the same."""
    model = looked_at(fallen_back())
    kept = [c for c in model.status.conditions if c.type is not ConditionType.STALLED]
    told = run(SCRIPT, replace(model, status=model.status.model_copy(update={"conditions": kept})).body)
    assert told["status"] == "Degraded"


def test_status_that_nobody_wrote_is_no_error() -> None:
    """Without any status field at all, as where somebody removed it, the script still answers."""
    body = Model(fresh(), ModelStatus()).body
    del body["status"]
    assert run(SCRIPT, body)["status"] == "Progressing"


def test_message_is_never_empty() -> None:
    """A status without words gets some."""
    model = looked_at(settled())
    bare = [c.model_copy(update={"message": ""}) for c in model.status.conditions]
    silent = replace(model, status=model.status.model_copy(update={"summary": "", "conditions": bare}))
    assert run(SCRIPT, silent.body) == {"status": "Healthy", "message": "the release serves"}


def test_reasons_are_those_of_the_product() -> None:
    """Every reason that the script compares with is one that Trunkline gives."""
    compared = set(re.findall(r'reason == "(\w+)"', SCRIPT))
    assert compared == {
        Reason.FALLBACK, Reason.CANARY, Reason.ROLLING_OUT, Reason.NO_SERVING, Reason.PULL_REQUEST_OPEN,
        Reason.DATA_NOT_PINNED,
    }  # fmt: skip


def test_rows_are_those_of_the_manual() -> None:
    """The table in the manual names every case that is tested, with the health that it has."""
    manual = (ROOT / "docs" / "install.md").read_text()
    for name, _, status, _ in ROWS:
        assert any(name in line and f"**{status}**" in line for line in manual.splitlines()), name


def test_config_map_has_the_same_script() -> None:
    """What is applied to argocd-cm is the script that is tested, character for character."""
    assert one(built("argocd"), "ConfigMap")["data"][KEY] == SCRIPT
