"""Makes tiles of contact sheets from pictures and labels of the store."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.labels import LabelFormat
from adapters.store import Store
from specs.datasets import Picture
from specs.records import DatasetManifest
from workloads.sheets import Shape, Tile


def tile(
    store: Store, manifest: DatasetManifest, picture: Picture, names: Sequence[str], *, arrow: bool = False
) -> Tile:
    """Give one picture with its labels. Classes get their numbers from ``names``, which has all of the manifest's."""
    data = store.read_blob(picture.file.digest)
    if manifest.task == "classify":
        known = picture.class_name in names
        return Tile(data, (names.index(picture.class_name),) if known else (), arrow=arrow)
    form = LabelFormat(manifest.task, manifest.names, manifest.kpt_shape)
    found = form.objects(store.read_blob(picture.label.digest)) if picture.label else []
    objects = [(names.index(manifest.names[number]), values) for number, values in found]
    classes = tuple(sorted({number for number, _ in objects}))
    return Tile(data, classes, tuple(_shape(manifest, *each) for each in objects), arrow)


def _shape(manifest: DatasetManifest, number: int, values: Sequence[float]) -> Shape:
    if manifest.task in ("segment", "obb"):
        return Shape(number, tuple(zip(values[::2], values[1::2], strict=True)))
    x, y, wide, high = values[0], values[1], values[2] / 2, values[3] / 2
    box = ((x - wide, y - high), (x + wide, y - high), (x + wide, y + high), (x - wide, y + high))
    each = manifest.kpt_shape[1] if manifest.kpt_shape else 2
    spots = [values[at : at + each] for at in range(4, len(values), each)]
    return Shape(number, box, tuple((spot[0], spot[1]) for spot in spots if each == 2 or spot[2]))
