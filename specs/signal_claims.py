"""The evidence that comes with a retraining: files of its cause's folder, about this nonce. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from specs.changeset import FileChange, evidence_flaw
from specs.modelspec import ModelKey
from specs.names import signals_dir

_NAME = "signals.json"


def signal_evidence_flaw(key: ModelKey, nonce: str, files: Sequence[FileChange], read: Callable[[str], bytes]) -> str:
    """Say what is wrong with the evidence for a ``nonce`` as it would be; empty where it fits.

    ``files`` are those of the model's evidence folder.
    """
    folder = f"{signals_dir(*key, nonce)}/"
    if flaw := evidence_flaw(files, folder, "what asks for this retraining"):
        return flaw
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
