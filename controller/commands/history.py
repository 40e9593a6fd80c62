"""``trunkline history``: who released what, when, from which commit, data and run, with which metrics."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.text import Text

from controller import wiring
from controller.console import as_json, console, pick, print_json, settings
from controller.releases import ReleaseEvent, releases
from specs.digests import short
from specs.errors import Stalled


@click.command()
@click.argument("model")
@as_json
def history(model: str, json_: bool) -> None:
    """Tell the releases of MODEL, from git alone.

    Every line is a commit on the tracked branch that pinned another release; its evidence is checked against the
    digest that the release names.
    """
    app = wiring.build(settings())
    app.source.refresh()
    key = pick(app.source.keys(), model)
    sourced = app.source.get(key)
    if sourced is None:
        raise Stalled("NoSuchModel", f"{key} left the tracked branch")
    events = releases(app.repository, sourced)
    if json_:
        print_json([{**vars(event), "commit": vars(event.commit)} for event in events])
        return
    out = console()
    out.print(f"[bold]{key}[/]: {len(events)} releases, oldest first\n")
    for event in events:
        out.print(_block(event))


def _block(event: ReleaseEvent) -> Text:
    """Tell one release in two lines: who and when, then from what and how good."""
    when = datetime.fromtimestamp(event.commit.when, UTC).strftime("%Y-%m-%d %H:%M")
    who = event.merged_by.partition(" <")[0]
    pull = f" in #{event.pull_request}" if event.pull_request else ", not by pull request"
    name = f"v{event.version}" if event.version is not None else "none"
    story = f"{event.how:<12}{when} UTC  by {who}{pull}, commit {event.commit.sha[:8]}\n"
    text = Text.assemble((f"{name:<5}", "bold cyan"), story)
    if event.version is not None:
        metric = event.metric.removeprefix("metrics/").removeprefix("accuracy_")
        measured = f"{metric} {event.value:.4g}" if event.value is not None else "not measured"
        facts = (f"run {short(event.run)[:7]}", f"data {short(event.data)[:7] if event.data else '–'}",
                 f"from {event.source[:7] or '–'}", measured)  # fmt: skip
        colour = "green" if event.evidence == "verified" else "red"
        text.append_text(Text.assemble(" " * 5, "  ".join(facts), "  evidence ", (event.evidence, colour), "\n"))
    return text
