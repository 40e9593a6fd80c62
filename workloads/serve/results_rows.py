"""Which detections of a picture count: the sure ones, and of those that mean the same object one."""

from __future__ import annotations

import numpy as np

from workloads.serve.query import MOST, Query
from workloads.serve.results_layout import Layout
from workloads.serve.results_rotated import apart
from workloads.serve.tensors import Array

_CANDIDATES = 30_000
"""Of upright boxes so many are compared at most, the most confident ones; of rotated ones, whose comparing is dear: """
_ROTATED = 4_096


def chosen(output: Array, layout: Layout, query: Query) -> Array:
    """Give rows (k, 6 + extra): box in input pixels, confidence, class, extra; best first.

    ``output`` is that of one picture. Boxes are x1, y1, x2, y2, rotated ones centre x, centre y, width, height.
    """
    if not layout.finished:
        return _suppressed(output, layout, query)
    sure = output[_sure(output[:, 4], query.confidence)]
    return sure[np.argsort(-sure[:, 4], kind="stable")][: query.most]


def _sure(scores: Array, confidence: float) -> Array:
    """Tell which scores count. Rows of nothing fill finished outputs up, and are nothing also to who asks for all."""
    sure: Array = (scores >= confidence) & (scores > 0)
    return sure


def _suppressed(output: Array, layout: Layout, query: Query) -> Array:
    """Do what finished models do themselves: each anchor stands for its best class, overlapping ones for one object."""
    end = 4 + layout.classes
    scores = output[4:end].max(axis=0)
    sure = np.flatnonzero(_sure(scores, query.confidence))
    order = sure[np.argsort(-scores[sure], kind="stable")][: _ROTATED if layout.rotated else _CANDIDATES]
    scores, kinds, extra = scores[order], output[4:end, order].argmax(axis=0), output[end:, order].T
    boxes = output[:4, order].T
    if layout.rotated:
        kept = apart(np.concatenate([boxes, extra[:, -1:]], axis=1), kinds, query.overlap, query.most)
    else:
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
        kept = _upright(boxes, kinds, query)
    return np.concatenate([boxes[kept], scores[kept, None], kinds[kept, None], extra[kept]], axis=1)


def _upright(boxes: Array, kinds: Array, query: Query) -> list[int]:
    """Give which of ``boxes``, best first, stay: those that no better one of their class covers too much."""
    kept: list[int] = []
    left = np.arange(len(boxes))
    while left.size and len(kept) < min(query.most, MOST):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[(kinds[left] != kinds[best]) | (overlap(boxes[best], boxes[left]) <= query.overlap)]
    return kept


def overlap(box: Array, others: Array) -> Array:
    """Give intersection over union of one box with each of the others (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    result: Array = shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-9)
    return result
