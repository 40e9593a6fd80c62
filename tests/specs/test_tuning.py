"""``spec.tuning``: what a search may be, and each mistake with its sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specs.errors import InvalidManifest
from specs.manifest import parse
from specs.modelspec import ModelKey
from specs.training import Tuning

HERE = Path(__file__).parent
SMALLEST = (HERE / "smallest.yaml").read_text()
LR0: dict[str, Any] = {"name": "lr0", "type": "double", "min": 0.0001, "max": 0.1}
GOOD: dict[str, Any] = {
    "log": {**LR0, "scale": "log"},
    "steps": {"name": "dropout", "type": "double", "min": 0, "max": 0.5, "step": 0.1},
    "whole numbers": {"name": "close_mosaic", "type": "int", "min": 0, "max": 20, "step": 5},
    "whole numbers by ratio": {"name": "batch", "type": "int", "min": 4, "max": 64, "scale": "log"},
    "listed numbers": {"name": "imgsz", "type": "discrete", "values": [320, 416, 640]},
    "listed words": {"name": "optimizer", "type": "categorical", "values": ["SGD", "AdamW"]},
    "yes or no": {"name": "cos_lr", "type": "categorical", "values": [True, False]},
    "nothing as a value": {"name": "auto_augment", "type": "categorical", "values": [None, "randaugment"]},
}


def tuning(*parameters: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Give a section."""
    objective = {"type": "maximize", "metric": "metrics/accuracy_top1"}
    return {"objective": objective, "parameters": list(parameters) or [LR0], "maxTrialCount": 10} | changes


@pytest.mark.parametrize("parameter", GOOD.values(), ids=GOOD.keys())
def test_parameters_of_every_kind_are_read(parameter: dict[str, Any]) -> None:
    """Ranges for doubles and whole numbers, lists for the rest; they come back as they were written."""
    read = Tuning.model_validate(tuning(parameter), by_alias=True, by_name=False)
    assert read.parameters[0].model_dump(mode="json", by_alias=True, exclude_unset=True) == parameter


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no range": (tuning({"name": "lr0", "type": "double", "min": 1}), "lr0: double needs min and max"),
    "range the wrong way": (tuning({**LR0, "min": 0.2}), "lr0: min 0.2 must be less than max 0.1"),
    "log of nothing": (tuning({**LR0, "min": 0, "scale": "log"}), "lr0: a log scale needs min above 0, but it is 0"),
    "log with steps": (tuning({**LR0, "scale": "log", "step": 0.1}), "lr0: a log scale has no steps"),
    "step beyond the range": (tuning({**LR0, "step": 1}), "lr0: step 1 leaves only min between 0.0001 and 0.1"),
    "int with fractions": (tuning({**LR0, "type": "int", "max": 5}), "lr0: int needs whole numbers for min, max"),
    "values of a range": (tuning({**LR0, "values": [1, 2]}), "lr0: values are for discrete and categorical"),
    "range of values": (
        tuning({"name": "imgsz", "type": "discrete", "values": [1, 2], "min": 1}), "imgsz: min: only for double and",
    ),
    "no values": (tuning({"name": "optimizer", "type": "categorical"}), "optimizer: categorical needs values"),
    "one value": (
        tuning({"name": "optimizer", "type": "categorical", "values": ["SGD"]}), "must have at least 2 entries",
    ),
    "a value twice": (tuning({"name": "imgsz", "type": "discrete", "values": [1, 1.0]}), "a value is given twice"),
    "words as numbers": (
        tuning({"name": "imgsz", "type": "discrete", "values": [1, "2"]}), "imgsz: discrete needs numbers",
    ),
    "what Trunkline sets": (tuning({**LR0, "name": "project"}), "project: Trunkline sets this itself"),
    "no name of an argument": (tuning({**LR0, "name": "lr 0"}), "must be a text like"),
    "a parameter twice": (tuning(LR0, LR0), "parameters: lr0 is given twice"),
    "fixed and searched": (tuning(trialArgs={"lr0": 1}), "trialArgs: lr0 is a parameter of the search"),
    "trials elsewhere": (tuning(trialArgs={"data": "x"}), "trialArgs: data: Trunkline sets this itself"),
    "more at once than in all": (tuning(parallelTrialCount=11), "parallelTrialCount 11 is more than maxTrialCount 10"),
    "more failures than trials": (tuning(maxFailedTrialCount=11), "maxFailedTrialCount 11 is more than"),
    "no trials": (tuning(maxTrialCount=0), "must be at least 1"),
    "another algorithm": (tuning(algorithm="grid"), "must be 'tpe', 'random' or 'genetic'"),
    "another word": (tuning(maxTrials=3), "unknown field; did you mean maxTrialCount?"),
    "another way to stop": (tuning(earlyStopping={"algorithm": "asha"}), "must be 'median'"),
}  # fmt: skip


@pytest.mark.parametrize(("section", "words"), BAD.values(), ids=BAD.keys())
def test_each_mistake_has_its_sentence(section: dict[str, Any], words: str) -> None:
    """The sentence names the parameter and says what would be right; it has a line in the file."""
    text = f"{SMALLEST.rstrip()}\n  tuning: {json.dumps(section)}\n"
    with pytest.raises(InvalidManifest) as caught:
        parse(text, "digits.yaml", ModelKey("default", "digits"))
    (problem,) = caught.value.problems
    assert words in problem.message
    assert problem.field.startswith("spec.tuning")
    assert problem.line == text.count("\n")


def test_defaults_live_in_code() -> None:
    """One trial at a time, half of them may fail; nothing of that is written back."""
    read = Tuning.model_validate(tuning(), by_alias=True, by_name=False)
    assert (read.parallel, read.failures_allowed) == (1, 5)
    assert read.parallel_trial_count is None
    none = Tuning.model_validate(tuning(maxFailedTrialCount=0), by_alias=True, by_name=False)
    assert none.failures_allowed == 0
