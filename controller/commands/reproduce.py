"""``trunkline reproduce``: train a release again, and say whether it comes out the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from adapters.source_git import GitSource
from controller import wiring
from controller.console import as_json, console, pick, print_json, settings, table
from controller.recorded import RecordedRelease, recorded, split_name
from controller.reproduce import Reproducer, Watch
from reconcilers.reproduction import Reproduction
from specs.digests import short
from specs.errors import Stalled

_SHOWN = 20


@click.command()
@click.argument("release", metavar="MODEL[@vN]")
@click.option("--exports", is_flag=True, help="Export again, too, where the weights are the same.")
@click.option("--keep", is_flag=True, help="Leave what was trained, below reproductions/ of the state folder.")
@as_json
def reproduce(*, release: str, exports: bool, keep: bool, json_: bool) -> None:
    """Train release MODEL@vN again and compare: bit for bit, else by metrics within what was recorded.

    Data, arguments and seed come from the evidence in git; the training runs here, in a place of its own. The store is
    only read. Exits with 0 where the release was reproduced, with 1 where it was not.

    \b
    trunkline reproduce digits@v3
    trunkline reproduce retail/shelf-detector@v7 --json
    """
    found = settings()
    store, git = wiring.store(found), wiring.repository(found)
    source = GitSource(git, prefix=found.prefix)
    source.refresh()
    model, version = split_name(release)
    sourced = source.get(pick(source.keys(), model))
    if sourced is None:
        raise Stalled("NoSuchModel", f"{model} left the tracked branch")
    then = recorded(git, store, sourced, version)
    with _bar() as watch:
        reproducer = Reproducer(store, found.state / "reproductions", command=found.workload_command, watch=watch)
        answer = reproducer.reproduce(then, exports=exports, keep=keep)
    if json_:
        print_json({"model": str(then.key), "version": then.version, "same": answer.same, **asdict(answer)})
    else:
        _print(then, answer)
    if not answer.same:
        raise click.exceptions.Exit(1)


@contextmanager
def _bar() -> Iterator[Watch]:
    """Show how far it is on the terminal's other channel, so that the answer can go into a file."""
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        tasks: dict[str, int] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=None)
            progress.update(tasks[what], completed=done, total=total or None)  # type: ignore[arg-type]

        yield watch


def _print(then: RecordedRelease, answer: Reproduction) -> None:
    out = console()
    mark = "[green]✓[/]" if answer.same else "[red]✗[/]"
    out.print(f"{mark} [bold]{then.key}[/] v{then.version}: {escape(answer.sentence)}\n", soft_wrap=True)
    rows = [("weights", *map(short, answer.weights), _same(*answer.weights))]
    rows += [(f"export {e.name}", short(e.then), short(e.now or "–"), e.trouble or _same(e.then, e.now or ""))
             for e in answer.exports]  # fmt: skip
    for metric in answer.metrics:
        low_high = " to ".join(f"{bound:.4g}" for bound in metric.interval) if metric.interval else "no interval"
        verdict = ("inside" if metric.inside else "OUTSIDE") + ("" if metric.counts else ", does not count")
        now = "–" if metric.now is None else f"{metric.now:.4g}"
        rows.append((metric.name, f"{metric.then:.4g} ({low_high})", now, verdict))
    out.print(table(None, ("", f"recorded ({then.origin})", "again", ""), rows))
    if answer.environment:
        shown = [(d.what, d.then, d.now) for d in answer.environment[:_SHOWN]]
        out.print(table("what differs around it", ("", "then", "now"), shown))
        if len(answer.environment) > _SHOWN:
            out.print(f"and {len(answer.environment) - _SHOWN} more; --json shows all")


def _same(one: str, other: str) -> str:
    return "the same" if one == other else "OTHER BYTES"
