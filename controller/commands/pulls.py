"""``trunkline pr``: the pull requests that live inside the bare repository."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime

import click
from rich.markdown import Markdown
from rich.markup import escape
from rich.syntax import Syntax
from rich.text import Text

from adapters.bare_repository import diff as changes
from adapters.bare_repository import subject
from adapters.forge_local import LocalForge
from controller import forges
from controller.console import as_json, console, print_json, settings, table
from specs.facts import Check, PullRequest


def _forge() -> LocalForge:
    return forges.local(settings(), actor=_person())


def _person() -> tuple[str, str]:
    """Who acts: git's own variables, else the user's name on this machine."""
    name = os.environ.get("GIT_AUTHOR_NAME") or getpass.getuser()
    return name, os.environ.get("GIT_AUTHOR_EMAIL") or f"{name}@localhost"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else ""


@click.group(name="pr")
def pulls() -> None:
    """Pull requests of the local forge: list, read, approve, merge, close."""


@pulls.command(name="list")
@click.option("--all", "all_", is_flag=True, help="Also merged and closed ones.")
@as_json
def list_(all_: bool, json_: bool) -> None:
    """List pull requests."""
    found = [p for p in _forge().list(prefix="") if all_ or p.state == "open"]
    if json_:
        print_json([_plain(p) for p in found])
        return
    rows = [(f"#{p.number}", str(p.state), p.title, p.author, _time(p.opened)) for p in found]
    console().print(table(None, ("", "state", "title", "by", "opened (UTC)"), rows) if rows else "no pull requests")


def _plain(fact: PullRequest | Check) -> dict[str, object]:
    return {name: value for name, value in vars(fact).items() if value not in (None, "", 0, ())}


@pulls.command()
@click.argument("number", type=int)
@as_json
def show(number: int, json_: bool) -> None:
    """Show pull request NUMBER with its evidence."""
    forge = _forge()
    pull = forge.get(number)
    checks = forge.checks(pull.head)
    if json_:
        print_json(_plain(pull) | ({"checks": [_plain(check) for check in checks]} if checks else {}))
        return
    out = console()
    out.print(f"[bold]#{pull.number} {escape(pull.title)}[/]   [cyan]{pull.state}[/]", soft_wrap=True)
    out.print(f"{pull.branch} → {pull.base}   by {pull.author}, {_time(pull.opened)}", soft_wrap=True, markup=False)
    for name in pull.approved_by:
        out.print(f"approved by {name}", soft_wrap=True, markup=False)
    for check in checks:
        out.print(f"{check.name}: {check.state}, {check.summary}", soft_wrap=True, markup=False)
    out.print()
    out.print(Markdown(pull.body.partition("<!--")[0]))
    for comment in pull.comments:
        out.print(Markdown("> " + comment.partition("<!--")[0].strip()))


@pulls.command()
@click.argument("number", type=int)
def diff(number: int) -> None:
    """Show what pull request NUMBER changes (evidence pictures by name only)."""
    forge = _forge()
    pull = forge.get(number)
    text = changes(forge.path, forge.branch, pull.head)
    out = console()
    out.print(Syntax(text, "diff", background_color="default", word_wrap=True) if out.is_terminal else Text(text))


@pulls.command(name="open")
@click.argument("branch")
@click.option("--title", help="Default: the subject of the branch's last commit.")
@click.option("--body", default="", help="Text, markdown.")
def open_(branch: str, title: str | None, body: str) -> None:
    """Open a pull request from BRANCH to the tracked branch."""
    forge = _forge()
    pull = forge.open(branch=branch, title=title or subject(forge.path, branch), body=body)
    click.echo(f"#{pull.number} {pull.title}")


@pulls.command()
@click.argument("number", type=int)
def approve(number: int) -> None:
    """Say yes to pull request NUMBER as it is now; a later commit to it takes that back."""
    pull = _forge().approve(number)
    click.echo(f"#{number} at {pull.head[:12]} approved")


@pulls.command()
@click.argument("number", type=int)
@click.option("--squash", is_flag=True, help="One commit instead of a merge commit.")
def merge(number: int, squash: bool) -> None:
    """Merge pull request NUMBER. Trunkline itself never does this."""
    commit = _forge().merge(number, method="squash" if squash else "merge")
    click.echo(f"#{number} merged as {commit[:12]}")


@pulls.command()
@click.argument("number", type=int)
@click.option("--comment", default="", help="Why; kept with the pull request.")
def close(number: int, comment: str) -> None:
    """Close pull request NUMBER without merging; for a proposal, that is a rejection and is remembered."""
    _forge().close(number, comment=comment)
    click.echo(f"#{number} closed")


@pulls.command()
@click.argument("number", type=int)
def reopen(number: int) -> None:
    """Open a closed pull request NUMBER again."""
    _forge().reopen(number)
    click.echo(f"#{number} is open again")
