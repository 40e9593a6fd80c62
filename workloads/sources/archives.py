r"""Unpacks archives that nobody here has seen before. Nothing in them is executed, followed or believed.

==================================  ===============================================================
refused                             because
==================================  ===============================================================
links, devices, pipes               they lead elsewhere
absolute paths, ``..``, ``\``       likewise
names that are not printable        they lie to whoever reads a log
one path twice, or but for case     which one wins depends on the disk
encrypted entries                   nobody here knows the password
more than the limits below          a small file can unpack to more than any disk has
==================================  ===============================================================

Archives in archives stay packed: they are files like all others, and none that a data set needs.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from specs.addresses import packed_as
from workloads.errors import Hopeless
from workloads.sources.names import Names

CHUNK = 2**20
_HEADERS = 4096
"""Bytes of a tar's headers for one entry that are no bomb."""
_LONGEST_ENTRY = 46 + 1024 + 256
"""Bytes of a ZIP's table of contents for one entry that is no bomb."""

Unpacked = Callable[[int], None]
"""Called with the number of files unpacked so far."""


@dataclass(frozen=True)
class Limits:
    """What an archive may become. Sizes in bytes."""

    entries: int = 2_000_000
    total: int = 500 * 2**30
    one: int = 512 * 2**20
    """Of one file; larger pictures exceed every decoder's pixel limit."""
    ratio: int = 100
    """Bytes unpacked for each byte packed, once more than ``free`` bytes are there."""
    free: int = 16 * 2**20


_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile, struct.error)


def unpack(
    archive: Path, folder: Path, *, name: str, limits: Limits | None = None, told: Unpacked = lambda files: None
) -> int:
    """Unpack the files of an archive into an empty folder; give how many.

    ``name`` is what it is called where it comes from: its ending says how it is packed. Hopeless ``InvalidArchive``
    for whatever is refused; then the folder holds no more than a part.
    """
    limits = limits or Limits()
    writing = _Writing(folder, Names(name, "InvalidArchive"), limits, archive.stat().st_size, told)
    kind = packed_as("file:///" + name.rpartition("/")[2])
    try:
        match kind:
            case "zip":
                _unzip(archive, writing)
            case "tar" | "gz" | "bz2" | "xz":
                _untar(archive, kind, writing)
            case "zst":
                msg = "is packed with zstd, which cannot be unpacked here; pack it as .zip, .tar.gz or .tar.xz"
                raise writing.names.refusal(msg)
            case _:
                raise writing.names.refusal("is no archive by its name; known are .zip, .tar, .tar.gz, .tar.xz …")
    except _BROKEN as error:
        raise writing.names.refusal(f"cannot be unpacked: {_words(error)}; pack it again") from error
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:  # a place that cannot be
            raise  # this disk, not the archive
        raise writing.names.refusal(f"cannot be unpacked: {_words(error)}; pack it again") from error
    return writing.files


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


@dataclass
class _Writing:
    """What was unpacked so far, and the rules it is held to."""

    folder: Path
    names: Names
    limits: Limits
    packed: int
    told: Unpacked
    files: int = 0
    entries: int = 0
    bytes: int = 0

    def count(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise self.too_many()

    def too_many(self) -> Hopeless:
        return self.names.refusal(f"holds more than {self.limits.entries} entries; divide it")

    def write(self, path: str, source: BinaryIO) -> None:
        """Copy one file out, counting what really comes, whatever the archive says its size is."""
        self.names.claim(path)
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with target.open("xb") as file:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                self.demand_one(path, size)
                self._grow(len(chunk))
                file.write(chunk)
        self.files += 1
        self.told(self.files)

    def demand_one(self, path: str, size: int) -> None:
        if size > self.limits.one:
            raise self.names.refusal(f"holds {path!r} of more than {self.limits.one} bytes; no picture has as many")

    def _grow(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limits.total:
            raise self.names.refusal(f"unpacks to more than {self.limits.total} bytes; divide it")
        self.demand_ratio(self.bytes, self.limits.free)

    def demand_ratio(self, size: int, free: int) -> None:
        if size > free + self.limits.ratio * self.packed:
            raise self.names.refusal(f"unpacks to more than {self.limits.ratio} times its size; no pictures do that")


def _unzip(archive: Path, writing: _Writing) -> None:
    _demand_small_directory(archive, writing)
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            writing.count()
            path = writing.names.plain(entry.orig_filename)
            mode = entry.external_attr >> 16
            if entry.flag_bits & 0x1:
                raise writing.names.refusal(f"holds {path!r} encrypted; pack it without a password")
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise writing.names.refusal(f"holds {path!r}, which is a link or a device; put the file itself there")
            if entry.is_dir():
                continue
            with file.open(entry) as source:
                writing.write(path, cast("BinaryIO", source))


def _demand_small_directory(archive: Path, writing: _Writing) -> None:
    """Look at how much the table of contents claims to be, before it is read into memory whole."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - 2**16 - 22))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + 22 > len(tail):
        raise writing.names.refusal("is no ZIP archive, or only a part of one; pack it again")
    entries, length = struct.unpack_from("<HI", tail, at + 10)
    wide = tail.rfind(b"PK\6\6", 0, at)
    if wide >= 0 and wide + 56 <= len(tail):
        entries, length = struct.unpack_from("<QQ", tail, wide + 32)
    if max(entries, length // _LONGEST_ENTRY) > writing.limits.entries:
        raise writing.too_many()


def _untar(archive: Path, kind: str, writing: _Writing) -> None:
    with _plain(archive, kind) as stream:
        counting = _Counting(stream, writing)
        with tarfile.open(fileobj=cast("BinaryIO", counting), mode="r|") as tar:
            for entry in _entries(tar):
                writing.count()
                path = writing.names.plain(entry.name)
                if entry.isdir():
                    continue
                if not entry.isreg() or entry.issparse():
                    why = f"holds {path!r}, which is a link, a device or sparse; put the file itself there"
                    raise writing.names.refusal(why)
                writing.demand_one(path, entry.size)
                source = tar.extractfile(entry)
                if source is not None:
                    writing.write(path, cast("BinaryIO", source))
        while counting.read(CHUNK):
            pass  # checksums are at the very end


def _entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (entry := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would remember all of them
        yield entry


def _plain(archive: Path, kind: str) -> BinaryIO:
    """Open what was packed around a tar; the readers unpack as much as is asked for, and no more."""
    match kind:
        case "gz":
            return cast("BinaryIO", gzip.open(archive, "rb"))
        case "bz2":
            return cast("BinaryIO", bz2.open(archive, "rb"))
        case "xz":
            return cast("BinaryIO", lzma.open(archive, "rb"))
        case _:
            return archive.open("rb")


class _Counting:
    """A stream that stops where an archive's own headers unpack to more than they may, before memory is full."""

    def __init__(self, stream: BinaryIO, writing: _Writing) -> None:
        self._stream, self._writing, self._bytes = stream, writing, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._bytes += len(data)
        self._writing.demand_ratio(self._bytes, 2 * self._writing.limits.free + _HEADERS * self._writing.entries)
        return data
