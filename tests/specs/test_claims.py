"""The edit proof over real git: a proposal that does one thing more than its intent allows is not proved."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specs.claims import Standing
from specs.manifest import edit
from tests.support.gitrepo import git
from tests.support.proposals_in_git import (
    CONTENT,
    DENY,
    FILE,
    FOLDER,
    FULL,
    PREVIOUS,
    SHELF,
    Studio,
    digest,
    evidence,
    message,
    release,
)

Files = dict[str, str | bytes | None]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Give a repository with one released model; branches are begun anew, so all tests share it."""
    return Studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def fresh(tmp_path: Path) -> Studio:
    """Give one whose tracked branch may move."""
    return Studio(tmp_path)


def test_a_promotion_is_proved(studio: Studio) -> None:
    """One manifest's release and the evidence of that version: nothing else, and the verdict says so."""
    proof = studio.judged(studio.push(studio.promote()))
    assert (proof.standing, proof.intent, proof.key) == (Standing.PROVED, "promote", SHELF)
    assert proof.sentences == ("only spec.release of retail/shelf-detector changes, and its evidence",)


RIGHT: dict[str, tuple[str, str, object]] = {
    "retrain": ("retrain", "spec.training.nonce", "again"),
    "bump-data, one digest": ("bump-data", "spec.data.golden.uri.digest", digest("9")),
    "tune, all arguments": ("tune", "spec.training.args", {"epochs": 50, "imgsz": 640, "seed": 7}),
    "tune, one argument": ("tune", "spec.training.args.epochs", 50),
    "rollback": ("rollback", "spec.release", release(evidence=None, hold={"reason": "v7 failed"})),
}


@pytest.mark.parametrize(("intent", "field", "value"), RIGHT.values(), ids=RIGHT.keys())
def test_every_intent_may_change_its_own_field(studio: Studio, intent: str, field: str, value: object) -> None:
    """The field of the intent, or one below it; comments around it stay, and that is proved too."""
    text = edit(FULL, SHELF, field, value)
    proof = studio.judged(studio.push({FILE: text}, message(intent), branch=studio.branch(intent)))
    assert proof.standing is Standing.PROVED, proof.sentences


@pytest.mark.parametrize("field", ["spec.training.nonce", "spec.data.golden.uri.digest", "spec.training.args.epochs"])
def test_no_intent_may_change_the_field_of_another(studio: Studio, field: str) -> None:
    """A promotion that also retrains, changes data or tunes is refused, and the field is named."""
    value = {"nonce": "again", "digest": digest("9"), "epochs": 3}[field.rpartition(".")[2]]
    files = studio.promote() | {FILE: edit(str(studio.promote()[FILE]), SHELF, field, value)}
    proof = studio.judged(studio.push(files))
    assert proof.standing is Standing.REFUSED
    assert f"{field} of retail/shelf-detector changes; promote may change spec.release only" in proof.sentences[0]


def _replaced(old: str, new: str) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        text = str(files[FILE])
        assert old in text
        return files | {FILE: text.replace(old, new, 1)}

    return change


def _with(more: Files) -> Callable[[Files], Files]:
    return lambda files: files | more


def _without(path: str) -> Callable[[Files], Files]:
    return lambda files: {name: content for name, content in files.items() if name != path}


def _swapped(files: Files) -> Files:
    """Release other weights than those that the evidence is about; its digest is right."""
    return files | {FILE: edit(FULL, SHELF, "spec.release", release(weights=digest("e")))}


def _pinned(**changes: object) -> Callable[[Files], Files]:
    return lambda files: files | {FILE: edit(FULL, SHELF, "spec.release", release(**changes))}


