"""``trunkline data``: data sets as people handle them; put into the store, checked, listed, compared, pinned."""

from __future__ import annotations

from pathlib import Path

import click

from adapters.dataset_folder import Blobs, Nowhere, add_folder
from adapters.dataset_names import DatasetNames
from controller import wiring
from controller.commands.data_pin import pin
from controller.commands.data_sets import diff, list_, show
from controller.console import as_json, console, print_json, settings, table
from specs.data_records import name_of
from specs.modelspec import Task

_TASKS = click.Choice(["classify", "detect", "segment", "pose", "obb"])


@click.group()
def data() -> None:
    """Data sets: pinned by digest in git, kept in the store.

    \b
    A folder of yours:        trunkline data check FOLDER, then data add FOLDER
    From a DVC repository, a bucket, the web or the Ultralytics Platform: write where it is into the ModelSpec, and
    Trunkline fetches it and asks to pin it; nothing here is needed. See docs/data.md.
    """


for command in (list_, show, diff, pin):
    data.add_command(command)


@data.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--task", required=True, type=_TASKS)
@click.option("--name", help="Name for people, in store://NAME. Default: the folder's name.")
@as_json
def add(folder: Path, task: Task, name: str | None, json_: bool) -> None:
    """Put FOLDER into the store and print the lines to write into a ModelSpec.

    \b
    classify: one folder of pictures per class, optionally below train/ and val/
    others:   images/ and labels/ as Ultralytics has them, class names in data.yaml or classes.txt

    The same files give the same digest; adding twice stores nothing twice. The name means this data set from now on:
    models that follow it (triggers.onData) are asked whether they want it, by pull request.
    """
    store, url = wiring.store(settings()), f"store://{name or folder.resolve().name}"
    digest = _read(store, folder, task, url, json_=json_)
    named = name_of(url)
    if named is not None:
        DatasetNames(store).point(named, digest, "trunkline data add")


@data.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--task", required=True, type=_TASKS)
@as_json
def check(folder: Path, task: Task, json_: bool) -> None:
    """Say whether FOLDER is a data set for a task, and what is wrong with it. Writes nothing, needs no settings.

    The same check is made by `trunkline data add`, and of everything that is fetched from a data repository: run it
    before you push there. Exits with 1 where something is wrong, and lists it with file and line.

    \b
    trunkline data check ~/pictures --task classify
    trunkline data check shelf --task detect && dvc add shelf && dvc push
    """
    _read(Nowhere(), folder, task, f"store://{folder.resolve().name}", json_=json_)


def _read(store: Blobs, folder: Path, task: Task, url: str, *, json_: bool) -> str:
    """Check a folder, put it into the store, say what it is, and give its digest."""
    manifest = add_folder(store, folder, task=task, names=None)
    if json_:
        counts = manifest.class_counts
        print_json({"url": url, "digest": manifest.digest(), "images": manifest.images, "classCounts": counts})
        return manifest.digest()
    out = console()
    rows = [(cls, str(manifest.class_counts.get(cls, 0))) for cls in manifest.names]
    out.print(table(f"{manifest.images} images", ("class", "count"), rows))
    if isinstance(store, Nowhere):
        out.print(f"\n{manifest.task}: nothing is wrong with it; its digest is {manifest.digest()}", soft_wrap=True)
    else:
        out.print(f'\nFor spec.data:\n\n  uri: {{url: {url}, digest: "{manifest.digest()}"}}', soft_wrap=True)
    return manifest.digest()
