"""``trunkline deny``: the edit that says no to a candidate for good, for a person's own pull request."""

from __future__ import annotations

import difflib

import click

from controller import wiring
from controller.console import pick, settings
from specs.errors import Stalled
from specs.facts import SourcedSpec
from specs.manifest import edit, parse, prove

_FIELD = "spec.release.deny"


@click.command()
@click.argument("model")
@click.option("--reason", required=True, help="Why, in a sentence: whoever proposes it again will read it.")
@click.option("--run", help="The run to deny, as sha256:…  Default: the one that MODEL's inputs ask for now.")
def deny(model: str, reason: str, run: str | None) -> None:
    """Print the change that puts a run of MODEL on spec.release.deny, as `git apply` takes it.

    \b
    trunkline deny shelf --reason "misses the new shelves" | git apply
    """
    app = wiring.build(settings())
    app.source.refresh()
    key = pick(app.source.keys(), model)
    sourced = app.source.get(key)
    if sourced is None:
        raise Stalled("NoSuchModel", f"{key} left the tracked branch")
    change = denied(sourced, run, reason)
    click.echo(change or f"{key}: that run is on spec.release.deny already", nl=not change, err=not change)


def denied(sourced: SourcedSpec, run: str | None, reason: str) -> str:
    """Give the change as a patch, empty where the run is denied already; Stalled where nothing is released yet."""
    spec = parse(sourced.text, sourced.path, sourced.key).model.spec
    if spec.release is None:
        text = f"{sourced.key} has no spec.release, so there is no list to put it on; close its proposal instead"
        raise Stalled("NotReleased", text)
    digest = run or spec.inputs_digest
    if any(each.run == digest for each in spec.release.deny or ()):
        return ""
    before = [each.model_dump(mode="json", exclude_none=True) for each in spec.release.deny or ()]
    value = [*before, {"run": digest, "reason": reason}]
    text = edit(sourced.text, sourced.key, _FIELD, value)
    prove(sourced.text, text, sourced.key, _FIELD, value)
    return _patch(sourced.path, sourced.text, text)


def _patch(path: str, old: str, new: str) -> str:
    """Give a unified diff; a last line without an end says so, or git would not take it."""
    lines = difflib.unified_diff(_lines(old), _lines(new), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """Split where git does, and nowhere else."""
    *whole, last = text.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])
