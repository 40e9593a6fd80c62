"""The evidence that comes with a retraining: files of its cause's folder, about this nonce. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from specs.changeset import PLAIN, FileChange
from specs.modelspec import ModelKey
from specs.names import signals_dir

_NAME = "signals.json"


def signal_evidence_flaw(key: ModelKey, nonce: str, files: Sequence[FileChange], read: Callable[[str], bytes]) -> str:
    """Say what is wrong with the evidence for a ``nonce`` as it would be; empty where it fits.

    ``files`` are those of the model's evidence folder.
    """
    folder = f"{signals_dir(*key, nonce)}/"
    for file in files:
        if not file.path.startswith(folder):
            return f"{file.path}: is not evidence of what asks for this retraining"
        if file.before is not None or file.after is None:
            return f"{file.path}: evidence is written once; here it is changed or removed"
        if file.after.mode != PLAIN:
            return f"{file.path}: has mode {file.after.mode}; evidence is plain files"
    found = next((file.after for file in files if file.path == f"{folder}{_NAME}"), None)
    if found is None:
        return f"{folder}{_NAME} does not come with the nonce"
    try:
        told = json.loads(read(found.blob))
    except ValueError:
        return f"{folder}{_NAME} is no JSON"
    claimed = {"model": str(key), "field": "spec.training.nonce", "nonce": nonce}
    if not isinstance(told, dict) or any(told.get(name) != value for name, value in claimed.items()):
        return f"{folder}{_NAME} is about something else than this change of spec.training.nonce of {key}"
    return ""
