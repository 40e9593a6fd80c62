"""The proof of an edit sees every byte that does not stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specs.errors import UnsafeEdit
from specs.manifest import edit, prove
from specs.modelspec import ModelKey

HERE = Path(__file__).parent
FULL = (HERE / "full.yaml").read_text()
SHELF = ModelKey("retail", "shelf-detector")


def digest(character: str) -> str:
    """Give a digest that is easy to tell from others."""
    return "sha256:" + character * 64


RELEASE: dict[str, Any] = {
    "version": 8, "run": digest("a"), "weights": digest("b"), "exports": {"onnx": digest("c"), "trt": digest("d")},
}  # fmt: skip


def replace(old: str, new: str) -> Callable[[str], str]:
    """Give a sabotage that replaces one text by another, which must be there."""

    def sabotage(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return sabotage


OTHER = "---\nkind: ConfigMap  # theirs\ndata: {a: 1}\n"
SABOTAGES: dict[str, Callable[[str], str]] = {
    "another field": replace("epochs: 100", "epochs: 101"),
    "a field's notation": replace("suspend: false", "suspend: False"),
    "a field that says its default": replace("  suspend: false\n", ""),
    "order of fields": replace("  task: detect                     # detect | segment | classify | pose | obb\n", ""),
    "another document": replace("data: {a: 1}", "data: {a: 2}"),
    "a comment of another document": replace("# theirs", "# ours"),
    "a document more": lambda text: text + "---\nb: 1\n",
    "a document less": replace(OTHER, ""),
    "a comment elsewhere": replace("# AutoML; Katib's words", "# AutoML"),
    "a comment on the key's line": replace("# the bot edits this, by pull request", "# the bot edits this"),
    "a comment on the key's line gone": replace("# the bot edits this, by pull request; nobody else has to", ""),
    "a comment within the new value": replace(f"run: {RELEASE['run']}", f"run: {RELEASE['run']}  # trust me"),
    "trailing space elsewhere": replace('nonce: "" ', 'nonce: ""  '),
    "line endings": lambda text: text.replace("\n", "\r\n"),
    "a line break at the end": lambda text: text + "\n",
    "another value": replace(RELEASE["run"], digest("e")),
    "a part of the value missing": replace(f"    weights: {RELEASE['weights']}\n", ""),
    "a part of the value added": replace("    version: 8\n", "    version: 8\n    hold: {reason: mine}\n"),
    "a number as a text": replace("version: 8", 'version: "8"'),
    "the field removed": lambda text: edit(text, SHELF, "spec.release", None),
    "a field of the same room": replace("    version: 8\n", "    version: 8\n  suspend: true\n"),
    "an anchor": replace("version: 8", "version: &v 8"),
    "broken YAML": replace("version: 8", "version: [8"),
    "nothing at all": lambda _: "",
}  # fmt: skip


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_the_proof_catches_everything_that_an_edit_must_not_do(sabotage: Callable[[str], str]) -> None:
    """A right edit with one more change, wherever and however small, is not proved."""
    before = FULL + OTHER
    after = edit(before, SHELF, "spec.release", RELEASE)
    prove(before, after, SHELF, "spec.release", RELEASE)
    bad = sabotage(after)
    assert bad != after
    with pytest.raises(UnsafeEdit):
        prove(before, bad, SHELF, "spec.release", RELEASE)


def test_the_proof_refuses_a_value_that_makes_no_valid_model() -> None:
    """A release that the models refuse does not get into a pull request, however exact the edit is."""
    wrong = RELEASE | {"version": 0}
    with pytest.raises(UnsafeEdit, match="not valid after the edit"):
        prove(FULL, edit(FULL, SHELF, "spec.release", wrong), SHELF, "spec.release", wrong)
