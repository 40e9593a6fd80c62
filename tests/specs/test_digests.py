"""Canonical JSON: values that mean the same have one text, and so one digest."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from specs.digests import Digest, PlainText, canonical, digest_bytes, digest_of, hex_of, short

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abcé", max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)
NONE_OF_THESE = [
    "",
    "sha256:",
    "sha256:" + "a" * 63,
    "sha256:" + "A" * 64,
    "md5:" + "a" * 64,
    "sha256:" + "a" * 64 + "\n",
]


@given(value=JSON)
def test_canonical_text_reads_back_as_the_same_value(value: Any) -> None:
    """Nothing is lost: the text is JSON of an equal value."""
    assert json.loads(canonical(value)) == value


@given(value=st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=6))
def test_the_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    """Two ways to write a mapping have one digest."""
    assert digest_of(value) == digest_of(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), ({"a": [1, 2]}, {"a": (1.0, 2)}), (-0.0, 0), (1e3, 1000)],
    ids=["whole float", "tuple", "minus zero", "exponent"],
)
def test_values_that_mean_the_same_have_one_digest(one: Any, other: Any) -> None:
    """Notation of numbers and lists does not count."""
    assert digest_of(one) == digest_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(True, 1), (False, 0), (None, ""), ("1", 1), ([], {}), ([1, 2], [2, 1]), (1.5, 1), ({"a": None}, {})],
    ids=["true", "false", "nothing", "text", "empty", "order", "fraction", "null"],
)
def test_values_that_differ_have_two_digests(one: Any, other: Any) -> None:
    """Kinds of values are never mixed up."""
    assert digest_of(one) != digest_of(other)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, {"a": [math.nan]}], ids=["nan", "inf", "-inf", "inside"]
)
def test_what_json_cannot_say_has_no_digest(value: Any) -> None:
    """NaN equals nothing, so it names nothing."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(value)


def test_the_text_is_fixed_for_ever() -> None:
    """The digest of a known value is pinned: changing the text would train the world again."""
    value = {"b": [1.0, "é", None, True], "a": {"z": 0.5, "y": -3}}
    assert canonical(value) == '{"a":{"y":-3,"z":0.5},"b":[1,"é",null,true]}'.encode()
    assert (
        digest_of(value) == digest_bytes(canonical(value)) == "sha256:" + hashlib.sha256(canonical(value)).hexdigest()
    )
    assert digest_of({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_parts_of_a_digest() -> None:
    """A digest gives its digits, and a short name for people."""
    digest = digest_bytes(b"")
    assert hex_of(digest) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert short(digest) == "e3b0c44298fc"


@pytest.mark.parametrize("text", NONE_OF_THESE, ids=["empty", "no digits", "short", "upper case", "md5", "line break"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    """Neither function nor field takes anything but 64 lower-case digits: digests become paths."""
    with pytest.raises(ValidationError):
        TypeAdapter(Digest).validate_python(text)
    with pytest.raises(ValueError, match="not a sha256 digest"):
        hex_of(text)


@pytest.mark.parametrize("character", ["\n", "\x00", "\x1b", "\x7f", "\r", "\t"], ids=repr)
def test_plain_text_stays_on_its_line(character: str) -> None:
    """Text that is shown to people cannot move the cursor or fake a line of a log."""
    with pytest.raises(ValidationError, match="control characters"):
        TypeAdapter(PlainText).validate_python(f"a{character}b")
