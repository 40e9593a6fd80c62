from __future__ import annotations

from pathlib import Path

import pytest

from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import CorruptArtifact, Stalled
from specs.records import ComparisonRecord, EvaluationRecord, blob_key, comparison_key, evaluation_key
from specs.workorders import CompareOrder
from tests.support.evaluations import classified
from tests.support.orders import WHO
from workloads.compare import run
from workloads.results import Classified

SUBJECT, BASELINE, GOLDEN = (digest_bytes(name) for name in (b"subject", b"baseline", b"golden"))
ORDER = CompareOrder(**WHO, subject=SUBJECT, baseline=BASELINE, golden=GOLDEN, task="classify")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two evaluations on one golden set."""
    store = Store(f"file://{tmp_path}/store")
    evaluated(store, SUBJECT, classified(skill=0.9, seed=1))
    evaluated(store, BASELINE, classified(skill=0.6, seed=2))
    return store


def evaluated(store: Store, subject: str, results: Classified) -> None:
    """Leave the record of an evaluation."""
    record = EvaluationRecord(
        subject=subject, golden=GOLDEN, n=len(results.images), per_image=store.put_blob(results.encode()), values={}
    )
    store.create(evaluation_key(subject, GOLDEN), record.encode())


def test_a_comparison_is_recorded(store: Store) -> None:
    """The record says how much better, how surely, and for which classes; asking again changes nothing."""
    run(ORDER, store)
    text = store.read(comparison_key(SUBJECT, BASELINE, GOLDEN))
    assert text is not None
    record = ComparisonRecord.decode(text)
    found = record.differences["metrics/accuracy_top1"]
    assert record.n == 200
    assert found.delta == pytest.approx(0.3, abs=0.1)
    assert found.intervals["0.99"][0] > 0
    assert set(record.per_class) == {f"c{i}" for i in range(6)}
    run(ORDER, store)
    assert store.read(comparison_key(SUBJECT, BASELINE, GOLDEN)) == text


def test_evaluations_of_other_images_are_not_compared(tmp_path: Path) -> None:
    """Two evaluations that claim one golden set but hold other images are told to be made again."""
    store = Store(f"file://{tmp_path}/other")
    evaluated(store, SUBJECT, classified(100))
    evaluated(store, BASELINE, classified(200))
    with pytest.raises(Stalled, match="evaluate both again") as caught:
        run(ORDER, store)
    assert caught.value.reason == "GoldenMismatch"


def test_changed_results_are_not_compared(store: Store, tmp_path: Path) -> None:
    """The results of each image are checked against their digest."""
    text = store.read(evaluation_key(SUBJECT, GOLDEN))
    assert text is not None
    path = tmp_path / "store" / blob_key(EvaluationRecord.decode(text).per_image)
    path.chmod(0o644)
    path.write_bytes(classified(skill=1.0).encode())
    with pytest.raises(CorruptArtifact):
        run(ORDER, store)
    assert store.list("comparisons/") == []