WRONG: dict[str, tuple[Callable[[Files], Files], str]] = {
    "a comment elsewhere": (_replaced("# AutoML; Katib's words", "# AutoML"), "text outside its value"),
    "a comment in the new value": (_replaced(CONTENT["run"], f"{CONTENT['run']} # trust me"), "a comment"),
    "another document": (_with({FILE: FULL + "---\nb: 1\n"}), ""),
    "line endings": (lambda files: files | {FILE: str(files[FILE]).replace("\n", "\r\n")}, "text outside"),
    "broken YAML": (_replaced("version: 8", "version: [8"), "cannot be compared"),
    "not UTF-8": (lambda files: files | {FILE: str(files[FILE]).encode() + b"# \xff\n"}, "UTF-8"),
    "another file": (_with({"README.md": "theirs\n"}), "README.md: is no manifest; promote edits spec.release only"),
    "another manifest": (_with({"other.yaml": "a: 2\n"}), "it changes 2 files besides evidence (models/shelf.yaml, o"),
    "a workflow file": (_with({".github/workflows/x.yml": "on: push\n"}), "adds, removes and renames no file"),
    "a new manifest": (_with({"models/b.yaml": "a: 1\n"}), "models/b.yaml: promote adds"),
    "the manifest goes": (_with({FILE: None}), f"{FILE}: promote adds, removes and renames no file"),
    "the manifest moves": (lambda files: files | {FILE: None, "models/c.yaml": files[FILE]}, "renames no file"),
    "only evidence": (_without(FILE), "it changes 0 files besides evidence (none)"),
    "no evidence": (_without(f"{FOLDER}/evidence.json"), "evidence.json does not come with v8"),
    "evidence of another version": (_with({f"{FOLDER[:-1]}9/x.md": "x"}), "is not evidence of v8"),
    "evidence of another model": (_with({"evidence/retail.other/v8/x.md": "x"}), "x.md: promote adds"),
    "evidence with other bytes": (_with({f"{FOLDER}/evidence.json": evidence() + b" "}), "spec.release.evidence names"),
    "swapped weights": (_swapped, "is about something else"),
    "an older version": (_pinned(version=6), "the version goes from v7 to v6; a proposal counts up"),
    "the same version": (_pinned(version=7), "the version goes from v7 to v7"),
    "another previous": (_pinned(previous={**PREVIOUS, "version": 6}), "spec.release.previous is not v7"),
    "no previous": (_pinned(previous=None), "spec.release.previous is not v7"),
    "a denial less": (_pinned(deny=None), "spec.release.deny loses sha256:9"),
    "a denied run": (_pinned(deny=[*DENY, {"run": CONTENT["run"], "reason": "dark"}]), "is on spec.release.deny"),
    "no release": (lambda files: files | {FILE: edit(FULL, SHELF, "spec.release", None)}, "never removes a release"),
}


@pytest.mark.parametrize(("sabotage", "told"), WRONG.values(), ids=WRONG.keys())
def test_one_thing_more_is_refused(studio: Studio, sabotage: Callable[[Files], Files], told: str) -> None:
    """Whatever a promotion does besides, however small, the proof refuses it and says what."""
    proof = studio.judged(studio.push(sabotage(studio.promote())))
    assert proof.standing is Standing.REFUSED
    assert told in proof.sentences[0]


def _program(clone: Path) -> None:
    (clone / FILE).chmod(0o755)


def _link(clone: Path) -> None:
    (clone / FOLDER).mkdir(parents=True)
    (clone / FOLDER / "more.md").symlink_to("/etc/passwd")


def _manifest_link(clone: Path) -> None:
    (clone / FILE).unlink()
    (clone / FILE).symlink_to("../README.md")


def _submodule(clone: Path) -> None:
    git(clone, "update-index", "--add", "--cacheinfo", f"160000,{git(clone, 'rev-parse', 'HEAD')},{FOLDER}/sub")
    (clone / FOLDER / "sub").mkdir(parents=True)


def _executable(clone: Path) -> None:
    (clone / FOLDER).mkdir(parents=True)
    (clone / FOLDER / "run.sh").write_text("echo\n")
    os.chmod(clone / FOLDER / "run.sh", 0o755)  # noqa: PTH101


