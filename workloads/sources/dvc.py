"""Data sets that a DVC pointer in a git repository names: fetched by DVC, and refused unless they are what git says.

DVC is never shown the data repository. It gets the address of a remote, as far as that is harmless, and names of
objects; so nothing that somebody writes into that repository is run, and no file is written where a listing says.
"""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from specs.addresses import packed_as
from specs.data import DvcSource
from specs.dvc_listings import SIZE_LIMIT, read
from specs.dvc_pointers import Pointer, configurations, find
from specs.errors import CorruptArtifact, Stalled, Transient
from workloads.sources import Fetched, Told
from workloads.sources.addresses import Rules, allowed_hosts
from workloads.sources.dvc_git import Snapshot

if TYPE_CHECKING:
    from workloads.sources.dvc_objects import Objects

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Told by the job itself, as for all that it writes."""


def fetch(source: DvcSource, scratch: Path, cache: Path | None, told: Told) -> Fetched:
    """Give the folder that ``source`` names, every byte checked against the digest that git names.

    ``scratch`` is private; ``cache`` is shared by the jobs of this machine, which keep DVC's objects in ``cache/dvc``.
    CorruptArtifact or Stalled where bytes or pointers are not what they should be, Transient where a place is down.
    """
    told("finding the data set", 0, 0)
    rules = Rules(allowed_hosts())
    snapshot = Snapshot(source.repo_url, source.target_revision, scratch / "repository", rules)
    pointer = find(source.path, snapshot.read, snapshot.place)
    if source.digest is not None and pointer.digest != source.digest:
        msg = (
            f"{pointer.file} at {snapshot.place} says {pointer.digest}, but the ModelSpec's digest is {source.digest}: "
            "a tag or branch moved, or one of the two was not changed; change both together"
        )
        raise CorruptArtifact(msg)
    from workloads.sources.dvc_objects import Objects  # DVC takes a moment to load
    from workloads.sources.dvc_remotes import choose

    config, at = _configuration(snapshot, pointer, scratch)
    remote = choose(config, source.remote or pointer.remote, snapshot.url, at, rules)
    root = (cache or scratch / "cache") / "dvc"
    objects = Objects(root, remote.open(unified=pointer.unified), remote.shown, unified=pointer.unified)
    folder = scratch / "data"
    folder.mkdir()
    name = pointer.digest.removeprefix("md5:")
    try:
        with objects.alone(name):
            if pointer.is_folder:
                _fill(objects, pointer, name, folder, told)
            else:
                _unpack(objects, pointer, name, folder)
    except OSError as error:
        if error.errno in _FULL:
            raise
        msg = f"the jobs' cache cannot be used: {error.strerror or error}; make it a folder that jobs may write to"
        raise Transient("CacheUnavailable", msg) from error
    return Fetched(folder, pointer.digest, objects.fetched)


def _configuration(snapshot: Snapshot, pointer: Pointer, scratch: Path) -> tuple[Path, str]:
    """Write the configuration that holds for a pointer to a file of ours; give that, and its path in the repository."""
    for at in configurations(pointer):
        found = snapshot.read(at)
        if found is not None:
            path = scratch / "config"
            path.write_bytes(found)
            return path, at
    msg = f"there is no .dvc/config at {snapshot.place}, so nobody knows where the bytes are; run `dvc remote add -d`"
    raise Stalled("DataMissing", msg)


def _fill(objects: Objects, pointer: Pointer, name: str, folder: Path, told: Told) -> None:
    """Fill a folder with the files of a listing."""
    objects.provide([name], lambda _: f"the listing of {pointer.path}")
    listing = objects.path(name)
    if listing.stat().st_size > SIZE_LIMIT:
        msg = f"the listing of {pointer.path} has {listing.stat().st_size} bytes; at most {SIZE_LIMIT} are read"
        raise Stalled("DataSourceUnsupported", msg)
    files = read(listing.read_bytes(), name)
    path_of = {md5: path for path, md5 in files.items()}
    objects.provide(
        list(path_of), lambda md5: f"{pointer.path}/{path_of[md5]}", lambda done, count: told("fetching", done, count)
    )
    objects.link(files, folder)


def _unpack(objects: Objects, pointer: Pointer, name: str, folder: Path) -> None:
    """Unpack a single file into a folder."""
    from workloads.sources.archives import unpack

    base = PurePosixPath(pointer.path).name
    if packed_as(f"file:///{base}") is None:
        msg = (
            f"{pointer.path} is a single file and no archive; name an output that is a folder, a .zip or a .tar(.gz) "
            "with pictures and labels"
        )
        raise Stalled("DataSourceUnsupported", msg)
    objects.provide([name], lambda _: pointer.path)
    unpack(objects.path(name), folder, name=base)
