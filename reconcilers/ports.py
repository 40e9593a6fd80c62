"""What thinking needs from the world, as small Protocols. Adapters satisfy them without importing this file.

Every method raises ``specs.errors.Transient`` when trying again may help and ``specs.errors.Stalled`` when it
cannot; nothing else on purpose. Every effect may be asked for twice and by two callers at once: the second is a
no-op that answers like the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from specs.data import Source as DataSource
from specs.errors import Problem
from specs.facts import Arrival, Check, Commit, JobState, PullRequest, Signature, SourcedSpec
from specs.fleet import DeviceReport, HaltRecord, WaveRecord, Waves
from specs.modelspec import ModelKey
from specs.monitoring import OnData
from specs.placement import Placement
from specs.registry_facts import Registered, Registration
from specs.serving_facts import Rejected, ServingState, ServingTarget
from specs.traffic import Watch, Watched
from specs.workorders import AnyOrder


class Store(Protocol):
    """Records and files. What jobs write; the control plane only reads."""

    def read(self, key: str) -> bytes | None:
        """Give the record's text, or None where there is none."""

    def has_blob(self, digest: str) -> bool:
        """Whether a file is there (its bytes are checked when it is read)."""

    def read_blob(self, digest: str) -> bytes:
        """Give a file's bytes, verified; CorruptArtifact where they differ, Stalled ``BlobMissing`` where absent."""


class Repository(Protocol):
    """The git repository that holds the ModelSpecs. Reads objects, never a work tree."""

    def fetch(self) -> str:
        """Bring the tracked branch up to date and give its newest commit."""

    def read(self, commit: str, path: str) -> bytes | None:
        """Give a file at a commit, or None."""

    def branches(self, prefix: str) -> Mapping[str, str]:
        """Give branch name to head commit, of branches that begin with ``prefix``, as last fetched."""

    def commit_files(self, base: str, files: Mapping[str, bytes], message: str) -> str:
        """Make one commit on top of ``base`` and give its name; no branch moves.

        The same arguments give the same commit: author, committer and dates come from configuration and ``base``.
        """

    def push(self, branch: str, commit: str, expected: str | None) -> None:
        """Point a branch at ``commit`` if it points at ``expected`` now (None: if it does not exist).

        Transient ``BranchMoved`` where it points elsewhere; no-op where it is at ``commit`` already.
        """

    def delete_branch(self, branch: str, expected: str) -> None:
        """Delete a branch if it points at ``expected``; no-op where it is gone."""

    def has(self, commit: str) -> bool:
        """Whether a commit and all that is in it is here, so that a branch can point at it again."""

    def is_foreign(self, base: str, head: str) -> bool:
        """Whether ``head`` is a commit that ``base`` does not have, and not ours by author and committer.

        What is below a commit of ours was on the tracked branch when we made it.
        """

    def is_adrift(self, base: str, head: str) -> bool:
        """Whether merging ``head`` would bring more than one commit: the tracked branch was rewritten under it."""

    def conflicts(self, base: str, head: str) -> bool:
        """Whether merging ``head`` into ``base`` would conflict."""

    def last_change(self, commit: str, path: str) -> Commit:
        """Give the newest first-parent commit up to ``commit`` that changed ``path``."""


class Forge(Protocol):
    """Pull requests. Never approves, never merges."""

    def list(self) -> Sequence[PullRequest]:
        """Give our pull requests (head branch begins with ``trunkline/``) in all states, oldest first."""

    def open(self, *, branch: str, title: str, body: str) -> PullRequest:
        """Open one from ``branch`` to the tracked branch; adopts an open one of the same branch."""

    def update(self, number: int, *, title: str, body: str) -> None:
        """Set title and body, and look at the branch's head anew."""

    def close(self, number: int, *, comment: str, mark: str) -> None:
        """Comment once and close; no-op where it is closed or merged already.

        ``mark`` is added to the body in the same act as closing, so that the list alone tells that it was us.
        """

    def reopen(self, number: int) -> PullRequest:
        """Open a closed one of ours again, whose branch is where it was; Stalled where the forge does not let us."""

    def merge_when_allowed(self, number: int) -> None:
        """Ask the forge to merge by itself as soon as its own rules allow; Stalled where it cannot."""


class Reviews(Protocol):
    """What people and checks say about pull requests: for provenance and for continuous integration."""

    def pull_of(self, commit: str) -> PullRequest | None:
        """Give the merged pull request by which a commit came to the tracked branch, None where by none."""

    def approvals(self, number: int) -> Sequence[str]:
        """Give who approves the last commit of a pull request, by the forge's names for them, sorted."""

    def say(self, number: int, text: str, *, marker: str) -> None:
        """Put one comment on a pull request, or change it where one with that hidden ``marker`` is there."""

    def report(self, commit: str, check: Check) -> None:
        """Set a check on a commit; the last one of a name holds."""


