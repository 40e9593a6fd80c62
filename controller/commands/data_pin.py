"""``trunkline data pin``: what references to data stand for now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from controller import wiring
from controller.console import as_json, console, pick, print_json, settings
from controller.data_sets import models, place
from reconcilers.ports import DataSources
from specs.data import Source
from specs.data_records import name_of
from specs.errors import InvalidManifest, Stalled, Transient
from specs.manifest import load
from specs.modelspec import ModelKey, Spec
from specs.monitoring import OnData
from specs.yaml_write import Style, inline

_PATIENCE = 120.0
"""Seconds that a data repository may take to answer; the agent would not wait, a person does."""


@dataclass(frozen=True)
class Answer:
    """What one reference stands for."""

    model: str
    part: str
    state: str
    """``pinned``, ``bare``, ``newer`` or ``unknown``."""
    words: str
    line: str = ""
    """For the ModelSpec; empty where nothing is to be changed."""


@click.command()
@click.argument("target", metavar="MODEL|FILE")
@as_json
def pin(target: str, json_: bool) -> None:
    """Say what the data that a ModelSpec names stands for now, with the lines to write.

    MODEL is one of the tracked branch; FILE a ModelSpec that is still being written. A reference without a digest is
    pinned, for one that has a digest a newer version is looked for. Writes nothing: once the file is merged Trunkline
    asks for the same by pull request, so this only saves you one.

    \b
    trunkline data pin models/shelf.yaml
    trunkline data pin shelf
    """
    found = settings()
    sources = wiring.data(found, patience=_PATIENCE)
    specs = _specs(target) if Path(target).is_file() else models(found)
    if not Path(target).is_file():
        key = pick(specs, target)
        specs = {key: specs[key]}
    answers = [answer for key, spec in specs.items() for answer in _answers(sources, key, spec)]
    if json_:
        print_json([vars(answer) for answer in answers])
        return
    out = console()
    for answer in answers:
        out.print(f"{answer.model} {answer.part}: {answer.words}", markup=False, soft_wrap=True)
        if answer.line:
            out.print(f"\n  {answer.line}\n", markup=False, soft_wrap=True)


def _specs(file: str) -> dict[ModelKey, Spec]:
    try:
        text = Path(file).read_bytes().decode("utf-8", errors="surrogateescape")
        return {each.model.key: each.model.spec for each in load(text, file)}
    except InvalidManifest as error:
        raise Stalled("InvalidManifest", "\n".join(map(str, error.problems))) from error


def _answers(sources: DataSources, key: ModelKey, spec: Spec) -> Iterator[Answer]:
    follow = spec.triggers.on_data if spec.triggers and isinstance(spec.triggers.on_data, OnData) else OnData()
    for field, source in spec.data.named:
        part = field.rpartition(".")[2]
        try:
            yield Answer(str(key), part, *_answer(sources, source, follow if part == "train" else None))
        except (Stalled, Transient) as error:
            yield Answer(str(key), part, "unknown", f"{error.reason}: {error.message}")


def _answer(sources: DataSources, source: Source, follow: OnData | None) -> tuple[str, str, str]:
    """Give state, words and line of one reference; None follows nothing, for a measure that moves measures nothing."""
    where = place(source)
    if source.in_store and source.digest is None:
        return "bare", f"{where} needs the digest that `data add` printed", ""
    if source.in_store and (follow is None or name_of(where) is None):
        return "pinned", f"{where} is in the store", ""
    if source.digest and follow is None:
        return "pinned", f"{where} is pinned, and only training data is followed", ""
    found = sources.newest(source, follow) if source.digest and follow else sources.resolve(source)
    if found is None and source.in_store:
        return "pinned", f"{where} is in the store", ""
    if found is None:
        known = f"{where} is pinned; an address has no versions" if source.digest else (
            f"only fetching {where} tells its digest: merge it without one, and Trunkline asks to pin it"
        )  # fmt: skip
        return "pinned" if source.digest else "bare", known, ""
    if found.digest == source.digest:
        return "pinned", f"{where} is the newest version", ""
    state = "bare" if source.digest is None else "newer"
    words = f"{where} is not pinned; now it is" if source.digest is None else f"{where} is pinned; a newer version is"
    ((kind, value),) = found.plain().items()
    return state, f"{words} {place(found)}", f"{kind}: {inline(value, Style(), flow=True)}"
