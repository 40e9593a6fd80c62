"""``trunkline signals``: what live traffic says about a model, window by window."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controller.console import as_json, console, pick, print_json, settings
from controller.readings import ModelReadings, Readings, SignalReadings, WindowReading
from controller.statuses import Statuses
from reconcilers.observed import Judgement
from specs.modelspec import ModelKey
from specs.status import ModelStatus, SignalStatus

_BLOCKS = "▁▂▃▄▅▆▇█"
_SHOWN = 24
"""Windows in a row of blocks."""
_COLOUR = {Judgement.PASSING: "green", Judgement.FAILING: "red", Judgement.INCONCLUSIVE: "dim"}
_STATE = {"Quiet": "green", "Firing": "bold red", "Unknown": "yellow"}


@click.command()
@click.argument("model", required=False)
@as_json
def signals(model: str | None, json_: bool) -> None:
    """Show what live traffic says about what serves: every signal with its last windows.

    A window fails where its whole interval is out of bounds; a signal fires after several in a row (forWindows), and
    a window with too little traffic (·) says nothing. The agent keeps what is shown here; in a cluster look at
    Grafana, or at the status of the ModelSpec.

    \b
    trunkline signals              all models that are watched
    trunkline signals shelf        one of them
    """
    found = settings()
    statuses, kept = Statuses(found.state / "status"), Readings(found.state / "readings")
    items = dict(statuses.items())
    keys = [pick(items, model)] if model else [key for key in items if kept.read(key).signals]
    if json_:
        print_json({str(key): _plain(kept.read(key), items[key]) for key in keys})
        return
    if not keys:
        console().print("nothing is watched: give a model spec.monitoring, and release it")
        return
    console().print(Group(*(view(key, kept.read(key), items[key]) for key in keys)))


def _plain(readings: ModelReadings, status: ModelStatus) -> dict[str, object]:
    states = {each.name: each.model_dump(mode="json", by_alias=True, exclude_defaults=True) for each in status.signals}
    signals = [each.model_dump(mode="json") | {"status": states.get(each.name)} for each in readings.signals]
    return {"version": readings.version, "window": readings.window, "signals": signals}


def view(key: ModelKey, readings: ModelReadings, status: ModelStatus) -> RenderableType:
    """Draw the signals of one model."""
    if not readings.signals:
        return Text(f"{key}: nothing is watched; spec.monitoring says what to watch")
    version = f"v{readings.version}" if readings.version is not None else "nothing serves"
    rows = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("signal", "state", "value", "interval", "n", "bound", "windows, oldest first"):
        rows.add_column(name, overflow="fold")
    states = {each.name: each for each in status.signals}
    for signal in readings.signals:
        rows.add_row(*_row(signal, states.get(signal.name)))
    notes = [Text(f"{each.name} fires since {each.since}", "red") for each in status.signals if each.state == "Firing"]
    return Group(Text.assemble((str(key), "bold"), f"  {version}, windows of {readings.window}"), rows, *notes)


def _row(signal: SignalReadings, state: SignalStatus | None) -> list[Text]:
    told = next((each for each in reversed(signal.windows) if each.value is not None), None)
    word = state.state if state is not None else "Unknown"
    if told is None:
        last = signal.windows[-1] if signal.windows else None
        why = last.message if last is not None and last.message else "no window is over yet"
        return [*map(Text, (signal.name,)), Text(word, _STATE[word]), Text(why, "dim"), Text(), Text(),
                Text(signal.bound), blocks(signal.windows)]  # fmt: skip
    interval = f"{told.low:.3g} to {told.high:.3g}" if told.low is not None and told.high is not None else ""
    value = Text(f"{told.value:.3g}", _COLOUR[told.judgement])
    return [Text(signal.name), Text(word, _STATE[word]), value, Text(interval), Text(str(told.n)), Text(signal.bound),
            blocks(signal.windows)]  # fmt: skip


def blocks(windows: list[WindowReading]) -> Text:
    """Draw a block for each window: its height says the value, its colour the judgement."""
    shown = windows[-_SHOWN:]
    values = [each.value for each in shown if each.value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    made = Text()
    for each in shown:
        if each.value is None or each.judgement is Judgement.INCONCLUSIVE:
            made.append("·", "dim")
            continue
        share = (each.value - low) / (high - low) if high > low else 0.5
        made.append(_BLOCKS[round(share * (len(_BLOCKS) - 1))], _COLOUR[each.judgement])
    if shown:
        first = datetime.fromtimestamp(shown[0].start, UTC)
        made.append(f"  from {first:%m-%d %H:%M:%S}", "dim")
    return made