MODES = {
    "manifest becomes a program": (_program, "its mode changes from 100644 to 100755", True),
    "evidence is a link": (_link, "has mode 120000; evidence is plain files", True),
    "manifest becomes a link": (_manifest_link, "is a symbolic link or a submodule", False),
    "evidence is a submodule": (_submodule, "has mode 160000", True),
    "evidence is a program": (_executable, "has mode 100755", True),
}


@pytest.mark.parametrize(("disturb", "told", "edited"), MODES.values(), ids=MODES.keys())
def test_file_modes_count(studio: Studio, disturb: Callable[[Path], object], told: str, *, edited: bool) -> None:
    """Links, submodules and programs are refused although every text is right."""
    files = studio.promote() if edited else {k: v for k, v in studio.promote().items() if k != FILE}
    proof = studio.judged(studio.push(files, before=disturb))
    assert proof.standing is Standing.REFUSED
    assert told in proof.sentences[0]


def test_evidence_is_written_once(fresh: Studio) -> None:
    """A proposal that changes evidence which is there already is refused."""
    fresh.base = fresh.hub.commit({f"{FOLDER}/report.md": "# older\n"}, "There already", branch="main")
    proof = fresh.judged(fresh.push(fresh.promote()))
    assert proof.standing is Standing.REFUSED
    assert "evidence is written once" in proof.sentences[0]


def test_nothing_is_promoted_past_a_hold(fresh: Studio) -> None:
    """A proposal that takes the hold away is refused: a person must."""
    held = FULL.replace("    hold: null", "    hold: {reason: a fair}")
    fresh.base = fresh.hub.commit({FILE: held}, "Hold", branch="main")
    text = edit(held, SHELF, "spec.release", release())
    proof = fresh.judged(fresh.push(fresh.promote() | {FILE: text}))
    assert "spec.release.hold is set" in proof.sentences[0]


NONCE = "accuracy-v7-20261126T100000Z"
ASKED = f"evidence/retail.shelf-detector/signals/{NONCE}"


def _asked(**changes: Any) -> Files:
    """Give the files of a right proposal to retrain, with changes to what its evidence says."""
    told = {"model": str(SHELF), "field": "spec.training.nonce", "nonce": NONCE} | changes
    text = edit(FULL, SHELF, "spec.training.nonce", NONCE)
    return {FILE: text, f"{ASKED}/signals.json": json.dumps(told), f"{ASKED}/report.md": "# asked\n"}


def test_a_retraining_is_proved_with_its_evidence_and_without(studio: Studio) -> None:
    """Only the nonce changes; what asks for it lies in the folder that the nonce names."""
    branch = studio.branch("retrain")
    proof = studio.judged(studio.push(_asked(), message("retrain"), branch=branch))
    assert (proof.standing, proof.sentences) == (
        Standing.PROVED, (f"only spec.training.nonce of {SHELF} changes, and its evidence",)
    )  # fmt: skip
    bare: Files = {FILE: _asked()[FILE]}
    assert studio.judged(studio.push(bare, message("retrain"), branch=branch)).standing is Standing.PROVED


FORGED: dict[str, tuple[Files, str]] = {
    "evidence of a release": ({f"{FOLDER}/x.md": "x"}, "is not evidence of what asks for this retraining"),
    "no record": ({f"{ASKED}/signals.json": None}, "signals.json does not come with the nonce"),
    "no JSON": ({f"{ASKED}/signals.json": "{"}, "signals.json is no JSON"),
    "another nonce": ({f"{ASKED}/signals.json": _asked(nonce="x")[f"{ASKED}/signals.json"]}, "about something else"),
    "another model": ({f"{ASKED}/signals.json": _asked(model="x")[f"{ASKED}/signals.json"]}, "about something else"),
}


@pytest.mark.parametrize(("changes", "told"), FORGED.values(), ids=FORGED.keys())
def test_forged_evidence_of_a_retraining_is_refused(studio: Studio, changes: Files, told: str) -> None:
    """It is about this nonce of this model, or it is none."""
    files = {path: text for path, text in (_asked() | changes).items() if text is not None}
    proof = studio.judged(studio.push(files, message("retrain"), branch=studio.branch("retrain")))
    assert proof.standing is Standing.REFUSED
    assert told in proof.sentences[0]


