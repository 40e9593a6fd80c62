"""Places that are costly to make, made once for all tests that only look at them or copy them."""

from __future__ import annotations

import pytest

from tests.support.released import Repo, begun, told


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Give a place with releases that came and went in every way; nobody may change it."""
    return told(tmp_path_factory.mktemp("story") / "place")


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Give a place whose first release is proposed and not merged; nobody may change it."""
    return begun(tmp_path_factory.mktemp("first") / "place")
