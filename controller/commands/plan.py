"""``trunkline plan``: say what merging would do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.markup import escape

from adapters.checkout import Checkout
from adapters.store import Store
from controller import forges, wiring
from controller.console import as_json, console, print_json, settings
from controller.whatif import Answer, View, consequences
from reconcilers.consequence import Consequence
from reconcilers.plan_page import page
from specs.errors import Problem

_CLONE = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--pr", "number", type=int, help="Look at this pull request of the local forge.")
@click.option("--base", help="Commit or branch to merge into. Default: the tracked branch.")
@click.option("--head", help="Commit or branch to merge. Default: what is checked out, or the tracked branch.")
@click.option("--repository", "clone", type=_CLONE, help="Look at this clone as it is; needs no settings.")
@click.option("--store", "store_url", help="With --repository: the store to ask. Without one, the files alone tell.")
@click.option("--prefix", default="", help="With --repository: the folder that holds the ModelSpecs.")
@click.option("--format", "format_", type=click.Choice(["text", "md"]), default="text", help="How to say it.")
@as_json
def plan(
    *, number: int | None, base: str | None, head: str | None, clone: Path | None, store_url: str | None, prefix: str,
    format_: str, json_: bool,
) -> None:  # fmt: skip
    """Say what merging HEAD does to every ModelSpec: retrains, re-exports, rolls out, or nothing.

    It asks the same pure function that the agent acts on, against the same store, so it knows what exists already.

    \b
    trunkline plan --pr 3
    trunkline plan --base main --head my-branch --format md
    trunkline plan --repository . --base main
    """
    if clone is not None:
        answer, blind = _of_clone(clone, base, head, store_url, prefix)
    else:
        answer, blind = _of_settings(number, base, head), False
    problems = answer.after.problems
    if json_:
        print_json({"models": [_plain(c) for c in answer.consequences], "problems": [vars(p) for p in problems]})
    elif format_ == "md":
        click.echo(page(answer.consequences, problems, blind=blind))
    else:
        _print(answer.consequences, problems)
    if problems:
        raise click.exceptions.Exit(1)


def _of_clone(clone: Path, base: str | None, head: str | None, store: str | None, prefix: str) -> tuple[Answer, bool]:
    """Look at a clone that somebody else keeps, such as that of a CI job; say also whether no store was asked."""
    git = Checkout(clone, branch=base or "main")
    view = View(git, Store(store) if store else None, prefix)
    return consequences(view, git.resolve(base or "main"), git.resolve(head or "HEAD"), time.time()), store is None


def _of_settings(number: int | None, base: str | None, head: str | None) -> Answer:
    found = settings()
    app = wiring.build(found)
    if number is not None:
        head = forges.local(found).get(number).branch
    pulls = app.reconciler().observer.share().pulls  # what people decided before counts
    view = View(app.repository, app.store, found.prefix, pulls)
    one, other = (app.repository.resolve(rev or found.branch) for rev in (base, head))
    return consequences(view, one, other, time.time())


def _plain(consequence: Consequence) -> dict[str, object]:
    told, training = consequence.forecast, consequence.training
    return {
        "model": str(consequence.key), "change": consequence.change, "differences": consequence.lines,
        "effects": told.effects, "gates": told.gates, "stopped": told.stopped,
        "data": [asdict(change) for change in consequence.data],
        "trainingSeconds": training.seconds if training else None,
    }  # fmt: skip


def _print(told: Sequence[Consequence], problems: tuple[Problem, ...]) -> None:
    out = console()
    for problem in problems:
        out.print(f"[red]✗[/] {escape(str(problem))}", soft_wrap=True)
    if not told and not problems:
        out.print("nothing changes: no ModelSpec differs")
    for consequence in told:
        head = f"[bold]{consequence.key}[/]  {consequence.change}"
        out.print(f"{head}: [cyan]{escape(consequence.forecast.sentence)}[/]", soft_wrap=True)
        for line in consequence.lines:
            out.print(f"    {line}", soft_wrap=True, markup=False)
        if consequence.training is not None:
            out.print(f"    time to train: {consequence.training.sentence}", soft_wrap=True, markup=False)
        for gate in consequence.forecast.gates:
            out.print(f"    gate {gate}", soft_wrap=True, markup=False)
        if consequence.forecast.stopped:
            out.print(f"    [red]then it stops:[/] {escape(consequence.forecast.stopped)}", soft_wrap=True)
