"""What people do to ``spec.release`` by hand: told for what it is, and refused where no gate ever judged it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from specs.changeset import FileChange
from specs.claims import Read, evidence_flaw
from specs.modelspec import ModelKey
from specs.release import Release

Earlier = Callable[[ModelKey], Sequence[Release]]
"""Gives every release that the target branch ever named for a model."""


@dataclass(frozen=True)
class HandEdit:
    """One release that a person's pull request changes."""

    key: ModelKey
    sentence: str
    fine: bool
    """Whether every byte that would be released is one that was released or proved before."""


def hand_edits(
    before: Mapping[ModelKey, Release | None], after: Mapping[ModelKey, Release | None], earlier: Earlier,
    files: Sequence[FileChange], read: Read,
) -> tuple[HandEdit, ...]:  # fmt: skip
    """Tell every change of a release between two commits, model by model. Models that go are not told here."""
    found = []
    for key in sorted(after):
        old, new = before.get(key), after[key]
        if new != old:
            sentence, fine = _told(key, old, new, earlier, [file for file in files if file.after], read)
            found.append(HandEdit(key, sentence, fine))
    return tuple(found)


def _told(
    key: ModelKey, old: Release | None, new: Release | None, earlier: Earlier, files: list[FileChange], read: Read
) -> tuple[str, bool]:
    if new is None:
        return f"removes the release v{old.version if old else 0}: nothing of this model serves any more", True
    if old is not None and old.content() == new.content() and old.evidence == new.evidence:
        what = ", ".join(_bookkeeping(old, new))
        return f"changes {what} of the release; the bytes stay those of v{old.version}", True
    flaw = evidence_flaw(key, new, files, read)
    for past in reversed(earlier(key)):
        if past.content() == new.content() and new.evidence in (past.evidence, None):
            return f"goes back to what v{past.version} released", True
    if not flaw:
        return f"pins v{new.version} by hand, with evidence that fits it; `trunkline verify-history` judges that", True
    what = f"pins v{new.version} by hand, which was never released: no gate judged these digests"
    return f"{what} ({flaw}). Let Trunkline propose it", False


def _bookkeeping(old: Release, new: Release) -> Iterator[str]:
    for name in ("version", "previous", "deny", "hold"):
        if getattr(old, name) != getattr(new, name):
            yield name
