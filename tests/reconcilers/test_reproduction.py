"""Two trainings of the same inputs, as far as their records alone tell."""

from __future__ import annotations

from reconcilers.reproduction import compare
from specs.records import Environment, RunRecord
from tests.support.builders import digest

HERE = Environment(python="3.11", platform="Linux", device="cpu", packages={})


def run(weights: str, **changes: object) -> RunRecord:
    """Give a record."""
    values = {"inputs_digest": digest("i"), "inputs": {}, "status": "Succeeded", "model": "a/b", "commit": "c",
              "weights": digest(weights), "environment": HERE} | changes  # fmt: skip
    return RunRecord.model_validate(values)


def test_a_resumed_training_is_no_puzzle() -> None:
    """Other weights have a reason where an attempt went on from a checkpoint, or several processes shared the work."""
    resumed, shared, plain = run("one", resumed_from=[3, 7]), run("one", processes=4), run("other")
    told = compare(resumed, plain, (None, None), "detect", ()).sentence
    assert told.endswith("; it was trained resumed after epoch 3, 7, and now in one go")
    told = compare(shared, plain, (None, None), "detect", ()).sentence
    assert told.endswith("; it was trained by 4 processes, and now in one go")
    assert "not deterministic" in compare(run("one"), plain, (None, None), "detect", ()).sentence
