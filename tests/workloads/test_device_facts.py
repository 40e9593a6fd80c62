"""What an engine depends on is read from what the machine says, without importing anything that needs a GPU."""

from __future__ import annotations

import pytest

from workloads.device_facts import describe, facts, unlike

TWO = """\
0, GPU-1a2b, NVIDIA A10, 8.6, 550.54.15
1, GPU-3c4d, NVIDIA RTX 6000 Ada, Generation, 8.9, 550.54.15
"""
VERSIONS = {"tensorrt": "10.4.0", "nvidia-cuda-runtime-cu12": "12.6.77"}
A10 = {"gpu": "NVIDIA A10", "computeCapability": "8.6", "driver": "550.54.15", "tensorrt": "10.4.0", "cuda": "12.6.77"}


def version(name: str) -> str:
    """Give the version of what is installed."""
    return VERSIONS.get(name, "")


@pytest.mark.parametrize(
    ("visible", "gpu"),
    [
        (None, "NVIDIA A10"), ("0", "NVIDIA A10"), ("1,0", "NVIDIA RTX 6000 Ada, Generation"),
        ("GPU-3c", "NVIDIA RTX 6000 Ada, Generation"), ("", None), ("-1", None),
    ],
)  # fmt: skip
def test_the_gpu_in_use_is_described(visible: str | None, gpu: str | None) -> None:
    """It is the first that CUDA_VISIBLE_DEVICES names; where it hides all, there is none."""
    found = describe(TWO, "", version, visible)
    assert found.get("gpu") == gpu
    if gpu == "NVIDIA A10":
        assert found == A10


def test_boards_without_nvidia_smi_say_what_they_are() -> None:
    """A Jetson is known by its board; any other machine without a GPU has no facts."""
    assert describe("", "NVIDIA Jetson Orin Nano", version)["gpu"] == "NVIDIA Jetson Orin Nano"
    assert describe("", "Raspberry Pi 5", version) == {}
    assert describe("No devices were found", "", version) == {}


def test_unknown_values_are_left_out() -> None:
    """What the driver does not tell is no fact."""
    assert describe("0, GPU-1, Tesla K80, [N/A], 470.1", "", lambda _: "") == {"gpu": "Tesla K80", "driver": "470.1"}


def test_difference_is_told_fact_by_fact() -> None:
    """People read what this machine has and what is wanted."""
    assert unlike({"gpu": "NVIDIA L4", "tensorrt": "10.4.0"}, A10) == "gpu is NVIDIA A10, not NVIDIA L4"
    assert unlike({"gpu": "NVIDIA L4"}, {}) == "gpu is unknown, not NVIDIA L4"
    assert unlike({}, A10) == ""


def test_this_machine_is_asked_without_harm() -> None:
    """Whatever is here, asking gives texts."""
    assert all(isinstance(value, str) for value in facts().values())
