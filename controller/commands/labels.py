"""``trunkline labels``: pictures that a model was not sure about, put before people, and what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from adapters.label_book import Marks
from controller.commands.labels_export import export
from controller.commands.labels_import import import_
from controller.commands.labels_picking import Filter, filtered
from controller.console import as_json, console, print_json, settings, table
from controller.labelling import Labelling
from specs.kept_records import KeptRecord
from specs.label_records import label_id

_SHOWN = 40
"""Pictures that the table lists; the rest is counted."""


@click.group()
def labels() -> None:
    """Pictures that a model was not sure about: listed, labelled by people, learnt from.

    \b
    1. Servers keep them by spec.labelling          trunkline labels list MODEL
    2. They are put before people                   trunkline labels export MODEL
    3. People correct what the model thought        a folder, Label Studio, or CVAT: spec.labelling.queue
    4. What they said becomes newer training data   trunkline labels import MODEL

    With triggers.onData a pull request then asks to train on it. Everything may be typed twice: no picture is asked
    about twice, and none is learnt twice. See docs/labelling.md.
    """


labels.add_command(export)
labels.add_command(import_)


@labels.command("list")
@click.argument("model")
@filtered
@click.option("--state", type=click.Choice(["new", "asked", "answered"]), help="Only those that are this far.")
@as_json
def list_(model: str, only: Filter, state: str | None, json_: bool) -> None:
    """Show the pictures that servers kept for MODEL: when, why, what it thought, how far labelling is.

    \b
    new        nobody was asked yet
    asked      it is in the queue
    answered   it is part of the training data, or golden has it

    \b
    trunkline labels list shelf --why nothing --day 20261126
    """
    desk = Labelling.of(settings(), model)
    marks = desk.book.marks()
    found = only.read(desk.book)
    kept = [record for record in found if state in (None, marks.state(label_id(record)))]
    if json_:
        print_json({
            "model": str(desk.key), "states": _counts(found, marks), "pictures": [_told(each, marks) for each in kept],
        })  # fmt: skip
        return
    out = console()
    rows = [
        (f"{each.when[:16].replace('T', ' ')}", label_id(each), ", ".join(each.why), f"v{each.version}", _thought(each),
         marks.state(label_id(each))) for each in kept[-_SHOWN:]
    ]  # fmt: skip
    if rows:
        out.print(table(None, ("when, UTC", "picture", "why", "release", "thought", "is"), rows))
    if len(kept) > _SHOWN:
        out.print(f"and {len(kept) - _SHOWN:,} older ones; --day and --why show fewer, --json shows all")
    counts = ", ".join(f"{count:,} {name}" for name, count in _counts(found, marks).items() if count)
    out.print(f"\n{len(found):,} pictures are kept{f': {counts}' if counts else ''}", soft_wrap=True)
    if not found and desk.spec.labelling is None:
        out.print(f"{desk.key} keeps none: say in spec.labelling which ones are to be kept", soft_wrap=True)


def _counts(found: Sequence[KeptRecord], marks: Marks) -> dict[str, int]:
    states = Counter(marks.state(label_id(each)) for each in found)
    return {name: states.get(name, 0) for name in ("new", "asked", "answered")}


def _told(each: KeptRecord, marks: Marks) -> dict[str, object]:
    plain = each.model_dump(mode="json", include={"when", "version", "why", "request", "predictions", "digest"})
    return {"id": label_id(each), "state": marks.state(label_id(each)), "key": each.picture, **plain}


def _thought(each: KeptRecord) -> str:
    """Say in a few words what the model made of it."""
    if not each.predictions:
        return "nothing"
    if each.task == "classify":
        best = each.predictions[0]
        return f"{best.get('name')} {best.get('confidence', 0):.2f}"
    names = Counter(str(one.get("name")) for one in each.predictions)
    least = min(float(one.get("confidence", 0)) for one in each.predictions)
    return f"{', '.join(f'{count} {name}' for name, count in names.most_common(3))}; least {least:.2f}"
