"""What all commands share for talking to people: where the settings are, how models are named, how tables look."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.settings import Settings, load
from specs.errors import Stalled
from specs.modelspec import ModelKey

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON for programs instead of text for people.")


def settings() -> Settings:
    """Read the settings that hold here."""
    return load(Path.cwd())


def console() -> Console:
    """Give the terminal; plain text where it is none."""
    return Console(highlight=False, soft_wrap=not Console().is_terminal)


def print_json(value: object) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(title: str | None, header: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Make a table in the house style. Cells are plain text: brackets in the words of others mean nothing."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def pick(keys: Iterable[ModelKey], text: str) -> ModelKey:
    """Find the model that a person means by ``name`` or ``namespace/name``; Stalled ``NoSuchModel`` otherwise."""
    known = list(keys)
    found = [key for key in known if text in (key.name, str(key))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(map(str, known)) or "none"
    what = "is not unique" if found else "is not known"
    raise Stalled("NoSuchModel", f"model {text!r} {what}; there are: {names}")
