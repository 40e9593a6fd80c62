"""Traffic and profiles from drawn values: what a server would have counted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specs.profile_records import ProfileRecord
from specs.traffic import BY_CLASS, OF_PICTURES, Measure, Traffic

Values = NDArray[Any] | Sequence[float]
DIGEST = "sha256:" + "d" * 64


def counted(measure: Measure, values: Values) -> tuple[float, ...]:
    """Count values in a measure's bins; one on an edge belongs to the bin below."""
    bins = np.searchsorted(measure.edges, np.asarray(values), side="left")
    return tuple(np.bincount(bins, minlength=measure.bins).astype(float).tolist())


def by_class(names: Sequence[str], confidences: Values) -> dict[str, tuple[float, ...]]:
    """Count confidences by the predicted class of each."""
    values, owners = np.asarray(confidences), np.asarray(names)
    return {str(name): counted(BY_CLASS, values[owners == name]) for name in sorted(set(names))}


def traffic(pictures: Mapping[str, Values], names: Sequence[str], confidences: Values, **rest: Any) -> Traffic:
    """Give the traffic of pictures with such features and predictions."""
    counts = {name: counted(OF_PICTURES[name], values) for name, values in pictures.items()}
    return Traffic(0.0, 1.0, counts, by_class(names, confidences), **rest)


def profile(
    pictures: Mapping[str, Values], names: Sequence[str], confidences: Values, right: NDArray[np.bool_], **rest: Any
) -> ProfileRecord:
    """Give the profile of golden pictures, of which those at ``right`` were predicted rightly."""
    seen = traffic(pictures, names, confidences)
    values, owners = np.asarray(confidences), np.asarray(names)
    return ProfileRecord(
        file=DIGEST, golden=DIGEST, n=len(values), names=sorted(set(names)),
        pictures={name: [int(count) for count in counts] for name, counts in seen.pictures.items()},
        classes={name: [int(count) for count in counts] for name, counts in seen.classes.items()},
        right={
            name: [int(count) for count in counted(BY_CLASS, values[(owners == name) & right])] for name in seen.classes
        },
        **({"task": "classify"} | rest),
    )  # fmt: skip
