"""DVC's listing of a folder, the object whose name ends with ``.dir``: paths and the MD5 of each file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from specs.errors import CorruptArtifact

FILES_LIMIT = 2_000_000
"""As many as a data set may have."""
SIZE_LIMIT = 512 * 2**20
"""Bytes of a listing."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_ODD = re.compile("[\x00-\x1f\x7f\\\\\ud800-\udfff]")
_PATH_LIMIT = 1024


def read(data: bytes, name: str, limit: int = FILES_LIMIT) -> dict[str, str]:
    """Give path to MD5 of each file, sorted by path; paths are relative and stay in the folder.

    CorruptArtifact where it is no listing, or one that would put files anywhere else. ``name`` is its own, for errors;
    ``limit`` counts files.
    """
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused(name, "it cannot be read as JSON") from error
    if not isinstance(said, list):
        raise _refused(name, "it is no list")
    if len(said) > limit:
        raise _refused(name, f"it names {len(said)} files; at most {limit} are read")
    files: dict[str, str] = {}
    for entry in said:
        path, md5 = _entry(entry, name)
        if path in files:
            raise _refused(name, f"it names {path!r} twice")
        files[path] = md5
    _check_nesting(files, name)
    return dict(sorted(files.items()))


def _entry(entry: object, name: str) -> tuple[str, str]:
    path, md5 = (entry.get("relpath"), entry.get("md5")) if isinstance(entry, Mapping) else (None, None)
    if not isinstance(path, str) or not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise _refused(name, f"an entry has no path or no MD5: {str(entry)[:100]!r}")
    if not path or _ODD.search(path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise _refused(name, f"the path {path[:200]!r} does not stay in the folder, or holds odd characters")
    if len(path.encode()) > _PATH_LIMIT or any(len(part.encode()) > 255 for part in path.split("/")):
        raise _refused(name, f"the path {path[:60]!r}… is too long")
    return path, md5


def _check_nesting(files: Mapping[str, str], name: str) -> None:
    folders = {path.rpartition("/")[0] for path in files}
    for folder in folders:
        while folder:
            if folder in files:
                raise _refused(name, f"{folder!r} is both a file and a folder")
            folder = folder.rpartition("/")[0]  # noqa: PLW2901  upwards


def _refused(name: str, why: str) -> CorruptArtifact:
    return CorruptArtifact(f"DVC's listing {name} is refused: {why}. Add the folder again with `dvc add`, and push it")
