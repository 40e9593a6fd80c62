"""``trunkline jobs``, ``logs`` and ``retry``: looking into jobs on this machine."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.text import Text

from adapters.store import Store
from controller import wiring
from controller.commands.status import bars
from controller.console import as_json, console, print_json, settings, table
from reconcilers.progress import reported, shown
from specs.errors import Stalled
from specs.facts import JobPhase, JobState


@click.command()
@click.option("--all", "every", is_flag=True, help="Show the jobs that ended well, too.")
@as_json
def jobs(every: bool, json_: bool) -> None:
    """Show the jobs of this machine: how far those are that run, and what became of those that failed.

    `trunkline logs JOB` has the words of each; in a cluster `trunkline kube status` says how far jobs are.
    """
    place = settings()
    store, known = wiring.store(place), wiring.jobs(place)
    states = [state for state in map(known.find, known.names()) if state is not None]
    shows = [state for state in states if every or state.phase is not JobPhase.ENDED or state.exit_code != 0]
    if json_:
        print_json([_as_data(state, store) for state in shows])
        return
    out = console()
    if not shows:
        out.print("no job runs here, and none failed" if not every else "no job has run here")
        return
    out.print(table(None, ("job", "state", "attempts", "began", "last words"), map(_row, shows)))
    told = [shown(name, progress) for name, progress in reported(store, shows).items()]
    if told:
        out.print(Text(""), bars(told))


def _row(state: JobState) -> tuple[str, ...]:
    how = "done" if state.phase is JobPhase.ENDED and state.exit_code == 0 else state.reason or state.phase.lower()
    began = datetime.fromtimestamp(state.started, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if state.started else "–"
    words = state.message.splitlines()
    return state.name, how, str(state.attempts), began, words[-1] if words else ""


def _as_data(state: JobState, store: Store) -> dict[str, object]:
    progress = reported(store, [state]).get(state.name)
    said = shown(state.name, progress).model_dump(mode="json", by_alias=True) if progress else None
    return {**asdict(state), "progress": said}


@click.command()
@click.argument("job")
def logs(job: str) -> None:
    """Print the log of JOB's last attempt; `trunkline status` names the jobs."""
    path = wiring.jobs(settings()).log_path(job)
    if path is None or not path.exists():
        raise Stalled("NoSuchJob", f"no job {job!r} has run here")
    click.echo(path.read_text(errors="replace"), nl=False)


@click.command()
@click.argument("job")
def retry(job: str) -> None:
    """Forget the failed attempts of JOB, so that the agent tries it again."""
    known = wiring.jobs(settings())
    if known.find(job) is None:
        raise Stalled("NoSuchJob", f"no job {job!r} has run here")
    known.forget(job)
    click.echo(f"{job} will be tried again")
