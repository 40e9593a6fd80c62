"""``trunkline ci``: check a pull request, and say on it what merging does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from adapters.checkout import Checkout
from adapters.store import Store
from controller.ci import investigate, publish
from controller.ci_environment import CiJob, job
from controller.console import as_json, print_json, settings
from controller.whatif import View
from reconcilers.ci_report import Findings, checks, comment
from reconcilers.ports import Reviews
from specs.errors import Stalled, TrunklineError
from specs.facts import CheckState

_CLONE = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True)
class _Question:
    """One pull request, and where to say what was found out about it."""

    view: View
    base: str
    head: str
    branch: str
    number: int = 0
    reviews: Callable[[], Reviews] | None = None
    """None where nothing is to be said."""
    job: CiJob | None = None


@click.command()
@click.option("--repository", "clone", type=_CLONE, default=".", help="The job's clone. Default: here.")
@click.option("--store", envvar="TRUNKLINE_STORE", help="The store to ask; without one the files alone tell.")
@click.option("--prefix", envvar="TRUNKLINE_PREFIX", default="", help="The folder that holds the ModelSpecs.")
@click.option("--base", help="With --dry-run: the commit or branch to merge into.")
@click.option("--head", help="With --dry-run: the commit or branch to merge.")
@click.option("--pr", "number", type=int, help="Look at this pull request of the local forge, by the settings here.")
@click.option("--dry-run", is_flag=True, help="Print the comment; say nothing on the pull request.")
@as_json
def ci(
    *, clone: Path, store: str | None, prefix: str, base: str | None, head: str | None, number: int | None,
    dry_run: bool, json_: bool,
) -> None:  # fmt: skip
    """Check a pull request in continuous integration: its files, what merging does, whether it is what it claims.

    Puts one comment on the pull request, and the checks trunkline/check, trunkline/plan and trunkline/edit on its
    commit. Runs nothing of the pull request. The token comes from TRUNKLINE_TOKEN, or from the CI system's own
    variable. Exits with 1 where a check fails.

    \b
    trunkline ci
    trunkline ci --dry-run --base origin/main --head HEAD
    trunkline ci --pr 3
    """
    if number is not None:
        asked = _of_local(number)
    elif base is not None:
        asked = _of_branches(clone, store, prefix, base, head or "HEAD")
        dry_run = True
    else:
        asked = _of_job(clone, store, prefix)
    found = investigate(asked.view, asked.base, asked.head, asked.branch, time.time())
    _show(found, json_=json_)
    if not dry_run:
        _publish(asked, found)
    if any(check.state is CheckState.FAILURE for check in checks(found)):
        raise click.exceptions.Exit(1)


def _of_job(clone: Path, store: str | None, prefix: str) -> _Question:
    """Ask about the pull request that a CI system runs this for."""
    told = job(os.environ)
    if told is None:
        text = "no CI system is recognised here; try it with --dry-run --base BRANCH --head BRANCH, or --pr NUMBER"
        raise Stalled("NoCi", text)
    git = Checkout(clone, branch=told.target)
    view = View(git, Store(store) if store else None, prefix)
    base, head = git.resolve(told.base), git.resolve(told.head)
    return _Question(view, base, head, told.branch, told.number, lambda: _reviews(told), told)


def _of_branches(clone: Path, store: str | None, prefix: str, base: str, head: str) -> _Question:
    """Ask about two branches of a clone, with nobody to tell."""
    names = [name.removeprefix("origin/") for name in (base, head)]
    git = Checkout(clone)
    view = View(git, Store(store) if store else None, prefix)
    return _Question(view, git.resolve(names[0]), git.resolve(names[1]), names[1])


def _of_local(number: int) -> _Question:
    """Ask about a pull request that lives in the bare repository of the settings."""
    from controller import forges, wiring

    found = settings()
    forge, git = forges.local(found), wiring.repository(found)
    base, pull = git.fetch(), forge.get(number)
    view = View(git, wiring.store(found), found.prefix)
    return _Question(view, base, git.resolve(pull.head), pull.branch, number, lambda: forge)


def _show(found: Findings, *, json_: bool) -> None:
    if json_:
        told = [{"name": check.name, "state": check.state, "summary": check.summary} for check in checks(found)]
        print_json({"checks": told, "proof": found.proof.standing, "comment": comment(found)})
    else:
        click.echo(comment(found))


def _publish(asked: _Question, found: Findings) -> None:
    """Say it on the pull request and on the job's page; where the job may not, say so, and let its own result count."""
    told = asked.job
    if told is not None and told.summary is not None:
        with told.summary.open("a", encoding="utf-8") as page:
            page.write(comment(found))
    if asked.reviews is None:
        return
    try:
        troubles = publish(asked.reviews(), asked.number, found, told.url if told else "")
    except TrunklineError as error:
        troubles = [error.message]
    for trouble in troubles:
        click.echo(f"trunkline: {trouble}", err=True)
    if troubles and told is not None:
        why = "a pull request from a fork, whose jobs get no token that may write" if told.fork else "its token"
        click.echo(f"trunkline: this job may not write to the pull request ({why}?); its own result counts", err=True)


def _reviews(told: CiJob) -> Reviews:
    if not told.token:
        raise Stalled("NoToken", "no token was given: set TRUNKLINE_TOKEN to one that may comment and set statuses")
    from controller.ci_forge import reviews_of

    return reviews_of(told)
