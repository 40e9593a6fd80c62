"""What continuous integration says about a pull request: three checks and one comment. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconcilers.consequence import Consequence
from reconcilers.markdown import code, escape, table
from reconcilers.plan_page import LIMIT, page
from specs.claims import Proof, Standing
from specs.errors import Problem
from specs.facts import Check, CheckState
from specs.hand_edits import HandEdit

MARKER = "<!-- trunkline:ci -->"
"""Finds our comment again. Part of our API, like the names of the checks."""
CHECK, PLAN, EDIT = "trunkline/check", "trunkline/plan", "trunkline/edit"
_SUMMARY = 140
_TOLD = 20
_SENTENCE = 1000
_ICONS = {CheckState.SUCCESS: "✓", CheckState.FAILURE: "✗", CheckState.PENDING: "…"}


@dataclass(frozen=True)
class Findings:
    """Everything that was found out about one pull request."""

    base: str
    head: str
    models: int
    """ModelSpecs that are right, after merging."""
    problems: tuple[Problem, ...]
    """What is wrong with files after merging, and was not before."""
    older: int
    """Problems that the target branch has already."""
    notes: tuple[str, ...]
    """What is asked for and not acted on by this version, one sentence each."""
    consequences: tuple[Consequence, ...]
    proof: Proof
    hand: tuple[HandEdit, ...]
    blind: bool = False
    """Whether no store was asked."""


def checks(found: Findings, url: str = "") -> tuple[Check, ...]:
    """Give the checks, whose names never change."""
    told = (
        (CHECK, not found.problems, _check_words(found)),
        (PLAN, True, _plan_words(found)),
        (EDIT, edit_holds(found.proof, found.hand), _edit_words(found)),
    )
    states = {True: CheckState.SUCCESS, False: CheckState.FAILURE}
    return tuple(Check(name, states[fine], _cut(words), url) for name, fine, words in told)


def edit_holds(proof: Proof, hand: Sequence[HandEdit]) -> bool:
    """Whether ``trunkline/edit`` passes.

    A proposal must be proved. What people do, also on a branch that was ours, passes unless it releases bytes by hand
    that no gate ever judged.
    """
    if proof.standing in (Standing.PROVED, Standing.REFUSED):
        return proof.standing is Standing.PROVED
    return all(edit.fine for edit in hand)


def comment(found: Findings, *, limit: int = LIMIT) -> str:
    """Give the comment, without its marker: at most ``limit`` characters."""
    rows = [(_ICONS[c.state], code(c.name), escape(c.summary)) for c in checks(found)]
    parts = ["## Trunkline\n", table(("", "check", ""), rows), *_edit(found)]
    foot = f"\nCommit {code(found.head[:12])} against {code(found.base[:12])}.\n"
    notes = _notes(found)
    room = limit - sum(map(len, (*parts, notes, foot))) - 100
    parts += ["### What merging does\n", page(found.consequences, found.problems, blind=found.blind, limit=room)]
    return "\n".join([*parts, notes, foot])


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SUMMARY else flat[: _SUMMARY - 1] + "…"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s'[: number != 1]}"


def _check_words(found: Findings) -> str:
    older = f" ({_count(found.older, 'problem')} on the target branch already)" if found.older else ""
    if found.problems:
        return f"{_count(len(found.problems), 'problem')}; first {found.problems[0]}{older}"
    return f"{_count(found.models, 'ModelSpec')}, no {'new ' if older else ''}problems{older}"


def _plan_words(found: Findings) -> str:
    told = found.consequences
    if not told:
        return "nothing changes"
    names = f"{told[0].key}: {told[0].forecast.sentence}"
    stops = sum(bool(one.forecast.stopped) for one in told)
    warning = f"; {_count(stops, 'model')} then stop{'s'[: stops == 1]}" if stops else ""
    return f"{names}{warning}" if len(told) == 1 else f"{_count(len(told), 'model')} change{warning}; {names}"


_WORDS = {
    Standing.PROVED: "proved: {}",
    Standing.REFUSED: "not what it claims to be: {}",
    Standing.DETACHED: "taken over by a person, so nothing is proved: review it like any other change",
    Standing.UNCLAIMED: "not a proposal of Trunkline: nothing to prove",
}


def _edit_words(found: Findings) -> str:
    bad = [edit for edit in found.hand if not edit.fine] if found.proof.standing is not Standing.PROVED else []
    if bad:
        return f"{bad[0].key}: {bad[0].sentence}"
    return _WORDS[found.proof.standing].format("; ".join(found.proof.sentences))


def _edit(found: Findings) -> list[str]:
    """Give the part about the edit: what was proved or refused, and what people do to releases."""
    proof = found.proof
    lines = []
    if proof.standing is not Standing.UNCLAIMED:
        why = escape("; ".join(proof.sentences)[:_SENTENCE])
        lines.append({
            Standing.PROVED: f"This is a proposal of Trunkline, and proved to be no more: {why}.\n",
            Standing.REFUSED: f"**This claims to be a proposal of Trunkline, and is not:** {why}.\n",
            Standing.DETACHED: f"**This was a proposal of Trunkline, and is somebody's own now:** {why}. Its title and "
            "text were written for what Trunkline proposed. Nothing is proved: review it like any other change.\n",
        }[proof.standing])  # fmt: skip
    hand = found.hand if proof.standing is not Standing.PROVED else ()
    told = [f"- {'' if edit.fine else '**'}{code(str(edit.key))}{'' if edit.fine else '**'} "
            f"{escape(edit.sentence[:_SENTENCE])}" for edit in hand[:_TOLD]]  # fmt: skip
    if told:
        more = [f"- and {len(hand) - _TOLD} more"] if len(hand) > _TOLD else []
        lines.append("**`spec.release` is changed by hand:**\n\n" + "\n".join([*told, *more]) + "\n")
    return lines


def _notes(found: Findings) -> str:
    if not found.notes:
        return ""
    shown = [f"- {escape(note[:_SENTENCE])}" for note in found.notes[:_TOLD]]
    more = [f"- and {len(found.notes) - _TOLD} more"] if len(found.notes) > _TOLD else []
    return "<details><summary>Asked for, but not acted on by this version</summary>\n\n" + "\n".join(
        [*shown, *more]
    ) + "\n\n</details>\n"
