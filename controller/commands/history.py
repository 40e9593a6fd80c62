"""``trunkline history``: who released what, when, from which commit, data and run, with which metrics."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from controller import wiring
from controller.console import as_json, console, pick, print_json, settings, table
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
    header = ("", "when (UTC)", "how", "merged by", "PR", "commit", "asked by", "data", "run", "measured", "evidence")
    console().print(table(f"{key}: {len(events)} releases", header, [_row(event) for event in events]))


def _row(event: ReleaseEvent) -> tuple[str, ...]:
    when = datetime.fromtimestamp(event.commit.when, UTC).strftime("%Y-%m-%d %H:%M:%S")
    measured = f"{event.metric.removeprefix('metrics/')} {event.value:.4g}" if event.value is not None else "–"
    return (
        f"v{event.version}" if event.version is not None else "–", when, event.how, event.merged_by,
        f"#{event.pull_request}" if event.pull_request else "–", event.commit.sha[:8], event.source[:8] or "–",
        short(event.data) if event.data else "–", short(event.run) if event.run else "–",
        measured, event.evidence or "–",
    )  # fmt: skip
