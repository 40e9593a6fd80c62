"""Compares two evaluations on the same golden set, image by image. Loads neither torch nor Ultralytics."""

from __future__ import annotations

from adapters.store import Store
from specs.digests import digest_of
from specs.errors import Stalled
from specs.records import ComparisonRecord, EvaluationRecord, comparison_key, evaluation_key
from specs.workorders import CompareOrder
from workloads.bootstrap import differences
from workloads.results import Classified, Detected, decode


def run(order: CompareOrder, store: Store) -> None:
    """Write the ComparisonRecord. Stalled ``EvaluationMissing`` or ``GoldenMismatch``; store errors pass through."""
    subject = _results(store, order.subject, order.golden)
    baseline = _results(store, order.baseline, order.golden)
    try:
        overall, per_class = differences(subject, baseline, seed=digest_of([order.subject, order.baseline]))
    except ValueError as error:
        message = f"{order.subject} and {order.baseline} on {order.golden}: {error}; evaluate both again"
        raise Stalled("GoldenMismatch", message) from error
    record = ComparisonRecord(
        subject=order.subject, baseline=order.baseline, golden=order.golden, n=len(subject.images),
        differences=overall, per_class=per_class,
    )  # fmt: skip
    store.create(comparison_key(order.subject, order.baseline, order.golden), record.encode())


def _results(store: Store, subject: str, golden: str) -> Classified | Detected:
    text = store.read(evaluation_key(subject, golden))
    if text is None:
        raise Stalled("EvaluationMissing", f"{subject} was not evaluated on {golden} yet; evaluate it first")
    return decode(store.read_blob(EvaluationRecord.decode(text).per_image))
