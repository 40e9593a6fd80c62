from __future__ import annotations

from typing import Any

import pytest

from workloads.arguments import check_export, check_training
from workloads.errors import Hopeless

pytestmark = pytest.mark.ml


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"epochs": 20, "imgsz": 32, "optimizer": "AdamW", "lr0": 0.002, "seed": 7, "batch": 64},
        {"pretrained": False, "cache": "ram", "freeze": [0, 1], "device": "cpu", "fraction": 0.5},
    ],
    ids=["none", "usual", "unusual"],
)
def test_arguments_of_ultralytics_pass(args: dict[str, Any]) -> None:
    """What the trainer understands is not questioned."""
    check_training(args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"epoch": 3}, "epoch: is not a training argument of Ultralytics; did you mean epochs?"),
        ({"learning_rate": 0.1, "imgz": 32}, "imgz: is not a training argument of Ultralytics; did you mean imgsz?"),
        ({"data": "coco8.yaml"}, "data: Trunkline sets this itself"),
        ({"pretrained": "https://example.com/w.pt"}, "pretrained: 'https://example.com/w.pt' is a file that no digest"),
        ({"distill_model": "teacher.pt"}, "distill_model: 'teacher.pt' is a file that no digest pins"),
        ({"epochs": "many"}, "epochs"),
        ({"lr0": "high"}, "lr0"),
        ({"fliplr": 2.0}, "fliplr"),
    ],
    ids=["near", "two", "reserved", "file", "teacher", "type", "float", "range"],
)
def test_other_training_arguments_are_named(args: dict[str, Any], said: str) -> None:
    """A person reads which argument is wrong, and the nearest right one."""
    with pytest.raises(Hopeless) as caught:
        check_training(args)
    assert caught.value.reason == "InvalidArguments"
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("format_", "args", "said"),
    [
        ("onnx", {"dynamix": True}, "dynamix: is not a export argument"),
        ("onnx", {"epochs": 3}, "epochs: is not a export argument"),
        ("onnx", {"workspace": 4}, "'workspace' is not supported for format='onnx'"),
        ("torchscript", {"quantize": 8}, "quantize=8 (INT8) is not supported"),
        ("onnx", {"name": "rk3588"}, "name: Trunkline sets this itself"),
        ("onix", {}, "format 'onix' is not one of Ultralytics"),
    ],
    ids=["unknown", "of training", "of another format", "precision", "no chip", "format"],
)
def test_other_export_arguments_are_named(format_: str, args: dict[str, Any], said: str) -> None:
    """Arguments that the exporter would refuse, ignore or need data for are refused before it starts."""
    with pytest.raises(Hopeless) as caught:
        check_export(format_, args)
    assert caught.value.reason == "InvalidArguments"
    assert said.replace(" a export", " an export") in caught.value.message


def test_export_arguments_of_ultralytics_pass() -> None:
    """What the exporter understands for a format is not questioned."""
    check_export("onnx", {"dynamic": True, "simplify": False, "opset": 17, "imgsz": 64, "quantize": 16})
    check_export("openvino", {"quantize": 8, "fraction": 0.5})
    check_export("rknn", {"name": "rk3588", "quantize": 16})
