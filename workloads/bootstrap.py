"""How sure a metric is: percentile intervals of a bootstrap over images.

Resampling whole images respects that the objects of one image belong together. A caveat of every percentile
bootstrap: where all images agree (accuracy 1.0) the interval has no width, however few there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from specs.digests import digest_of
from specs.exports import LEVELS
from specs.records import Difference
from workloads.precision import Floats
from workloads.results import Classified, Results

_CHUNK = 50

Interval = tuple[float, float]


def resamples_for(results: Results) -> int:
    """How often to resample: detection metrics cost a thousand times more than accuracies."""
    return 1000 if isinstance(results, Classified) else 200


def measured(results: Results) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Give metric to value, and class name to metric to value; classes without images or objects are left out."""
    table = results.measure(np.ones((1, len(results.images))))[0]
    overall = dict(zip(results.metrics, table[0].tolist(), strict=True))
    per_class = {
        name: dict(zip(results.metrics, row.tolist(), strict=True))
        for name, row in zip(results.names, table[1:], strict=True)
        if not np.isnan(row).any()
    }
    return overall, per_class


def intervals(results: Results, seed: str) -> dict[str, dict[str, Interval]]:
    """Give metric to level to interval; the same results and seed always give the same."""
    count = resamples_for(results)
    draws = _resampled(lambda weights: results.measure(weights)[:, 0], len(results.images), count, seed)
    return {name: _levels(draws[:, index]) for index, name in enumerate(results.metrics)}


def differences(
    subject: Results, baseline: Results, seed: str
) -> tuple[dict[str, Difference], dict[str, dict[str, Difference]]]:
    """Compare image by image: both are resampled alike, so that what is hard for both cancels out.

    Gives metric to difference, and class name to metric to difference for the classes that both know. Both must be of
    the same images, in the same order (ValueError).
    """
    if subject.images != baseline.images:
        msg = "the two evaluations are not of the same images"
        raise ValueError(msg)
    shared = [name for name in subject.names if name in baseline.names]
    mine = [0, *(1 + subject.names.index(name) for name in shared)]
    theirs = [0, *(1 + baseline.names.index(name) for name in shared)]
    metrics = [name for name in subject.metrics if name in baseline.metrics]
    left = [subject.metrics.index(name) for name in metrics]
    right = [baseline.metrics.index(name) for name in metrics]

    def difference(weights: Floats) -> Floats:
        return subject.measure(weights)[:, mine][..., left] - baseline.measure(weights)[:, theirs][..., right]

    count = len(subject.images)
    point = difference(np.ones((1, count)))[0]
    draws = _resampled(difference, count, resamples_for(subject), seed)
    tables = [
        {
            name: Difference(delta=float(point[row, index]), intervals=_levels(draws[:, row, index]))
            for index, name in enumerate(metrics)
            if not np.isnan(point[row, index])
        }
        for row in range(len(mine))
    ]
    return tables[0], {name: table for name, table in zip(shared, tables[1:], strict=True) if table}


def _resampled(measure: Callable[[Floats], Floats], images: int, count: int, seed: str) -> Floats:
    """Measure ``count`` resamples; in chunks, so that memory stays small however many images there are."""
    return np.concatenate([measure(weights) for weights in _weights(images, count, seed)])


def _weights(images: int, count: int, seed: str) -> Iterator[Floats]:
    generator = np.random.default_rng(int(digest_of(seed).removeprefix("sha256:")[:16], 16))
    for start in range(0, count, _CHUNK):
        rows = min(_CHUNK, count - start)
        drawn = generator.integers(0, images, (rows, images))
        yield np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)


def _levels(draws: Floats) -> dict[str, Interval]:
    """Give level to interval; resamples in which a class did not occur say nothing."""
    seen = draws[~np.isnan(draws)]
    if not seen.size:
        return {}
    found = {}
    for level in LEVELS:
        low, high = np.quantile(seen, [(1 - level) / 2, (1 + level) / 2])
        found[str(level)] = (float(low), float(high))
    return found
