"""``trunkline plan``: what merging would do, asked of the same function that the agent acts on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from specs.errors import Stalled
from tests.support.ci_job import ci
from tests.support.gitrepo import git
from tests.support.place import FILE, Place
from tests.support.typed import said, trunkline

pytestmark = pytest.mark.xdist_group("plan")
PLAIN = ("  serving: {export: onnx}\n", "")
"""Nothing serves in these tests; what rolls out is asked of releases that are only planned."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a place where v1 is released; plans change nothing, so all tests share it."""
    made = Place(tmp_path_factory.mktemp("plan") / "place")
    try:
        made.write(made.spec(PLAIN))
        made.forge().merge(made.proposed().number)
        made.settle()
        yield made
    finally:
        made.stop()


def _branch(place: Place, files: dict[str, str | bytes | None], name: str = "change") -> str:
    git(place.hub.clone, "fetch", "-q", "origin")
    place.hub.commit(files, "Change", branch=name, start="origin/main")
    return name


def _planned(place: Place, files: dict[str, str | bytes | None]) -> list[dict[str, Any]]:
    """Ask what merging these files would do; and see that asking changed nothing."""
    name = _branch(place, files)
    before = place.world()
    told = json.loads(said(place.folder, "plan", "--head", name, "--json"))
    assert place.world() == before
    assert told["problems"] == []
    models: list[dict[str, Any]] = told["models"]
    return models


def test_no_change_is_no_change(place: Place) -> None:
    """Comments and other files concern no model."""
    assert _planned(place, {FILE: "# a note\n" + place.read(), "README.md": "x\n"}) == []
    assert said(place.folder, "plan", "--head", "change") == "nothing changes: no ModelSpec differs\n"
    assert said(place.folder, "plan") == "nothing changes: no ModelSpec differs\n"


CHANGES = {
    "training": ("epochs: 8", "epochs: 9", {"retrains", "re-exports onnx"}, "epochs"),
    "export-only": ("dynamic: true", "dynamic: true, opset: 17", {"re-exports onnx"}, "opset"),
    "serving": ("  gates:\n", "  serving: {export: onnx}\n  gates:\n", {"serves v1"}, "serving"),
    "suspend": ("  task: classify\n", "  task: classify\n  suspend: true\n", set(), "suspend"),
}


@pytest.mark.parametrize(("old", "new", "effects", "line"), CHANGES.values(), ids=CHANGES.keys())
def test_what_a_change_leads_to(place: Place, old: str, new: str, effects: set[str], line: str) -> None:
    """What is done again is said, and what is not is not; the change itself is shown."""
    (model,) = _planned(place, {FILE: place.read().replace(old, new)})
    assert (model["model"], model["change"]) == ("default/digits", "changed")
    known = {"trains", "retrains", "exports onnx", "re-exports onnx", "serves v1", "stops serving"}
    assert set(model["effects"]) & known == effects
    assert any(line in difference for difference in model["differences"])
    text = said(place.folder, "plan", "--head", "change")
    assert "default/digits" in text
    assert all(effect in text for effect in effects)


def test_a_gate_alone_trains_nothing(place: Place) -> None:
    """The numbers are there already, so the answer is too: this gate would stop it."""
    (model,) = _planned(place, {FILE: place.read().replace("min: 0.9}", "min: 0.99}")})
    assert not {effect for effect in model["effects"] if "train" in effect or "export" in effect}
    assert "0.908 is below 0.99" in model["stopped"]
    assert "then it stops:" in said(place.folder, "plan", "--head", "change")


def test_a_new_model_and_one_that_goes(place: Place) -> None:
    """Added models train and are gated; removed ones stop serving."""
    other = place.spec(("name: digits", "name: other"), ("epochs: 8", "epochs: 20"))
    (added,) = _planned(place, {"other.yaml": other})
    assert (added["model"], added["change"]) == ("default/other", "added")
    assert {"trains", "exports onnx"} <= set(added["effects"])
    assert added["gates"] == ["floor: metrics/accuracy_top1 >= 0.9"]
    (removed,) = _planned(place, {FILE: None})
    assert (removed["model"], removed["change"], removed["effects"]) == ("default/digits", "removed", ["stops serving"])


def test_data_that_is_not_there_stops_it_before_the_merge(place: Place) -> None:
    """The person hears it in the pull request, with brackets and all."""
    text = place.read().replace(place.dataset("a"), place.dataset("q", ("x", "other")))
    (model,) = _planned(place, {FILE: text})
    assert "golden has classes ['x', 'y'], training data ['x', 'other']" in model["stopped"]
    assert model["stopped"] in said(place.folder, "plan", "--head", "change")


