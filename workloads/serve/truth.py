"""``POST /models/NAME/truth``: somebody says what really was in a picture that was answered before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Annotated, Any, Protocol, Self

import numpy as np
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from specs.errors import Transient
from specs.traffic import VERDICTS
from workloads.serve import protocol
from workloads.serve.answers import Refusal, json_answer
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Intake
from workloads.serve.matching import match
from workloads.serve.recent import Answered, Recent
from workloads.serve.results import recalled

MOST = 10_000
"""Truths in one request."""
_TOLD = 65_536
"""Pictures of which is remembered that their truth was told."""

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
Verdict = dict[str, int]


class KeptAnswer(Protocol):
    """What is kept of an answer, with its picture."""

    @property
    def task(self) -> str:
        """Of the model."""

    @property
    def version(self) -> int:
        """That answered."""

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """As answered, best first."""


class Kept(Protocol):
    """Answers that were kept for people to label."""

    def find(self, model: str, request: str) -> KeptAnswer | None:
        """Give what was kept of a request; may take a while. Transient."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Box(_Part):
    x1: _Number
    y1: _Number
    x2: _Number
    y2: _Number

    @model_validator(mode="after")
    def _encloses(self) -> Self:
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError("x1 must be below x2, and y1 below y2")
        return self


class _Object(_Part):
    number: Annotated[int, Field(ge=0)] | None = Field(default=None, alias="class")
    name: _Name | None = None
    box: _Box

    @model_validator(mode="after")
    def _has_a_class(self) -> Self:
        if (self.number is None) == (self.name is None):
            raise ValueError("give either class or name")
        return self


class _Truth(_Part):
    request: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    picture: Annotated[int, Field(ge=0)] | None = None
    label: _Name | None = None
    boxes: Annotated[list[_Object], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.label is None) == (self.boxes is None):
            raise ValueError("give either label, the class of the picture, or boxes, all objects in it")
        return self


_ONE: TypeAdapter[_Truth] = TypeAdapter(_Truth)
_MANY: TypeAdapter[list[_Truth]] = TypeAdapter(Annotated[list[_Truth], Field(max_length=MOST)])


class Truths:
    """The handler. Belongs to the event loop's thread; kept answers are looked for in the executor."""

    def __init__(
        self, intake: Intake, metrics: Metrics, recent: Recent, executor: Executor, kept: Kept | None = None
    ) -> None:
        self._intake = intake
        self._metrics = metrics
        self._recent = recent
        self._executor = executor
        self._kept = kept
        self._told: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    async def tell(self, request: web.Request) -> web.Response:
        """Count how right the model was, once for each picture; one truth in JSON, or a list of them."""
        model = request.match_info["name"]
        async with self._intake.body(request) as body:
            many = body.lstrip()[:1] == b"["
            truths = _parsed(_MANY, body) if many else [_parsed(_ONE, body)]
        if not many:
            return json_answer(await self._judge(model, truths[0]))
        answers: list[dict[str, Any]] = []
        for truth in truths:
            try:
                answers.append(await self._judge(model, truth))
            except Refusal as refusal:
                answers.append({"request": truth.request, "error": refusal.message})
        return json_answer({"truths": answers})

    async def _judge(self, model: str, truth: _Truth) -> dict[str, Any]:
        version, predictions = await self._predicted(model, truth)
        verdict = _of_class(truth.label, predictions) if truth.label else _of_boxes(truth.boxes or [], predictions)
        return {
            "model": model, "request": truth.request, "version": version,
            "counted": self._count(model, version, truth, verdict), **verdict,
        }  # fmt: skip

    async def _predicted(self, model: str, truth: _Truth) -> tuple[int, list[dict[str, Any]]]:
        """Give the version that answered, and its predictions; Refusal where that is not known."""
        answered = self._recent.find(model, truth.request)
        if answered is not None:
            _fits(truth, answered.artifact.task)
            return answered.version, _predictions(answered, truth.picture)
        kept = await self._look_for(model, truth.request)
        if kept is None:
            msg = (
                f"nothing is known of request {truth.request[:80]!r} to model {model[:80]!r}: it is long ago, another "
                "server answered it, or nobody did; tell the truth soon, and to the server that answered"
            )
            raise Refusal(404, msg)
        _fits(truth, kept.task)
        return kept.version, kept.predictions

    async def _look_for(self, model: str, request: str) -> KeptAnswer | None:
        if self._kept is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._kept.find, model, request)
        except Transient as error:
            raise Refusal(503, error.message, reason=error.reason, headers={"Retry-After": "5"}) from error

    def _count(self, model: str, version: int, truth: _Truth, verdict: Verdict) -> bool:
        """Whether it was counted: only the first truth about a picture is, and only of versions that have series."""
        series = self._metrics.find(model, version)
        about = (model, truth.request, truth.picture or 0)
        if series is None or about in self._told:
            return False
        self._told[about] = None
        if len(self._told) > _TOLD:
            self._told.popitem(last=False)
        for name, number in verdict.items():
            series.truth[name] += number
        return True


def _parsed(kind: TypeAdapter[Any], body: bytes) -> Any:
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        raise Refusal(400, f"not a truth: {protocol.first_problem(error)}") from error


def _fits(truth: _Truth, task: str) -> None:
    """Refusal 400 where the truth is about something else than the answer."""
    if task == "classify" and truth.label is None:
        raise Refusal(400, "the model tells the class of a picture: give its label, not boxes")
    if task != "classify" and truth.boxes is None:
        raise Refusal(400, "the model finds objects: give boxes, all that are in the picture, not a label")
    if task == "obb":
        raise Refusal(400, "the truth about rotated boxes is not counted: how far two of them overlap is not measured")


def _predictions(answered: Answered, picture: int | None) -> list[dict[str, Any]]:
    if picture is None and answered.pictures > 1:
        raise Refusal(400, f"the request had {answered.pictures} pictures: say which by picture, counted from 0")
    if (picture or 0) >= answered.pictures:
        raise Refusal(400, f"the request had {answered.pictures} pictures, counted from 0; there is no {picture}")
    found = [row for array in answered.found for row in array][picture or 0]
    return recalled(answered.artifact, found, answered.size)


def _of_class(label: str, predictions: Sequence[dict[str, Any]]) -> Verdict:
    right = bool(predictions) and predictions[0]["name"] == label
    return dict(zip(VERDICTS, (int(right), int(not right), 0), strict=True))


def _of_boxes(objects: Sequence[_Object], predictions: Sequence[dict[str, Any]]) -> Verdict:
    numbers = {found["name"]: found["class"] for found in predictions}
    there = [[*_sides(each.box.model_dump()), _number(each, numbers)] for each in objects]
    found = [[*_sides(each["box"]), each["confidence"], each["class"]] for each in predictions]
    matched = match(np.array(found, float).reshape(-1, 6), np.array(there, float).reshape(-1, 5))
    right = int(matched.right.sum())
    return dict(zip(VERDICTS, (right, len(found) - right, matched.missed), strict=True))


def _number(each: _Object, numbers: dict[str, int]) -> int:
    """Give the class number of an object; one that no detection has where the name is none of theirs."""
    return each.number if each.number is not None else numbers.get(each.name or "", -1)


def _sides(box: dict[str, float]) -> list[float]:
    return [box[side] for side in ("x1", "y1", "x2", "y2")]
