"""Specs whose data lies elsewhere, and worlds in which it was fetched, is missing, or has a newer version."""

from __future__ import annotations

from typing import Any

from reconcilers.observed import FOLLOWED, DatasetFact, NewerData, SourceTrouble
from specs.data import Source
from specs.data_records import DifferenceRecord, ImportRecord, ValidationRecord, difference_key, validation_key
from specs.records import DatasetManifest
from specs.status import Reason
from specs.workorders import DiffOrder, ImportOrder, ValidateOrder
from tests.support.builders import GOLDEN, KEY, TRAIN, Lab, Stage, manifest, observed, settled, spec

NEWER = manifest("newer", 30)
BARE = {"dvc": {"repoURL": "https://git.example.com/retail/data.git", "targetRevision": "main", "path": "shelf.dvc"}}
AWAY = "the data repository does not answer"


def md5(version: int) -> str:
    """Give the digest of a version, as DVC names it."""
    return f"md5:{version:032x}.dir"


def dvc(version: int) -> dict[str, Any]:
    """Give a pinned version of the training data, as a manifest has it."""
    return {"dvc": BARE["dvc"] | {"targetRevision": f"v{version}", "digest": md5(version)}}


def pinned(version: int) -> Source:
    """Give it as a value."""
    return Source.model_validate(dvc(version), by_alias=True, by_name=False)


def imported(version: int, data: DatasetManifest = NEWER) -> DatasetFact:
    """Give a version that was fetched."""
    order = ImportOrder(model=str(KEY), commit="c", task="classify", source=dvc(version))
    record = ImportRecord(
        import_digest=order.import_digest, task="classify", source=dvc(version), status="Succeeded",
        digest=md5(version), manifest=data.digest(), images=data.images,
    )  # fmt: skip
    return DatasetFact(data.digest(), data, imported=record)


def validation(**found: Any) -> ValidationRecord:
    """Give what looking at the newer version and the golden set found: nothing wrong, unless told."""
    order = ValidateOrder(model=str(KEY), commit="c", task="classify", train=NEWER.digest(), golden=GOLDEN.digest())
    lab = Lab()
    lab.do(order)
    record = lab.records[validation_key(NEWER.digest(), GOLDEN.digest())]
    assert isinstance(record, ValidationRecord)
    return record.model_copy(update=found)


def difference() -> DifferenceRecord:
    """Give how the newer version differs."""
    order = DiffOrder(model=str(KEY), commit="c", task="classify", before=TRAIN.digest(), after=NEWER.digest())
    lab = Lab()
    lab.do(order)
    record = lab.records[difference_key(TRAIN.digest(), NEWER.digest())]
    assert isinstance(record, DifferenceRecord)
    return record


def newer(**changes: Any) -> NewerData:
    """Give a newer version that was fetched, looked at and compared."""
    facts: dict[str, Any] = {
        "source": pinned(2), "fact": imported(2), "difference": difference(), "validation": validation(),
    }
    return NewerData(**(facts | changes))


def following(**changes: Any) -> Stage:
    """Give a model that serves, was trained on version 1, and follows its data."""
    return settled(**{"data__train": dvc(1), "triggers": {"onData": True}, **changes})


def elsewhere(train: DatasetFact | None, **changes: Any) -> Stage:
    """Give a model without any run whose training data lies elsewhere."""
    return Stage(spec(**{"data__train": dvc(1), **changes}), observed(train=train), Lab())


def unknown(reason: Reason = Reason.DATA_UNREACHABLE, *, passing: bool = True) -> dict[str, SourceTrouble]:
    """Give why nobody knows the newest version, or what a bare reference stands for."""
    trouble = SourceTrouble(reason, AWAY, passing)
    return {FOLLOWED: trouble, "spec.data.train": trouble}