def test_a_broken_file_is_a_problem_and_not_a_removal(place: Place) -> None:
    """Exit code 1, file and line, and the model in it is not said to go."""
    name = _branch(place, {FILE: place.read().replace("task: classify", "task: [/classify]")})
    result = trunkline(place.folder, "plan", "--head", name, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [(p["path"], p["line"], p["field"]) for p in told["problems"]] == [(FILE, 6, "spec.task")]
    assert told["models"] == []
    words = trunkline(place.folder, "plan", "--head", name)
    assert words.exit_code == 1
    assert f"✗ {FILE}:6:" in words.stdout


def test_a_pull_request_by_its_number(place: Place) -> None:
    """``--pr`` means the branch of that pull request; another base can be given."""
    before = {pull.number for pull in place.forge().list("")}
    _branch(place, {FILE: place.read().replace("epochs: 8", "epochs: 30")}, "asked")
    said(place.folder, "pr", "open", "asked")
    (number,) = {pull.number for pull in place.forge().list("")} - before
    try:
        assert "retrains" in said(place.folder, "plan", "--pr", str(number))
        assert "nothing changes" in said(place.folder, "plan", "--base", "asked", "--head", "asked")
    finally:
        place.forge().close(number, comment="")


def test_a_commit_that_does_not_exist(place: Place) -> None:
    """The error names what was asked for."""
    result = trunkline(place.folder, "plan", "--head", "no-such-branch")
    assert isinstance(result.exception, Stalled)
    assert "no-such-branch" in result.exception.message


def test_what_was_done_is_not_planned_again(place: Place) -> None:
    """Going back to inputs that were trained before retrains nothing: the run is in the store."""
    _branch(place, {FILE: place.read().replace("epochs: 8", "epochs: 9")}, "ahead")
    told = json.loads(said(place.folder, "plan", "--base", "ahead", "--head", "main", "--json"))
    assert told["models"] == []  # main has nothing that `ahead` lacks
    git(place.hub.clone, "checkout", "-q", "ahead")
    text = (place.hub.clone / FILE).read_text()
    place.hub.commit({FILE: text.replace("epochs: 9", "epochs: 8")}, "Back", branch="back", start="origin/ahead")
    told = json.loads(said(place.folder, "plan", "--base", "ahead", "--head", "back", "--json"))
    (model,) = told["models"]
    assert not {effect for effect in model["effects"] if "trains" in effect or "exports" in effect}


def test_markdown_for_a_pull_request(place: Place) -> None:
    """The same answer as a page: what differs in the data, the gates, and how long it took before."""
    data = place.dataset("ac", ("x", "y"))
    name = _branch(place, {FILE: place.read().replace(place.dataset("a"), data)})
    text = said(place.folder, "plan", "--head", name, "--format", "md")
    for words in (
        "| `default/digits` | changed | retrains; re-exports onnx;", "1 → 2 images, 1 added, 0 removed",
        "Time to train: unknown: no earlier run", "floor: metrics/accuracy\\_top1 \\>= 0.9",
    ):  # fmt: skip
        assert words in text
    assert "No store was asked" not in text


def test_a_clone_needs_no_settings(place: Place, tmp_path: Path) -> None:
    """A plain clone is enough; without a store it says what it cannot know, and with one it knows."""
    _branch(place, {FILE: place.read().replace("epochs: 8", "epochs: 9")})
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(place.hub.path), str(clone))
    git(clone, "checkout", "-q", "change")
    text = said(clone, "plan", "--repository", ".", "--base", "main", "--format", "md")
    assert "retrains" in text
    assert "No store was asked" in text
    known = said(tmp_path, "plan", "--repository", "clone", "--base", "main", "--head", "main", "--store",
                 str(place.folder / "store"))  # fmt: skip
    assert known == "nothing changes: no ModelSpec differs\n"
    (tmp_path / "empty").mkdir()
    result = trunkline(tmp_path, "plan", "--repository", "empty")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "NoRepository"


def test_what_the_agent_proposes_is_proved(place: Place) -> None:
    """The real agent's own promotion passes the edit proof, seen from a clone as a CI job sees it."""
    place.change("epochs: 8", "epochs: 12")
    pull = place.proposed()
    git(place.hub.clone, "fetch", "-q", "origin")
    result = ci(place.hub.clone, {}, "--dry-run", "--json", "--base", "main", "--head", pull.branch)
    assert result.exit_code == 0, (result.output, result.exception)
    told = json.loads(result.stdout)
    assert told["proof"] == "proved"
    assert "serves v2" not in told["comment"]  # nothing serves in these tests
    assert "changed by hand" not in told["comment"]


def test_continuous_integration_of_the_local_forge(place: Place) -> None:
    """``ci --pr`` says on the local forge what it says on any other: a comment, and checks on the commit."""
    before = {pull.number for pull in place.forge().list("")}
    _branch(place, {FILE: place.read() + "# a note\n"}, "noted")
    said(place.folder, "pr", "open", "noted")
    (number,) = {pull.number for pull in place.forge().list("")} - before
    try:
        assert "Nothing changes" in said(place.folder, "ci", "--pr", str(number))
        said(place.folder, "ci", "--pr", str(number))
        pull = place.forge().get(number)
        (comment,) = pull.comments
        assert "Nothing changes" in comment
        states = {check.name: check.state for check in place.forge().checks(pull.head)}
        assert states == dict.fromkeys(("trunkline/check", "trunkline/plan", "trunkline/edit"), "success")
    finally:
        place.forge().close(number, comment="")
