"""``trunkline history``: who released what, when, from which commit, data and run, with which metrics."""

from __future__ import annotations

from dataclasses import asdict

import click

from controller.console import console, print_json, settings
from controller.history_text import as_csv, as_markdown, block
from controller.past import told
from reconcilers.releases import Row, row


@click.command()
@click.argument("model", required=False)
@click.option("--format", "format_", type=click.Choice(["table", "md", "csv", "json"]), default="table",
              show_default=True, help="For a terminal, a page, a spreadsheet or a program.")  # fmt: skip
@click.option("--json", "format_", flag_value="json", help="The same as --format json.")
def history(model: str | None, format_: str) -> None:
    """Tell every release of MODEL (or of all models), from git alone.

    Each one is a commit on the tracked branch that pinned another release; its evidence is checked against the
    digest that the release names. What git cannot tell is unknown: a forge that squashes keeps the number of a pull
    request, but not who approved it. `trunkline verify-history` proves what is told here.
    """
    past = told(settings(), model)
    rows = [row(event) for event in past.events()]
    if format_ == "json":
        print_json([asdict(each) for each in rows])
    elif format_ == "csv":
        click.echo(as_csv(rows), nl=False)
    elif format_ == "md":
        click.echo(as_markdown(rows), nl=False)
    else:
        _print({str(key): [each for each in rows if each.model == str(key)] for key in past.keys})


def _print(models: dict[str, list[Row]]) -> None:
    out = console()
    if not models:
        out.print("no models yet")
    for model, rows in models.items():
        what = "1 release" if len(rows) == 1 else f"{len(rows)} releases"
        out.print(f"[bold]{model}[/]: {what}{', oldest first' if len(rows) > 1 else ''}\n")
        for each in rows:
            out.print(block(each), soft_wrap=True)
