"""The stories of watched models, told end to end on real pictures with real trainings, in short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both stories are told, so that the second one need not train the model that both begin with."""
    return tmp_path_factory.mktemp("stories")


def _tell(example: str, folder: Path, *options: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, f"examples/{example}/demo.py", "--short", "--folder", str(folder), *options], cwd=ROOT,
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.ml
@pytest.mark.timeout(600)
def test_light_fades_and_the_model_is_mended(folder: Path) -> None:
    """Accuracy is estimated without labels, falls, alarms; labels and two merges mend it. The example checks all of it.

    Nothing is released that no person merged, and no request fails.
    """
    told = _tell("07-shop-shelf", folder / "shelf")
    assert "in the same dark" in told
    assert "0 failed" in told
    assert (folder / "shelf/shop-shelf.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.ml
@pytest.mark.timeout(600)
def test_a_new_variant_is_noticed_labelled_and_learned(folder: Path) -> None:
    """Confidence falls, parts are kept and labelled, a better version is swapped in. The example checks all of it."""
    trained = folder / "shelf"
    told = _tell("06-factory-line", folder / "line", *(["--trained", str(trained)] if trained.exists() else []))
    assert "with the new version" in told
    assert "0 failed" in told
    assert (folder / "line/factory-line.png").read_bytes().startswith(b"\x89PNG")
