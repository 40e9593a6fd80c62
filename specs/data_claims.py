"""The evidence that comes with a proposal of newer training data: files of its own folder, about this change. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from specs.changeset import PLAIN, FileChange
from specs.data import Source
from specs.modelspec import ModelKey

_FOLDER = re.compile(r"(evidence/[^/]+/data/[0-9a-f]{12}-[0-9a-f]{12}/)[^/]+")


def data_evidence_flaw(
    key: ModelKey, sources: tuple[Source, Source], files: Sequence[FileChange], read: Callable[[str], bytes]
) -> str:
    """Say what is wrong with evidence about ``sources`` (before, after) of training data; empty where it fits.

    A pin brings none. ``files`` are those of the model's evidence folder.
    """
    if not files:
        return ""
    folders = set()
    for file in files:
        match = _FOLDER.fullmatch(file.path)
        if match is None:
            return f"{file.path}: is not evidence about data"
        folders.add(match[1])
        if file.before is not None or file.after is None:
            return f"{file.path}: evidence is written once; here it is changed or removed"
        if file.after.mode != PLAIN:
            return f"{file.path}: has mode {file.after.mode}; evidence is plain files"
    if len(folders) != 1:
        return f"it brings evidence in {len(folders)} folders; one version of data is proposed at once"
    path = f"{folders.pop()}data.json"
    found = next((file.after for file in files if file.path == path), None)
    if found is None:
        return f"{path} does not come with its pictures"
    try:
        told = json.loads(read(found.blob))
    except ValueError:
        return f"{path} is no JSON"
    before, after = (source.plain() for source in sources)
    claimed = {"model": str(key), "field": "spec.data.train", "before": before, "after": after}
    if not isinstance(told, dict) or any(told.get(name) != value for name, value in claimed.items()):
        return f"{path} is about something else than this change of spec.data.train of {key}"
    return ""
