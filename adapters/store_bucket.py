"""The store in an S3 bucket. Keys arrive checked; errors leave as ours. Imported only where a store is in S3."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any, BinaryIO

import s3fs
from botocore.exceptions import BotoCoreError, ClientError

from adapters.store_folder import CHUNK, changed, pour, trouble
from specs.errors import Transient

_PART = 8 * CHUNK
_NOT_OFFERED = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed"})
_ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError, OSError)


class Bucket:
    """A folder of an S3 bucket. Endpoint and credentials come from the usual AWS environment."""

    def __init__(self, address: str) -> None:
        self._root = address
        # Lists are never cached and connections never shared: what another process wrote must be seen.
        self._files: Any = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            default_block_size=_PART,
            config_kwargs={"connect_timeout": 5, "read_timeout": 60},
        )

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO | None]:
        """See Backend."""
        with self._guard():
            try:
                stream = self._files.open(self._at(key), "rb", cache_type="readahead")
            except FileNotFoundError:
                self._demand_bucket()
                yield None
                return
            with stream:
                yield stream

    def exists(self, key: str) -> bool:
        """See Backend."""
        with self._guard():
            there = bool(self._files.isfile(self._at(key)))
            if not there:
                self._demand_bucket()
            return there

    def add(self, key: str, source: BinaryIO, digest: str) -> bool:
        """See Backend. Uploads in parts of 8 MiB; S3 shows the object only when it is complete."""
        with self._guard():
            if self._files.exists(self._at(key)):
                return False
            try:
                self._upload(key, source, digest, "xb")
            except FileExistsError:
                return False
            except _Unconditional:
                # A server without conditional writes: the look above has to do.
                source.seek(0)
                self._upload(key, source, digest, "wb")
            return True

    def put(self, key: str, data: bytes) -> None:
        """See Backend."""
        with self._guard():
            self._files.pipe_file(self._at(key), data)

    def remove(self, key: str) -> None:
        """See Backend."""
        with self._guard():
            try:
                # Not rm, which first looks whether it is a folder; S3 answers the same whether anything was there.
                self._files.rm_file(self._at(key))
            except FileNotFoundError:
                self._demand_bucket()

    def keys(self, prefix: str) -> list[str]:
        """See Backend."""
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """See Backend."""
        return {key: int(about["size"]) for key, about in self._found(prefix).items()}

    def stamps(self, prefix: str) -> dict[str, str]:
        """See Backend."""
        return {key: str(about["ETag"]) for key, about in self._found(prefix).items()}

    def _found(self, prefix: str) -> dict[str, Any]:
        """Give what the bucket says of each key that begins with ``prefix``."""
        with self._guard():
            top = self._at(prefix.rpartition("/")[0]).rstrip("/")
            names = self._files.find(top, detail=True)
            if not names:
                self._demand_bucket()
            found = {name[len(self._root) + 1 :]: about for name, about in names.items()}
            return {key: about for key, about in found.items() if key.startswith(prefix)}

    def sweep(self, *, kept: bool) -> int:
        """See Backend. S3 itself ends abandoned uploads, by a rule AbortIncompleteMultipartUpload of the bucket."""
        del kept
        return 0

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _upload(self, key: str, source: BinaryIO, digest: str, mode: str) -> None:
        target = self._files.open(self._at(key), mode, block_size=_PART, autocommit=False)
        try:
            if pour(source, target) != digest:
                raise changed()
            if target.parts:
                target.flush(force=True)  # the last part; what is smaller than one goes in a single request
            target.commit()
        except (BotoCoreError, ClientError, OSError, Transient) as error:
            with contextlib.suppress(*_ERRORS):
                target.discard()
            if _code(error) == "PreconditionFailed":
                raise FileExistsError(key) from error
            if _code(error) in _NOT_OFFERED:
                raise _Unconditional from error
            raise
        finally:
            target.closed = True  # it must not try again when it is collected

    def _demand_bucket(self) -> None:
        """Transient where the bucket is not there: that must never look like an empty store."""
        bucket = self._root.partition("/")[0]
        if not self._files.exists(bucket):
            raise Transient("StoreUnavailable", f"there is no bucket {bucket}; make it, or correct the store's URL")

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except _ERRORS as error:
            where = f"the store s3://{self._root}"
            if "StorageFull" in (_code(error) or ""):
                raise Transient("StoreFull", f"no room left in {where}") from error
            plain = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
            raise trouble(plain, where) from error


class _Unconditional(Exception):
    """The server does not know conditional writes."""


def _code(error: BaseException | None) -> str:
    """Give the server's own word for an error, wherever in the chain it is."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__ or error.__context__
    return ""
