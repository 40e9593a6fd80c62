"""Data sets that a URL names: an archive, whose digest is that of its file, or a folder, whose digest is its tree's.

========================  ==============  ======================================================================
URL                       may name        may be reached
========================  ==============  ======================================================================
https:// and http://      an archive      public addresses, and hosts in ``TRUNKLINE_DATA_HOSTS``
s3:// and gs://           both            the endpoint and with the credentials of the job's environment
file:///                  both            below a folder in ``TRUNKLINE_DATA_FOLDERS``
========================  ==============  ======================================================================
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from specs.addresses import fault, packed_as, shown
from specs.data import UriSource
from specs.digests import hex_of
from specs.errors import CorruptArtifact, Transient
from workloads.errors import Hopeless
from workloads.sources import Fetched, Told, folders
from workloads.sources.archives import unpack
from workloads.sources.kept import Entry, Seen, Shelf, in_parallel, sha256_of


def fetch(source: UriSource, scratch: Path, cache: Path | None, told: Told) -> Fetched:
    """Fetch what a URL names, and unpack it; see the package for what is given.

    CorruptArtifact where the bytes are not those that the digest names; Stalled where a person must act elsewhere than
    in git; Hopeless where the URL or what it names can never be used; Transient where trying again may work.
    """
    url = source.url
    wrong = fault(url)
    if wrong:
        raise Hopeless("InvalidSource", f"the URL {shown(url)} {wrong}")
    shelf = Shelf((cache or scratch / "kept") / "uri")
    match urlsplit(url).scheme, packed_as(url) is not None:
        case "https" | "http" | "s3" | "gs" | "file", True:
            return _archive(source, shelf, scratch / "data", told)
        case "file", False:
            return _folder(source, scratch / "data", told)
        case "s3" | "gs", False:
            return _bucket(source, shelf, scratch / "data", told)
        case "https" | "http", False:
            msg = f"{shown(url)} names no archive: over HTTP a data set is one file, .zip, .tar, .tar.gz or .tar.xz"
            raise Hopeless("InvalidSource", msg)
        case _:
            raise Hopeless("InvalidSource", f"{shown(url)} is in the store already; there is nothing to fetch")


def _archive(source: UriSource, shelf: Shelf, folder: Path, told: Told) -> Fetched:
    url, wanted = source.url, hex_of(source.digest) if source.digest else ""
    kept, got = shelf.find(wanted) if wanted else None, 0
    if kept is None:
        with shelf.part(url) as part:
            kept = shelf.find(wanted) if wanted else None  # whoever was before us may have fetched it
            if kept is None:
                got = _get(url, part, told)
                kept = shelf.put(part, _verified(url, part, wanted, got))
    folder.mkdir()
    unpack(kept, folder, name=shown(url), told=lambda files: told("unpacking", files, 0))
    return Fetched(folder, f"sha256:{kept.name}", got)


def _get(url: str, part: Path, told: Told) -> int:
    def counted(done: int, total: int) -> None:
        told("fetching", done, total)

    match urlsplit(url).scheme:
        case "file":
            return folders.copy_file(folders.allowed(url), part, url, told)
        case "s3" | "gs":
            from workloads.sources.buckets import Bucket

            return Bucket(url).get_archive(part, counted)
        case _:
            from workloads.sources.web import Web

            with Web() as web:
                return web.fetch(url, part, counted=counted)


def _verified(url: str, part: Path, wanted: str, got: int) -> str:
    """Give the digest of a file that was fetched; drop it where it is not the wanted one."""
    found, size = sha256_of(part), part.stat().st_size
    if not wanted or found == wanted:
        return found
    part.unlink()
    if got < size:
        raise Transient("DataChanging", f"{shown(url)} came in parts that do not fit together; it is fetched anew")
    raise _differs(url, f"sha256:{found}", f"sha256:{wanted}")


def _differs(url: str, found: str, wanted: str) -> CorruptArtifact:
    msg = (
        f"{shown(url)} is not what git names: its digest is {found}, and git says {wanted}. Restore what was there, or "
        "name the new digest by pull request"
    )
    return CorruptArtifact(msg)


def _folder(source: UriSource, folder: Path, told: Told) -> Fetched:
    copied = folders.copy_tree(folders.allowed(source.url), folder, source.url, told)
    if source.digest and copied.digest != source.digest:
        raise _differs(source.url, copied.digest, source.digest)
    return Fetched(folder, copied.digest, copied.bytes)


def _bucket(source: UriSource, shelf: Shelf, folder: Path, told: Told) -> Fetched:
    known = shelf.tree(source.digest) if source.digest else None
    if known is not None and _laid(shelf, known, folder):
        return Fetched(folder, str(source.digest), 0)
    with shelf.part(source.url) as part:
        entries, got = _fetch_tree(source, shelf, part, told)
        digest = shelf.remember(entries, part)
        if source.digest and digest != source.digest:
            raise _differs(source.url, digest, source.digest)
        if not _laid(shelf, entries, folder):
            msg = "a file that was just fetched is gone from the jobs' cache, or damaged; is its disk sound?"
            raise Transient("CacheDamaged", msg)
    return Fetched(folder, digest, got)


def _fetch_tree(source: UriSource, shelf: Shelf, part: Path, told: Told) -> tuple[list[Entry], int]:
    """Fetch the files of a folder that are not here yet; gives all of them, and the bytes got now."""
    from workloads.sources.buckets import Bucket, Object, changing

    bucket, seen = Bucket(source.url), Seen(part)
    objects = bucket.look()
    entries: list[Entry] = []
    bytes_now = 0

    def get(thing: tuple[str, Object]) -> tuple[str, Object, str, int]:
        path, wanted = thing
        sha256 = seen.of(wanted.name)
        if sha256 and shelf.find(sha256):
            return path, wanted, sha256, 0
        spare = shelf.spare(part)
        sha256 = bucket.get(wanted, spare)
        size = spare.stat().st_size
        if size != wanted.size:
            raise changing(source.url)
        shelf.put(spare, sha256)
        return path, wanted, sha256, size

    def done(result: tuple[str, Object, str, int]) -> None:
        nonlocal bytes_now
        path, wanted, sha256, size = result
        if size:
            seen.add(wanted.name, sha256)
        bytes_now += size
        entries.append((path, wanted.size, sha256))
        told("fetching", len(entries), len(objects))

    in_parallel(get, objects.items(), done)
    if bucket.look() != objects:
        raise changing(source.url)
    seen.keep({objects[path].name: sha256 for path, _, sha256 in entries}, shelf.spare(part))
    return entries, bytes_now


def _laid(shelf: Shelf, entries: list[Entry], folder: Path) -> bool:
    """Put all files of a folder where they belong; False, and none there, where one is gone or damaged."""
    whole = True

    def done(there: bool) -> None:  # noqa: FBT001 - it is what ``lay`` says
        nonlocal whole
        whole = whole and there

    in_parallel(lambda entry: shelf.lay(entry[2], folder / entry[0]), entries, done)
    if not whole:
        shutil.rmtree(folder)
    return whole
