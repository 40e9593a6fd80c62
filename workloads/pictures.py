"""Pictures that Ultralytics draws, chosen for evidence."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store

MAX_BYTES = 2 * 2**20
USEFUL = (
    "results.png", "confusion_matrix.png", "confusion_matrix_normalized.png", "*PR_curve.png", "*F1_curve.png",
    "labels.jpg", "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg",
)  # fmt: skip


def keep_pictures(store: Store, folder: Path) -> dict[str, str]:
    """Store the useful pictures of a folder; give file name to digest. Large ones stay behind."""
    found = {path.name: path for pattern in USEFUL for path in sorted(folder.glob(pattern))}
    return {name: store.put_blob(path) for name, path in sorted(found.items()) if 0 < path.stat().st_size < MAX_BYTES}
