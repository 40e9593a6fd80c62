"""What a server counted, read from its metrics as Prometheus would."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from specs.traffic import BY_CLASS, BY_STAGE, OF_PICTURES, REQUESTS, TRUTH, Counts, Traffic

Rows = dict[str, list[tuple[float, float]]]


def counted(text: str, model: str, version: int = 1) -> Traffic:
    """Give all that a server says about a version, since it was started."""
    rows: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    single: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels: dict[str, Any] = dict(sample.labels)
            if (labels.pop("model", None), labels.pop("version", None)) != (model, str(version)):
                continue
            if sample.name.endswith("_bucket"):
                edge = float(labels.pop("le"))
                rows[sample.name.removesuffix("_bucket"), next(iter(labels.values()), "")].append((edge, sample.value))
            elif sample.name in (REQUESTS, TRUTH):
                single[sample.name][next(iter(labels.values()))] = sample.value
    bins = {key: _apart(found) for key, found in rows.items()}
    return Traffic(
        0.0, 0.0,
        {name: bins[measure.metric, ""] for name, measure in OF_PICTURES.items() if (measure.metric, "") in bins},
        {label: counts for (name, label), counts in bins.items() if name == BY_CLASS.metric},
        {label: counts for (name, label), counts in bins.items() if name == BY_STAGE.metric},
        single[REQUESTS], single[TRUTH],
    )  # fmt: skip


def _apart(found: list[tuple[float, float]]) -> Counts:
    """Undo the adding up of buckets."""
    totals = [0.0, *(value for _, value in sorted(found))]
    return tuple(after - before for before, after in pairwise(totals))
