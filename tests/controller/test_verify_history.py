"""``trunkline verify-history``: an honest history is proved, and every tampering with one shows."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from adapters.artifact_signatures import SigningKey
from reconcilers.findings import Code
from specs.errors import Stalled
from tests.support.gitrepo import git
from tests.support.place import FILE
from tests.support.released import Repo
from tests.support.signers import SshKey
from tests.support.tampering import TAMPERINGS, merge, nothing
from tests.support.typed import said, trunkline

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(story: Repo, tmp_path: Path) -> Repo:
    """Give a copy of it to do anything with."""
    return story.copied(tmp_path / "place")


def proved(repo: Repo, *options: str) -> tuple[int, dict[str, Any]]:
    """Ask for the proof; give the exit code and what it says to programs."""
    done = trunkline(repo.folder, "verify-history", "--json", *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return done.exit_code, found


def test_an_honest_history_is_proved(story: Repo) -> None:
    """Promotions, a squash, a revert, a rollback: nothing is wrong, by git alone, or with store and forge, in depth."""
    for options in (("--offline",), ("--deep", "--strict", "--require-pull-request"), ("digits",)):
        code, told_ = proved(story, *options)
        assert (code, told_["findings"], told_["releases"]) == (0, [], 7), options
        assert told_["head"] == story.head()
    text = said(story.folder, "verify-history")
    assert "7 releases in 14 commits proved, nothing is wrong" in text
    assert f"store asked, forge asked; up to commit {story.head()}" in text


def test_merging_by_hand_is_honest_too(place: Repo) -> None:
    """What the tamperings below do to a merge is what is found, not that they merge."""
    merge(place, nothing)
    assert proved(place, "--deep", "--require-pull-request")[0] == 0


def test_a_fast_forward_is_honest_too(place: Repo) -> None:
    """Trunkline's own commit on the tracked branch, as a rebase leaves it: one field and its evidence, nothing else."""
    head = place.opened().head
    place.checkout("main", head)
    git(place.clone, "rebase", "-q", "origin/main")
    place.push()
    code, told_ = proved(place, "--deep")
    assert (code, told_["findings"], told_["releases"]) == (0, [], 8)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_tampering_shows(place: Repo, name: str) -> None:
    """It is found, by the code that the manual names, with what was expected, what was found and what to do."""
    tampering = TAMPERINGS[name]
    place.now += 600
    tampering.act(place)
    code, told_ = proved(place, *tampering.options)
    codes = {each["code"] for each in told_["findings"]}
    assert set(tampering.codes) <= codes, (codes, told_)
    assert code == tampering.exit_code
    assert all(each["expected"] and each["found"] and each["advice"] for each in told_["findings"])
    row = next(line for line in (ROOT / "docs/audit.md").read_text().splitlines() if line.startswith(f"| {name} |"))
    assert all(f"`{word}`" in row for word in tampering.codes), row


def test_every_code_is_in_the_manual() -> None:
    """docs/audit.md says of each code what it means; no code is found by no tampering but the one of signatures."""
    page = (ROOT / "docs/audit.md").read_text()
    assert all(f"| `{code}` |" in page for code in Code)
    found = {code for tampering in TAMPERINGS.values() for code in tampering.codes}
    assert set(Code) - found == {Code.NOT_SIGNED}


def test_a_warning_fails_only_the_strict(place: Repo) -> None:
    """A gate loosened in the same commit is told, and ends with 1 only where that is asked for."""
    TAMPERINGS["a gate loosened in the commit that it admits"].act(place)
    assert proved(place, "--offline")[0] == 0
    code, told_ = proved(place, "--offline", "--strict")
    assert code == 1
    assert [each["severity"] for each in told_["findings"]] == ["warning"]


def test_only_what_came_after_a_commit(place: Repo) -> None:
    """``--since`` forgives the past up to a commit, proves the rest, and insists that the commit is still there."""
    place.commit({"evidence/default.digits/v4/evidence.json": None}, "Save space")
    head = place.commit({"README.md": "hello"}, "Say hello")
    assert proved(place, "--offline")[0] == 1
    code, told_ = proved(place, "--offline", "--since", head)
    assert (code, told_["releases"], told_["commits"]) == (0, 0, 0)
    place.checkout("main", "origin/main~1")
    place.push()
    code, told_ = proved(place, "--offline", "--since", head)
    assert code == 1
    assert {(each["code"], each["commit"]) for each in told_["findings"]} >= {("HistoryRewritten", head)}


