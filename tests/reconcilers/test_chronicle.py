"""The chronicle of releases, from steps that are written down by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from reconcilers.chronicle import Chronicle, chronicle
from reconcilers.proving import Demands, prove_past
from specs.digests import digest_bytes
from specs.facts import Commit
from specs.manifest import edit
from specs.modelspec import ModelKey
from specs.past import Step
from tests.support.place import SPEC

DIGITS, LETTERS = ModelKey("default", "digits"), ModelKey("default", "letters")
TEXT = SPEC.replace("TRAIN", f"sha256:{'1' * 64}").replace("GOLDEN", f"sha256:{'2' * 64}")
OTHER = TEXT.replace("{name: digits}", "{name: letters}")
BOT = "Trunkline <trunkline@localhost>"


class Written:
    """A past that a test writes: the port, with contents named by their digests."""

    def __init__(self) -> None:
        self.line: list[Step] = []
        self.blobs: dict[str, bytes] = {}
        self._files: dict[str, str] = {}

    def steps(self, head: str) -> Sequence[Step]:
        return self.line

    def contents(self, blobs: Sequence[str]) -> Mapping[str, bytes]:
        return {name: self.blobs[name] for name in blobs}

    def commit(self, files: Mapping[str, str | None], author: str = "Ann <ann@x>", **trailers: str) -> str:
        """Add a commit; give its name."""
        changed = {}
        for path, text in files.items():
            data = None if text is None else text.encode()
            name = digest_bytes(data) if data is not None else ""
            if data is not None:
                self.blobs[name] = data
            changed[path] = (self._files.get(path, ""), name)
            self._files[path] = name
        sha = f"{len(self.line) + 1:040x}"
        named = tuple((f"Trunkline-{key.title()}", value) for key, value in trailers.items())
        parents = (self.line[-1].sha,) if self.line else ()
        self.line.append(Step(Commit(sha, author, 60 * len(self.line), "x", named), parents, author, "", changed))
        return sha

    def read(self, **options: Any) -> Chronicle:
        """Tell it."""
        return chronicle(self, "", **options)


def pinned(text: str, key: ModelKey, version: int, letter: str = "a", evidence: str | None = None) -> str:
    """Give the file with a release in it."""
    digest = f"sha256:{letter * 64}"
    value = {"version": version, "run": digest, "weights": digest, "exports": {"onnx": digest}, "evidence": evidence}
    return edit(text, key, "spec.release", value)


def hows(story: Chronicle, key: ModelKey = DIGITS) -> list[str]:
    """Give how each release of a model came."""
    return [event.how for event in story.events.get(key, [])]


def test_models_in_one_file_are_apart() -> None:
    """A release of one of them is no change of the other, and no edit of Trunkline outside its path."""
    past = Written()
    text = f"{TEXT}---\n{OTHER}"
    past.commit({"m.yaml": text})
    past.commit({"m.yaml": pinned(text, LETTERS, 1)}, BOT, intent="rollback", model=str(LETTERS))
    story = past.read()
    assert (hows(story), hows(story, LETTERS)) == ([], ["promoted"])
    assert [str(moment.key) for moment in story.moments] == [str(DIGITS), str(LETTERS), str(LETTERS)]
    codes = {each.code for each in prove_past(story, Demands("trunkline@localhost")).findings}
    assert "EditOutsidePath" not in codes


def test_a_comment_is_no_moment_but_part_of_what_edits_begin_from() -> None:
    """After a person's comment, an edit of Trunkline is compared with the file that has it."""
    past = Written()
    past.commit({"m.yaml": TEXT})
    text = TEXT.replace("# a person's model", "# another word")
    past.commit({"m.yaml": text})
    past.commit({"m.yaml": text.replace("epochs: 8", "epochs: 9")}, BOT, intent="tune", model=str(DIGITS))
    story = past.read()
    assert len(story.moments) == 2
    assert prove_past(story, Demands("trunkline@localhost")).findings == ()


def test_a_comment_that_trunkline_changed_shows() -> None:
    """It changes nothing that is meant, and still no commit of Trunkline may do it."""
    past = Written()
    past.commit({"m.yaml": TEXT})
    past.commit({"m.yaml": TEXT.replace("# a person's model", "# mine")}, BOT)
    (found,) = prove_past(past.read(), Demands("trunkline@localhost")).findings
    assert (found.code, found.found) == ("EditOutsidePath", "it changes m.yaml")


def test_a_model_in_two_files_is_the_first_of_them() -> None:
    """Nothing acts on it meanwhile; when one of the two goes, the other one holds."""
    past = Written()
    past.commit({"a.yaml": TEXT, "b.yaml": pinned(TEXT, DIGITS, 1)})
    past.commit({"a.yaml": None})
    assert hows(past.read()) == ["promoted"]


def test_only_files_below_the_prefix_count() -> None:
    """As everywhere else."""
    past = Written()
    past.commit({"models/a.yaml": pinned(TEXT, DIGITS, 1), "models-old/b.yaml": pinned(OTHER, LETTERS, 1)})
    story = past.read(prefix="models")
    assert (hows(story), hows(story, LETTERS)) == (["promoted"], [])


def test_names_select_what_is_read() -> None:
    """Files that do not hold the word are not parsed; those that do are, whatever else they hold."""
    past = Written()
    past.commit({"a.yaml": pinned(TEXT, DIGITS, 1), "b.yaml": pinned(OTHER, LETTERS, 1)})
    assert list(past.read(only="letters").events) == [LETTERS]


def test_an_old_version_with_other_evidence_is_altered() -> None:
    """Evidence cannot be pinned anew under a version that was released."""
    past = Written()
    past.commit({"a.yaml": pinned(TEXT, DIGITS, 1, evidence=f"sha256:{'5' * 64}")})
    past.commit({"a.yaml": pinned(TEXT, DIGITS, 1, evidence=f"sha256:{'6' * 64}")})
    assert hows(past.read()) == ["promoted", "altered"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_without_a_digest_are_no_evidence(number: str) -> None:
    """They would stop the proof where it computes a digest; they are told instead."""
    evidence = (
        f'{{"schema": "trunkline.dev/evidence/v1", "model": "default/digits", "version": 1, "release": {{"run": "R", '
        f'"weights": "R", "exports": {{"onnx": "R"}}}}, "inputs": {{"args": {number}}}, "source": {{"commit": "c"}}, '
        '"data": {}, "champion": {}, "exports": [], "gates": []}'
    ).replace('"R"', json.dumps(f"sha256:{'a' * 64}"))
    past = Written()
    past.commit({
        "a.yaml": pinned(TEXT, DIGITS, 1, evidence=digest_bytes(evidence.encode())),
        "evidence/default.digits/v1/evidence.json": evidence,
    })  # fmt: skip
    story = past.read()
    (event,) = story.events[DIGITS]
    assert event.proof is not None
    assert event.proof.state == "unreadable"
    assert {each.code for each in prove_past(story, Demands("t@x")).findings} >= {"EvidenceInvalid"}
