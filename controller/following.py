"""Models that follow the data they are trained on: when a newer version appears, they are looked at again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconcilers.observed import FOLLOWED, Observed
from reconcilers.ports import DataSources
from specs.data import Source
from specs.digests import digest_of
from specs.errors import Transient, TrunklineError
from specs.modelspec import ModelKey, Spec
from specs.monitoring import OnData
from specs.status import Reason


@dataclass(frozen=True)
class _Followed:
    """What a model asked for when it was looked at in full, and what it was told."""

    sources: DataSources
    source: Source
    follow: OnData
    newest: str

    @property
    def question(self) -> str:
        """Names it: thousands of models may ask the same."""
        return digest_of([self.source.plain(), self.follow.model_dump(mode="json")])


class Following:
    """Remembers who follows what, in memory: after a restart each one is looked at in full once, and is known again.

    Any number of threads may use it.
    """

    def __init__(self) -> None:
        self._followed: dict[ModelKey, _Followed] = {}

    def saw(self, spec: Spec, observed: Observed, sources: DataSources | None) -> str:
        """Remember what a full look found, and name the newest version by it; empty where the model follows nothing."""
        key = observed.source.key
        if spec.follows is None or sources is None:
            self.forget(key)
            return ""
        trouble, newer = observed.troubles.get(FOLLOWED), observed.newer
        if trouble is not None:
            newest = _name(Reason.DATA_UNREACHABLE if trouble.passing else Reason.DATA_MISSING)
        else:
            newest = _name(newer.source if newer else spec.data.train)
        self._followed[key] = _Followed(sources, spec.data.train, spec.follows, newest)
        return newest

    def forget(self, key: ModelKey) -> None:
        """Follow no more for a model."""
        self._followed.pop(key, None)

    def newest(self, key: ModelKey) -> str:
        """Name the newest version for a model as it is now; empty where nobody looked at the model in full yet."""
        found = self._followed.get(key)
        return _ask(found) if found is not None else ""

    def moved(self) -> Iterable[ModelKey]:
        """Give the models whose newest version is another one than they were told."""
        answers: dict[tuple[int, str], str] = {}
        for key, found in self._followed.copy().items():
            question = (id(found.sources), found.question)
            if question not in answers:
                answers[question] = _ask(found)
            if answers[question] != found.newest:
                yield key


def _ask(found: _Followed) -> str:
    try:
        return _name(found.sources.newest(found.source, found.follow) or found.source)
    except Transient:
        return _name(Reason.DATA_UNREACHABLE)
    except TrunklineError:
        return _name(Reason.DATA_MISSING)


def _name(answer: Source | str) -> str:
    """Name an answer: the data decides, by whatever revision it was found."""
    return digest_of(answer.digest if isinstance(answer, Source) else answer)[7:15]
