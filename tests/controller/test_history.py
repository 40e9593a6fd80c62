"""``trunkline history``: what git alone can tell about releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.forge_local import LocalForge
from specs.digests import digest_bytes
from specs.errors import Stalled
from tests.support.gitrepo import PERSON, Hub, git
from tests.support.place import SPEC
from tests.support.typed import said, trunkline

RUN = "sha256:" + "1" * 64


class Past:
    """A repository whose history is written by hand, release by release."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.when = folder, 1_700_000_000
        self.hub = Hub(folder)
        (folder / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\n')
        self.text = SPEC.replace("TRAIN", RUN).replace("GOLDEN", RUN.replace("1", "2"))
        self.commit({"digits.yaml": self.text}, "Want digits")

    def commit(self, files: dict[str, str | bytes | None], message: str, branch: str = "main") -> str:
        """Commit as a person, a minute later."""
        self.when += 60
        start = "origin/main" if self.hub.heads() else None
        if start:
            git(self.hub.clone, "fetch", "-q", "origin")
        return self.hub.commit(files, message, branch=branch, start=start, when=self.when)

    def release(self, version: int, letter: str, evidence: bytes | None) -> dict[str, str | bytes | None]:
        """Give the files of a release, with its evidence."""
        pinned = f'    evidence: "{digest_bytes(evidence)}"\n' if evidence is not None else ""
        digest = "sha256:" + letter * 64
        lines = (
            f'  release:\n    version: {version}\n    run: "{digest}"\n    weights: "{digest}"\n'
            f'    exports: {{onnx: "{digest}"}}\n{pinned}'
        )
        return {"digits.yaml": self.text + lines, f"evidence/default.digits/v{version}/evidence.json": evidence or "{}"}

    def pull(self, files: dict[str, str | bytes | None], message: str) -> str:
        """Release through a pull request, merged by a person."""
        self.commit(files, message, branch="proposal")
        forge = LocalForge(self.hub.path, actor=PERSON, clock=lambda: self.when)
        return forge.merge(forge.open(branch="proposal", title=message, body="").number)

    def told(self) -> list[dict[str, Any]]:
        """Give what the command says, for programs."""
        found: list[dict[str, Any]] = json.loads(said(self.folder, "history", "digits", "--json"))
        return found


EVIDENCE = json.dumps({
    "source": {"commit": "c" * 40}, "data": {"train": {"digest": RUN}},
    "evaluation": {"values": {"metrics/accuracy_top1": 0.975}},
}).encode()  # fmt: skip


@pytest.fixture
def past(tmp_path: Path) -> Past:
    """Give a repository with one model and no release."""
    return Past(tmp_path)


def test_a_model_without_releases_has_no_history(past: Past) -> None:
    """That is said, and is no error."""
    assert past.told() == []
    assert "default/digits: 0 releases" in said(past.folder, "history", "digits")


def test_a_promotion_tells_everything(past: Past) -> None:
    """Who merged which pull request when, what asked for the run, on which data, and how good it was."""
    commit = past.pull(past.release(1, "a", EVIDENCE), "digits: promote v1")
    past.commit({"digits.yaml": (past.release(1, "a", EVIDENCE)["digits.yaml"] or b"") + "# a note\n"}, "Note")  # type: ignore[operator]
    (event,) = past.told()
    assert event["commit"]["sha"] == commit
    assert (event["version"], event["how"], event["pull_request"]) == (1, "promoted", "1")
    assert event["merged_by"] == "Ada <ada@example.com>"
    assert (event["source"], event["data"], event["run"]) == ("c" * 40, RUN, "sha256:" + "a" * 64)
    assert (event["metric"], event["value"], event["evidence"]) == ("metrics/accuracy_top1", 0.975, "verified")
    text = said(past.folder, "history", "default/digits")
    for word in ("v1", "promoted", "Ada", "#1", commit[:8], "ccccccc", "0.975", "verified"):
        assert word in text, text


def test_going_back_rolling_back_and_removing(past: Past) -> None:
    """Each way in which a release changes has its name, oldest first."""
    past.commit(past.release(1, "a", EVIDENCE), "v1")
    past.commit(past.release(2, "b", EVIDENCE), "v2")
    git(past.hub.clone, "revert", "--no-edit", "HEAD", when=past.when + 30)
    git(past.hub.clone, "push", "-q", "origin", "main")
    past.commit(past.release(3, "a", EVIDENCE), "digits: roll back\n\nTrunkline-Intent: rollback\n")
    past.commit({"digits.yaml": past.text}, "No release")
    assert [(event["version"], event["how"]) for event in past.told()] == [
        (1, "promoted"), (2, "promoted"), (1, "went back"), (3, "rolled back"), (None, "removed"),
    ]  # fmt: skip
    text = said(past.folder, "history", "digits")
    assert "5 releases" in text
    assert text.index("promoted") < text.index("went back") < text.index("rolled back") < text.index("removed")


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (lambda files: files, "verified"),
        (lambda files: {**files, "evidence/default.digits/v1/evidence.json": EVIDENCE + b" "}, "altered"),
        (lambda files: {"digits.yaml": files["digits.yaml"]}, "missing"),
        (lambda files: {**files, "digits.yaml": files["digits.yaml"].partition("    evidence")[0]}, "altered"),
    ],
    ids=["verified", "altered", "missing", "not-pinned"],
)
def test_evidence_is_checked_against_its_digest(past: Past, spoil: Callable[[Any], Any], state: str) -> None:
    """Numbers of evidence that was altered, or that no release pins, are not told."""
    past.commit(spoil(past.release(1, "a", EVIDENCE)), "v1")
    (event,) = past.told()
    assert event["evidence"] == state
    assert event["value"] == (0.975 if state == "verified" else None)
    assert state in said(past.folder, "history", "digits")


def test_evidence_altered_later_does_not_change_the_past(past: Past) -> None:
    """What counts is the evidence in the commit that released, which nobody can change any more."""
    past.commit(past.release(1, "a", EVIDENCE), "v1")
    past.commit({"evidence/default.digits/v1/evidence.json": b"{}"}, "Tamper")
    assert [event["evidence"] for event in past.told()] == ["verified"]


def test_unreadable_versions_of_the_file_are_skipped(past: Past) -> None:
    """A commit that broke the file, and was mended, is no release and no removal."""
    past.commit(past.release(1, "a", EVIDENCE), "v1")
    past.commit({"digits.yaml": "kind: ModelSpec\n  broken: ["}, "Break it")
    past.commit(past.release(1, "a", EVIDENCE), "Mend it")
    assert [event["how"] for event in past.told()] == ["promoted"]


def test_evidence_that_is_no_evidence_is_no_traceback(past: Past) -> None:
    """Pinned bytes that are no JSON object tell nothing, but the history goes on."""
    past.commit(past.release(1, "a", b"not json"), "v1")
    past.commit(past.release(2, "b", b"[1, 2]"), "v2")
    past.commit(past.release(3, "c", b'{"evaluation": {"values": 3}, "source": "x", "data": []}'), "v3")
    events = past.told()
    assert [event["version"] for event in events] == [1, 2, 3]
    assert [event["value"] for event in events] == [None, None, None]
    assert [event["evidence"] for event in events] == ["unreadable", "verified", "verified"]


def test_an_unknown_model_names_those_that_there_are(past: Past) -> None:
    """The error lists the models."""
    result = trunkline(past.folder, "history", "shelf")
    assert isinstance(result.exception, Stalled)
    assert "'shelf' is not known; there are: default/digits" in result.exception.message
