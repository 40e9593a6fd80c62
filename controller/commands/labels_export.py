"""``trunkline labels export``: kept pictures put before people."""

from __future__ import annotations

from pathlib import Path

import click

from controller.commands.labels_picking import Filter, filtered, ticking
from controller.console import as_json, console, print_json, settings
from controller.labelling import Labelling
from specs.label_records import asked as question
from specs.label_records import label_id


@click.command()
@click.argument("model")
@filtered
@click.option("--limit", type=click.IntRange(1), help="At most so many; the least sure ones first.")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="A folder instead of the spec's queue.")
@as_json
def export(model: str, only: Filter, limit: int | None, to: Path | None, json_: bool) -> None:
    """Put pictures that nobody was asked about yet into the queue that spec.labelling.queue of MODEL names.

    What the model thought goes along, for people to correct. No picture is put anywhere twice: an export that was
    stopped goes on, and two at once are as one.

    \b
    trunkline labels export shelf
    trunkline labels export shelf --why uncertain --limit 100
    trunkline labels export shelf --to ~/to-label     then: trunkline labels import shelf --from ~/to-label
    """
    desk = Labelling.of(settings(), model)
    queue = desk.queue(to)
    marks = desk.book.marks()
    kept = only.read(desk.book, lambda name: marks.state(label_id(name)) == "new")
    pairs = [(question(record, queue.recorded), record) for record in kept if record.task == desk.spec.task]
    doubtful = sorted(pairs, key=lambda pair: (pair[0].score or 0, pair[0].id))[:limit]
    with ticking(len(doubtful), "keeping pictures", quiet=json_) as tick:
        going = []
        for record, origin in doubtful:
            if desk.book.keep_picture(origin):
                going.append(record)
            tick()
    if going:
        with ticking(len(going), f"to {queue.place}", quiet=json_) as tick:
            queue.send(going, desk.classes(going), lambda record: desk.store.read_blob(record.picture), tick)
        desk.book.note(*going)
    if json_:
        print_json({"model": str(desk.key), "queue": queue.place, "exported": [record.id for record in going]})
        return
    out = console()
    sent = "1 picture is" if len(going) == 1 else f"{len(going):,} pictures are"
    out.print(f"{sent} in {queue.place} now", markup=False, soft_wrap=True)
    waiting = len(marks.asked - marks.answered) + len(going)
    if waiting:
        extra = f" --from {to}" if to else ""
        text = f"{waiting:,} wait for people in all. When some are done: trunkline labels import {desk.called}{extra}"
        out.print(text, markup=False, soft_wrap=True)
