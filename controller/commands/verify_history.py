"""``trunkline verify-history``: prove every release anew."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from controller import wiring
from controller.console import console, print_json, settings
from controller.history_text import findings_csv, findings_markdown, plain
from controller.past import ASKED, NOT_ASKED, Past, pulls, told, unsigned_commits, unsigned_files
from controller.settings import Settings
from reconcilers.findings import Finding
from reconcilers.proving import Demands, Verdict, prove_past, steps_with_releases
from reconcilers.proving_store import prove_store
from specs.errors import Stalled, Transient
from specs.release import Pin

_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b")
"""Digests and names of commits: people compare their beginning."""


@click.command("verify-history")
@click.argument("model", required=False)
@click.option("--since", help="Prove only what came after this commit (its full name, or a branch).")
@click.option("--require-pull-request", is_flag=True, help="Every release must have come by a pull request.")
@click.option("--offline", is_flag=True, help="Ask neither store nor forge: git alone.")
@click.option("--deep", is_flag=True, help="Read every released file in the store and check its digest.")
@click.option("--strict", is_flag=True, help="End with 1 for warnings too.")
@click.option("--format", "format_", type=click.Choice(["table", "md", "csv", "json"]), default="table",
              show_default=True, help="For a terminal, a page, a spreadsheet or a program.")  # fmt: skip
@click.option("--json", "format_", flag_value="json", help="The same as --format json.")
def verify_history(
    model: str | None, since: str | None, *, require_pull_request: bool, offline: bool, deep: bool, strict: bool,
    format_: str,
) -> None:
    """Prove every release of MODEL (or of all models) anew, from the history of the tracked branch.

    Evidence, digests, gates, versions, edits, trailers and pull requests are checked against each other, and against
    store and forge where those can be reached. The last line names the commit that was proved: give it to the next
    --since, so that a rewritten history shows.

    Exit codes: 0 nothing is wrong, 1 something is. Warnings alone are 0, unless --strict.
    """
    found = settings()
    past = told(found, model, whole=True)
    begin = _commit(past, since) if since else ""
    steps = steps_with_releases(past.story, begin)
    merged, forge = (None, NOT_ASKED) if offline else pulls(found, steps)
    demands = Demands(
        ours=found.author_email, branch=found.branch, since=begin,
        require_pull_request=require_pull_request or found.provenance.require_pull_request,
        pulls=merged, unsigned=unsigned_commits(found, past, steps),
    )  # fmt: skip
    verdict = prove_past(past.story, demands, past.keys[0] if model else None)
    stored, asked = ([], NOT_ASKED) if offline else _store(found, past, begin, deep=deep)
    findings = [*verdict.findings, *stored]
    _print(format_, past, verdict, findings, {"store": asked, "forge": forge})
    if any(strict or not each.warning for each in findings):
        raise click.exceptions.Exit(1)


def _commit(past: Past, since: str) -> str:
    """Give the full name of a commit; one that is gone keeps the name it was given by, and is a finding."""
    try:
        return past.repository.resolve(since)
    except Stalled as error:
        if error.reason != "CommitMissing":
            raise
        return since


def _store(found: Settings, past: Past, since: str, *, deep: bool) -> tuple[list[Finding], str]:
    """Ask the store about releases that are to be proved; a store that cannot be reached is told, and no fault."""
    order = {step.sha: at for at, step in enumerate(past.story.steps)}
    events = [event for event in past.events() if order[event.step.sha] > order.get(since, -1)]
    pins: list[Pin | None] = []
    for key in past.keys:
        release = past.story.now[key].spec.release if key in past.story.now else None
        pins += [release, release.previous if release else None]
    current = frozenset(digest for pin in pins if pin for digest in (pin.weights, *pin.exports.values()))
    try:
        store = wiring.store(found)
        unsigned = unsigned_files(found, store)
        return list(prove_store(store, events, deep=deep, current=current, unsigned=unsigned)), ASKED
    except Transient as error:
        return [], f"cannot be reached: {error.message}"


def _print(format_: str, past: Past, verdict: Verdict, findings: list[Finding], asked: dict[str, str]) -> None:
    if format_ == "json":
        listed: list[dict[str, Any]] = [{**asdict(each), "severity": each.severity} for each in findings]
        counts = {"releases": verdict.releases, "commits": verdict.commits}
        print_json({"head": past.head, **counts, **asked, "findings": listed})
    elif format_ == "csv":
        click.echo(findings_csv(findings), nl=False)
    elif format_ == "md":
        click.echo(findings_markdown(findings, past.head), nl=False)
    else:
        _table(past, verdict, findings, asked)


def _table(past: Past, verdict: Verdict, findings: list[Finding], asked: dict[str, str]) -> None:
    out = console()
    for each in findings:
        version = f" v{each.version}" if each.version is not None else ""
        what = f"{each.model or 'the branch'}{version}"
        mark, colour = ("!", "yellow") if each.warning else ("✗", "red")
        where = f"  commit {each.commit[:12]}" if each.commit else ""
        out.print(Text.assemble((f"{mark} {each.code}", f"bold {colour}"), f"  {plain(what)}{where}"))
        lines = Table.grid(padding=(0, 1), pad_edge=True)
        for name, words in (("expected:", each.expected), ("found:", each.found), ("do:", each.advice)):
            lines.add_row("  ", name, Text(_HEX.sub(r"\1…", plain(words))))
        out.print(lines)
    errors = sum(not each.warning for each in findings)
    warnings = len(findings) - errors
    story = f"{verdict.releases} releases in {verdict.commits} commits proved"
    if not findings:
        out.print(f"[green]✓[/] {story}, nothing is wrong")
    else:
        out.print(f"\n{story}: [bold]{errors} wrong[/], {warnings} to look at")
    out.print(f"store {asked['store']}, forge {asked['forge']}; up to commit {past.head}", markup=False)
