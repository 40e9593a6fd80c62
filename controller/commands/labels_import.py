"""``trunkline labels import``: what people said becomes newer training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from adapters.server_truth import TruthApi
from controller import truths, wiring
from controller.commands.labels_picking import ticking
from controller.console import as_json, console, print_json, settings
from controller.label_merge import Outcome, learn
from controller.labelling import Labelling
from controller.truths import Told
from specs.dataset_merge import Labelled


@click.command("import")
@click.argument("model")
@click.option("--from", "origin", type=click.Path(file_okay=False, path_type=Path), help="The folder of `export --to`.")
@click.option(
    "--to", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A data set's folder to add to, as for DVC, instead of the name in the store.",
)
@click.option("--new-class", "new", multiple=True, metavar="NAME", help="A class that the data set does not have yet.")
@click.option("--server", metavar="URL", help="The model server to tell the truth; default: the one of this agent.")
@as_json
def import_(
    model: str, origin: Path | None, to: Path | None, new: tuple[str, ...], server: str | None, json_: bool
) -> None:
    """Fetch what people are done with, and add it to the training data of MODEL.

    Pictures and labels become a new version of the data set that spec.data.train names, and store://NAME means that
    version from then on. A picture that is in it already is not added again; one that golden has never is.
    The truth about the random share is told to the server, for the signal Accuracy.

    \b
    trunkline labels import shelf
    trunkline labels import shelf --new-class oat-milk
    trunkline labels import shelf --to ~/data/shelf      then: dvc add shelf && dvc push
    """
    found = settings()
    desk = Labelling.of(found, model)
    queue = desk.queue(origin)
    marks = desk.book.marks()
    asked = desk.book.asked(marks.asked - marks.answered)
    answers, problems = queue.finished(asked)
    given = [Labelled.of(asked[answer.id], answer) for answer in answers]
    outcome = learn(desk, given, to, new) if given else None
    told = _tell(desk, server, quiet=json_)
    following = _next(desk, outcome, new)
    if json_:
        print_json({
            "model": str(desk.key), "queue": queue.place, "problems": problems, "next": following, "truths": vars(told),
            "dataset": None if outcome is None else _plain(outcome), "waiting": len(asked) - len(given),
        })  # fmt: skip
        return
    out = console()
    lines = [*problems, *_words(outcome, len(asked) - len(given), told), *(["", following] if following else [])]
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _tell(desk: Labelling, server: str | None, *, quiet: bool) -> Told:
    owed = truths.owed(desk.book)
    url = server or (None if desk.settings.kubernetes else wiring.servers(desk.settings).url())
    with ticking(len(owed), "telling the server", quiet=quiet or not owed) as tick:
        return truths.tell(desk.book, owed, TruthApi(url) if url else None, tick)


def _words(outcome: Outcome | None, waiting: int, told: Told) -> list[str]:
    if outcome is None:
        lines = ["nobody is done with a picture yet"]
    else:
        merged = outcome.merged
        added = _count(len(merged.added), "labelled picture")
        lines = [f"{added} added: {outcome.place} has {merged.manifest.images:,} now"]
        if merged.present:
            lines.append(f"{len(merged.present):,} were in it already, and stay as they are labelled there")
        if merged.golden:
            lines.append(f"{len(merged.golden):,} are in the golden set, and are never trained on")
    if waiting:
        lines.append(f"{waiting:,} still wait for people")
    if told.counted or told.refused:
        refused = f"; it could not use {told.refused:,}" if told.refused else ""
        counted = _count(told.counted, "request")
        lines.append(f"the server was told the truth about {counted} of the random share{refused}")
    if told.waiting:
        lines.append(f"{told.waiting:,} of the random share are not told yet: {told.why}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _next(desk: Labelling, outcome: Outcome | None, new: Sequence[str]) -> str:
    """Say what happens next, and what a person must do for it."""
    if outcome is None or not outcome.merged.added:
        return ""
    if outcome.digest is None:
        added = "`dvc add` it, push, and commit" if desk.spec.data.train.dvc else "`trunkline data add` it"
        return f"Next: look at {outcome.place}, then {added}; Trunkline follows from there."
    line = f'uri: {{url: {outcome.place}, digest: "{outcome.digest}"}}'
    classes = ", ".join(name for name in new if name in outcome.merged.manifest.names)
    if classes and desk.spec.data.golden is not None:
        return (
            f"Next: golden must know {classes} too, or nothing is trained. Add pictures of it to golden with "
            f"`trunkline data add`, and change both in one pull request; spec.data.train is then\n\n  {line}"
        )
    if desk.spec.follows is not None:
        return (
            "Next: Trunkline looks at the new version, compares it with the one that is trained on, and opens a pull "
            f"request with the difference. `trunkline status {desk.called}` says how far it is."
        )
    if desk.spec.newer_from is not None:
        return f"Next: when a signal fires or the schedule is due, {desk.key} asks for the new version by pull request."
    return f"Next: {desk.key} does not follow its data. Set spec.triggers.onData: true, or write\n\n  {line}"


def _plain(outcome: Outcome) -> dict[str, object]:
    merged = outcome.merged
    return {
        "place": outcome.place, "digest": outcome.digest, "version": outcome.version, "images": merged.manifest.images,
        "added": merged.added, "present": merged.present, "golden": merged.golden,
    }  # fmt: skip
