"""What is written is read back as the same, by this program and by others."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from specs.yaml_text import scalar
from specs.yaml_write import Style, inline

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    st.sampled_from(
        [
            "",
            "no",
            "On",
            "1e3",
            "0x1",
            "1:30",
            "null",
            "~",
            "- x",
            "a: b",
            "x #y",
            "# z",
            "'",
            '"',
            "2026-11-23",
            "\x85",
            "\u2028",
            "\n",
            "\\",
            "%x",
            "@x",
            "a:",
            ":a",
            "? x",
            "! x",
            "{}",
            "[]",
            "&a",
            "*a",
            "| x",
            "---",
        ]
    ),
)


@given(text=TEXTS)
def test_every_text_is_written_so_that_all_readers_read_it_back(text: str) -> None:
    """A written text is the same text to this program and to a YAML 1.1 reader, in block and in flow."""
    for written in (inline(text, Style()), inline(text, Style(), flow=True), inline(text, Style(json=True))):
        for document in (f"a: {written}\nb: 1\n", f"{{a: {written}, b: 1}}"):
            assert yaml.safe_load(document) == {"a": text, "b": 1}
        if not written.startswith('"'):
            assert scalar(written, plain=True) == text


@given(number=st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_is_written_so_that_all_readers_read_it_back(number: float) -> None:
    """A written number is the same number to this program and to a YAML 1.1 reader."""
    written = inline(number, Style())
    assert scalar(written, plain=True) == number
    assert yaml.safe_load(written) == number
