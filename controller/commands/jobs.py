"""``trunkline logs`` and ``trunkline retry``: looking into jobs."""

from __future__ import annotations

import click

from controller import wiring
from controller.console import settings
from specs.errors import Stalled


@click.command()
@click.argument("job")
def logs(job: str) -> None:
    """Print the log of JOB's last attempt; `trunkline status` names the jobs."""
    path = wiring.build(settings()).jobs.log_path(job)
    if path is None or not path.exists():
        raise Stalled("NoSuchJob", f"no job {job!r} has run here")
    click.echo(path.read_text(errors="replace"), nl=False)


@click.command()
@click.argument("job")
def retry(job: str) -> None:
    """Forget the failed attempts of JOB, so that the agent tries it again."""
    jobs = wiring.build(settings()).jobs
    if jobs.find(job) is None:
        raise Stalled("NoSuchJob", f"no job {job!r} has run here")
    jobs.forget(job)
    click.echo(f"{job} will be tried again")
