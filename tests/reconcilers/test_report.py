"""What people read before they merge."""

from __future__ import annotations

from typing import Any

from markdown_it import MarkdownIt

from reconcilers.actions import Proposal
from tests.support.builders import (
    TOP1,
    Stage,
    candidate_ready,
    digest,
    moved_on,
    proposed,
    settled,
)  # fmt: skip

PARSER = MarkdownIt("commonmark").enable("table")
FIRST = candidate_ready()


def made(stage: Stage) -> Proposal:
    """Give the proposal of a stage."""
    return proposed(stage.spec, stage.world)


def second() -> Stage:
    """Give a candidate behind a serving champion."""
    return moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))


def test_title_says_how_good_and_how_much_better() -> None:
    """The one line in a list of pull requests has the number that counts."""
    assert made(FIRST).title == "retail/shelf: promote v1 (accuracy_top1 0.9906)"
    assert made(second()).title == "retail/shelf: promote v2 (accuracy_top1 0.9926, +0.001968)"
    assert made(candidate_ready(data__golden=None, gates=[])).title == "retail/shelf: promote v1"


def test_body_has_all_that_a_reviewer_needs() -> None:
    """What changes, champion against candidate with n and intervals, gates, exports, data, consequence and undoing."""
    body = made(second()).body
    assert "| release | v1 | v2 |" in body
    assert "n = 100" in body
    assert "champion v1" in body
    assert "+0.001968 (-0.008032 to 0.01197)" in body
    assert "| floor | pass |" in body
    assert "| onnx | onnx | 1.50 MB | 1.5 | 2.5 |" in body
    assert "| train |" in body
    assert "serves instead of v1, without losing a request" in body
    assert "`git revert`" in body
    assert "`evidence/retail.shelf/v2/evidence.json`" in body


def test_first_release_says_what_undoing_it_means() -> None:
    """Before the first release there is nothing to go back to, and the text does not promise it."""
    assert "Then nothing is released, and nothing serves." in made(FIRST).body
    assert "The previous bytes serve again" in made(second()).body


def test_release_that_nothing_serves_says_so() -> None:
    """Without spec.serving merging changes git only."""
    assert "Nothing serves it: spec.serving is not given." in made(candidate_ready(serving=None)).body


def test_page_has_the_course_of_training_and_the_pictures() -> None:
    """The page beside the evidence shows what the body has, the run, its epochs and its pictures."""
    page = made(FIRST).files["evidence/retail.shelf/v1/report.md"].decode()
    assert "# retail/shelf v1" in page
    assert "| seconds | 35.0 |" in page
    assert "3.11.9, 8.4, 2.9" in page
    assert "| 2 | 0.7 |" in page
    assert "![training-results.png](training-results.png)" in page
    assert "![golden-confusion.png](golden-confusion.png)" in page
    assert "args.yaml" not in page


EVIL = '</td><script>alert(1)</script> | [x](http://evil.example) @all `"'


def test_names_of_users_cannot_inject() -> None:
    """Classes, metrics and devices with markup, HTML or mentions in their names come out as plain text."""
    stage = candidate_ready(gates=[{"name": "g", "metric": TOP1, "min": 0.1}])
    run = stage.world.runs[stage.spec.inputs_digest]
    weights = digest("weights", stage.spec.inputs_digest)
    key = next(k for k in stage.world.evaluations if k[0] == weights)
    found = stage.world.evaluations[key]
    evil: dict[str, Any] = {"values": {**found.values, EVIL: 0.5}, "files": {f"{EVIL}.png": digest("p")}}
    assert run.environment is not None
    named = stage.but(
        evaluations={**stage.world.evaluations, key: found.model_copy(update=evil)},
        runs={run.inputs_digest: run.model_copy(update={
            "environment": run.environment.model_copy(update={"device": EVIL}), "started": EVIL})},
    )  # fmt: skip
    proposal = made(named)
    for text in (proposal.body, proposal.files["evidence/retail.shelf/v1/report.md"].decode()):
        rendered = PARSER.render(text)
        assert "<script" not in rendered
        assert 'href="http://evil' not in rendered
        assert "@all" not in rendered
        rows = [row for row in rendered.split("<tr>")[1:] if "alert(1)" in row]
        assert rows
        assert all(row.count("<td>") == 2 for row in rows)


def test_class_of_a_gate_cannot_inject() -> None:
    """A gate on a class whose name is markup tells its number, and nothing else happens."""
    stage = candidate_ready()
    weights = digest("weights", stage.spec.inputs_digest)
    key = next(k for k in stage.world.evaluations if k[0] == weights)
    found = stage.world.evaluations[key].model_copy(update={"per_class": {EVIL: {TOP1: 0.97}}})
    gate = {"name": "c", "metric": TOP1, "class": EVIL, "min": 0.5}
    moved = moved_on(stage, lambda data: data["gates"].append(gate), work=False)
    body = made(moved.but(evaluations={**stage.world.evaluations, key: found})).body
    rendered = PARSER.render(body)
    assert "<script" not in rendered
    assert "0.97 &gt;= 0.5" in rendered
    assert "@all" not in rendered
