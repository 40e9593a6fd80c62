from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.environment import describe, isolate, scratch, take_variables


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scratch folders go."""
    monkeypatch.setenv("TRUNKLINE_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"

ROOT = Path(__file__).parents[2]


def test_nothing_is_left_of_a_job(parent: Path) -> None:
    """The folder is private, empty, the working directory, and gone afterwards, also after an error."""
    before = Path.cwd()

    def fail() -> None:
        with scratch("job") as folder:
            assert Path.cwd() == folder
            assert folder.stat().st_mode & 0o077 == 0
            (folder / "file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert Path.cwd() == before
    assert list(parent.iterdir()) == []


def test_what_a_killed_attempt_left_is_swept(parent: Path) -> None:
    """A killed job cannot clean up; its next attempt does, but leaves an attempt alone that still runs."""
    for name in ("job.dead", "job.alive", "other.dead"):
        (parent / name).mkdir(parents=True)
        (parent / name / ".lock").touch()
    with (parent / "job.alive" / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with scratch("job"):
            assert {path.name for path in parent.iterdir()} >= {"job.alive", "other.dead"}
            assert not (parent / "job.dead").exists()


def test_the_environment_is_described() -> None:
    """A record names the interpreter, the machine and every installed package with its version."""
    found = describe()
    assert found.python == sys.version.split()[0]
    assert found.cores >= 1
    assert found.device == "cpu"
    assert found.packages["pydantic"]


def test_describing_loads_no_torch() -> None:
    """Asking for the device must not cost the seconds that importing torch takes."""
    code = "import sys; from workloads.environment import describe; describe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ultralytics_is_kept_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings lie in the scratch folder, nothing is downloaded or installed, checkpoints load restricted."""
    monkeypatch.setattr(os, "environ", {**os.environ, "ULTRALYTICS_API_KEY": "secret"})
    isolate(tmp_path)
    assert os.environ["YOLO_CONFIG_DIR"] == str(tmp_path / "settings")
    assert os.environ["YOLO_OFFLINE"] == os.environ["ULTRALYTICS_SAFE_LOAD"] == "true"
    assert os.environ["YOLO_AUTOINSTALL"] == "false"
    assert "ULTRALYTICS_API_KEY" not in os.environ


def test_files_of_a_folder_become_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mounted Secret has them: its own links are none, and what is set stays."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "AWS_SECRET_ACCESS_KEY").write_text("from the Secret")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").symlink_to("..data/AWS_SECRET_ACCESS_KEY")
    (tmp_path / "AWS_PROFILE").write_text("from the Secret")
    (tmp_path / "not-a-name").write_text("x")
    monkeypatch.setenv("AWS_PROFILE", "from elsewhere")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("TRUNKLINE_VARIABLES", str(tmp_path))
    before = set(os.environ)
    take_variables()
    assert set(os.environ) - before == {"AWS_SECRET_ACCESS_KEY"}
    assert (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_PROFILE"]) == ("from the Secret", "from elsewhere")
    monkeypatch.delenv("TRUNKLINE_VARIABLES")
    take_variables()


def test_what_setuptools_carries_inside_itself_is_not_installed() -> None:
    """Who imports setuptools gets its copies of other packages on the path; a record names what is really there."""
    code = (
        "from workloads.environment import packages\n"
        "before = packages()\n"
        "import setuptools, sys\n"
        "assert any(place.endswith('_vendor') for place in sys.path), 'setuptools does so no more: simplify'\n"
        "assert packages() == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
