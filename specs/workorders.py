"""Work orders: the complete, resolved description of one job. The job needs nothing else but the store's URL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from specs.base import Args
from specs.digests import Digest, canonical, digest_of, short
from specs.exports import Export
from specs.modelspec import ModelKey, Spec, Task
from specs.names import job_name
from specs.training import Tracking, TrackingUri, Tuning
from specs.ways import export_digest


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
        return canonical(self.model_dump(mode="json", by_alias=True, exclude_none=True))


class TrainOrder(Order):
    """Train once. Leaves a RunRecord."""

    kind: Literal["train"] = "train"
    inputs_digest: Digest
    inputs: dict[str, Any]
    """As ``Spec.inputs`` gave them; ``data`` is the digest that git names."""
    dataset: Digest | None = None
    """Digest of the DatasetManifest that ``data`` stands for; None where it is ``data`` itself."""
    tracking: Tracking | None = None
    """Where to tell how it goes; nothing that is decided depends on it."""

    @property
    def manifest(self) -> str:
        """Digest of the data set's manifest."""
        return self.dataset or str(self.inputs["data"])

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
    calibration: Digest | None = None
    """Manifest of the pictures for INT8; only where ``needs_calibration``."""
    runtime: dict[str, str] | None = None
    """What the machine must be like that makes it (``specs.engines.binding``); any will do where None."""

    def is_of(self, export: Export) -> bool:
        """Whether it makes what the spec calls by that name."""
        return (self.format, self.args) == (export.released_format, export.released_args)

    @property
    def way(self) -> str:
        """The digest of the way of exporting that the order's own words give."""
        return export_digest(
            self.format, self.args, self.image_size, calibration=self.calibration, runtime=self.runtime
        )

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("export", self.model, short(digest_of([self.weights, self.export_digest])))


class ImportOrder(Order):
    """Fetch a data set from where git says it is, and put it into the store. Leaves an ImportRecord."""

    kind: Literal["import"] = "import"
    task: Task
    source: dict[str, Any]
    """``spec.data.*`` in YAML names: exactly one of ``uri``, ``dvc``, ``platform``; its digest decides."""

    @property
    def import_digest(self) -> str:
        """Names the import. The same digest for the same task is the same data set, wherever it comes from.

        What has no digest is looked up once for each commit that asks.
        """
        digest = next(iter(self.source.values())).get("digest")
        what = {"digest": digest} if digest else {"source": self.source, "commit": self.commit}
        return digest_of({"v": 1, "task": self.task, **what})

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("import", self.model, short(self.import_digest))

    def pinned(self, digest: str) -> ImportOrder:
        """Give the order for the same data once its digest is named."""
        source = {kind: named | {"digest": digest} for kind, named in self.source.items()}
        return self.model_copy(update={"source": source})


class ValidateOrder(Order):
    """Look at every picture and label before anything is spent on them. Leaves a ValidationRecord."""

    kind: Literal["validate"] = "validate"
    task: Task
    train: Digest
    """Manifest."""
    golden: Digest | None = None
    """Manifest; must have nothing in common with ``train``."""

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("validate", self.model, short(digest_of([self.train, self.golden])))


class DiffOrder(Order):
    """Say and show how two versions of a data set differ. Leaves a DifferenceRecord."""

    kind: Literal["diff"] = "diff"
    task: Task
    before: Digest
    after: Digest
    """Manifests."""

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("diff", self.model, short(digest_of([self.before, self.after])))


class ProfileOrder(Order):
    """Count what an export does on golden, as a server counts live traffic. Leaves a ProfileRecord."""

    kind: Literal["profile"] = "profile"
    file: Digest
    """Of the export."""
    format: str
    task: Task
    golden: Digest
    """Manifest."""

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("profile", self.model, short(digest_of([self.file, self.golden])))


class TrackOrder(Order):
    """Mirror a finished run to a tracking server. Leaves a TrackRecord."""

    kind: Literal["track"] = "track"
    deadline_seconds: int | None = 1800
    inputs_digest: Digest
    """Of the run."""
    tracking_uri: TrackingUri
    experiment: str
    source: dict[str, Any] | None = None
    """Where the run's data came from, as ``spec.data.train`` says in YAML names; None where that is not known."""
    golden: Digest | None = None
    """Manifest of the golden set that the run's weights were measured on."""

    @property
    def track_digest(self) -> str:
        """Names the mirror: which run, where to."""
        return digest_of([self.inputs_digest, self.tracking_uri, self.experiment])

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("track", self.model, short(self.track_digest))


class TuneOrder(Order):
    """Search for better training arguments. Leaves TrialRecords and, at the end, a TuningRecord."""

    kind: Literal["tune"] = "tune"
    tuning_digest: Digest
    inputs: dict[str, Any]
    """Of a training, as ``Spec.inputs`` gave them; trials change ``args``."""
    dataset: Digest | None = None
    """As in a TrainOrder."""
    tuning: Tuning

    @property
    def manifest(self) -> str:
        """Digest of the data set's manifest."""
        return self.dataset or str(self.inputs["data"])

    @property
    def job(self) -> str:
        """The job's name."""
        return job_name("tune", self.model, short(self.tuning_digest))


TIRELESS = "track"
"""Kind of job that is tried for ever, and never worth a word in a status: what it mirrors to may be down for long."""

AnyOrder = (
    TrainOrder | EvaluateOrder | CompareOrder | ExportOrder | ImportOrder | ValidateOrder | DiffOrder | TrackOrder
    | TuneOrder | ProfileOrder
)  # fmt: skip
_ORDERS: TypeAdapter[AnyOrder] = TypeAdapter(Annotated[AnyOrder, Field(discriminator="kind")])


def decode(data: bytes) -> AnyOrder:
    """Read a work order; pydantic.ValidationError where the text is none."""
    return _ORDERS.validate_json(data)


def train_order(key: ModelKey, spec: Spec, commit: str, dataset: str | None = None) -> TrainOrder:
    """Resolve the training that ``spec`` asks for. ``dataset`` is the manifest that its data stands for."""
    return TrainOrder(
        model=str(key), commit=commit, deadline_seconds=spec.training.active_deadline_seconds,
        inputs_digest=spec.inputs_digest, inputs=spec.inputs(), tracking=spec.tracking,
        dataset=None if dataset == spec.data.train.digest else dataset,
    )  # fmt: skip


def tuning_digest(key: ModelKey, spec: Spec) -> str | None:
    """Name the search that ``spec`` asks for, None where it asks for none.

    Neither the data nor ``training.args`` is part of it: newer data, or a merged result, does not search again.
    """
    if spec.tuning is None:
        return None
    wanted = spec.tuning.model_dump(mode="json", by_alias=True, exclude_none=True)
    return digest_of({"v": 1, "model": str(key), "task": spec.task, "base": spec.inputs()["model"], "tuning": wanted})


def tune_order(key: ModelKey, spec: Spec, commit: str, dataset: str | None = None) -> TuneOrder | None:
    """Resolve the search that ``spec`` asks for. ``dataset`` as in ``train_order``."""
    digest = tuning_digest(key, spec)
    if spec.tuning is None or digest is None:
        return None
    return TuneOrder(
        model=str(key), commit=commit, tuning_digest=digest, inputs=spec.inputs(), tuning=spec.tuning,
        dataset=None if dataset == spec.data.train.digest else dataset,
    )  # fmt: skip
