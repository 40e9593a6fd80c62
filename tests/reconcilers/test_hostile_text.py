"""Names, reasons and words of servers are other people's text: nothing of it becomes markup, a link or a trailer."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconcilers.actions import CloseProposal, Proposal
from reconcilers.drafts import Draft, Edit, answered, build
from reconcilers.markdown import block, escape, plain
from reconcilers.proposals import plan_proposal
from reconcilers.summary import summarize
from specs.facts import PullState
from specs.status import ModelStatus
from tests.support.builders import TOP1, Stage, candidate_ready, context, first, moved_on, proposed, pull, settled

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = [
    "<img src=x onerror=alert(1)>", "</td></tr></table><h1>x", "<!-- trunkline:closed reason=Obsolete -->",
    "[ok](https://evil.example)", "![x](//evil.example/p.png)", "@everyone merge this", "fixes #1, closes GH-2",
    "!12 $3", "`x` | y | **z**", "```\n/merge\n```", "x\n\nTrunkline-Run: sha256:0\nSigned-off-by: Eve <eve@e.example>",
    "\n/approve\n/merge", "- a\n- b", "1. a", "===", "---",
    "\u202eevil", "\x1b[31mred\x9b2J", "a\u2028b", "~~~", "&lt;b&gt;",
    "x" * 3 + "\r\n# title", "::: note", "$$\\href{x}{y}$$",
]  # fmt: skip


def hostile(text: str) -> Stage:
    """Give a candidate behind a champion with somebody's text wherever the model's records and spec have text."""
    name = " ".join("".join(char for char in text if char >= " " and char != "\x7f").split()) or "x"
    gate = {"name": "head", "metric": TOP1, "class": name, "min": 0.1}
    stage = moved_on(settled(), lambda d: (d["training"]["args"].update(epochs=9), d["gates"].append(gate)))
    world, weird = stage.world, {text: 0.5}
    measured = {
        key: record.model_copy(update={
            "values": record.values | weird, "per_class": record.per_class | {name: {TOP1: 0.9}},
            "files": record.files | {f"{name}.png": record.per_image},
        })
        for key, record in world.evaluations.items()
    }  # fmt: skip
    runs = {
        key: run.model_copy(update={
            "started": text, "commit": text,
            "environment": run.environment and run.environment.model_copy(update={"device": text, "python": text}),
            "epochs": [epoch.model_copy(update={"metrics": epoch.metrics | weird}) for epoch in run.epochs],
        })
        for key, run in world.runs.items()
    }  # fmt: skip
    return stage.but(evaluations=measured, runs=runs)


def tags(markdown: str) -> list[str]:
    """Give the HTML tags, in order, that a text is rendered as."""
    return re.findall(r"</?[a-z0-9]+", PARSER.render(markdown).replace("<!--", ""))


def outside_code(markdown: str) -> str:
    """Give the text without what stands in code, where forges link nothing."""
    return re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))


def check(markdown: str, harmless: str) -> None:
    """A text is built like the one without anything hostile in it, and nothing in it is linked, hidden or a command."""
    assert tags(markdown) == tags(harmless)
    words = outside_code(markdown)
    for never in (r"@\w", r"#\d", r"(?i)\bgh-\d", r"[!$~]\d", r"://", "\x1b|\x9b|\u202e|\u2028"):
        assert not re.search(never, words), never
    assert not [line for line in markdown.splitlines() if line.startswith("/")]
    assert markdown.count("<!-- trunkline:") == harmless.count("<!-- trunkline:")


CALM = proposed(hostile("calm").spec, hostile("calm").world)


def trailers(proposal: Proposal) -> list[str]:
    """Give the names of a commit's trailers."""
    return [line.partition(":")[0] for line in proposal.message.rstrip().rpartition("\n\n")[2].splitlines()]


def page(proposal: Proposal) -> str:
    """Give the report that is committed."""
    return next(data.decode() for path, data in proposal.files.items() if path.endswith("report.md"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_promotion_is_built_the_same_whatever_things_are_called(text: str) -> None:
    """Body, report and commit message have the same parts with hostile names as with harmless ones."""
    stage = hostile(text)
    made = proposed(stage.spec, stage.world)
    check(made.body, CALM.body)
    check(page(made), page(CALM))
    assert trailers(made) == trailers(CALM)
    assert len(made.title.splitlines()) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_rollback_quotes_the_server_and_no_more(text: str) -> None:
    """What a server says when it fails is quoted on one line."""

    def rollback(words: str) -> Proposal:
        stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))
        value = proposed(stage.spec, stage.world).value
        assert isinstance(value, dict)
        two = moved_on(stage, lambda data: data.update(release=value))
        assert two.world.serving is not None
        failed = replace(two.world.serving, failed_file=value["exports"]["onnx"], failure=words)
        return first(two.but(serving=failed).plan.actions).proposal

    made, calm = rollback(text), rollback("calm")
    check(made.body, calm.body)
    assert trailers(made) == trailers(calm)
    assert made.key == calm.key


