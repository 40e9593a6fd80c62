"""``trunkline data``: put data sets into the store."""

from __future__ import annotations

from pathlib import Path

import click

from adapters.dataset_folder import add_folder
from controller import wiring
from controller.console import as_json, console, print_json, settings, table
from specs.modelspec import Task


@click.group()
def data() -> None:
    """Data sets: pinned by digest, kept in the store."""


@data.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--task", required=True, type=click.Choice(["classify", "detect", "segment", "pose", "obb"]))
@click.option("--name", help="Name for people, in store://NAME. Default: the folder's name.")
@as_json
def add(folder: Path, task: Task, name: str | None, json_: bool) -> None:
    """Put FOLDER into the store and print the lines to write into a ModelSpec.

    \b
    classify: one folder of pictures per class, optionally below train/ and val/
    others:   images/ and labels/ as Ultralytics has them, class names in data.yaml or classes.txt

    The same files give the same digest; adding twice stores nothing twice.
    """
    store = wiring.store(settings())
    manifest = add_folder(store, folder, task=task, names=None)
    digest = manifest.digest()
    url = f"store://{name or folder.resolve().name}"
    if json_:
        print_json({"url": url, "digest": digest, "images": manifest.images, "classCounts": manifest.class_counts})
        return
    out = console()
    rows = [(cls, str(manifest.class_counts.get(cls, 0))) for cls in manifest.names]
    out.print(table(f"{manifest.images} images", ("class", "count"), rows))
    out.print(f'\nFor spec.data:\n\n  uri: {{url: {url}, digest: "{digest}"}}', soft_wrap=True)
