"""The example of a search that is killed half-way, told end to end on real pictures with real trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.ml
@pytest.mark.timeout(600)
def test_a_killed_search_goes_on_and_its_answer_serves(tmp_path: Path) -> None:
    """Every claim that the example prints is checked by the example itself; here it must come to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "examples/05-tuning/demo.py", "--short", "--folder", str(tmp_path / "demo")], cwd=ROOT,
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "were not repeated" in done.stdout
