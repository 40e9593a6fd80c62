"""``trunkline fleet``: how far releases have come on devices, and what devices say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from controller import wiring
from controller.console import as_json, console, pick, print_json, settings, table
from reconcilers.ports import Fleet
from reconcilers.waves import Tally, halted, members, reached, tally
from specs.fleet import DeviceReport, Waves
from specs.manifest import parse
from specs.modelspec import ModelKey
from specs.names import serving_name
from specs.serving import Edge

_SHOWN = 20
"""Devices in a list for people; ``--all`` shows every one."""


@dataclass(frozen=True)
class _Model:
    """One model, its devices, and how far its release has come."""

    key: ModelKey
    edge: Edge
    version: int
    file: str
    devices: tuple[DeviceReport, ...]
    waves: Waves

    @property
    def name(self) -> str:
        return serving_name(*self.key)

    def tally(self, below: int) -> Tally:
        return tally(reached(self.devices, self.name, below), self.name, self.version, self.file)


@click.command()
@click.argument("model", required=False)
@click.option("--all", "every", is_flag=True, help=f"List all devices, not the first {_SHOWN}.")
@as_json
def fleet(model: str | None, every: bool, json_: bool) -> None:
    """Show how far each release has come on its devices: wave by wave, and what failed.

    With MODEL: its devices one by one, those that failed first. A device tells the store whenever something is new
    with it, and once a day; so `told` is when it last had something to say, not when it was last seen.

    \b
    trunkline fleet              all models with spec.serving.edge
    trunkline fleet shelf        one of them, and its devices
    """
    found = settings()
    app = wiring.build(found)
    app.source.refresh()
    looked = app.ports.fleet
    models = [] if looked is None else _models(app, looked)
    if model is not None:
        key = pick((each.key for each in models), model)
        models = [each for each in models if each.key == key]
    if json_:
        print_json({str(each.key): _plain(each) for each in models})
        return
    if not models:
        console().print("no model is for devices: give one spec.serving.edge, and release it")
        return
    parts: list[RenderableType] = [_waves(each) for each in models]
    if model is not None:
        parts += [Text(""), _devices(models[0], every=every)]
    console().print(Group(*parts))


def _models(app: wiring.App, looked: Fleet) -> list[_Model]:
    found = []
    for key in app.source.keys():  # noqa: SIM118  a port's method, not a mapping's
        source = app.source.get(key)
        if source is None:
            continue
        spec = parse(source.text, source.path, key).model.spec
        serving, release = spec.serving, spec.release
        if serving is None or serving.edge is None or release is None or serving.export not in release.exports:
            continue
        file, edge = release.exports[serving.export], serving.edge
        waves = looked.waves(serving_name(*key), release.version, file)
        found.append(_Model(key, edge, release.version, file, members(looked.devices(), edge), waves))
    return found


def _waves(model: _Model) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    opened = {record.wave: record for record in model.waves.opened}
    for number, wave in enumerate(model.edge.waves, start=1):
        record = opened.get(number)
        name = Text(f"  wave {number}", "bold" if record else "dim")
        if record is None:
            grid.add_row(name, Text(f"{wave.percent} %", "dim"), Text(""), Text("not open yet", "dim"))
            continue
        there = model.tally(record.below)
        bar = ProgressBar(total=max(there.total, 1), completed=len(there.serving), width=24)
        failed = f", {len(there.failed)} failed" if there.failed else ""
        silent = f", {len(there.silent)} not yet" if there.silent else ""
        text = f"{len(there.serving)} of {there.total} serve v{model.version}{failed}{silent}"
        grid.add_row(name, Text(f"{wave.percent} %"), bar, Text(text, "red" if there.failed else ""))
    head = Text.assemble((str(model.key), "bold"), f"  v{model.version} on {len(model.devices)} devices")
    halt = [Text(halted(model.waves.halt), "bold red")] if model.waves.halt is not None else []
    return Group(head, *halt, grid)


def _devices(model: _Model, *, every: bool) -> RenderableType:
    order = {"Failed": 0, "Loading": 1, "Waiting": 2, "Serving": 3}
    rows = []
    for device in model.devices:
        said = device.of(model.name)
        state = said.state if said else "Loading"
        version = f"v{said.version}" if said and said.version is not None else "–"
        failure = said.failure if said else ""
        rows.append((order[state], (device.device, state.lower(), version, device.told or "–", failure)))
    rows.sort()
    shown = [row for _, row in (rows if every else rows[:_SHOWN])]
    made = table(None, ("device", "state", "serves", "told", "why"), shown)
    left = len(rows) - len(shown)
    return Group(made, Text(f"and {left} more; --all lists them", "dim")) if left else made


def _plain(model: _Model) -> dict[str, object]:
    states = Counter(said.state if (said := each.of(model.name)) else "Unknown" for each in model.devices)
    return {
        "version": model.version, "file": model.file, "devices": len(model.devices), "states": dict(states),
        "waves": [
            {"wave": record.wave, "percent": _percent(model.edge, record.wave), "opened": record.opened,
             **_counts(model.tally(record.below))}
            for record in model.waves.opened
        ],
        "halt": model.waves.halt.model_dump(mode="json") if model.waves.halt is not None else None,
        "reports": [each.model_dump(mode="json") for each in _of(model)],
    }  # fmt: skip


def _of(model: _Model) -> Sequence[DeviceReport]:
    """Give the reports as far as they are about this model."""
    return [
        each.model_copy(update={"models": [said for said in each.models if said.model == model.name]})
        for each in model.devices
    ]


def _percent(edge: Edge, wave: int) -> int:
    return edge.waves[min(wave, len(edge.waves)) - 1].percent


def _counts(there: Tally) -> dict[str, object]:
    return {"serving": len(there.serving), "failed": dict(there.failed), "silent": len(there.silent)}
