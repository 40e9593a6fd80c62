"""``trunkline check``: say whether a file is right, and whether all of it will be acted on."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.markup import escape

from adapters.calendar import CronCalendar
from controller.console import as_json, console, print_json
from specs.coverage import not_acted_on
from specs.errors import InvalidManifest, Problem, Stalled
from specs.manifest import load
from specs.modelspec import Spec


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@as_json
def check(files: tuple[Path, ...], json_: bool) -> None:
    """Check ModelSpec FILES (or folders of them): every problem with file, line and field.

    Also says what the files ask for that this version understands but does not act on yet.
    Exits with 1 if there is a problem.

    \b
    trunkline check models/digits.yaml
    trunkline check models/ --json
    """
    problems: list[Problem] = []
    notes: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    count = 0
    for file in files_in(files):
        try:
            models = load(file.read_bytes().decode("utf-8", errors="surrogateescape"), str(file))
        except InvalidManifest as error:
            problems += error.problems
            continue
        count += len(models)
        for found in models:
            name, place = str(found.model.key), f"{file}:{found.line}"
            if name in places:
                text = f"{name} is also in {places[name]}; names must differ"
                problems.append(Problem(str(file), found.line, 1, "metadata.name", text))
            places.setdefault(name, place)
            problems += _problems_of_schedule(found.model.spec, str(file), found.line)
            notes[f"{name} ({place})"] = not_acted_on(found.model.spec)
    if json_:
        print_json({"models": count, "problems": [vars(p) for p in problems], "notActedOn": notes})
    else:
        _print(count, problems, notes)
    if problems:
        raise click.exceptions.Exit(1)


def _problems_of_schedule(spec: Spec, file: str, line: int) -> list[Problem]:
    """Say what is wrong with a cron line; nothing where there is none."""
    schedule = spec.triggers.schedule if spec.triggers else None
    try:
        if schedule is not None:
            CronCalendar().last(schedule, time.time())
    except Stalled as error:
        return [Problem(file, line, 1, "spec.triggers.schedule", error.message)]
    return []


def files_in(files: tuple[Path, ...]) -> list[Path]:
    """Give these files, and the YAML files below those that are folders."""
    found: list[Path] = []
    for file in files:
        found += sorted(p for p in file.rglob("*") if p.suffix in (".yaml", ".yml")) if file.is_dir() else [file]
    return found


def _print(count: int, problems: list[Problem], notes: dict[str, list[str]]) -> None:
    out = console()
    for problem in problems:
        out.print(f"[red]✗[/] {escape(str(problem))}", soft_wrap=True)
    for name, sentences in notes.items():
        for sentence in sentences:
            out.print(f"[yellow]![/] {escape(name)}: {escape(sentence)}", soft_wrap=True)
    if not problems:
        out.print(f"[green]✓[/] {count} ModelSpec{'s' if count != 1 else ''}, no problems")
