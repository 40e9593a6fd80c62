"""The example of data from a DVC repository, told end to end on real pictures with real trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.ml
@pytest.mark.timeout(600)
def test_a_data_commit_becomes_a_serving_model(tmp_path: Path) -> None:
    """Every claim that the example prints is checked by the example itself; here it must come to its end.

    Nothing is left running, and neither repository has a commit that no person or proposal made.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "examples/03-dvc/demo.py", "--short", "--folder", str(tmp_path / "demo")], cwd=ROOT,
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "a push to a data repository made" in done.stdout
    authors = subprocess.run(
        ["git", "--git-dir", str(tmp_path / "demo/models.git"), "log", "--first-parent", "--format=%an", "main"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *merged, begun = authors.stdout.splitlines()
    assert (set(merged), begun) == ({"Ada"}, "Trunkline")  # `init` began it; a person merged all that came after
