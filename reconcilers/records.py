"""Records of the store, typed, checked against what they must be, and read once."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from reconcilers.observed import DatasetFact
from reconcilers.ports import Store
from specs.data_records import (
    DifferenceRecord,
    ImportRecord,
    ValidationRecord,
    difference_key,
    import_key,
    validation_key,
)
from specs.digests import digest_bytes
from specs.errors import Stalled
from specs.experiment_records import TuningRecord, tuning_key
from specs.profile_records import ProfileRecord, profile_key
from specs.records import (
    ArtifactRecord,
    ComparisonRecord,
    DatasetManifest,
    EvaluationRecord,
    ExportRecord,
    Record,
    RunRecord,
    artifact_key,
    comparison_key,
    dataset_key,
    evaluation_key,
    export_key,
    run_key,
)  # fmt: skip
from specs.status import Reason

R = TypeVar("R", bound=Record)
CACHE_SIZE = 20_000


class Records:
    """Typed records of the store. Those that are there never change, so they are read once."""

    def __init__(self, store: Store, remembered: int = CACHE_SIZE) -> None:
        self._store = store
        self._remembered = remembered
        self._known: dict[str, Record] = {}
        self._shared: dict[tuple[str, str], tuple[str, ...]] = {}

    def get(self, key: str, type_: type[R]) -> R | None:
        """Give a record, or None; Stalled ``CorruptRecord`` where the text is not one."""
        known = self._known.get(key)
        if isinstance(known, type_):
            return known
        data = self._store.read(key)
        if data is None:
            return None
        try:
            record = type_.decode(data)
        except ValidationError as error:
            text = f"{key} in the store is not a {type_.__name__}: {error.error_count()} fields are wrong; remove it"
            raise Stalled("CorruptRecord", text) from error
        flaw = _flaw(key, record)
        if flaw:
            raise Stalled("CorruptRecord", f"{key} in the store {flaw}; remove it, and it is made again")
        if len(self._known) >= self._remembered:
            self._known.clear()
        self._known[key] = record
        return record

    def shared_pictures(self, train: DatasetFact | None, golden: DatasetFact | None) -> tuple[str, ...]:
        """Give the golden pictures that are in the training data as well."""
        if train is None or golden is None or train.manifest is None or golden.manifest is None:
            return ()
        pair = (train.digest, golden.digest)
        if pair not in self._shared:
            self._shared[pair] = shared_pictures(train.manifest, golden.manifest)
        return self._shared[pair]

    def dataset(self, digest: str) -> DatasetFact:
        """Look up a data set's manifest and check it against the digest that names it."""
        key = dataset_key(digest)
        known = self._known.get(key)
        if isinstance(known, DatasetManifest):
            return DatasetFact(digest, known)
        data = self._store.read(key)
        if data is None:
            text = f"{digest} is not in the store; add it with `trunkline data add`, or correct the digest"
            return DatasetFact(digest, reason=Reason.DATA_MISSING, message=text)
        if digest_bytes(data) != digest:
            text = f"the manifest under {digest} has other bytes than its digest says; add the data set again"
            return DatasetFact(digest, reason=Reason.DATA_CORRUPT, message=text)
        manifest = self.get(key, DatasetManifest)
        return DatasetFact(digest, manifest)


def shared_pictures(train: DatasetManifest, golden: DatasetManifest) -> tuple[str, ...]:
    """Give the paths, in golden, of pictures whose bytes are in both data sets."""
    both = train.image_digests() & golden.image_digests()
    return tuple(sorted(entry.path for entry in golden.files if entry.digest in both))


def _flaw(key: str, record: Record) -> str:
    """Say how a record contradicts its key or itself; empty where it does not."""
    own, empty = key, False
    match record:
        case RunRecord():
            own, empty = run_key(record.inputs_digest), record.status == "Succeeded" and record.weights is None
        case ExportRecord():
            own = export_key(record.weights, record.export_digest)
            empty = record.status == "Succeeded" and record.file is None
        case EvaluationRecord():
            own = evaluation_key(record.subject, record.golden)
        case ComparisonRecord():
            own = comparison_key(record.subject, record.baseline, record.golden)
        case ArtifactRecord():
            own = artifact_key(record.file)
        case ImportRecord():
            own, empty = import_key(record.import_digest), record.status == "Succeeded" and record.manifest is None
        case ValidationRecord():
            own = validation_key(record.train_digest, record.golden_digest)
        case DifferenceRecord():
            own = difference_key(record.before, record.after)
        case TuningRecord():
            own = tuning_key(record.tuning_digest)
        case ProfileRecord():
            own = profile_key(record.file, record.golden)
        case _:
            pass
    if own != key:
        return f"is about something else, {own}"
    return "says that it succeeded, and names no file" if empty else ""
