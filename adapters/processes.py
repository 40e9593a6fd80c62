"""Processes that outlive whoever started them.

A process number says nothing about life: numbers are used again. So everything here hangs on a lock file: the starter
locks it, the started processes inherit the lock, and the kernel drops it when the last of them is gone. Whoever asks
later, also after a crash, asks the lock. Linux only: the locks are open-file-description locks, the one kind that is
both inherited and can be asked about without being taken.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from specs.errors import Stalled, Transient

_ALLOWED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "MPLCONFIGDIR", "TRUNKLINE_CHECKPOINT_SECONDS",
})  # fmt: skip
_ALLOWED_PREFIXES = (
    "LC_", "PYTHON", "AWS_", "FSSPEC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_", "TORCH_", "YOLO_", "ORT_",
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?")

_LOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_WHOLE_FILE = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)

# The trap keeps the wrapper alive through a SIGTERM to the group, so that it can still write down how the command
# ended. Its last act ends the group, itself included: whatever the command left behind goes with it.
_WRAPPER = r"""
folder=$1; lock=$2; shift 2
trap : TERM INT HUP
echo "$$" > "$lock" && echo "$$" > "$folder/pid" || exit 1
killed_for_memory() { sed -n 's/^oom_kill //p' /proc/vmstat 2>/dev/null; }
before=$(killed_for_memory)
"$@"
code=$?
after=$(killed_for_memory)
echo "$code ${before:-0} ${after:-0}" > "$folder/exit.new" && mv "$folder/exit.new" "$folder/exit"
kill -s KILL 0
"""

_ours: list[subprocess.Popen[bytes]] = []
_ours_guard = threading.Lock()


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold a lock file, made where there is none; gives its file descriptor, or None where somebody else holds it.

    Processes spawned with that descriptor go on holding it after this ends.
    """
    descriptor = _take(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take(path: Path) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the folder was moved away in between: make it again
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            keep = False
            try:
                if not _acquire(descriptor):
                    return None
                keep = os.fstat(descriptor).st_ino == path.stat().st_ino
                if keep:
                    os.ftruncate(descriptor, 0)  # the process number of the holder before us
                    return descriptor
            finally:
                if not keep:
                    os.close(descriptor)


def _acquire(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except (BlockingIOError, PermissionError):
        return False
    return True


def held(path: Path) -> bool:
    """Whether anybody holds a lock file; asking never gets in the way of taking it."""
    _reap()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    finally:
        os.close(descriptor)
    return bool(_LOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _reap() -> None:
    """Collect our own dead children, so that none stays a zombie while we live."""
    with _ours_guard:
        _ours[:] = [child for child in _ours if child.poll() is None]


def spawn(
    command: Sequence[str], *, folder: Path, lock: Path, descriptors: Sequence[int], environment: Mapping[str, str],
    niceness: int = 0, deadline: int | None = None, grace: float = 10,
) -> None:  # fmt: skip
    """Start a command in a session of its own, where it inherits ``descriptors`` (one of them holds ``lock``).

    ``folder`` gets ``pid`` when it begins, ``log.txt`` with all it says, and ``exit`` when it ends, also if nobody
    waits for it. After ``deadline`` seconds it is asked to stop, ``grace`` seconds later it is killed; after it
    ended, everything that it left behind in its process group is killed. OSError where it cannot be started.
    """
    prefix = ["nice", "-n", str(niceness)] if niceness else []
    if deadline is not None:
        prefix += ["timeout", "--foreground", "--kill-after", f"{grace:g}s", f"{deadline}s"]
    folder, lock = folder.absolute(), lock.absolute()
    with (folder / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, "trunkline", str(folder), str(lock), *prefix, *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(environment),
            pass_fds=tuple(descriptors), start_new_session=True,
        )  # fmt: skip
    with _ours_guard:
        _ours.append(child)


def terminate(locks: Iterable[Path], grace: float) -> None:
    """End all that hold these locks: SIGTERM to their groups now, SIGKILL after ``grace`` seconds.

    Comes back when nobody holds any of them; Transient ``StillRunning`` where something survives even SIGKILL.
    """
    remaining = [lock for lock in locks if held(lock)]
    kill_at = time.monotonic() + grace
    asked: set[Path] = set()
    while remaining:
        now = time.monotonic()
        if now > kill_at + 10:
            places = ", ".join(str(lock.parent) for lock in remaining)
            raise Transient("StillRunning", f"processes of {places} outlive even SIGKILL; look at them with ps")
        for lock in remaining:
            if now >= kill_at:
                _signal(lock, signal.SIGKILL)
            elif lock not in asked and _signal(lock, signal.SIGTERM):
                asked.add(lock)
        time.sleep(0.02)
        remaining = [lock for lock in remaining if held(lock)]


def _signal(lock: Path, number: signal.Signals) -> bool:
    """Signal the group that wrote its number into the lock file; False where it has not yet."""
    try:
        os.killpg(int(lock.read_text()), number)
    except (ValueError, FileNotFoundError, ProcessLookupError):
        return False
    return True


def child_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Give what a child may know: a short list of our own environment, then ``given``. Our secrets stay with us.

    The store's own credentials (``AWS_*``) are on the list: without them no job could read or write it.
    """
    allowed = {k: v for k, v in os.environ.items() if k in _ALLOWED or k.startswith(_ALLOWED_PREFIXES)}
    return {**allowed, "PYTHONUNBUFFERED": "1", **given}


def checked_name(name: str) -> str:
    """Give a name back if it may become a file's name and part of a URL; Stalled ``InvalidName`` where not."""
    if _NAME.fullmatch(name) is None:
        rule = "use lower-case letters, digits, hyphens and dots, at most 128"
        raise Stalled("InvalidName", f"{name!r} is no name for a job or a model: {rule}")
    return name


def write_text(path: Path, text: str) -> None:
    """Replace a small file whole: a reader sees the old text or the new, never half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.write_text(text)
    fresh.replace(path)


def read_text(path: Path) -> str:
    """Give a small file's text; empty where there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def modified(path: Path) -> float:
    """Give when a file was last written, Unix time in seconds; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def disk_trouble_is_transient(state: Path) -> Iterator[None]:
    """Turn OSError (disk full, no rights, no such program) into Transient ``LocalRuntime`` with a way out."""
    try:
        yield
    except OSError as error:
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise Transient("LocalRuntime", f"{what} (local runtime at {state}); free space or mend the rights") from error
