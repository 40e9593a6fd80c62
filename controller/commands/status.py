"""``trunkline status``: the board."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adapters.store import Store
from controller import wiring
from controller.console import as_json, console, pick, print_json, settings, table
from controller.statuses import Statuses
from reconcilers.progress import progress_of, shown
from specs.modelspec import ModelKey
from specs.status import ConditionType, JobProgress, ModelStatus, SignalStatus

Item = tuple[ModelKey, ModelStatus]
_SYMBOL = {"True": ("✓", "green"), "False": ("✗", "red"), "Unknown": ("?", "yellow")}


@click.command()
@click.argument("model", required=False)
@click.option("--watch", is_flag=True, help="Keep showing it until stopped.")
@as_json
def status(model: str | None, watch: bool, json_: bool) -> None:
    """Show what serves, what is under way and what waits for a person.

    With MODEL (name or namespace/name): all conditions of that one. The agent writes what is shown here; how far jobs
    are is what they say at this moment.
    """
    found = settings()
    statuses, store = Statuses(found.state / "status"), wiring.store(found)
    if json_:
        now = ((key, each.model_copy(update={"progress": how_far(each, store)})) for key, each in statuses.items())
        chosen = {str(k): s.model_dump(mode="json", by_alias=True, exclude_defaults=True) for k, s in now}
        print_json(chosen[str(pick((k for k, _ in statuses.items()), model))] if model else chosen)
        return
    out = console()
    if not watch:
        out.print(board(list(statuses.items()), store, model))
        return
    with Live(board(list(statuses.items()), store, model), console=out, refresh_per_second=4) as live:
        while True:
            time.sleep(0.5)
            live.update(board(list(statuses.items()), store, model))


def board(items: list[Item], store: Store | None, model: str | None = None) -> RenderableType:
    """Draw all models, or one with its conditions. Without a store nothing tells how far the jobs are."""
    if not items:
        return Text("no models yet; is `trunkline agent` running, and is there a ModelSpec on the tracked branch?")
    if model is not None:
        key = pick((key for key, _ in items), model)
        return _one(key, dict(items)[key], store)
    made = table(None, ("model", "ready", "release", "serving", "proposal", "what is going on"), [])
    for key, each in items:
        cells = (_version(each.version), _serving(each), _proposals(each), each.summary)
        made.add_row(str(key), _ready(each), *map(Text, cells))
    return Group(made, *_bars(items, store))


def _ready(status: ModelStatus) -> Text:
    condition = status.condition(ConditionType.READY)
    if condition is None:
        return Text("–")
    if status.condition(ConditionType.STALLED):
        return Text("stalled", "red")
    if status.condition(ConditionType.RECONCILING):
        return Text("working", "yellow")
    symbol, colour = _SYMBOL[condition.status]
    return Text(symbol, colour)


def _version(version: int | None) -> str:
    return f"v{version}" if version is not None else "–"


def _serving(status: ModelStatus) -> str:
    if status.serving is None:
        return "–"
    copies = f" ({status.serving.replicas})" if status.serving.replicas else ""
    return f"{_version(status.serving.version)}{copies} at {status.serving.url.partition('://')[2].partition('/')[0]}"


def _proposals(status: ModelStatus) -> str:
    return ", ".join(f"#{p.number} {p.intent}" for p in status.proposals) or "–"


def _one(key: ModelKey, status: ModelStatus, store: Store | None) -> Group:
    rows = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("", "condition", "reason", "message"):
        rows.add_column(name, overflow="fold")
    for condition in status.conditions:
        symbol, colour = _SYMBOL[condition.status]
        good = condition.status == "True" and condition.type not in (ConditionType.STALLED, ConditionType.RECONCILING)
        rows.add_row(Text(symbol, "green" if good else colour if condition.status != "True" else "yellow"),
                     condition.type, condition.reason, Text(condition.message))  # fmt: skip
    facts = [f"release {_version(status.version)}", f"serving {_serving(status)}", f"proposals {_proposals(status)}"]
    facts += [f"{name} {value:.4g}" for name, value in sorted(status.metrics.items())]
    head = Text.assemble((str(key), "bold"), "  ", ", ".join(facts))
    watched = [_signal(each) for each in status.signals]
    return Group(head, Text(f"at commit {status.commit[:12]}, inputs {status.inputs_digest[7:19]}", "dim"), rows,
                 *watched, *_bars([(key, status)], store))  # fmt: skip


def _signal(signal: SignalStatus) -> Text:
    """Tell how a signal stands; `trunkline signals` shows its windows."""
    colour = {"Quiet": "green", "Firing": "bold red", "Unknown": "dim"}[signal.state]
    since = f" since {signal.since}" if signal.since else ""
    return Text.assemble("signal ", signal.name, " ", (signal.state, colour), since)


def _bars(items: list[Item], store: Store | None) -> list[RenderableType]:
    """Draw a line for every running job that told how far it is."""
    told = [progress for _, status in items for progress in how_far(status, store)]
    return [bars(told)] if told else []


def how_far(status: ModelStatus, store: Store | None) -> list[JobProgress]:
    """Give how far the running jobs of a model are: as they say now, or as the status says where there is no store."""
    if store is None:
        return list(status.progress)
    now = ((job, progress_of(store, job)) for job in status.jobs)
    return [shown(job, progress) for job, progress in now if progress is not None]


def bars(told: Iterable[JobProgress]) -> RenderableType:
    """Draw jobs, one below the other: name, bar, phase and epoch with the time left, last metrics."""
    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(overflow="fold")
    for each in told:
        numbers = "  ".join(f"{name.rpartition('/')[2]} {value:.3g}" for name, value in each.metrics.items())
        bar = ProgressBar(total=each.epochs, completed=each.epoch, width=30) if each.epochs else Text("")
        grid.add_row(Text(each.job), bar, Text(each.text), Text(numbers))
    return grid
