"""Where data sets outside the store are named, all kinds behind one door. Nobody who asks waits for a slow place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from adapters.data_dvc import DvcRepository
from adapters.dataset_names import DatasetNames
from adapters.git_environment import check_url, folder_of
from adapters.lookouts import PATIENCE, Lookout
from specs.data import DvcSource, PlatformSource, Source, UriSource
from specs.data_records import NameRecord, name_of
from specs.digests import canonical
from specs.errors import Stalled, Transient, TrunklineError
from specs.monitoring import OnData

_REMEMBERED = 20_000
"""Answers about one state of a repository; a model needs one or two."""


class Versions(Protocol):
    """Data set versions on the Ultralytics Platform. May take long, and raise Transient and Stalled."""

    def resolve(self, source: PlatformSource) -> PlatformSource:
        """Give a source as it would be pinned."""

    def newest(self, source: PlatformSource, follow: OnData) -> PlatformSource:
        """Give the newest version, pinned."""


class DataSources:
    """The port of that name. Any number of threads may ask, about any number of models.

    ``state`` is a folder of our own, for mirrors. ``allow_folders`` are those that data repositories on this machine
    must lie below, ``allow_hosts`` those that may have private addresses; ``poll`` seconds pass between two looks.
    """

    def __init__(  # noqa: PLR0913  each kind of place has its own
        self,
        state: Path,
        *,
        credentials: Path | None = None,
        allow_hosts: Sequence[str] = (),
        allow_folders: Sequence[Path] = (),
        poll: float = 60.0,
        platform: Versions | None = None,
        names: DatasetNames | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        self._state, self._credentials = state, credentials
        self._allow_hosts, self._allow_folders = tuple(allow_hosts), tuple(allow_folders)
        self._platform, self._names = platform, names
        self._poll, self._clock, self._patience = poll, clock, patience
        self._adding = threading.Lock()
        self._repositories: dict[str, _Repository] = {}
        self._versions: dict[bytes, Lookout[PlatformSource]] = {}
        self._named: dict[str, Lookout[NameRecord | None]] = {}

    def resolve(self, source: Source) -> Source | None:
        """Give an unpinned source as it would be pinned now; None where only fetching it tells (``uri``)."""
        if source.dvc is not None:
            asked = source.dvc
            found = self._repository(asked).answer(_key(source, None), lambda place: place.resolve_source(asked))
            return Source(dvc=found)
        return Source(platform=self._version(source.platform, None)) if source.platform is not None else None

    def newest(self, source: Source, follow: OnData) -> Source | None:
        """Give the newest version of a source, pinned; None where its kind has no versions (a ``uri`` elsewhere)."""
        if source.uri is not None:
            return self._meant(source.uri, follow) if source.in_store else None
        if source.dvc is not None:
            asked = source.dvc
            key = _key(source, follow)
            found = self._repository(asked).answer(key, lambda place: place.newest_source(asked, follow))
            return Source(dvc=found)
        return Source(platform=self._version(source.platform, follow)) if source.platform is not None else None

    def _repository(self, source: DvcSource) -> _Repository:
        url = source.repo_url
        check_place(url, self._allow_folders)
        with self._adding:
            if url not in self._repositories:
                place = DvcRepository(
                    url, self._state / sha256(url.encode()).hexdigest()[:24],
                    credentials=self._credentials, allow_hosts=self._allow_hosts,
                )  # fmt: skip
                words = f"the data repository {place.shown}"
                look = Lookout(place.look, words, self._poll, self._clock, self._patience)
                self._repositories[url] = _Repository(place, look)
            return self._repositories[url]

    def _meant(self, source: UriSource, follow: OnData) -> Source | None:
        """Give what a name in the store means now; None where nobody ever said."""
        if follow.branch is not None or follow.tags is not None:
            msg = "triggers.onData: a name in the store has neither branches nor tags; write onData: true"
            raise Stalled("DataSourceUnsupported", msg)
        name, names = name_of(source.url), self._names
        if name is None or names is None:
            msg = f"{source.url!r} cannot be followed: a name must have letters, digits, '.', '_' and '-' only"
            raise Stalled("DataSourceUnsupported", msg)
        with self._adding:
            if name not in self._named:
                ask = partial(names.newest, name)
                self._named[name] = Lookout(ask, source.url, self._poll, self._clock, self._patience)
            look = self._named[name]
        found = look.get()
        return Source(uri=source.model_copy(update={"digest": found.manifest})) if found is not None else None

    def _version(self, source: PlatformSource, follow: OnData | None) -> PlatformSource:
        platform = self._platform
        if platform is None:
            msg = "no key of the Ultralytics Platform is known here; name its file as platform_key_file of [data]"
            raise Stalled("DataSourceUnsupported", msg)
        key = _key(Source(platform=source), follow)
        with self._adding:
            if key not in self._versions:
                if len(self._versions) >= _REMEMBERED:
                    self._versions.clear()
                ask = partial(platform.newest, source, follow) if follow else partial(platform.resolve, source)
                self._versions[key] = Lookout(ask, source.uri, self._poll, self._clock, self._patience)
            look = self._versions[key]
        return look.get()


class _Repository:
    """One data repository for all models whose data is in it: looked at once, and each question answered once."""

    def __init__(self, place: DvcRepository, look: Lookout[str]) -> None:
        self._place, self._look = place, look
        self._answers: tuple[str, dict[bytes, DvcSource | TrunklineError]] = ("", {})
        """The state of the repository that they are about, and answers by question."""

    def answer(self, key: bytes, ask: Callable[[DvcRepository], DvcSource]) -> DvcSource:
        """Answer a question from what is known of the repository."""
        state = self._look.get()
        about, answers = self._answers
        if about != state or len(answers) >= _REMEMBERED:
            answers = {}
            self._answers = (state, answers)
        if key not in answers:
            try:
                answers[key] = ask(self._place)
            except Stalled as error:
                answers[key] = error
        found = answers[key]
        if isinstance(found, TrunklineError):
            raise found.with_traceback(None)
        return found


def check_place(url: str, folders: Sequence[Path]) -> None:
    """Refuse a data repository on this machine that is not below one of the folders; others are no business of this.

    Stalled ``DataSourceUnsupported``.
    """
    try:
        checked = check_url(url)
    except Stalled as error:
        raise Stalled("DataSourceUnsupported", error.message) from error
    path = folder_of(checked)
    if path is None:
        return
    if not url.startswith(("/", "file:")):
        msg = f"repoURL {url!r} is a relative path, and nobody knows to what; give all of it, or a URL"
        raise Stalled("DataSourceUnsupported", msg)
    try:
        place, allowed = path.resolve(), [folder.resolve() for folder in folders]
    except OSError as error:
        raise Transient("DataSourceUnreachable", f"{path} cannot be looked at: {error.strerror}") from error
    if not any(place.is_relative_to(folder) for folder in allowed):
        msg = (
            f"the data repository {path} is a folder on this machine, and is read only if the settings say so: put it, "
            "or a folder above it, into allow_folders of [data]"
        )
        raise Stalled("DataSourceUnsupported", msg)


def _key(source: Source, follow: OnData | None) -> bytes:
    return canonical([source.plain(), follow.model_dump(mode="json") if follow else None])
