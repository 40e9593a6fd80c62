"""Work orders: the complete, resolved description of one job. The job needs nothing else but the store's URL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from specs.base import Args
from specs.digests import Digest, canonical, digest_of, short
from specs.modelspec import ModelKey, Spec, Task
from specs.names import job_name


class Order(BaseModel):
    """What all work orders share."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    """``namespace/name`` of the ModelSpec that asks."""
    commit: str
    """Commit that asked; recorded, never an input."""
    deadline_seconds: int | None = None

    def encode(self) -> bytes:
        """Give the canonical JSON text."""
        return canonical(self.model_dump(mode="json", exclude_none=True))


class TrainOrder(Order):
    """Train once. Leaves a RunRecord."""

    kind: Literal["train"] = "train"
    inputs_digest: Digest
    inputs: dict[str, Any]
    """As ``Spec.inputs`` gave them; ``data`` is the digest of a DatasetManifest."""

    @property
    def job(self) -> str:
        """The job's name: the same inputs always give the same name."""
        return job_name("train", self.model, short(self.inputs_digest))


class EvaluateOrder(Order):
    """Measure weights or an export on golden. Leaves an EvaluationRecord."""

    kind: Literal["evaluate"] = "evaluate"
    subject: Digest
    format: str
    """``pt`` for weights, else the export's format."""
    task: Task
    golden: Digest
    image_size: int | list[int] | None = None

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("evaluate", self.model, short(digest_of([self.subject, self.golden])))


class CompareOrder(Order):
    """Compare two evaluations image by image. Leaves a ComparisonRecord; needs both EvaluationRecords."""

    kind: Literal["compare"] = "compare"
    subject: Digest
    baseline: Digest
    golden: Digest
    task: Task

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("compare", self.model, short(digest_of([self.subject, self.baseline, self.golden])))


class ExportOrder(Order):
    """Export weights and time the result. Leaves an ArtifactRecord, an EvaluationRecord (golden), an ExportRecord."""

    kind: Literal["export"] = "export"
    weights: Digest
    export_digest: Digest
    task: Task
    format: str
    args: Args
    image_size: int | list[int] | None = None
    """Side in pixels (or height and width); the trainer's default where None."""
    golden: Digest | None = None

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("export", self.model, short(digest_of([self.weights, self.export_digest])))


AnyOrder = TrainOrder | EvaluateOrder | CompareOrder | ExportOrder
_ORDERS: TypeAdapter[AnyOrder] = TypeAdapter(Annotated[AnyOrder, Field(discriminator="kind")])


def decode(data: bytes) -> AnyOrder:
    """Read a work order; pydantic.ValidationError where the text is none."""
    return _ORDERS.validate_json(data)


def train_order(key: ModelKey, spec: Spec, commit: str) -> TrainOrder:
    """Resolve the training that ``spec`` asks for."""
    return TrainOrder(
        model=str(key), commit=commit, deadline_seconds=spec.training.active_deadline_seconds,
        inputs_digest=spec.inputs_digest, inputs=spec.inputs(),
    )  # fmt: skip


def export_digest(format_: str, args: Args, image_size: object) -> str:
    """Name the way of exporting: format, arguments and size; not the weights, not the export's name."""
    return digest_of({"v": 1, "format": format_, "args": args, "imgsz": args.get("imgsz", image_size)})
