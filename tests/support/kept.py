"""Live pictures as a server would offer them, records as it would leave them, and stores in trouble."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import Transient
from specs.kept_records import KeptRecord, Why, draw, hashed, kept_id, moment
from specs.monitoring import Labelling
from specs.records import ArtifactRecord
from tests.support.dying_store import DyingStore
from workloads import preprocess
from workloads.serve.keeping import Offered
from workloads.serve.state import Target

NOON = 1_795_694_400.0
"""2026-11-26T12:00:00Z."""
DAY = "20261126"
MODEL = "retail.shelf"
TARGET = Target(version=3, file="sha256:" + "f" * 64, run="sha256:" + "a" * 64, weights="sha256:" + "b" * 64)
NAMES = ["milk", "bread"]


def labelling(**fields: Any) -> Labelling:
    """Give a spec's section from its YAML names."""
    return Labelling.model_validate(fields)


def scene(seed: int, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Draw a picture unlike those of other seeds: coarse, strong blocks; RGB of ``size`` (height, width)."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.NEAREST))


def encoded(image: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """Encode a picture."""
    target = io.BytesIO()
    Image.fromarray(image).save(target, kind, **options)
    return target.getvalue()


def boxes(*confidences: float) -> NDArray[np.float32]:
    """Give detections of these confidences, shape (1, n, 6)."""
    rows = [[8, 8, 24, 24, confidence, index % 2] for index, confidence in enumerate(confidences)]
    return np.array(rows, np.float32).reshape(1, -1, 6)


def offered(
    request: str, asked: Labelling, found: Sequence[NDArray[np.float32]] | None = None, *,
    seed: int | None = None, picture: bytes | None = None,
) -> Offered:  # fmt: skip
    """Give a picture that a detector answered; one of another look for each request unless ``seed`` says which."""
    image = scene(int(hashed(request), 16) if seed is None else seed)
    artifact = ArtifactRecord(
        file=TARGET.file, format="onnx", task="detect", names=NAMES, image_size=(64, 64), weights=TARGET.weights,
        self_tests=[],
    )  # fmt: skip
    return Offered(
        MODEL, TARGET, artifact, asked, request, encoded(image) if picture is None else picture, image.shape[:2],
        preprocess.preprocess(image, "detect", (64, 64)), [boxes(0.4)] if found is None else found,
    )  # fmt: skip


def record(
    request: str, picture: bytes, *, why: Sequence[Why] = ("uncertain",), when: float = NOON, replica: str = "one",
    look: int | None = None, days: float = 30,
) -> KeptRecord:  # fmt: skip
    """Give a record; looks of different requests differ in many bits unless ``look`` is given."""
    return KeptRecord(
        id=kept_id(when, request, replica), model=MODEL, version=3, file=TARGET.file, task="detect", request=request,
        when=moment(when), until=moment(when + days * 86400), why=list(why), draw=draw(MODEL, request),
        content_type="image/png", size=len(picture), digest=digest_bytes(picture), width=64, height=48,
        hash=hashed(request) if look is None else f"{look:016x}",
    )  # fmt: skip


class StuckStore(Store):
    """Its disk hangs: whoever writes waits until it is let go."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked = threading.Event()
        self.go = threading.Event()

    def keep(self, key: str, data: bytes) -> bool:
        """Write, some day."""
        self.asked.set()
        self.go.wait(60)
        return super().keep(key, data)


class ClosedStore(Store):
    """May be read, and written only while ``open``."""

    open = False
    tries = 0

    def keep(self, key: str, data: bytes) -> bool:
        """Write, or refuse as a store does that is not ours to write."""
        self.tries += 1
        if not self.open:
            raise Transient("StoreUnavailable", "the store s3://x cannot be used: Access Denied")
        return super().keep(key, data)


class DyingKeptStore(DyingStore):
    """Each write and each removal of a kept thing kills whoever makes it, once before it and once after it."""

    def keep(self, key: str, data: bytes) -> bool:
        """Write, and live through it the third time."""
        self._die("before", f"keep {key}")
        made = super().keep(key, data)
        self._die("after", f"keep {key}")
        return made

    def forget(self, key: str) -> None:
        """Remove, and live through it the third time."""
        self._die("before", f"forget {key}")
        super().forget(key)
        self._die("after", f"forget {key}")