CLAIMS = {
    "no trailer": ("Promote\n", None, "has no Trunkline-Intent trailer"),
    "another intent": (message("rollback"), None, "branch and commit claim different things: promote"),
    "another model": (message(model="retail/other"), None, "claim different things"),
    "an intent that is none": (message("delete"), "mine", "claims the intent 'delete', which does not exist"),
    "a model that is not there": (message(model="retail/other"), "mine", "retail/other cannot be compared"),
}


@pytest.mark.parametrize(("text", "branch", "told"), CLAIMS.values(), ids=CLAIMS.keys())
def test_a_forged_claim_is_refused(studio: Studio, text: str, branch: str | None, told: str) -> None:
    """Branch and commit must claim the same, and something that exists."""
    files = studio.promote()
    if branch:
        files = {FILE: files[FILE]}
    proof = studio.judged(studio.push(files, text, branch=branch))
    assert proof.standing is Standing.REFUSED
    assert told in proof.sentences[0]


def test_a_trailer_alone_is_a_claim(studio: Studio) -> None:
    """The proposal's commit on a branch of any name is proved likewise, or refused likewise."""
    assert studio.judged(studio.push(studio.promote(), branch="cherry")).standing is Standing.PROVED
    bad = studio.promote() | {"README.md": "theirs\n"}
    assert studio.judged(studio.push(bad, branch="cherry")).standing is Standing.REFUSED


def test_another_persons_commit_detaches(studio: Studio) -> None:
    """From then on it is theirs: nothing is proved and nothing refused, and the commit is named."""
    studio.push(studio.promote())
    sha = studio.hub.commit({"README.md": "a word\n"}, "A word", branch=studio.branch())
    proof = studio.judged(studio.seen(studio.branch()))
    assert (proof.standing, proof.intent, proof.key) == (Standing.DETACHED, "promote", SHELF)
    assert sha[:12] in proof.sentences[0]


def test_who_collects_proposals_makes_a_change_of_their_own(studio: Studio) -> None:
    """A branch of another name with several commits claims nothing, although one of them was a proposal."""
    studio.push(studio.promote(), branch="collected")
    studio.hub.commit({"README.md": "a word\n"}, "A word", branch="collected")
    assert studio.judged(studio.seen("collected")).standing is Standing.UNCLAIMED


def test_a_merge_of_the_target_detaches(fresh: Studio) -> None:
    """The forge's own button for bringing a branch up to date makes a commit of a person."""
    fresh.push(fresh.promote())
    fresh.hub.commit({"other.txt": "x\n"}, "Meanwhile", branch="main", start="origin/main")
    git(fresh.hub.clone, "checkout", "-q", fresh.branch())
    git(fresh.hub.clone, "merge", "-q", "--no-ff", "-m", "Bring up to date", "main")
    git(fresh.hub.clone, "push", "-q", "origin", fresh.branch())
    assert fresh.judged(fresh.seen(fresh.branch(), fresh.hub.head())).standing is Standing.DETACHED


def test_the_target_may_move_on(fresh: Studio) -> None:
    """What is proved is the step from where the branch left its target, not the distance to its newest commit."""
    fresh.push(fresh.promote())
    head = fresh.hub.commit({"other.txt": "x\n", FILE: FULL + "# more\n"}, "On", branch="main", start="origin/main")
    assert fresh.judged(fresh.seen(fresh.branch(), head)).standing is Standing.PROVED


def test_somebodys_own_is_not_a_claim(studio: Studio) -> None:
    """A person's branch is not judged here, whatever it changes."""
    change = studio.push(studio.promote(), "Mine\n", branch="mine")
    assert studio.judged(change).standing is Standing.UNCLAIMED
    assert studio.judged(studio.push({}, "Nothing\n", branch="trunkline/nonsense")).standing is Standing.UNCLAIMED


