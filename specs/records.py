"""What jobs leave in the store: JSON records, written once, and the keys they live under.

A record, not a job's exit code, says that something happened. Layout of the store::

    blobs/sha256/<hex>                          files
    datasets/sha256/<hex>.json                  DatasetManifest
    runs/<inputsDigest>/run.json                RunRecord
    evaluations/<subject>-<golden>.json         EvaluationRecord
    comparisons/<subject>-<baseline>-<golden>.json   ComparisonRecord
    exports/<weights>-<exportDigest>.json       ExportRecord
    artifacts/<file digest>.json                ArtifactRecord
    signatures/<file>/<made from>-<key>.json    Envelope, see specs.signatures
    progress/<job>.json                         Progress; overwritten

``specs.checkpoint_records``, ``specs.data_records`` and ``specs.experiment_records`` have more.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from specs.base import Args
from specs.digests import Digest, canonical, digest_bytes, hex_of
from specs.modelspec import Task


class Record(BaseModel):
    """Base of all records: frozen JSON; fields that a later version added are ignored when read."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    def encode(self) -> bytes:
        """Give the canonical JSON text."""
        return canonical(self.model_dump(mode="json", exclude_none=True)) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one; pydantic.ValidationError where the text is not such a record."""
        return cls.model_validate_json(data)


class FileEntry(Record):
    """One file of a data set."""

    path: Annotated[str, Field(pattern=r"^[^/\x00-\x1f][^\x00-\x1f]*$")]
    """Relative, with ``/``; never absolute, never with ``..``."""
    size: Annotated[int, Field(ge=0)]
    digest: Digest


class DatasetManifest(Record):
    """A data set: its files, and what they say. Its digest is the digest of its encoded text."""

    task: Task
    names: list[str]
    """Class names; the index is the class number."""
    files: list[FileEntry]
    images: int
    class_counts: dict[str, int]
    """Labelled objects (for classify: images) of each class."""
    kpt_shape: list[int] | None = None
    """Only for pose: number of keypoints, and 2 (x, y) or 3 (x, y, visibility) values each."""
    flip_idx: list[int] | None = None
    """Only for pose: which keypoint each one becomes in a mirror; without it the trainer mirrors no pictures."""

    def digest(self) -> str:
        """Give the digest that a ModelSpec names."""
        return digest_bytes(self.encode())

    def image_digests(self) -> frozenset[str]:
        """Give the digests of the pictures, to find those that two data sets share."""
        return frozenset(f.digest for f in self.files if f.path.lower().endswith(IMAGE_SUFFIXES))


EVENT_FILE = "events.out.tfevents.trunkline"
"""Name of a run's event file among its files. TensorBoard takes what has ``tfevents`` in its name."""
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Environment(Record):
    """Where something ran, well enough to run it there again."""

    python: str
    platform: str
    device: str
    """``cpu``, or the GPU's name."""
    cpu: str = ""
    cores: int = 0
    packages: dict[str, str]
    """Name to version, of every installed distribution."""


class Epoch(Record):
    """Metrics at the end of one epoch, as Ultralytics names them."""

    epoch: int
    metrics: dict[str, float]


class RunRecord(Record):
    """One training of one inputsDigest, or the reason why it can never work."""

    inputs_digest: Digest
    inputs: dict[str, Any]
    status: Literal["Succeeded", "Failed"]
    reason: str = ""
    message: str = ""
    model: str
    """``namespace/name`` of the ModelSpec that asked first."""
    commit: str
    """Commit of the ModelSpec's repository that asked for it."""
    seed: int | None = None
    environment: Environment | None = None
    started: str = ""
    finished: str = ""
    """UTC, ISO 8601."""
    seconds: float = 0
    """That all attempts worked whose epochs are in it."""
    resumed_from: list[int] = []
    """How many epochs were done each time that an attempt was ended from outside and the next one went on."""
    processes: int = 1
    """That shared the training, each with a device of its own."""
    epochs: list[Epoch] = []
    metrics: dict[str, float] = {}
    weights: Digest | None = None
    dataset: Digest | None = None
    """Of the DatasetManifest that was trained on; None in old records, where ``inputs.data`` is it."""
    base_model: Digest | None = None
    """Digest of the published weights that a bare name such as ``yolo26n.pt`` stood for when the run began."""
    files: dict[str, Digest] = {}
    """File name to blob: curves, pictures, the arguments as Ultralytics resolved them."""

    @property
    def course(self) -> str:
        """Say what was special about how it went; empty where one process trained from beginning to end."""
        several = [f"by {self.processes} processes"] if self.processes > 1 else []
        after = ", ".join(map(str, self.resumed_from))
        return ", ".join([*several, *([f"resumed after epoch {after}"] if self.resumed_from else [])])


