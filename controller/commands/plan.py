"""``trunkline plan``: say what merging would do."""

from __future__ import annotations

import time

import click
from rich.markup import escape

from controller import forges, wiring
from controller.console import as_json, console, print_json, settings
from controller.whatif import Consequence, consequences
from specs.errors import Problem


@click.command()
@click.option("--pr", "number", type=int, help="Look at this pull request of the local forge.")
@click.option("--base", help="Commit or branch to merge into. Default: the tracked branch.")
@click.option("--head", help="Commit or branch to merge.")
@as_json
def plan(number: int | None, base: str | None, head: str | None, json_: bool) -> None:
    """Say what merging HEAD does to every ModelSpec: retrains, re-exports, rolls out, or nothing.

    It asks the same pure function that the agent acts on, against the same store, so it knows what exists already.

    \b
    trunkline plan --pr 3
    trunkline plan --base main --head my-branch
    """
    found = settings()
    app = wiring.build(found)
    if number is not None:
        head = forges.local(found).get(number).branch
    told, problems = consequences(app, base or found.branch, head or found.branch, time.time())
    if json_:
        print_json({"models": [_plain(c) for c in told], "problems": [vars(p) for p in problems]})
    else:
        _print(told, problems)
    if problems:
        raise click.exceptions.Exit(1)


def _plain(consequence: Consequence) -> dict[str, object]:
    told = consequence.forecast
    return {
        "model": str(consequence.key), "change": consequence.change, "differences": consequence.lines,
        "effects": told.effects, "gates": told.gates, "stopped": told.stopped,
    }  # fmt: skip


def _print(told: list[Consequence], problems: tuple[Problem, ...]) -> None:
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
        for gate in consequence.forecast.gates:
            out.print(f"    gate {gate}", soft_wrap=True, markup=False)
        if consequence.forecast.stopped:
            out.print(f"    [red]then it stops:[/] {escape(consequence.forecast.stopped)}", soft_wrap=True)
