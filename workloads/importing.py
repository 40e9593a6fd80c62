"""Fetches a data set from where git says it is, checks it, and puts it into the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from adapters.dataset_folder import DESCRIPTIONS, add_folder
from adapters.store import Store
from specs.addresses import shown
from specs.data import Source
from specs.data_records import ImportRecord, import_key
from specs.datasets import SPLITS, is_picture
from specs.errors import CorruptArtifact, Stalled
from specs.records import DatasetManifest
from specs.workorders import ImportOrder
from workloads import environment
from workloads.errors import Hopeless
from workloads.progress import Reporter, now
from workloads.sources import Fetched, Told

_NO_DATA = frozenset({"__MACOSX"})
"""Folders that archives hold beside the data set."""
_TELLING = frozenset({*DESCRIPTIONS, "classes.txt"})


def run(order: ImportOrder, store: Store, scratch: Path) -> None:
    """Import one data set, and write its ImportRecord last.

    Hopeless ``InvalidDataset`` (or as the source says) where this can never be used; CorruptArtifact where the bytes
    are not those that git names; other errors as the source has them.
    """
    source, started = _source(order), now()
    with Reporter(store, order.job) as reporter:

        def told(phase: str, done: int, total: int) -> None:
            reporter.report(phase, done=done, total=total)

        fetched = _fetch(source, scratch, told)
        if source.digest is not None and fetched.digest != source.digest:
            msg = f"{_place(source)} has the digest {fetched.digest}, and git says {source.digest}"
            raise CorruptArtifact(msg)
        manifest = _store(order, store, source, fetched, told)
    record = ImportRecord(
        import_digest=order.import_digest, task=order.task, source=order.source, status="Succeeded",
        digest=fetched.digest, manifest=manifest.digest(), images=manifest.images, bytes=fetched.bytes,
        started=started, finished=now(),
    )  # fmt: skip
    if source.digest is None:  # what is going to be pinned need not be fetched again
        then = order.pinned(fetched.digest)
        again = record.model_copy(update={"import_digest": then.import_digest, "source": then.source})
        store.create(import_key(then.import_digest), again.encode())
    store.create(import_key(order.import_digest), record.encode())


def record_failure(order: ImportOrder, store: Store, failure: Hopeless) -> None:
    """Write why it can never work."""
    record = ImportRecord(
        import_digest=order.import_digest, task=order.task, source=order.source, status="Failed",
        reason=failure.reason, message=failure.message, finished=now(),
    )  # fmt: skip
    store.create(import_key(order.import_digest), record.encode())


def data_root(folder: Path) -> Path:
    """Give where in a folder the data set is: archives often hold one folder, and the data set in that.

    Never goes into what means something itself: ``images``, a split, or the only class.
    """
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _NO_DATA]
        if any(path.name in _TELLING or is_picture(path.name) for path in inside if path.is_file()):
            return folder
        folders = [path for path in inside if path.is_dir() and not path.is_symlink()]
        if len(folders) != 1 or folders[0].name in {"images", "labels", *SPLITS}:
            return folder
        if not any(path.is_dir() for path in folders[0].iterdir() if not path.name.startswith(".")):
            return folder
        folder = folders[0]


def _source(order: ImportOrder) -> Source:
    try:
        return Source.model_validate(order.source, by_alias=True, by_name=False)
    except ValidationError as error:
        words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise Hopeless("InvalidSource", f"the order's source is not usable: {words}") from error


def _fetch(source: Source, scratch: Path, told: Told) -> Fetched:
    """Only what the kind of source needs is imported."""
    cache = environment.cache()
    told("fetching", 0, 0)
    if source.uri is not None:
        from workloads.sources import uri

        return uri.fetch(source.uri, scratch, cache, told)
    if source.dvc is not None:
        from workloads.sources import dvc

        return dvc.fetch(source.dvc, scratch, cache, told)
    if source.platform is not None:
        from workloads.sources import platform

        return platform.fetch(source.platform, scratch, cache, told)
    raise AssertionError(source)


def _store(order: ImportOrder, store: Store, source: Source, fetched: Fetched, told: Told) -> DatasetManifest:
    folder = data_root(fetched.folder)
    progress: Callable[[int, int], None] = lambda done, total: told("storing", done, total)  # noqa: E731
    try:
        return add_folder(store, folder, task=order.task, progress=progress)
    except Stalled as error:
        if error.reason != "InvalidDataset":
            raise
        # The record outlives this machine, whose folders say nothing to anybody.
        raise Hopeless("InvalidDataset", error.message.replace(str(folder), _place(source))) from error


def _place(source: Source) -> str:
    """Name a source in messages."""
    if source.uri is not None:
        return shown(source.uri.url)
    if source.dvc is not None:
        repository = source.dvc.repo_url
        return f"{source.dvc.path} in {shown(repository) if '://' in repository else repository}"
    return source.platform.uri if source.platform else ""
