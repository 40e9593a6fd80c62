"""Live pictures that servers keep for people to label: a picture, and beside it a record that says what it is.

::

    kept/<serving name>/<YYYYMMDD>/<id>.json            KeptRecord
    kept/<serving name>/<YYYYMMDD>/<id>.jpg|.png|…      the picture

Nothing else in a store is ever deleted. The picture is written first and removed last: a picture without a record is
on its way in or out, and whoever reads goes by the records.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from specs.digests import Digest
from specs.modelspec import Task
from specs.records import Record

Why = Literal["uncertain", "nothing", "random"]
"""``uncertain``: a confidence in the band; ``nothing``: no detection; ``random``: of a sample of all traffic."""

MEDIA: Mapping[str, str] = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/bmp": ".bmp", "image/tiff": ".tif",
}  # fmt: skip
"""Content type of a picture to the suffix of its key."""

_ROOT = "kept"
_KEY = re.compile(r"kept/([a-z0-9.-]+)/(\d{8})/((\d{6})-([0-9a-f]{16})-([0-9a-f]{8}))(\.[a-z]+)")


class KeptRecord(Record):
    """One kept picture, and what the model made of it."""

    id: str
    """``<HHMMSS>-<request, hashed>-<replica, hashed>``; with the model and the day it is the only one."""
    model: str
    """Its name at the server: ``<name>``, or ``<namespace>.<name>``."""
    version: Annotated[int, Field(ge=1)]
    """Of the release that answered."""
    file: Digest
    """The export that answered; ``artifacts/<file>.json`` has the names of all classes."""
    task: Task
    request: str
    """The request's id, which the client got, or chose."""
    when: str
    """UTC, ISO 8601, as 2026-11-26T10:00:00Z."""
    until: str
    """When it is due to be removed, by what the spec said then."""
    why: list[Why]
    """All that held, sorted. Pictures with ``random`` among them are an unbiased sample of the day's traffic."""
    draw: float
    """The request's place in an order that its id alone decides, 0 to 1: the random ones of a day are the lowest."""
    content_type: str
    """One of ``MEDIA``."""
    size: int
    digest: Digest
    """Of the picture's bytes as kept."""
    width: int
    height: int
    """Pixels, upright: as the boxes count them. A picture kept as it was sent may say by EXIF how to turn it."""
    hash: str
    """Perceptual, 16 hexadecimal digits: what looks alike differs in few bits."""
    blurred: bool = False
    """Encoded anew, with regions made unreadable and without EXIF."""
    predictions: list[dict[str, Any]] = []
    """As answered, best first: ``class``, ``name``, ``confidence``, and of objects ``box`` with x1, y1, x2, y2.

    Rotated boxes have four corners, and ``rotated`` says centre, size and angle. Masks and key points are not kept.
    """

    @property
    def day(self) -> str:
        """The UTC day of the answer, YYYYMMDD."""
        return self.when[:10].replace("-", "")

    @property
    def picture(self) -> str:
        """Key of the picture."""
        return f"{self._stem}{MEDIA[self.content_type]}"

    @property
    def key(self) -> str:
        """Key of the record itself."""
        return f"{self._stem}.json"

    @property
    def _stem(self) -> str:
        return f"{_ROOT}/{self.model}/{self.day}/{self.id}"


@dataclass(frozen=True, order=True)
class KeptName:
    """What a key below ``kept/`` says by itself. Sorted, the oldest come first."""

    day: str
    """YYYYMMDD, UTC."""
    id: str
    model: str
    suffix: str
    """``.json`` for a record."""

    @property
    def moment(self) -> float:
        """Unix time of the answer, whole seconds."""
        return datetime.strptime(f"{self.day}{self.id[:6]}+0000", "%Y%m%d%H%M%S%z").timestamp()

    @property
    def request(self) -> str:
        """The request's id as ``hashed`` gives it."""
        return self.id[7:23]

    @property
    def replica(self) -> str:
        """The first half of what ``hashed`` gives for the server that kept it."""
        return self.id[24:]

    @property
    def key(self) -> str:
        """Give the key again."""
        return f"{_ROOT}/{self.model}/{self.day}/{self.id}{self.suffix}"


def kept_root(model: str) -> str:
    """Give the prefix of all that is kept for a model, by its name at the server."""
    return f"{_ROOT}/{model}/"


def kept_name(key: str) -> KeptName | None:
    """Say what a key means; None for what is no kept picture or record."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    name = KeptName(match[2], match[3], match[1], match[7])
    try:
        name.moment  # noqa: B018 - the 99th of a month is no day
    except ValueError:
        return None
    return name


def kept_id(when: float, request: str, replica: str) -> str:
    """Name what is kept of a request that the server ``replica`` answered at ``when``, Unix time."""
    return f"{datetime.fromtimestamp(int(when), UTC):%H%M%S}-{hashed(request)}-{hashed(replica)[:8]}"


def hashed(text: str) -> str:
    """Give 16 hexadecimal digits for an id that somebody else chose, so that it can be part of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def moment(when: float) -> str:
    """Write Unix time as records do, to the second."""
    return f"{datetime.fromtimestamp(int(when), UTC):%Y-%m-%dT%H:%M:%SZ}"


def day_of(when: float) -> str:
    """Give the UTC day of a Unix time as keys have it, YYYYMMDD."""
    return f"{datetime.fromtimestamp(int(when), UTC):%Y%m%d}"


def draw(model: str, request: str) -> float:
    """Give a number from 0 to below 1 that a request's id alone decides, as good as at random."""
    text = f"{model}\0{request}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:6]) / (1 << 48)
