"""``trunkline why``: from a byte to the pull request that a person merged, each link with how it is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from specs.errors import Stalled
from specs.records import blob_key
from tests.support.gitrepo import git
from tests.support.released import EVIDENCE, Repo
from tests.support.tampering import TAMPERINGS
from tests.support.typed import said, trunkline


def asked(repo: Repo, target: str) -> dict[str, Any]:
    """Give what the command says to programs."""
    found: dict[str, Any] = json.loads(said(repo.folder, "why", target, "--json"))
    return found


def links(link: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give a link and all that it was made from."""
    yield link
    for source in link["sources"]:
        yield from links(source)


def evidence_of(repo: Repo, version: int) -> dict[str, Any]:
    """Give the evidence of a release."""
    found: dict[str, Any] = json.loads(repo.read(EVIDENCE.format(version)))
    return found


def test_from_the_newest_byte_to_its_pull_request(story: Repo) -> None:
    """The whole chain, every link of it proved."""
    found, evidence = asked(story, "digits"), evidence_of(story, 6)
    chain = list(links(found["chain"]))
    assert (found["model"], found["version"], found["role"]) == ("default/digits", 6, "export onnx")
    assert [link["what"] for link in chain] == [
        "export onnx", "weights", "run", "training data", "asked for by", "evidence", "merge commit", "pull request",
    ]  # fmt: skip
    assert {link["trust"] for link in chain} == {"proved"}
    named = {link["what"]: link["name"] for link in chain}
    assert named["export onnx"] == evidence["release"]["exports"]["onnx"]
    assert (named["weights"], named["run"]) == (evidence["release"]["weights"], evidence["release"]["run"])
    assert (named["merge commit"], named["pull request"]) == (story.head(f"{story.head()}~1"), "#7")
    assert named["asked for by"] == evidence["source"]["commit"]


def test_the_tree_fits_and_reads(story: Repo) -> None:
    """People get a tree with marks; no digest in it is longer than people compare."""
    text = said(story.folder, "why", "default/digits@v5")
    assert "✓ export onnx" in text
    assert "✓ merge commit" in text
    assert "what the release of v2, which released the same bytes pins" in text
    assert max(len(word) for word in text.split()) < 50


@pytest.mark.parametrize("role", ["export", "weights", "run", "training", "golden", "evidence", "file", "results"])
def test_any_digest_finds_its_release(story: Repo, role: str) -> None:
    """A digest, whole or its first 12 digits, of whatever a release names leads to the release that had it first."""
    evidence = evidence_of(story, 1)
    row = json.loads(said(story.folder, "history", "--json"))[0]
    digest = {
        "export": evidence["release"]["exports"]["onnx"], "weights": evidence["release"]["weights"],
        "run": evidence["release"]["run"], "training": evidence["data"]["train"]["digest"],
        "golden": evidence["data"]["golden"]["digest"], "evidence": row["evidence_digest"],
        "file": evidence["run"]["files"]["results.png"], "results": evidence["evaluation"]["per_image"],
    }[role]  # fmt: skip
    for target in (digest, digest.removeprefix("sha256:"), digest.removeprefix("sha256:")[:12]):
        found = asked(story, target)
        assert (found["digest"], found["version"]) == (digest, 1)
        assert found["role"].startswith((role, "export onnx" if role == "export" else role))
        assert list(links(found["chain"]))[-1]["what"] == "pull request"


def test_a_digest_in_several_releases(story: Repo) -> None:
    """It is explained where it was first, and the others are named."""
    weights = evidence_of(story, 1)["release"]["weights"]
    assert asked(story, weights)["also"] == ["default/digits v2", "default/digits v5"]
    assert "also in default/digits v2, default/digits v5" in said(story.folder, "why", weights)


def test_what_is_wrong_or_missing_shows(story: Repo, tmp_path: Path) -> None:
    """Other bytes in the store are wrong, lost ones out of reach; neither hides the rest of the chain."""
    repo = story.copied(tmp_path / "place")
    release = evidence_of(repo, 6)["release"]
    export, weights = (repo.folder / "store" / blob_key(d) for d in (release["exports"]["onnx"], release["weights"]))
    export.chmod(0o644)
    export.write_bytes(b"other")
    weights.unlink()
    trust = {link["what"]: link["trust"] for link in links(asked(repo, "digits")["chain"])}
    assert (trust["export onnx"], trust["weights"], trust["run"]) == ("wrong", "out of reach", "proved")


def test_a_forged_pull_request_is_wrong(story: Repo, tmp_path: Path) -> None:
    """Where the forge can be asked, it decides which pull request a commit came by."""
    repo = story.copied(tmp_path / "place")
    TAMPERINGS["a forged pull request"].act(repo)
    last = list(links(asked(repo, "digits")["chain"]))[-1]
    assert (last["name"], last["trust"], last["how"]) == ("#8", "wrong", "the commit says #1")


def test_without_a_forge_a_pull_request_is_only_claimed(story: Repo, tmp_path: Path) -> None:
    """Anybody can write a number into a commit."""
    git(tmp_path, "clone", "-q", "--bare", str(story.path), "clone.git")
    (tmp_path / "trunkline.toml").write_text('repository = "clone.git"\nstore = "store"\nstate = "state"\n')
    trust = {link["what"]: link["trust"] for link in links(asked(Repo(tmp_path), "digits")["chain"])}
    assert trust["pull request"] in ("claimed", "wrong")
    assert trust["export onnx"] == "out of reach"


def test_an_unknown_digest_says_what_was_searched(story: Repo) -> None:
    """How many digests of how many releases, where, and up to which commit."""
    result = trunkline(story.folder, "why", "0" * 12)
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "DigestUnknown"
    assert "7 releases of 1 models on main up to commit" in result.exception.message


@pytest.mark.parametrize(
    ("target", "reason"),
    [("digits@v9", "NoSuchRelease"), ("shelf", "NoSuchModel"), ("sha256:12", "TargetUnknown"), ("@", "TargetUnknown")],
)
def test_targets_that_are_none(story: Repo, target: str, reason: str) -> None:
    """What is no digest and no release is told apart, and named."""
    result = trunkline(story.folder, "why", target)
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == reason