class Metrics(Record):
    """Measured values with their uncertainty."""

    values: dict[str, float]
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    """Metric to confidence level (``"0.95"``) to bootstrap interval over images."""
    per_class: dict[str, dict[str, float]] = {}
    """Class name to metric to value."""


class EvaluationRecord(Metrics):
    """Metrics of one subject (weights or export) on one golden set."""

    subject: Digest
    golden: Digest
    n: int
    """Images."""
    per_image: Digest
    """Blob with the results of each image, from which intervals and comparisons are computed."""
    environment: Environment | None = None
    files: dict[str, Digest] = {}


class Difference(Record):
    """Candidate minus baseline, paired by image."""

    delta: float
    intervals: dict[str, tuple[float, float]]


class ComparisonRecord(Record):
    """How much better one subject is than another on the same golden images."""

    subject: Digest
    baseline: Digest
    golden: Digest
    n: int
    differences: dict[str, Difference]
    per_class: dict[str, dict[str, Difference]] = {}


class ExportRecord(Record):
    """One export, or the reason why it can never work."""

    weights: Digest
    export_digest: Digest
    format: str
    args: Args
    status: Literal["Succeeded", "Failed"]
    reason: str = ""
    message: str = ""
    file: Digest | None = None
    size: int = 0
    metrics: dict[str, float] = {}
    """``latency/p50_ms``, ``latency/p95_ms``, ``latency/p99_ms``, ``artifact/bytes``, ``memory/peak_bytes`` (all of a
    process that loads and runs it), ``memory/added_bytes`` (what loading and running it added to that)."""
    unmeasured: str = ""
    """Why it could not be run where it was made, so that no more than its size is known; empty where it was."""
    calibration: Digest | None = None
    """Of the DatasetManifest whose pictures the ranges of INT8 numbers were found on."""
    runtime: dict[str, str] = {}
    """As in the ArtifactRecord."""
    made_for: dict[str, str] = {}
    """Likewise."""
    environment: Environment | None = None
    started: str = ""
    finished: str = ""


class SelfTest(Record):
    """A request whose answer is known: a server that answers differently must not become ready."""

    image: Digest
    """Blob of an encoded picture."""
    input: Digest
    """Blob of the preprocessed tensor, ``.npy``, float32, shape (1, 3, H, W)."""
    outputs: Digest
    """Blob of the expected raw outputs, ``.npz``, one array per output name."""
    tolerance: float = 1e-3


class ArtifactRecord(Record):
    """What a server must know about a file to serve it."""

    file: Digest
    format: str
    task: Task
    names: list[str]
    image_size: tuple[int, int]
    """Height and width in pixels."""
    weights: Digest
    self_tests: list[SelfTest]
    runtime: dict[str, str] = {}
    """Of the machine that made it, where the file works on such machines only: see ``specs.engines``."""
    made_for: dict[str, str] = {}
    """Those of the facts that the order named, since it was made for a device; empty where any machine would do."""
    kpt_shape: tuple[int, int] | None = None
    """Of a pose model: how many key points, and of how many numbers each is. Older records do not say."""


class Progress(Record):
    """How far a job is."""

    job: str
    epoch: int = 0
    epochs: int = 0
    phase: str = ""
    done: int = 0
    total: int = 0
    """Of the phase: bytes or files; 0 in all where nobody knows."""
    eta_seconds: float | None = None
    metrics: dict[str, float] = {}
    updated: str = ""


def dataset_key(digest: str) -> str:
    """Key of a DatasetManifest."""
    return f"datasets/sha256/{hex_of(digest)}.json"


def run_key(inputs_digest: str) -> str:
    """Key of a RunRecord."""
    return f"runs/{hex_of(inputs_digest)}/run.json"


def evaluation_key(subject: str, golden: str) -> str:
    """Key of an EvaluationRecord; ``golden`` may be any pinned digest."""
    return f"evaluations/{hex_of(subject)}-{hex_of(golden)}.json"


def comparison_key(subject: str, baseline: str, golden: str) -> str:
    """Key of a ComparisonRecord."""
    return f"comparisons/{hex_of(subject)}-{hex_of(baseline)}-{hex_of(golden)}.json"


def export_key(weights: str, export_digest: str) -> str:
    """Key of an ExportRecord."""
    return f"exports/{hex_of(weights)}-{hex_of(export_digest)}.json"


def artifact_key(file: str) -> str:
    """Key of an ArtifactRecord."""
    return f"artifacts/{hex_of(file)}.json"


def progress_key(job: str) -> str:
    """Key of a Progress."""
    return f"progress/{job}.json"


def blob_key(digest: str) -> str:
    """Key of a file."""
    return f"blobs/sha256/{hex_of(digest)}"
