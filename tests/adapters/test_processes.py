"""Locks that tell who lives: inherited, asked about without being taken, gone with the last holder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from adapters.processes import child_environment, held, locked, terminate, write_text
from specs.errors import Transient
from tests.support.living import until


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """Who comes second gets None; after the first let go, the lock is free."""
    path = tmp_path / "folder" / "lock"
    assert not held(path)
    with locked(path) as first:
        assert first is not None
        assert held(path)
        with locked(path) as second:
            assert second is None
        assert held(path)
    assert not held(path)


def test_a_child_goes_on_holding(tmp_path: Path) -> None:
    """A process that inherited the lock holds it after its starter let go, until it ends."""
    path = tmp_path / "lock"
    with locked(path) as descriptor:
        assert descriptor is not None
        child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    assert held(path)
    child.kill()
    until(lambda: not held(path))
    child.wait()


def test_a_new_holder_starts_without_a_number(tmp_path: Path) -> None:
    """The process number of the last holder is gone before a new one writes its own: nobody signals a stranger."""
    path = tmp_path / "lock"
    path.write_text("12345\n")
    with locked(path):
        assert path.read_text() == ""
        with pytest.raises(Transient, match="outlive even SIGKILL") as trouble:
            terminate([path], grace=-10)
    assert trouble.value.reason == "StillRunning"


def test_a_lock_of_a_folder_that_was_moved_away(tmp_path: Path) -> None:
    """A lock file in a folder that was moved away is no longer the lock of that place."""
    path = tmp_path / "folder" / "lock"
    with locked(path):
        path.parent.rename(tmp_path / "gone")
        assert not held(path)
        with locked(path) as descriptor:
            assert descriptor is not None


def test_what_is_given_comes_before_what_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children see allowed variables only, and what they are given wins."""
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("GITHUB_TOKEN", "canary")
    environment = child_environment({"LANG": "de_DE.UTF-8"})
    assert environment["LANG"] == "de_DE.UTF-8"
    assert environment["OMP_NUM_THREADS"] == "7"
    assert "GITHUB_TOKEN" not in environment
    assert environment["PATH"] == os.environ["PATH"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Replacing a file leaves nothing else behind, and keeps the old one where the new one cannot be written."""
    path = tmp_path / "file"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "new"
