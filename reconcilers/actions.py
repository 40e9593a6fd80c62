"""What a plan may ask for: values, with no way to carry themselves out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from specs.fleet import HaltRecord, WaveRecord
from specs.placement import Placement
from specs.registry_facts import Registration
from specs.serving_facts import Rejected, ServingTarget
from specs.workorders import AnyOrder


@dataclass(frozen=True)
class StartJob:
    """Start a job, or another attempt of it."""

    order: AnyOrder
    placement: Placement = dataclasses.field(default_factory=Placement)


@dataclass(frozen=True)
class Proposal:
    """A pull request as it should be. ``key`` decides whether two are the same one."""

    intent: str
    key: str
    """sha256 hexadecimal of {repository, branch, path, model, intent, content}."""
    branch: str
    path: str
    """The manifest's path in the repository."""
    field: str
    """The value that the edit may touch, for instance ``spec.release``."""
    value: object
    """New value of that field, as plain JSON values in the order they should be written."""
    title: str
    body: str
    message: str
    """Commit message with trailers."""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Evidence: path in the repository to content."""
    blobs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Evidence that is in the store: path in the repository to digest."""
    also: tuple[tuple[str, object], ...] = ()
    """Further fields that are edited, with their new values; nothing else may be touched."""

    @property
    def edits(self) -> tuple[tuple[str, object], ...]:
        """Every field that is edited with its new value, in the order of the edits."""
        return ((self.field, self.value), *self.also)


@dataclass(frozen=True)
class Withdrawn:
    """A pull request that we closed ourselves, and the commit that its branch had then."""

    number: int
    head: str


@dataclass(frozen=True)
class Propose:
    """Open a pull request, or bring the one of the same key up to date."""

    proposal: Proposal
    number: int | None = None
    """Of the open pull request to update; None to open one."""
    expected: str | None = None
    """Commit its branch points at now; None where there is no branch."""
    again: Withdrawn | None = None
    """Asked the same before: it is opened again rather than a new one, where git and the forge still can."""


@dataclass(frozen=True)
class AskToMerge:
    """Ask the forge to merge an open pull request by itself, and keep the answer in its text."""

    number: int
    title: str
    body: str
    """As they are now, a person's wording included."""


@dataclass(frozen=True)
class CloseProposal:
    """Close a pull request of ours that is no longer wanted, and delete its branch."""

    number: int
    branch: str
    branch_head: str | None
    reason: str
    """``AlreadyApplied``, ``Superseded`` or ``Obsolete``; shown in the closing comment."""
    comment: str
    mark: str
    """Hidden words for the body that tell our closing from a person's rejection."""


@dataclass(frozen=True)
class DeleteBranch:
    """Delete a branch of ours that no open pull request needs: one of the effects before was cut off."""

    branch: str
    head: str


@dataclass(frozen=True)
class RollOut:
    """Serve a release."""

    target: ServingTarget
    rejected: Rejected | None = None
    """What serves now and is given up for good, remembered in the same act."""


@dataclass(frozen=True)
class Withdraw:
    """Stop serving."""

    name: str


@dataclass(frozen=True)
class Register:
    """Have a tracking server's registry say what is released."""

    registration: Registration


@dataclass(frozen=True)
class OpenWave:
    """Let more devices serve a release."""

    record: WaveRecord


@dataclass(frozen=True)
class HaltWaves:
    """Let no more devices serve a release."""

    record: HaltRecord


ForgeAction = Propose | AskToMerge | CloseProposal | DeleteBranch
"""What makes the last look at forge and repository an old one."""
Action = StartJob | ForgeAction | RollOut | Withdraw | Register | OpenWave | HaltWaves
