"""The example of tracking, as a person runs it: a real MLflow server, real trainings, a person who merges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "examples/04-mlflow-tensorboard/demo.py"


@pytest.mark.ml
@pytest.mark.timeout(900)
def test_the_example_of_tracking_proves_what_it_says(tmp_path: Path, mlflow_server: str) -> None:
    """Shown while it trains, whole afterwards, registered after the merge, and not to be moved: told, and checked."""
    command = [sys.executable, SCRIPT, "--mlflow", mlflow_server, "--folder", str(tmp_path / "demo")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as demo:
        try:
            told, _ = demo.communicate(timeout=840)
        finally:
            demo.terminate()  # it takes its agent, jobs and server with it
    assert demo.returncode == 0, told[-5000:]
    assert "digits@champion is version 1: release v1" in told
    assert "somebody removed the alias champion" in told
