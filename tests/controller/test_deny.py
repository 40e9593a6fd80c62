"""``trunkline deny``: saying no for good is an edit that a person can read, apply and propose."""

from __future__ import annotations

from pathlib import Path

import pytest

from specs.errors import Stalled
from specs.manifest import parse
from specs.modelspec import ModelKey
from tests.support.gitrepo import Hub, git
from tests.support.place import SPEC
from tests.support.typed import trunkline

RUN = "sha256:" + "1" * 64
RELEASE = f"""\
  release:
    version: 1
    run: {RUN}   # the first
    weights: {RUN}
    exports: {{onnx: "{RUN}"}}
"""


def place(folder: Path, release: str = RELEASE) -> Hub:
    """Give a repository with a model, and settings beside it."""
    hub = Hub(folder)
    (folder / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\n')
    text = SPEC.replace("TRAIN", RUN).replace("GOLDEN", RUN.replace("1", "2"))
    hub.commit({"models/digits.yaml": f"{text.rstrip()}\n{release}"})
    return hub


@pytest.mark.parametrize("release", [RELEASE, RELEASE.rstrip("\n")], ids=["last line ended", "last line open"])
def test_what_it_prints_git_applies(tmp_path: Path, release: str) -> None:
    """The patch puts the candidate on the list and changes nothing else; then there is nothing left to print."""
    hub = place(tmp_path, release)
    patch = trunkline(tmp_path, "deny", "digits", "--reason", 'misses "new" shelves')
    assert patch.exit_code == 0, patch.output
    git(hub.clone, "apply", "-", stdin=patch.stdout.encode())
    text = (hub.clone / "models/digits.yaml").read_text()
    spec = parse(text, "", ModelKey("default", "digits")).model.spec
    assert spec.release is not None
    assert [(d.run, d.reason) for d in spec.release.deny or ()] == [(spec.inputs_digest, 'misses "new" shelves')]
    assert "# the first" in text
    hub.commit({})
    again = trunkline(tmp_path, "deny", "digits", "--reason", "x")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "on spec.release.deny already" in again.stderr
    other = trunkline(tmp_path, "deny", "digits", "--reason", "x", "--run", RUN)
    assert RUN in other.stdout


def test_before_the_first_release_there_is_no_list(tmp_path: Path) -> None:
    """It says what to do instead."""
    place(tmp_path, "")
    answer = trunkline(tmp_path, "deny", "digits", "--reason", "x")
    assert isinstance(answer.exception, Stalled)
    assert "close its proposal instead" in answer.exception.message


def test_a_reason_on_two_lines_is_refused(tmp_path: Path) -> None:
    """What would be no valid file is not printed."""
    place(tmp_path)
    answer = trunkline(tmp_path, "deny", "digits", "--reason", "a\nb")
    assert isinstance(answer.exception, Stalled)
    assert answer.stdout == ""
