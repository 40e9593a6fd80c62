"""What data jobs keep on a node: files named by their digest, and the beginnings of files that are on their way.

::

    sha256/<first two>/<hex>     files; checked whenever they are used, dropped where they are damaged
    trees/<hex>.json             what a folder's digest stands for: [path, size, sha256] of each file
    parts/<name>                 what is being fetched, by one job at a time

All of it may be deleted at any time: it is fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from specs.digests import hex_of, tree_digest

CHUNK = 2**20
THREADS = 16
"""Each waits for the network or the disk most of the time."""
_SPARE = ".spare"
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)

Entry = tuple[str, int, str]
"""(Path, size, SHA-256 in hexadecimal) of a file of a tree."""


def sha256_of(path: Path) -> str:
    """Give the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Shelf:
    """The folder of one kind of source. Many jobs and threads may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("sha256", "trees", "parts"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def find(self, sha256: str) -> Path | None:
        """Give a file with these very bytes, or None."""
        path = self._place(sha256)
        with contextlib.suppress(FileNotFoundError):
            if sha256_of(path) == sha256:
                return path
            path.unlink(missing_ok=True)  # damaged
        return None

    def put(self, part: Path, sha256: str) -> Path:
        """Keep a whole file under its digest, which is the caller's word; gives where it is now."""
        path = self._place(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
        return path

    def lay(self, sha256: str, target: Path) -> bool:
        """Put a file where it belongs, as a second name of the same bytes where disks allow; False where it is gone."""
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.find(sha256)
        if source is None:
            return False
        try:
            os.link(source, target)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, target)
        return True

    def tree(self, digest: str) -> list[Entry] | None:
        """Give what a folder's digest stands for, where that is known here."""
        try:
            noted = json.loads(self._tree(digest).read_bytes())
            entries = [(str(path), int(size), str(sha256)) for path, size, sha256 in noted]
        except (OSError, ValueError, TypeError):
            return None
        return entries if tree_digest(entries) == digest else None

    def remember(self, entries: Sequence[Entry], part: Path) -> str:
        """Note what a folder's digest stands for; gives the digest."""
        digest = tree_digest(entries)
        spare = self.spare(part)
        spare.write_text(json.dumps(entries))
        spare.replace(self._tree(digest))
        return digest

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[Path]:
        """Give the place for a file on its way, to one job at a time: others wait, and may find it done."""
        path = self._folder / "parts" / hashlib.sha256(name.encode()).hexdigest()
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in path.parent.glob(f"{path.name}.*{_SPARE}*"):
                left.unlink()  # by a job that was killed
            yield path

    def spare(self, part: Path) -> Path:
        """Give the name of a file that nobody else uses, to whoever has ``part``."""
        return part.with_name(f"{part.name}.{uuid.uuid4().hex}{_SPARE}")

    def _place(self, sha256: str) -> Path:
        return self._folder / "sha256" / sha256[:2] / sha256

    def _tree(self, digest: str) -> Path:
        return self._folder / "trees" / f"{hex_of(digest)}.json"


class Seen:
    """Which bytes earlier jobs got by which name, as lines of JSON. A name must change when the bytes behind it do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last one, of a job that was killed
                    name, sha256 = json.loads(line)
                    self._known[str(name)] = str(sha256)

    def of(self, name: str) -> str:
        """Give the SHA-256 of what was got by a name, or nothing."""
        return self._known.get(name, "")

    def add(self, name: str, sha256: str) -> None:
        """Note one more, at once: the job may be killed."""
        with self._path.open("a") as file:
            file.write("\n" + json.dumps([name, sha256]))

    def keep(self, known: Mapping[str, str], spare: Path) -> None:
        """Forget all but these. ``spare`` is a file that nobody else uses."""
        spare.write_text("\n".join(json.dumps(pair) for pair in known.items()))
        spare.replace(self._path)


T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], things: Iterable[T], done: Callable[[R], None]) -> None:
    """Work on many things at once; ``done`` is told each result, in order. The first error ends it soon."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for result in pool.map(work, things):
                done(result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
