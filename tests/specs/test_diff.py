"""Differences in meaning, and nothing but meaning."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from specs.diff import Change, changes, describe
from specs.modelspec import Spec

HERE = Path(__file__).parent
FULL: dict[str, Any] = yaml.safe_load((HERE / "full.yaml").read_text())["spec"]


def spec(**sections: Any) -> Spec:
    """Give the whole example with some sections replaced; ``...`` removes one."""
    data = copy.deepcopy(FULL) | sections
    return Spec.model_validate(
        {key: value for key, value in data.items() if value is not ...}, by_alias=True, by_name=False
    )


def test_equal_specs_do_not_differ() -> None:
    """A spec does not differ from itself."""
    assert changes(spec(), spec()) == ()


SAME: dict[str, dict[str, Any]] = {
    "default said": {"suspend": False},
    "null said": {"release": FULL["release"] | {"hold": None}},
    "order of fields": dict(reversed(FULL.items())),
    "order of exports": {"exports": FULL["exports"][::-1]},
    "order of gates": {"gates": FULL["gates"][::-1]},
    "order of signals": {"monitoring": FULL["monitoring"] | {"signals": FULL["monitoring"]["signals"][::-1]}},
    "100.0 for 100": {"training": FULL["training"] | {"args": FULL["training"]["args"] | {"epochs": 100.0}}},
}  # fmt: skip


@pytest.mark.parametrize("sections", SAME.values(), ids=SAME.keys())
def test_notation_is_no_difference(sections: dict[str, Any]) -> None:
    """What means the same is the same, however it is written."""
    assert changes(spec(), spec(**sections)) == ()


ARGS = FULL["training"]["args"]
DIFFERENT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a value": ({"task": "segment"}, ['task: "detect" -> "segment"']),
    "an argument": (
        {"training": FULL["training"] | {"args": ARGS | {"epochs": 20}}},
        ["training.args.epochs: 100 -> 20"],
    ),
    "an argument more": (
        {"training": FULL["training"] | {"args": ARGS | {"lr0": 0.1}}},
        ["training.args.lr0: (none) -> 0.1"],
    ),
    "true is not 1": (
        {"training": FULL["training"] | {"args": ARGS | {"seed": True}}},
        ["training.args.seed: 7 -> true"],
    ),
    "a text is not a number": (
        {"training": FULL["training"] | {"args": ARGS | {"seed": "7"}}},
        ['training.args.seed: 7 -> "7"'],
    ),
    "a name that looks private": (
        {"training": FULL["training"] | {"args": ARGS | {"__x": 1}}},
        ["training.args.__x: (none) -> 1"],
    ),
    "a section gone": (
        {"policy": ...},
        ['policy.autoMerge: "Never" -> (none)', "policy.maxOpenProposals: 1 -> (none)"],
    ),
    "one export's argument": (
        {"exports": [FULL["exports"][1], FULL["exports"][0] | {"args": {"dynamic": False}}]},
        ["exports.onnx.args.dynamic: true -> false"],
    ),
    "an item of a list": (
        {"data": FULL["data"] | {"expect": FULL["data"]["expect"] | {"classes": ["milk", "rye"]}}},
        ['data.expect.classes[1]: "bread" -> "rye"'],
    ),
    "an item more": (
        {"data": FULL["data"] | {"expect": FULL["data"]["expect"] | {"classes": ["milk", "bread", "rye"]}}},
        ['data.expect.classes[2]: (none) -> "rye"'],
    ),
}


@pytest.mark.parametrize(("sections", "lines"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_each_difference_is_one_line_for_people(sections: dict[str, Any], lines: list[str]) -> None:
    """Changes are named by their path in the file, exports and gates by name, whole sections field by field."""
    assert describe(changes(spec(), spec(**sections))) == lines


def test_a_change_holds_both_values() -> None:
    """Programs get the values themselves; None where there was nothing."""
    found = changes(spec(policy=...), spec(policy={"maxOpenProposals": 2}))
    assert found == (Change("policy.maxOpenProposals", None, 2),)


VALUES = st.one_of(
    st.integers(-3, 3), st.booleans(), st.sampled_from(["", "1", "a"]), st.lists(st.integers(0, 2), max_size=2)
)
MAPS = st.dictionaries(st.sampled_from(["epochs", "lr0", "a.b", "__x"]), VALUES, max_size=4)


@given(before=MAPS, after=MAPS)
def test_there_are_no_changes_exactly_where_the_inputs_are_the_same(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """For training arguments the diff and the inputsDigest agree about what is the same."""
    one, other = (spec(training={"model": "a.pt", "args": args}) for args in (before, after))
    assert (changes(one, other) == ()) == (one.inputs_digest == other.inputs_digest)


def test_reading_manifests_does_not_load_deepdiff() -> None:
    """The library behind the diff loads numpy where that is installed; the control plane must start without either."""
    script = "import sys, specs.manifest, specs.diff; sys.exit(bool({'deepdiff', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=HERE.parents[1]).returncode == 0