def test_since_a_commit_that_nobody_has(story: Repo) -> None:
    """A commit that no clone has any more is a finding; a name that is no commit is a mistake."""
    gone = "d" * 40
    code, told_ = proved(story, "--offline", "--since", gone)
    assert (code, told_["findings"][0]["code"]) == (1, "HistoryRewritten")
    result = trunkline(story.folder, "verify-history", "--since", "nowhere")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "BranchMissing"


def test_commits_must_be_signed_where_that_is_required(place: Repo, tmp_path: Path) -> None:
    """What a server would refuse to act on is a finding for every release, also with git alone."""
    signers = tmp_path / "signers"
    signers.write_text(SshKey(tmp_path, "ann").allowed())
    settings = place.folder / "trunkline.toml"
    settings.write_text(f'{settings.read_text()}\n[provenance]\nrequire_signed = true\nssh_signers = "{signers}"\n')
    code, told_ = proved(place, "--offline")
    assert code == 1
    assert {(each["code"], each["found"]) for each in told_["findings"]} == {("NotSigned", "it is not signed")}
    assert len({each["commit"] for each in told_["findings"]}) == told_["releases"] == 7


def test_files_must_be_signed_where_keys_are_trusted(place: Repo, tmp_path: Path) -> None:
    """With trusted keys, released files without a signature are findings; signed ones are none any more."""
    ours = SigningKey.new(tmp_path / "key.pem")
    settings = place.folder / "trunkline.toml"
    settings.write_text(f'{settings.read_text()}\n[signing]\ntrusted = ["{ours.public.key}"]\n')
    code, told_ = proved(place, "--offline")
    assert (code, told_["findings"]) == (0, [])  # signatures are in the store, which was not asked
    code, told_ = proved(place)
    assert code == 1
    assert {each["code"] for each in told_["findings"]} == {"NotSigned"}
    said(place.folder, "sign", "digits", "--key", str(tmp_path / "key.pem"))
    code, told_ = proved(place)
    assert (code, {each["severity"] for each in told_["findings"]}) == (0, {"warning"})  # what no longer serves


def test_a_file_that_moves_is_the_same_model(place: Repo) -> None:
    """Moving the file changes no release; its past and its proof go on."""
    place.commit({FILE: None, "models/digits.yaml": place.read()}, "Tidy up")
    code, told_ = proved(place)
    assert (code, told_["findings"]) == (0, [])


def test_a_model_that_is_gone_is_still_proved(place: Repo) -> None:
    """Its releases stay in the history, and so must their evidence."""
    place.commit({FILE: None}, "Nobody needs it")
    code, told_ = proved(place, "digits")
    assert (code, told_["releases"]) == (0, 8)


def test_findings_for_pages_and_spreadsheets(place: Repo) -> None:
    """The same findings as markdown and as CSV."""
    TAMPERINGS["a digest swapped"].act(place)
    page = trunkline(place.folder, "verify-history", "--format", "md").stdout
    assert "| error | DigestDiffers | default/digits | v7 |" in page
    rows = list(csv.DictReader(io.StringIO(trunkline(place.folder, "verify-history", "--format", "csv").stdout)))
    assert [row["code"] for row in rows] == ["DigestDiffers"]
    text = trunkline(place.folder, "verify-history").stdout
    assert "✗ DigestDiffers  default/digits v7" in text
    assert "1 wrong, 0 to look at" in text


def test_words_of_others_move_no_cursor(place: Repo) -> None:
    """Control characters in what people wrote are shown as what they are: nothing."""
    place.commit({"x": "y"}, "Tidy\n\nTrunkline-Intent: promote\nTrunkline-Model: \x1b[2Jevil", author="E\x1b[2J <e@x>")
    text = trunkline(place.folder, "verify-history", "--offline").output
    assert "TrailerForged" in text
    assert "\x1b" not in text


def test_a_repository_without_models(tmp_path: Path) -> None:
    """Nothing to prove is nothing wrong."""
    said(tmp_path, "init")
    assert "0 releases in 1 commits proved, nothing is wrong" in said(tmp_path, "verify-history")
    assert git(tmp_path / "models.git", "log", "--format=%s").count("\n") == 0
