"""The node's cache of DVC objects: fetched by DVC, believed by nobody until their bytes were read.

The cache has DVC's own layout and may be shared by any number of jobs, and with people's own DVC. Objects appear under
their names whole, so a killed job leaves what it had fetched, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.hash import file_md5
from dvc_objects.fs.local import localfs
from fsspec import Callback

from specs.errors import CorruptArtifact, Stalled, Transient

_CHUNK = 1024 * 1024
_READERS = 4
_AT_ONCE = 32
"""Objects on their way at the same time; small ones spend theirs waiting."""
_BATCH = 256
"""Objects that one reader checks in one go."""
_LEFTOVER_SECONDS = 86400.0
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})

Say = Callable[[int, int], None]
"""Called with (objects done, in all)."""


class Objects:
    """Objects of one remote, in a cache. ``names`` are MD5s, a listing's with ``.dir`` at the end.

    ``unified``: hashed by DVC before version 3. ``remote`` says in errors where they come from.
    """

    def __init__(self, root: Path, source: HashFileDB, remote: str, *, unified: bool) -> None:
        self._source, self._remote, self._unified = source, remote, unified
        self._root = root
        place = root if unified else root / "files" / "md5"
        self._cache = LocalHashFileDB(localfs, str(place), hash_name="md5-dos2unix" if unified else "md5")
        self.fetched = 0
        """Bytes that were transferred."""

    def path(self, name: str) -> Path:
        """Give where an object is, or would be."""
        return Path(self._cache.oid_to_path(name))

    def provide(self, names: Collection[str], known_as: Callable[[str], str], say: Say | None = None) -> None:
        """Have objects in the cache, each with the bytes that its name says.

        What the cache lacks is fetched. What is wrong there is thrown away and fetched once more: CorruptArtifact where
        the remote has wrong bytes, Stalled ``DataMissing`` where it has none. ``known_as`` names an object to people.
        """
        absent = [name for name in names if not self._there(name)]
        self._fetch(absent, known_as, say)
        wrong = self._wrong(list(names))
        if not wrong:
            return
        for name in wrong:
            self._drop(name)
        self._fetch(wrong, known_as, say)
        still = self._wrong(wrong)
        for name in still:
            self._drop(name)
        if still:
            more = f", and {len(still) - 1} more files" if len(still) > 1 else ""
            msg = (
                f"{self._remote} has other bytes for {known_as(still[0])}{more} than git says (MD5 {still[0]}): they "
                "were damaged or changed there. Push the right ones with `dvc push` after removing the wrong object"
            )
            raise CorruptArtifact(msg)

    def link(self, files: Mapping[str, str], folder: Path) -> None:
        """Put objects into a folder under paths; hard links where that is possible, copies where not."""
        made: set[str] = set()
        linking = True
        for path, name in files.items():
            parent = path.rpartition("/")[0]
            if parent not in made:
                (folder / parent).mkdir(parents=True, exist_ok=True)
                made.add(parent)
            source, target = self._cache.oid_to_path(name), f"{folder}/{path}"
            if linking:
                try:
                    os.link(source, target)
                    continue
                except FileNotFoundError as error:
                    raise _vanished() from error
                except OSError as error:
                    if error.errno not in _NO_LINK:
                        raise
                    linking = error.errno == errno.EMLINK  # only this object has as many names as one may have
            shutil.copyfile(source, target, follow_symlinks=False)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold off other jobs that want the same, so that it is fetched once; the lock ends with the process."""
        folder = self._root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.lock").open("w") as lock:
            with contextlib.suppress(OSError):  # a file system without locks: then twice is twice, and still right
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what killed jobs left half-written long ago."""
        for leftover in Path(self._cache.path).glob("*/.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                    leftover.unlink()

    def _there(self, name: str) -> bool:
        try:
            return stat.S_ISREG(os.lstat(self._cache.oid_to_path(name)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _drop(self, name: str) -> None:
        """Remove whatever is where an object should be."""
        path = self._cache.oid_to_path(name)
        try:
            os.unlink(path)  # noqa: PTH108  called for every object
        except FileNotFoundError:
            return
        except IsADirectoryError:
            shutil.rmtree(path)

    def _fetch(self, names: Sequence[str], known_as: Callable[[str], str], say: Say | None) -> None:
        if not names:
            return
        failed: dict[str, BaseException] = {}
        for name in names:
            self._drop(name)  # whatever is there is no plain file
        try:
            self._cache.add(
                [self._source.oid_to_path(name) for name in names], self._source.fs, list(names), check_exists=False,
                batch_size=_AT_ONCE, callback=_Told(say, len(names)), on_error=failed.__setitem__, verify=False,
            )  # fmt: skip
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE):
                raise
            absent = [name for name in names if not self._there(name)]
            for name in absent:
                failed.setdefault(name, error)
        self.fetched += sum(os.lstat(self._cache.oid_to_path(name)).st_size for name in names if self._there(name))
        self._judge(failed, known_as)

    def _judge(self, failed: Mapping[str, BaseException], known_as: Callable[[str], str]) -> None:
        """Say what kind of trouble it is. The words of libraries stay here: they may hold addresses and keys."""
        if not failed:
            return
        for error in failed.values():
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise error
        name, error = next(iter(failed.items()))
        more = f", and {len(failed) - 1} more files" if len(failed) > 1 else ""
        if all(isinstance(each, FileNotFoundError) for each in failed.values()):
            msg = (
                f"{self._remote} does not have {known_as(name)}{more} (MD5 {name}); run `dvc push` where it was added, "
                "or name another remote"
            )
            raise Stalled("DataMissing", msg)
        other = next(each for each in failed.values() if not isinstance(each, FileNotFoundError))
        denied = isinstance(other, PermissionError) or "Credentials" in type(other).__name__
        hint = "it does not let us in: look at the job's credentials" if denied else "it is tried again"
        msg = f"{self._remote} did not give {known_as(name)}{more} ({type(other).__name__}); {hint}"
        raise Transient("DataSourceUnreachable", msg)

    def _wrong(self, names: Sequence[str]) -> list[str]:
        """Read all bytes of objects and give those that are not what their names say."""
        batches = [names[at : at + _BATCH] for at in range(0, len(names), _BATCH)]
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda batch: [name for name in batch if self._md5(name) != name[:32]], batches)
            return [name for batch in found for name in batch]

    def _md5(self, name: str) -> str:
        """Give the MD5 of an object's bytes; nothing where it is no plain file that can be read."""
        path = self._cache.oid_to_path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            if self._unified:
                return file_md5(path, name="md5-dos2unix")
            digest = hashlib.md5(usedforsecurity=False)
            while chunk := os.read(descriptor, _CHUNK):
                digest.update(chunk)
            return digest.hexdigest()
        finally:
            os.close(descriptor)


class _Told(Callback):  # type: ignore[misc]  # fsspec has no types
    """Passes on how many objects are there."""

    def __init__(self, say: Say | None, count: int) -> None:
        super().__init__()
        self._say, self._count, self._done = say, count, 0

    def relative_update(self, inc: int = 1) -> None:
        """Count."""
        self._done += inc
        if self._say is not None:
            self._say(self._done, self._count)


def _vanished() -> Transient:
    return Transient("CacheChanged", "a file left the cache while it was being used; the import is tried again")
