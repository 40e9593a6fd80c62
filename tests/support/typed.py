"""The command line as a person types it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from controller.cli import cli
from tests.support.gitrepo import PERSON

ROOT = Path(__file__).parents[2]
WHO = {"GIT_AUTHOR_NAME": PERSON[0], "GIT_AUTHOR_EMAIL": PERSON[1], "COLUMNS": "300"}


def trunkline(folder: Path, *words: str) -> Result:
    """Type a command in a folder, without starting a process; what it raises is in the result."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(cli, words, env=WHO)


def said(folder: Path, *words: str) -> str:
    """Type a command that must succeed; give what it printed."""
    result = trunkline(folder, *words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def process(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command in a real process."""
    command = [sys.executable, "-m", "controller.cli", *words]
    surroundings = {**os.environ, **WHO, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command that goes on."""
    command = [sys.executable, "-m", "controller.cli", *words]
    surroundings = {**os.environ, **WHO, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=surroundings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
