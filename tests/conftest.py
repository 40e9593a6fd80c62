"""What all tests share: a world without the settings of whoever runs them, and how tests are dealt to workers."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from tests.support.apiserver import api_server
from tests.support.mlflow_server import mlflow_server

__all__ = ["api_server", "mlflow_server"]  # fixtures for all tests: one server each in a run

# Examples are never timed: the machine that runs them may be busy.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.register_profile("thorough", settings.get_profile("local"), max_examples=2000)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the property tests' profile, and cut every tie to the settings of whoever runs the tests."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "local"))
    config.stash[_SCRATCH] = scratch = tempfile.TemporaryDirectory(prefix="trunkline-tests-")
    foreign = [name for name in os.environ if name == "KUBECONFIG" or name.startswith(("AWS_", "GIT_", "TRUNKLINE_"))]
    for name in foreign:
        del os.environ[name]
    os.environ |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": scratch.name,
        "YOLO_OFFLINE": "true",
    }
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the other worker wants a core too


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what ``pytest_configure`` made."""
    config.stash[_SCRATCH].cleanup()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that would fight over the cores, or share something dear, in one worker."""
    for item in items:
        if item.get_closest_marker("ml") or "mlflow_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ml"))
        elif "api_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("api_server"))


_SCRATCH = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