BEFORE = {
    "repoURL": "https://git.example.com/d.git", "targetRevision": "v1", "path": "d.dvc",
    "digest": f"md5:{'1' * 32}.dir",
}  # fmt: skip
AFTER = BEFORE | {"targetRevision": "v2", "digest": f"md5:{'2' * 32}.dir"}
DATA = "evidence/retail.shelf-detector/data/aaaaaaaaaaaa-bbbbbbbbbbbb"
TRAIN = """\
    train:
      dvc:
        repoURL: https://git.example.com/d.git
        targetRevision: v1   # the release
        path: d.dvc
        digest: "md5:{}.dir"
"""


def _bump(studio: Studio) -> Files:
    """Give the files of a right proposal of newer data, in a repository whose model has its data in DVC."""
    text = re.sub(r"    train:.*\n(      .*\n)*", TRAIN.format("1" * 32), FULL)
    git(studio.hub.clone, "checkout", "-q", "-B", "main", studio.base)
    studio.base = studio.hub.commit({FILE: text})
    for name in ("digest", "targetRevision"):
        text = edit(text, SHELF, f"spec.data.train.dvc.{name}", AFTER[name])
    told = {"model": str(SHELF), "field": "spec.data.train", "before": {"dvc": BEFORE}, "after": {"dvc": AFTER}}
    return {FILE: text, f"{DATA}/data.json": json.dumps(told), f"{DATA}/report.md": "# v2\n"}


def test_newer_data_is_proved_with_its_evidence(fresh: Studio) -> None:
    """Several values change, the comment between them stays; the evidence is about exactly this change."""
    files = _bump(fresh)
    proof = fresh.judged(fresh.push(files, message("bump-data"), branch=fresh.branch("bump-data")))
    fields = "spec.data.train.dvc.digest and spec.data.train.dvc.targetRevision"
    assert proof.sentences == (f"only {fields} of retail/shelf-detector changes, and its evidence",)
    assert proof.standing is Standing.PROVED


WRONG_DATA: dict[str, tuple[Callable[[Files], Files], str]] = {
    "another digest than the evidence": (_replaced("2" * 32, "3" * 32), "is about something else"),
    "a comment between the values": (_replaced("# the release", "# trust me"), "comment"),
    "evidence of a release": (_with({"evidence/retail.shelf-detector/v8/x.md": "x"}), "is not evidence about data"),
    "evidence in two folders": (_with({f"{DATA[:-1]}c/x.md": "x"}), "in 2 folders"),
    "pictures alone": (_without(f"{DATA}/data.json"), "data.json does not come with"),
    "no JSON": (_with({f"{DATA}/data.json": "x"}), "is no JSON"),
    "a release besides": (
        lambda files: files | {FILE: edit(str(files[FILE]), SHELF, "spec.release", release())},
        "bump-data may change spec.data only",
    ),
}


@pytest.mark.parametrize(("sabotage", "told"), WRONG_DATA.values(), ids=WRONG_DATA.keys())
def test_newer_data_and_one_thing_more_is_refused(
    fresh: Studio, sabotage: Callable[[Files], Files], told: str
) -> None:
    """Evidence about other data, of another kind or in other places, and edits beyond single values."""
    files = sabotage(_bump(fresh))
    proof = fresh.judged(fresh.push(files, message("bump-data"), branch=fresh.branch("bump-data")))
    assert proof.standing is Standing.REFUSED
    assert told in proof.sentences[0]


def test_evidence_about_data_is_written_once(fresh: Studio) -> None:
    """What is on the tracked branch already is not changed by a proposal."""
    files = _bump(fresh)
    fresh.base = fresh.hub.commit({f"{DATA}/report.md": "# as it was\n"})
    proof = fresh.judged(fresh.push(files, message("bump-data"), branch=fresh.branch("bump-data")))
    assert "written once" in proof.sentences[0]