class Arrivals(Protocol):
    """Remembers what the forge said about commits of the tracked branch, so that it is asked once about each."""

    def of(self, commit: str, *, enough: Callable[[Arrival], bool] | None = None) -> Arrival:
        """Give how a commit came to the branch.

        Without ``enough`` it is nice to know: where the forge cannot be asked, the answer is that nobody knows. With
        it, approvals are told too, an answer that is enough holds for ever, another one is asked for again now and
        then, and a forge that cannot be asked raises, unless it said anything before.
        """


class Signatures(Protocol):
    """Checks signatures of commits."""

    def of(self, commit: str) -> Signature:
        """Say who signed a commit; Stalled where the keys that are configured cannot be read."""

    def keys(self) -> str:
        """Name the keys that are accepted now; Stalled where they cannot be read."""


class Jobs(Protocol):
    """Runs work orders."""

    def state(self, order: AnyOrder) -> JobState | None:
        """Give the state of an order's job, or None where it never started (or was forgotten)."""

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        """Start an attempt, or adopt the one that runs; QUEUED where there is no room now."""


class Servers(Protocol):
    """Serves releases."""

    def state(self, name: str) -> ServingState | None:
        """Give what serves under that model name, or None where nothing does."""

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask for a target; what serves now goes on until the target has loaded and proved itself.

        With ``rejected`` that file counts from here on as one that failed, until a release with other bytes is asked
        for: it is remembered in the same act as the target, so that a kill leaves both or neither.

        A target with a ``share`` is loaded beside what serves, and ``canary`` of the state tells of it; asking for it
        with another share changes the share alone. A target without one is all that serves: what was beside it, or
        was to be replaced by it, is let go once it serves. Where nothing serves yet, the share has no meaning.
        """

    def withdraw(self, name: str) -> None:
        """Stop serving a model; no-op where it does not serve."""

    def names(self) -> Sequence[str]:
        """Give the models that serve now."""


class DataSources(Protocol):
    """Where data sets outside the store are named: git repositories with DVC pointers, the Ultralytics Platform.

    Answers come from a look that is seldom older than a minute; a place that is slow or down holds nobody up but for
    a moment: Transient ``DataSourceUnreachable``. Stalled where there is no such revision, path or version.
    """

    def resolve(self, source: DataSource) -> DataSource | None:
        """Give an unpinned source as it would be pinned now; None where only fetching it tells (``uri``)."""

    def newest(self, source: DataSource, follow: OnData) -> DataSource | None:
        """Give the newest version of a source, pinned; None where it has no versions (``uri``, but for ``store://``)."""


class TrafficSource(Protocol):
    """Counts of live traffic. Never waits for anybody and never raises: it is looked at in the background."""

    def look(self, asked: Watch) -> Watched | None:
        """Give what is known now; None until a first look ended. Being asked is what keeps a model watched."""


class Fleet(Protocol):
    """Devices, and the waves by which releases reach them."""

    def devices(self) -> Sequence[DeviceReport]:
        """Give what devices said last, by name. From a look that is seldom older than a minute."""

    def waves(self, model: str, version: int, file: str) -> Waves:
        """Give how far a release has come; ``model`` is the name at the server."""

    def below(self, model: str, version: int, file: str) -> int:
        """Give the rank below which devices are reached by a release."""

    def open(self, record: WaveRecord) -> None:
        """Open a wave; no-op where it is open."""

    def halt(self, record: HaltRecord) -> None:
        """Open no further wave; no-op where that was said before."""


class Calendar(Protocol):
    """Knows cron lines."""

    def last(self, schedule: str, now: float) -> float:
        """Give the last moment at or before ``now`` that a cron line names. Unix time, seconds; the line is in UTC.

        Stalled ``ScheduleInvalid`` with a sentence where it is no cron line, or names no moment.
        """

    def next(self, schedule: str, now: float) -> float:
        """Give the first moment after ``now`` that it names; Stalled likewise."""


class ModelRegistry(Protocol):
    """The registries of tracking servers: mirrors of releases that decide nothing.

    Neither method waits for a server or raises: they are asked and told in the background.
    """

    def state(self, wanted: Registration) -> Registered | None:
        """Give what the last look found, which begins anew after about a minute; None until one ended."""

    def register(self, wanted: Registration) -> None:
        """Have it registered, soon; no-op where that is under way. What came of it, a later ``state`` tells."""


class Source(Protocol):
    """Where ModelSpecs come from."""

    def refresh(self) -> None:
        """Look again."""

    def keys(self) -> Sequence[ModelKey]:
        """Give all models, sorted."""

    def get(self, key: ModelKey) -> SourcedSpec | None:
        """Give one model's text and origin."""

    @property
    def problems(self) -> Sequence[Problem]:
        """Everything that is wrong with any file."""

    @property
    def broken(self) -> Mapping[ModelKey, tuple[Problem, ...]]:
        """Models that are wanted but cannot be acted on; what serves for them goes on serving."""
