"""Names of attempts: short enough for Kubernetes, and never the same for two of them."""

from __future__ import annotations

import re

import pytest

from specs.names import attempt_name, job_name

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MODELS = ["retail/a", "retail/shelf-detector", "retail/" + "m" * 63, "retail/" + "ab-" * 20 + "c"]


def test_the_first_attempt_is_named_like_the_job() -> None:
    """Further attempts end with their number."""
    job = job_name("train", "retail/shelf", "0123456789ab")
    assert [attempt_name(job, number) for number in (1, 2, 3)] == [job, f"{job}-2", f"{job}-3"]


@pytest.mark.parametrize("model", MODELS, ids=["short", "usual", "longest", "hyphens"])
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_names_of_attempts_are_labels_that_keep_the_key(kind: str, model: str) -> None:
    """However long the model is named, attempts have different names of at most 63 characters with the whole key."""
    job = job_name(kind, model, "0123456789ab")
    names = [attempt_name(job, number) for number in range(1, 12)]
    assert len(set(names)) == len(names)
    for number, name in enumerate(names, 1):
        assert LABEL.fullmatch(name)
        assert name.startswith(f"{kind}-")
        assert name.endswith("-0123456789ab" + (f"-{number}" if number > 1 else ""))


def test_attempts_with_shorter_names_keep_their_keys() -> None:
    """Where a name becomes part of another one there is less room, and the model's name gives way."""
    job = job_name("train", "retail/" + "a" * 60, "0123456789ab")
    names = [attempt_name(job, number, 52) for number in (1, 2)]
    assert [len(name) for name in names] == [52, 52]
    assert [name.partition("0123456789ab")[2] for name in names] == ["", "-2"]
    assert attempt_name("train-shelf-0123456789ab", 1, 52) == "train-shelf-0123456789ab"
