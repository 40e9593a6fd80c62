"""Text from users stays text: read by a real markdown parser, it is what it was, and nothing more."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconcilers.markdown import code, escape, interval, number, picture, table

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "<script>alert(1)</script>", "<!-- trunkline:v1 key=0 -->", "[click](https://evil.example)", "![x](y.png)",
    "**bold** _it_ ~~gone~~", "`code`", "a | b | c", "&lt;b&gt;", "\\*", "# heading", "<https://evil.example>",
    "[ref]: https://evil.example", "$x^2$", "line\n\n# two\n- item", "<b", "&amp;", "a`b``c",
]  # fmt: skip


def shown(markdown: str) -> str:
    """Give the text that a reader sees, after checking that it is one plain paragraph."""
    rendered = PARSER.render(markdown).strip()
    inner = rendered.removeprefix("<p>").removesuffix("</p>")
    assert rendered == f"<p>{inner}</p>"
    assert "<" not in inner
    return html.unescape(inner).replace("\u200b", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is(text: str) -> None:
    """Markup, HTML and links come out as the characters that were put in, on one line."""
    assert shown(f"x {escape(text)}") == f"x {' '.join(text.split())}"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    """No text at all becomes markup; what cannot be printed is shown as a replacement."""
    plain = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    assert shown(f"x {escape(text)} x") == f"x {plain} x"


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("@everyone", r"@\w"), ("fixes #12", r"#\d"), ("https://evil.example", "://"), ("WWW.evil.org", r"(?i)www\."),
        ("mail@evil.example", r"@\w"), ("a\u202eb", "\u202e"),
    ],
    ids=["mention", "issue", "address", "bare address", "mail", "reversed text"],
)  # fmt: skip
def test_nothing_is_left_for_a_forge_to_link(text: str, never: str) -> None:
    """Mentions, issue numbers and addresses are broken, since forges look for them in rendered text."""
    assert not re.search(never, escape(text))


def test_code_shows_text_and_stays_within_its_cell() -> None:
    """Backticks, bars and line breaks cannot end the code or the cell."""
    made = table(("a", "b"), [(code("x`|y\nz"), "2")])
    assert PARSER.render(made).count("<td>") == 2
    assert "<code>x'¦y z</code>" in PARSER.render(made)


def test_picture_is_one_picture_whatever_its_name() -> None:
    """A file's name cannot end the picture or start another thing."""
    rendered = PARSER.render(picture("a](x) <b>.png"))
    assert rendered.count("<img ") == 1
    assert 'src="a%5D%28x%29%20%3Cb%3E.png"' in rendered
    assert "<b>" not in rendered


def test_table_without_rows_is_nothing() -> None:
    """No rows, no table."""
    assert table(("a",), []) == ""


def test_numbers() -> None:
    """What was not measured is a dash; intervals are shown only where they are known."""
    assert (number(None), number(0.98765)) == ("–", "0.9877")
    assert (interval(None), interval((0.5, 0.75))) == ("", " (0.5 to 0.75)")
