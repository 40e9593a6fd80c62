"""Data sets on the Ultralytics Platform: one version of one data set, with its pictures and labels.

What is checked: that the version still has the content hash that git names, that the export is that version's, that it
has as many pictures as the version, and at the end that nothing of this changed meanwhile. The hash itself cannot be
computed here; what really came is named by the digest of the data set's manifest, in the ImportRecord.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from adapters.data_platform import Platform, Version, version_of
from specs.data import PlatformSource
from specs.errors import CorruptArtifact, Stalled, Transient
from workloads.sources import Fetched, Told, platform_export
from workloads.sources.archives import Limits
from workloads.sources.kept import Seen, Shelf, in_parallel, sha256_of
from workloads.sources.platform_export import Export, Picture
from workloads.sources.web import Web

URL, KEY_FILE = "TRUNKLINE_PLATFORM_URL", "TRUNKLINE_PLATFORM_KEY_FILE"
MAX_EXPORT = 8 * 2**30
"""Bytes of an export, which has no pictures in it."""


def fetch(source: PlatformSource, scratch: Path, cache: Path | None, told: Told) -> Fetched:
    """Fetch a version; see the package for what is given. Errors as the Platform's adapter and ``web`` have them."""
    platform = _platform()
    try:
        version = _demanded(platform, source)
        with Web() as web:
            ndjson = scratch / "export.ndjson"
            got = web.fetch(platform.export(source.uri, version.number), ndjson, limit=MAX_EXPORT)
            export = platform_export.read(ndjson, source.uri)
            _demand_whole(export, version, source)
            shelf = Shelf((cache or scratch / "kept") / "platform")
            got += _pictures(web, shelf, export, source, scratch / "data", told)
        if _demanded(platform, source.model_copy(update={"version": version.number})) != version:
            msg = f"version {version.number} of {source.uri} changed while it was read; it is read again"
            raise Transient("DataChanging", msg)
    finally:
        platform.close()
    _write_labels(export, scratch / "data")
    return Fetched(scratch / "data", version.content_hash, got)


def _platform() -> Platform:
    url, key_file = os.environ.get(URL), os.environ.get(KEY_FILE)
    if not url or not key_file:
        msg = "no key of the Ultralytics Platform is given to jobs; the operator sets data.platform_key_file"
        raise Stalled("PlatformUnauthorized", msg)
    return Platform(url, Path(key_file))


def _demanded(platform: Platform, source: PlatformSource) -> Version:
    """Give the version that git names; CorruptArtifact where it says something else now."""
    version = version_of(platform, source)
    if not version.content_hash:
        msg = f"version {version.number} of {source.uri} has no content hash; save a new version on the Platform"
        raise Stalled("DataSourceUnsupported", msg)
    if source.digest is not None and version.content_hash != source.digest:
        msg = (
            f"version {version.number} of {source.uri} has the content hash {version.content_hash}, and git says "
            f"{source.digest}; name the version that is meant, by pull request"
        )
        raise CorruptArtifact(msg)
    return version


def _demand_whole(export: Export, version: Version, source: PlatformSource) -> None:
    if export.version not in {None, version.number}:
        msg = f"the Platform gave version {export.version} of {source.uri} where {version.number} was asked for"
        raise CorruptArtifact(msg)
    found = len(export.pictures) + export.skipped
    if found != version.images:
        msg = f"the export of version {version.number} of {source.uri} has {found} pictures of {version.images}"
        raise CorruptArtifact(msg)
    if export.skipped:
        sys.stderr.write(f"{source.uri}: {export.skipped} pictures have no class and are left out\n")


def _pictures(web: Web, shelf: Shelf, export: Export, source: PlatformSource, folder: Path, told: Told) -> int:
    """Fetch the pictures that are not on this node yet, and lay all of them out; gives the bytes got now."""
    limit = Limits().one
    with shelf.part(source.uri) as part:
        seen = Seen(part)
        known: dict[str, str] = {}
        fetched = [0, 0]

        def get(picture: Picture) -> tuple[str, str, int]:
            name = _name(picture, export, source)
            sha256, size = seen.of(name), 0
            if not sha256 or not shelf.lay(sha256, folder / picture.path):
                spare = shelf.spare(part)
                size = web.fetch(picture.url, spare, limit=limit)
                sha256 = sha256_of(spare)
                shelf.put(spare, sha256)
                if not shelf.lay(sha256, folder / picture.path):
                    raise Transient("CacheDamaged", "a picture that was just fetched is gone from the jobs' cache")
            return name, sha256, size

        def done(result: tuple[str, str, int]) -> None:
            name, sha256, size = result
            if size:
                seen.add(name, sha256)
            known[name] = sha256
            fetched[0], fetched[1] = fetched[0] + 1, fetched[1] + size
            told("fetching", fetched[0], len(export.pictures))

        in_parallel(get, export.pictures, done)
        seen.keep(known, shelf.spare(part))
    return fetched[1]


def _name(picture: Picture, export: Export, source: PlatformSource) -> str:
    """Name a picture's bytes: the Platform stores by content, and where a URL does not show that, by version."""
    parts = urlsplit(picture.url)
    stem = parts.path.rpartition("/")[2].partition(".")[0].lower()
    by_content = len(stem) == 32 and set(stem) <= set("0123456789abcdef")
    return parts.path if by_content else f"{parts.path} {source.uri} {export.version}"


def _write_labels(export: Export, folder: Path) -> None:
    for picture in export.pictures:
        if picture.label is not None:
            path, text = picture.label
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    if export.task != "classify":
        (folder / "data.yaml").write_text(export.describe(), encoding="utf-8")
