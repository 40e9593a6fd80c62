"""Programs that some tests need: found, or the test is skipped aloud; where CI runs they must not be missing."""

from __future__ import annotations

import os
import shutil

import pytest


def needed(*names: str) -> str:
    """Give the path of the first program that is there, by any of its names."""
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    text = f"{names[0]} is not on PATH; install it to run this test"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)
