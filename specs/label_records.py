"""Kept pictures on their way to people and back, and what remains of that in the store, written once each.

::

    labels/<serving name>/<id>/asked.json       AskedRecord: people were asked
                              /answered.json    AnsweredRecord: what they said went into a data set
                              /owed.json        OwedRecord: the server that had answered is to be told
                              /told.json        ToldRecord: it was

``<id>`` is ``<YYYYMMDD>-<id of the KeptRecord>``. What people are asked about outlives the kept picture, which servers
remove when its time is over: its bytes are a file of the store from then on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from specs.base import Fraction
from specs.digests import Digest
from specs.kept_records import MEDIA, KeptName, KeptRecord
from specs.modelspec import Task
from specs.records import Record

LABEL_ID_PATTERN = r"^[0-9]{8}-[0-9]{6}-[0-9a-f]{16}-[0-9a-f]{8}$"
What = Literal["asked", "answered", "owed", "told"]
LabelId = Annotated[str, Field(pattern=LABEL_ID_PATTERN)]
_KEY = re.compile(rf"labels/[a-z0-9.-]+/({LABEL_ID_PATTERN[1:-1]})/(asked|answered|owed|told)\.json")
RANDOM = "random"
"""Of why a picture was kept: only these are a fair sample of the traffic."""
SLACK = 0.01
"""Tools round: what leaves the picture by no more than this part of it is moved to its edge."""
_LEAST = 1e-6
"""Of a side of a box; label files have six digits."""


class Box(Record):
    """A rectangle, in parts of the upright picture's width and height."""

    x: Fraction
    y: Fraction
    """Of its centre."""
    width: Annotated[Fraction, Field(gt=0)]
    height: Annotated[Fraction, Field(gt=0)]

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Give left, top, right, bottom."""
        across, down = self.width / 2, self.height / 2
        return self.x - across, self.y - down, self.x + across, self.y + down


class Thing(Record):
    """Something in a picture: its class, and for detections where it is."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    box: Box | None = None
    score: float | None = None
    """How sure the model was; None where a person says it."""


class AskedRecord(Record):
    """A picture that was put before people, with what the model made of it."""

    id: LabelId
    model: str
    """Its name at the server."""
    task: Task
    version: int
    file: Digest
    """Of the release that answered."""
    request: str
    why: list[str]
    picture: Digest
    """A file of the store."""
    suffix: str
    size: int
    width: int
    height: int
    """Pixels, upright."""
    guesses: list[Thing] = []
    """Best first; for classify the likeliest class alone."""
    queue: str = ""
    """Where it was put, for people."""

    @property
    def file_name(self) -> str:
        """Name of the picture wherever it goes."""
        return f"{self.id}{self.suffix}"

    @property
    def score(self) -> float | None:
        """The least sure guess: people see the doubtful ones first."""
        return min((thing.score for thing in self.guesses if thing.score is not None), default=None)


class Answer(Record):
    """What a person said about one picture: everything that is in it."""

    id: LabelId
    things: list[Thing]
    """For classify exactly one; for detect none means that nothing is there."""


class AnsweredRecord(Record):
    """Where an answer went."""

    id: LabelId
    things: list[Thing]
    manifest: Digest | None = None
    """The data set that has it; None where it went into a folder."""
    kept_out: str = ""
    """Why the picture is in no data set: ``golden`` has it."""


class OwedRecord(Record):
    """A picture of the random share, whose truth says how good the model is on all traffic."""

    id: LabelId
    truth: dict[str, Any]
    """As the server takes it."""


class ToldRecord(Record):
    """A server was told the truth about a request."""

    id: LabelId
    outcome: Literal["Counted", "Refused"]
    message: str = ""
    """Why it was refused."""


def label_id(kept: KeptRecord | KeptName) -> str:
    """Name a kept picture among all of its model."""
    day = kept.day if isinstance(kept, KeptName) else kept.when[:10].replace("-", "")
    return f"{day}-{kept.id}"


def labels_root(model: str) -> str:
    """Give the prefix of all that is known about labelling for a model, by its name at the server."""
    return f"labels/{model}/"


def label_key(model: str, id_: str, what: What) -> str:
    """Key of a record about one picture."""
    return f"{labels_root(model)}{id_}/{what}.json"


def label_part(key: str) -> tuple[str, str] | None:
    """Give (id, what) of the key of such a record; None for any other key."""
    match = _KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def box_between(left: float, top: float, right: float, bottom: float) -> Box | None:
    """Make a box of its sides, in parts of the picture; None where it is no rectangle, or not in the picture."""
    sides = (left, top, right, bottom)
    if not all(-SLACK <= side <= 1 + SLACK for side in sides):  # not a number is nowhere
        return None
    x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in sides)
    if x1 - x0 < _LEAST or y1 - y0 < _LEAST:
        return None
    return Box(x=(x0 + x1) / 2, y=(y0 + y1) / 2, width=x1 - x0, height=y1 - y0)


def asked(kept: KeptRecord, queue: str) -> AskedRecord:
    """Turn a kept picture into a question; predictions that are none are left out."""
    guesses = [thing for thing in (_guess(kept, each) for each in kept.predictions) if thing is not None]
    return AskedRecord(
        id=label_id(kept), model=kept.model, task=kept.task, version=kept.version, file=kept.file,
        request=kept.request, why=list(kept.why), picture=kept.digest, suffix=MEDIA[kept.content_type],
        size=kept.size, width=kept.width, height=kept.height, queue=queue,
        guesses=guesses[:1] if kept.task == "classify" else guesses,
    )  # fmt: skip


def _guess(kept: KeptRecord, told: dict[str, object]) -> Thing | None:
    name, score, box = told.get("name"), told.get("confidence"), told.get("box")
    if not isinstance(name, str) or not name or not isinstance(score, float | int):
        return None
    if kept.task == "classify":
        return Thing(name=name, score=score)
    if not isinstance(box, dict):
        return None
    try:
        x0, y0, x1, y1 = (float(box[side]) for side in ("x1", "y1", "x2", "y2"))
    except (KeyError, TypeError, ValueError):
        return None
    found = box_between(x0 / kept.width, y0 / kept.height, x1 / kept.width, y1 / kept.height)
    return Thing(name=name, score=score, box=found) if found is not None else None


def truth(record: AskedRecord, things: Sequence[Thing]) -> dict[str, Any]:
    """Give what a server is told about a request: its class, or boxes in pixels of the upright picture."""
    if record.task == "classify":
        return {"request": record.request, "label": things[0].name}
    boxes = []
    for thing in things:
        if thing.box is not None:
            x1, y1, x2, y2 = thing.box.corners
            sides = (x1 * record.width, y1 * record.height, x2 * record.width, y2 * record.height)
            boxes.append({"name": thing.name, "box": dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True))})
    return {"request": record.request, "boxes": boxes}
