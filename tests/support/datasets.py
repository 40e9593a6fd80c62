"""Data sets in the store, file by file, also such as no folder would become; and photographs to change a bit."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from PIL import Image, ImageEnhance

from adapters.store import Store
from specs.digests import digest_bytes
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry, dataset_key

Edit = Callable[[Image.Image], Image.Image]


def stored(
    store: Store, files: Mapping[str, bytes], task: Task = "detect", names: tuple[str, ...] = ("green", "red"),
    **more: Any,
) -> DatasetManifest:  # fmt: skip
    """Put files into the store, unchecked, and give their manifest, which is there as well."""
    entries = [FileEntry(path=at, size=len(data), digest=store.put_blob(data)) for at, data in sorted(files.items())]
    pictures = [entry for entry in entries if not entry.path.endswith(".txt")]
    counts = more.pop("class_counts", dict.fromkeys(names, 0))
    made = DatasetManifest(
        task=task, names=list(names), files=entries, images=len(pictures), class_counts=counts, **more
    )
    store.create(dataset_key(made.digest()), made.encode())
    assert digest_bytes(made.encode()) == made.digest()
    return made


@cache
def photographs(side: int = 160, step: int = 130) -> tuple[Image.Image, ...]:
    """Give different parts of the two photographs that scikit-learn ships; some are out of focus."""
    from sklearn.datasets import load_sample_images

    found = []
    for pixels in load_sample_images().images:
        whole = Image.fromarray(pixels)
        found += [
            whole.crop((left, top, left + side, top + side))
            for top in range(0, whole.height - side + 1, step) for left in range(0, whole.width - side + 1, step)
        ]  # fmt: skip
    return tuple(found)


def encoded(picture: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    picture.save(file, form, **how)
    return file.getvalue()


def again(picture: Image.Image, quality: int) -> Image.Image:
    """Give what remains of a picture as JPEG."""
    return Image.open(io.BytesIO(encoded(picture, "JPEG", quality=quality))).convert("RGB")


EDITS: dict[str, Edit] = {
    "JPEG, good": lambda p: again(p, 90),
    "JPEG, poor": lambda p: again(p, 40),
    "a tenth smaller": lambda p: p.resize((p.width * 9 // 10, p.height * 9 // 10), Image.Resampling.BICUBIC),
    "half": lambda p: p.resize((p.width // 2, p.height // 2), Image.Resampling.BILINEAR),
    "larger": lambda p: p.resize((p.width * 3 // 2, p.height * 3 // 2), Image.Resampling.BICUBIC),
    "a pixel cropped all around": lambda p: p.crop((1, 1, p.width - 1, p.height - 1)),
    "a pixel cropped on one side": lambda p: p.crop((1, 0, p.width, p.height)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.8),
    "shifted shades": lambda p: p.point([min(255, shade + 12) for shade in range(256)] * 3),
    "all of it": lambda p: again(ImageEnhance.Brightness(p.crop((1, 1, p.width, p.height))).enhance(0.9), 70),
}
"""What happens to pictures on their way from one folder to another."""