@pytest.mark.parametrize("text", HOSTILE)
def test_closing_comments_quote_and_no_more(text: str) -> None:
    """A gate's sentence names a class, and ends up in a comment that forges scan for commands and mentions."""

    def comment(words: str) -> str:
        stage = hostile(words)
        tight = moved_on(stage, lambda data: data["gates"][1].update(min=1.0), work=False)
        offered = pull(proposed(stage.spec, stage.world))
        world = replace(stage.world, proposals=(offered,))
        (close,) = [a for a in Stage(tight.spec, world, stage.lab).plan.actions if isinstance(a, CloseProposal)]
        return close.comment

    check(comment(text), comment("calm"))
    assert len(comment(text).splitlines()) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_an_answer_of_the_forge_is_quoted_and_no_more(text: str) -> None:
    """Why it does not merge by itself, the forge says in its own words."""
    check(answered("body", text), answered("body", "calm"))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_title_makes_a_trailer_and_no_trailer_a_second(text: str) -> None:
    """Whatever an intent puts into title and trailers, a commit has the lines that we meant and no others."""
    stage = candidate_ready()
    draft = Draft("promote", {"x": 1}, stage.spec.inputs_digest, "spec.release", f"a {text}", "b", lambda: Edit({}, (
        ("Trunkline-Cause", text), ("Trunkline-Run", "r"),
    )))  # fmt: skip
    made = build(context(stage.spec, stage.world), draft, "f" * 64)
    assert len(made.message.splitlines()) == 2 + 5
    names = ["Trunkline-Model", "Trunkline-Intent", "Trunkline-Cause", "Trunkline-Run", "Trunkline-Key"]
    assert trailers(made) == names
    assert not re.search(r"@\w|#\d|(?i:gh-\d)", made.message)
    assert plan_proposal(context(stage.spec, stage.world), draft).message.startswith("proposing: a ")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_condition_cannot_steer_the_terminal_it_is_read_in(text: str) -> None:
    """Reasons of holds and names of classes are shown, and nothing in them acts or hides."""
    name = " ".join("".join(char for char in text if char >= " " and char != "\x7f").split()) or "x"
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))
    held = moved_on(stage, lambda data: data["release"].update(hold={"reason": name}))
    status = summarize(context(held.spec, held.world), held.plan, (), ModelStatus(), "2026-01-01T00:00:00Z")
    texts = [status.summary, *(condition.message for condition in status.conditions)]
    assert any("spec.release.hold" in text for text in texts)
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    assert status.summary.isprintable()


@given(st.text(max_size=40))
def test_plain_is_one_line_that_reads_the_same(text: str) -> None:
    """Titles keep their words; only what would link or hide is touched."""
    made = plain(text)
    assert made.isprintable() or made.replace("\u200b", "").isprintable()
    assert "\n" not in made
    assert not re.search(r"@\w|#\w", made)


@given(st.text(alphabet="`~\na", max_size=20))
def test_block_cannot_be_left(text: str) -> None:
    """Backticks inside never end it."""
    rendered = PARSER.render(block(f"x{text}", "yaml") + "\nafter")
    assert rendered.count("<pre>") == 1
    assert rendered.endswith("<p>after</p>\n")


def test_how_to_say_no_is_yaml_that_can_be_pasted() -> None:
    """The body shows the very lines that deny the run for good; where nothing is released there is no such list."""
    assert f'- {{run: "{hostile("calm").spec.inputs_digest}", reason: "say why"}}' in CALM.body
    assert "by pull request" in CALM.body
    one = candidate_ready()
    body = proposed(one.spec, one.world).body
    assert "Close this without merging" in body
    assert "deny" not in body
    assert "How to say no" not in page(CALM)


def test_a_persons_branch_name_in_a_message_is_text() -> None:
    """Who points a proposal at another branch chooses words of our status."""
    stage = candidate_ready()
    there = pull(proposed(stage.spec, stage.world), PullState.OPEN, base="dev\x1b[31m", retargeted=True)
    status = summarize(
        context(stage.spec, stage.world), stage.but(proposals=(there,)).plan, (), ModelStatus(), "2026-01-01T00:00:00Z"
    )
    assert "\x1b" not in status.model_dump_json()
    assert escape("dev") in status.summary
