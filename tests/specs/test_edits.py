"""Edits of manifests keep every other byte, and the proof sees every byte that does not stay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import UnsafeEdit
from specs.manifest import INTENT_FIELDS, edit, parse, prove
from specs.modelspec import ModelKey
from specs.names import INTENTS

HERE = Path(__file__).parent
CASES = sorted(path for path in (HERE / "edits").iterdir() if path.is_dir())
SMALLEST = (HERE / "smallest.yaml").read_text()
FULL = (HERE / "full.yaml").read_text()
DIGITS = ModelKey("default", "digits")
SHELF = ModelKey("retail", "shelf-detector")


def digest(character: str) -> str:
    """Give a digest that is easy to tell from others."""
    return "sha256:" + character * 64


RELEASE: dict[str, Any] = {
    "version": 8, "run": digest("a"), "weights": digest("b"), "exports": {"onnx": digest("c"), "trt": digest("d")},
}  # fmt: skip


def case(path: Path) -> tuple[str, str, ModelKey, str, Any]:
    """Read a golden directory: before, after, key, field, value. Bytes as they are, so that CRLF stays."""
    wanted = json.loads((path / "edit.json").read_text())
    before, after = ((path / name).read_bytes().decode() for name in ("before.yaml", "after.yaml"))
    return before, after, ModelKey(*wanted["key"].split("/")), wanted["field"], wanted["value"]


@pytest.mark.parametrize("path", CASES, ids=[path.name for path in CASES])
class TestGolden:
    def test_the_edit_gives_the_file_beside_it(self, path: Path) -> None:
        """An edit of the file before gives the file after, byte for byte."""
        before, after, key, field, value = case(path)
        assert edit(before, key, field, value) == after

    def test_the_edit_is_proved(self, path: Path) -> None:
        """The proof accepts what the edit made."""
        before, after, key, field, value = case(path)
        prove(before, after, key, field, value)

    def test_doing_it_again_changes_nothing_more(self, path: Path) -> None:
        """An edit that was done already says the same once more."""
        _, after, key, field, value = case(path)
        again = edit(after, key, field, value)
        assert parse(again, "", key).model == parse(after, "", key).model

    def test_the_empty_edit_is_no_proof(self, path: Path) -> None:
        """A file that did not change does not have the wanted value."""
        before, _, key, field, value = case(path)
        with pytest.raises(UnsafeEdit, match="wanted value"):
            prove(before, before, key, field, value)


def test_every_intent_says_what_it_may_edit() -> None:
    """The table of fields knows each intent of a proposal and no other."""
    assert set(INTENT_FIELDS) == set(INTENTS)


def test_the_proof_of_a_missing_field_removed_is_that_nothing_changed() -> None:
    """Removing what is not there gives the same text, and only the same text is proved."""
    assert edit(SMALLEST, DIGITS, "spec.release", None) == SMALLEST
    prove(SMALLEST, SMALLEST, DIGITS, "spec.release", None)
    with pytest.raises(UnsafeEdit, match="nothing to remove"):
        prove(SMALLEST, SMALLEST + "\n", DIGITS, "spec.release", None)


NESTED = "kind: ModelSpec\napiVersion: trunkline.dev/v1alpha1\nmetadata: {name: digits}\n"
REFUSED: dict[str, tuple[str, str, Any, str]] = {
    "another field": (SMALLEST, "spec.task", "detect", "not a field that Trunkline edits"),
    "the whole spec": (SMALLEST, "spec", {}, "not a field that Trunkline edits"),
    "a field of like name": (SMALLEST, "spec.releases", {}, "not a field that Trunkline edits"),
    "labels": (SMALLEST, "metadata.labels", {"a": "b"}, "not a field that Trunkline edits"),
    "no parent": (SMALLEST, "spec.training.args.epochs", 3, "spec.training.args is not there"),
    "parent is empty": (NESTED + "spec:\n", "spec.release", RELEASE, "spec is not there or no mapping"),
    "not found": (SMALLEST.replace("digits", "other"), "spec.release", RELEASE, "holds 0 ModelSpecs default/digits"),
    "found twice": (f"{SMALLEST}---\n{SMALLEST}", "spec.release", RELEASE, "holds 2 ModelSpecs"),
    "broken YAML": (SMALLEST + " x: [", "spec.release", RELEASE, "cannot be read: not YAML"),
    "anchor": (SMALLEST.replace("task: ", "task: &t "), "spec.release", RELEASE, "line 6: has an anchor"),
    "alias": (SMALLEST.replace("classify", "*t"), "spec.release", RELEASE, "line 6: refers to an anchor"),
    "merge key": (SMALLEST.replace("task:", "<<: {}\n  task:"), "spec.release", RELEASE, "merge keys are not read"),
    "tag": (SMALLEST.replace("task: ", "task: !!str "), "spec.release", RELEASE, "has the tag"),
    "duplicate key": (SMALLEST + "  release: {}\n  release: {}\n", "spec.release", RELEASE, "is given twice"),
    "tab": (SMALLEST + "  gates: [\n\t]\n", "spec.release", RELEASE, "begin with a tab"),
    "explicit key": (SMALLEST + "  ? release\n  : {}\n", "spec.release", RELEASE, "not written as 'key: value'"),
    "only field": (SMALLEST + "    nodeSelector:\n", "spec.data.train", None, "the only field where it stands"),
    "NaN": (SMALLEST, "spec.training.nonce", math.nan, "cannot be written as YAML"),
    "an object": (SMALLEST, "spec.training.nonce", object(), "cannot be written as YAML"),
    "lone surrogate": (SMALLEST, "spec.training.nonce", "\ud800", "cannot be written as YAML"),
}


@pytest.mark.parametrize(("text", "field", "value", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_edited_safely_is_refused_with_a_reason(text: str, field: str, value: Any, words: str) -> None:
    """The error says which document or field is in the way, and how."""
    with pytest.raises(UnsafeEdit) as caught:
        edit(text, DIGITS, field, value)
    assert words in caught.value.message


def test_a_wrong_model_in_the_same_file_stops_no_other() -> None:
    """A broken neighbour is neither judged nor touched."""
    bad = SMALLEST.replace("digits", "bad", 1).replace("classify", "nonsense")
    before = f"{bad}---\n{SMALLEST}"
    after = edit(before, DIGITS, "spec.training.nonce", "again")
    prove(before, after, DIGITS, "spec.training.nonce", "again")
    assert after.startswith(f"{bad}---\n")


SCALARS = st.one_of(
    st.integers(-5, 10**6), st.booleans(), st.floats(1e-9, 1e9), st.sampled_from(["auto", "no", "1:2", "a b"])
)
ARGS = st.dictionaries(
    st.sampled_from(["epochs", "lr0", "imgsz", "optimizer", "mixup", "classes", "cos_lr", "on"]),
    st.one_of(SCALARS, st.none(), st.lists(SCALARS, max_size=3)), max_size=5,
)  # fmt: skip
RELEASES = st.builds(
    lambda version, letter, names, hold: {
        "version": version,
        "run": digest(letter),
        "weights": digest("b"),
        "exports": {name: digest(letter) for name in names},
        "previous": None,
        "deny": [],
        "hold": {"reason": hold} if hold else None,
    },
    st.integers(1, 99),
    st.sampled_from("abcdef0123456789"),
    st.lists(st.sampled_from(["onnx", "trt"]), min_size=1, unique=True),
    st.sampled_from(["", "yes", "see: wiki", "é"]),
)
WANTED: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("spec.release"), st.one_of(st.none(), RELEASES)),
    st.tuples(
        st.just("spec.training.nonce"), st.one_of(st.none(), st.sampled_from(["", "a", "1", "no", "x: y", "n # o"]))
    ),
    st.tuples(st.just("spec.training.args"), st.one_of(st.none(), ARGS)),
    st.tuples(st.just("spec.data.train.uri.digest"), st.sampled_from([digest("a"), digest("b"), None])),
    st.tuples(
        st.just("spec.data.expect"),
        st.sampled_from([None, {"minImages": 3}, {"classes": ["a", "no"], "minImages": None}]),
    ),
)

COMMENTS = ["", "  # why", "\t# tab", "  # {[\"'"]
LINES = ["", "# a line", "    # deep: [", "#"]
# In these texts @ stands for one step of indentation.
NONCES = ["", "nonce: ''", 'nonce: "a"', "nonce: |-\n@@@abc", "nonce: >-\n@@@abc\n@@@def", "nonce: a b"]
ARGUMENTS = ["", "args: {}", "args: {epochs: 1, lr0: 1e-3}", "args:\n@@@epochs: 2\n@@@imgsz: [32, 32]",
             "args: {\n@@@epochs: 2,\n@@@}", "args:\n@@@# first\n@@@epochs: 2"]  # fmt: skip
DATA = [f"data: {{train: {{uri: {{url: 'store://x', digest: '{digest('f')}'}}}}}}",
        f"data:\n@@train:\n@@@uri:\n@@@@url: store://x\n@@@@digest: {digest('f')}"]  # fmt: skip
RELEASED = [
    "",
    "release:",
    "release: null",
    f"release: {{version: 1, run: {digest('1')}, weights: '{digest('2')}', exports: {{onnx: {digest('3')}}}}}",
    f"release:\n@@version: 1\n@@run: {digest('1')}\n@@weights: {digest('2')}\n@@exports:\n@@@onnx: {digest('3')}",
]
EXPORTS = [
    "exports:\n@- name: onnx\n@  format: onnx\n@- {name: trt, format: engine}",
    "exports: [{name: onnx, format: onnx}]",
    "exports:\n@@- name: onnx\n@@  format: onnx",
]
HEAD = "apiVersion: trunkline.dev/v1alpha1\nkind: ModelSpec\nmetadata: {name: digits}\nspec:"


@st.composite
def files(draw: st.DrawFn) -> str:
    """Give a file with a valid ModelSpec in it, written by somebody with habits of their own."""
    training = ["model: yolo26n-cls.yaml", draw(st.sampled_from(NONCES)), draw(st.sampled_from(ARGUMENTS))]
    training = [f"@@{line}" for line in draw(st.permutations(training)) if line]
    sections = [
        "task: classify",
        draw(st.sampled_from(DATA)),
        draw(st.sampled_from(EXPORTS)),
        draw(st.sampled_from(RELEASED)),
        "\n".join(["training:", *training]),
    ]
    body = "\n".join([HEAD, *(f"@{section}" for section in draw(st.permutations(sections)) if section)])
    lines = [
        with_noise(line, draw) for line in body.replace("@", " " * draw(st.sampled_from([1, 2, 3, 4, 8]))).split("\n")
    ]
    before = draw(st.sampled_from(["", "a: 1 # x\n---\n", "---\n", "# top\n"]))
    after = draw(st.sampled_from(["", "\n", "\n\n", "\n---\nb: 2", "\n...\n"]))
    return (before + "\n".join(lines) + after).replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def with_noise(line: str, draw: st.DrawFn) -> str:
    """Add comments where YAML allows them: not within block scalars."""
    if line.strip() in ("abc", "def") or line.endswith(("|-", ">-")):
        return line
    return (
        line + draw(st.sampled_from(COMMENTS)) + draw(st.sampled_from(["", "", "", *(f"\n{extra}" for extra in LINES)]))
    )


@settings(max_examples=200, deadline=None)
@given(text=files(), wanted=WANTED)
def test_any_edit_of_any_file_is_proved_or_refused(text: str, wanted: tuple[str, Any]) -> None:
    """However a file is written, an edit either keeps every other byte, which is proved, or does not happen."""
    field, value = wanted
    parse(text, "", DIGITS)
    after = edit(text, DIGITS, field, value)
    prove(text, after, DIGITS, field, value)
