"""Facts about the world, as frozen values that adapters give and plans read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from specs.errors import Problem
from specs.modelspec import ModelKey


@dataclass(frozen=True)
class Commit:
    """One commit of the tracked branch. ``when`` is Unix time, seconds, of the committer."""

    sha: str
    author: str
    when: int
    subject: str
    trailers: tuple[tuple[str, str], ...] = ()


class Seal(StrEnum):
    """What a commit's signature is worth, against the keys that were configured."""

    GOOD = "Good"
    NONE = "None"
    INVALID = "Invalid"
    """It is not that of these bytes."""
    UNKNOWN = "Unknown"
    """Nobody listed the key."""
    EXPIRED = "Expired"
    """The key was not valid when it signed, by the signature's own date."""
    REVOKED = "Revoked"


@dataclass(frozen=True)
class Signature:
    """Who signed a commit. ``signer`` is what the list of keys calls the owner; ``key`` its fingerprint."""

    seal: Seal
    signer: str = ""
    key: str = ""


@dataclass(frozen=True)
class Arrival:
    """How a commit came to the tracked branch, by the forge's word."""

    asked: bool = False
    """Whether the forge answered; False: nobody knows."""
    pull: int | None = None
    """Number of the merged pull request; None where it came by none."""
    url: str = ""
    author: str = ""
    """Who opened it, by the forge's name for them."""
    approved_by: tuple[str, ...] | None = None
    """Who approved its last commit, likewise; None where nobody asked."""


class JobPhase(StrEnum):
    """Where a job stands. There is no "succeeded": the record says that."""

    QUEUED = "Queued"
    RUNNING = "Running"
    ENDED = "Ended"
    """No process is left; whether it did its work, only the record tells."""


@dataclass(frozen=True)
class JobState:
    """A job as its runtime knows it."""

    name: str
    phase: JobPhase
    attempts: int = 1
    exit_code: int | None = None
    """Of the last attempt; None while it runs and where it was never learned (killed with its agent)."""
    reason: str = ""
    """CamelCase: ``Killed``, ``OutOfMemory``, ``DeadlineExceeded``, ``Error`` …"""
    message: str = ""
    """Last words of its log."""
    started: float = 0.0
    ended: float = 0.0
    """Unix time, seconds; 0 where unknown."""


class PullState(StrEnum):
    """A pull request is in one of these."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True)
class PullRequest:
    """A pull request as its forge knows it."""

    number: int
    state: PullState
    branch: str
    head: str
    """Commit the branch pointed at when last seen (for merged and closed ones: at the end)."""
    base: str
    """Target branch."""
    title: str
    body: str
    author: str = ""
    opened: int = 0
    closed: int = 0
    """Unix time, seconds; 0 where it has not happened."""
    merge_commit: str | None = None
    merged_by: str = ""
    url: str = ""
    comments: tuple[str, ...] = ()
    """As far as the forge's list tells; most do not."""
    approved_by: tuple[str, ...] = ()
    """Likewise: who said yes to its last commit."""
    auto_merge: bool | None = None
    """Whether the forge was asked to merge it by itself; None where the forge does not say."""


class CheckState(StrEnum):
    """How a check of ours on a commit stands."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True)
class Check:
    """What we say about a commit, where branch protection can ask for it: ``name`` is static, part of our API."""

    name: str
    state: CheckState
    summary: str
    """One line, at most 140 characters."""
    url: str = ""


@dataclass(frozen=True)
class ProposalState:
    """One of our pull requests, and what git says about its branch."""

    pull: PullRequest
    intent: str
    key: str
    """First 12 hexadecimal digits."""
    foreign: bool = False
    """Somebody else committed to the branch, or moved it: hands off."""
    conflicted: bool = False
    """It cannot be merged as it is, or would bring back what was rewritten on the tracked branch."""
    branch_head: str | None = None
    """Commit the branch points at now; None where it was deleted."""
    retargeted: bool = False
    """It goes to another branch than the tracked one: somebody changed that."""

    @property
    def theirs(self) -> bool:
        """Whether a person took it over: then it is neither rebuilt nor closed by us."""
        return self.foreign or self.retargeted


class Standing(StrEnum):
    """How a spec that is asked for in a cluster stands to git."""

    CURRENT = "Current"
    """It is what the tracked branch says."""
    OLDER = "Older"
    """It is what the tracked branch said before."""
    BROKEN = "Broken"
    """The tracked branch has a file for it that cannot be acted on."""
    FOREIGN = "Foreign"
    """The tracked branch never said that."""


@dataclass(frozen=True)
class SourcedSpec:
    """A ModelSpec's text where it was found."""

    key: ModelKey
    path: str
    text: str
    head: str
    """Commit of the tracked branch that was read."""
    changed: Commit
    """Last commit that changed the file."""
    line: int = 1
    repository: str = ""
    branch: str = "main"
    last_version: int = 0
    """Highest release version that the tracked branch ever named for this model."""
    arrival: Arrival = field(default_factory=Arrival)
    """How ``changed`` came to the branch."""
    signer: str = ""
    """Who signed ``changed``, where that is required."""


@dataclass(frozen=True)
class Origin:
    """Where in git a spec of a cluster comes from."""

    standing: Standing
    sourced: SourcedSpec | None = None
    """The tracked branch's version; None unless CURRENT."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the file; empty unless BROKEN."""
    commit: Commit | None = None
    """The commit whose version it is, where OLDER."""
    path: str = ""
    blob: str = ""
    """Names the file's content at the tracked branch's head, and the commit that gave it that; empty where no such
    file is."""
