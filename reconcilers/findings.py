"""What can be wrong with the past of a repository: every code, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconcilers.said import Moment


class Code(StrEnum):
    """What is wrong. Part of our API: programs look for these words."""

    EVIDENCE_MISSING = "EvidenceMissing"
    EVIDENCE_ALTERED = "EvidenceAltered"
    EVIDENCE_INVALID = "EvidenceInvalid"
    EVIDENCE_REMOVED = "EvidenceRemoved"
    DIGEST_DIFFERS = "DigestDiffers"
    JUDGEMENT_DIFFERS = "JudgementDiffers"
    INPUTS_NOT_ASKED = "InputsNotAsked"
    GATE_FAILED = "GateFailed"
    GATE_LOOSENED = "GateLoosened"
    VERSION_REUSED = "VersionReused"
    PREVIOUS_DIFFERS = "PreviousDiffers"
    DENIED_RUN = "DeniedRun"
    EDIT_OUTSIDE_PATH = "EditOutsidePath"
    TRAILER_FORGED = "TrailerForged"
    NO_PULL_REQUEST = "NoPullRequest"
    NOT_SIGNED = "NotSigned"
    HISTORY_REWRITTEN = "HistoryRewritten"
    ARTIFACT_MISSING = "ArtifactMissing"
    ARTIFACT_CORRUPT = "ArtifactCorrupt"
    RECORD_DIFFERS = "RecordDiffers"


_UNDO = "revert the release by pull request, or release the run anew so that Trunkline writes its evidence"
_ASK = "ask who made the commit; revert it by pull request if nobody stands for it"
ADVICE: dict[Code, str] = {
    Code.EVIDENCE_MISSING: _UNDO,
    Code.EVIDENCE_ALTERED: "compare the file with the one in the commit that released; restore that one, and ask why",
    Code.EVIDENCE_INVALID: _UNDO,
    Code.EVIDENCE_REMOVED: "bring the file back: git checkout COMMIT~1 -- PATH, and commit it",
    Code.DIGEST_DIFFERS: _UNDO,
    Code.JUDGEMENT_DIFFERS: "trust neither number: measure again, and ask who wrote the evidence",
    Code.INPUTS_NOT_ASKED: _ASK,
    Code.GATE_FAILED: "revert the release by pull request; a gate is changed in a pull request of its own",
    Code.GATE_LOOSENED: "let somebody else look at the new bound; a gate is changed in a pull request of its own",
    Code.VERSION_REUSED: "revert it by pull request; a version names one thing for ever",
    Code.PREVIOUS_DIFFERS: "correct spec.release.previous by pull request: a fallback would go there",
    Code.DENIED_RUN: "revert it by pull request; to allow a run again, take it off spec.release.deny first, alone",
    Code.EDIT_OUTSIDE_PATH: _ASK,
    Code.TRAILER_FORGED: _ASK,
    Code.NO_PULL_REQUEST: "protect the branch at the forge, and have the change reviewed now",
    Code.NOT_SIGNED: "ask the person named as the committer whether it is theirs; sign files with `trunkline sign`",
    Code.HISTORY_REWRITTEN: "find the lost commits in a clone or at the forge, and forbid force pushes",
    Code.ARTIFACT_MISSING: "restore it from a copy of the store, or make it again: `trunkline reproduce`",
    Code.ARTIFACT_CORRUPT: "take it out of service, restore the bytes from a copy of the store",
    Code.RECORD_DIFFERS: "find out which of the two was changed; the store keeps the first record for ever",
}
"""What a person can do."""

WARNINGS = frozenset({Code.GATE_LOOSENED})
"""What is told, and is no fault by itself."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be."""

    code: Code
    model: str
    """``namespace/name``; empty where it is about the whole branch."""
    version: int | None
    commit: str
    """The commit that it is about: full name, empty where there is none any more."""
    expected: str
    found: str
    advice: str = ""
    warning: bool = False

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return "warning" if self.warning else "error"


def finding(moment: Moment, code: Code, expected: str, found: str, *, warning: bool | None = None) -> Finding:
    """Make a finding about what a commit did to a model."""
    release = moment.after.spec.release if moment.after else None
    version = release.version if release else None
    mild = code in WARNINGS if warning is None else warning
    return Finding(code, str(moment.key), version, moment.step.sha, expected, found, ADVICE[code], mild)


def whole(
    code: Code, commit: str, expected: str, found: str, *, model: str = "", version: int | None = None
) -> Finding:
    """Make a finding about the branch, or about a commit that is no release of the model."""
    return Finding(code, model, version, commit, expected, found, ADVICE[code], code in WARNINGS)
