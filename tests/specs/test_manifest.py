"""Reading manifests: every problem, each in its place, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from specs.errors import InvalidManifest
from specs.manifest import decode, find, load, parse
from specs.modelspec import ModelKey
from specs.reading import PROBLEM_LIMIT
from specs.yaml_text import DEPTH_LIMIT, SIZE_LIMIT, scalar

HERE = Path(__file__).parent
FULL = (HERE / "full.yaml").read_text()
SMALLEST = (HERE / "smallest.yaml").read_text()
INVALID = sorted((HERE / "invalid").glob("*.yaml"))
DIGITS = ModelKey("default", "digits")


def problems_of(text: str) -> list[str]:
    """Give what is wrong with a text, a line each, without the file's name."""
    with pytest.raises(InvalidManifest) as caught:
        load(text, "m.yaml")
    return [str(problem).removeprefix("m.yaml").removeprefix(":") for problem in caught.value.problems]


@pytest.mark.parametrize("path", INVALID, ids=[path.stem for path in INVALID])
def test_each_problem_is_reported_with_its_place_and_what_would_be_right(path: Path) -> None:
    """A wrong manifest gives exactly the problems in the text file beside it, all of them at once."""
    expected = path.with_suffix(".txt").read_text().splitlines()
    assert problems_of(decode(path.read_bytes(), "m.yaml")) == expected


def test_the_whole_example_of_the_design_is_valid() -> None:
    """Every section of the documented example parses, also those whose behaviour comes later."""
    (loaded,) = load(FULL, "m.yaml")
    assert loaded.key == ModelKey("retail", "shelf-detector")
    assert loaded.model.spec.labelling is not None
    assert loaded.model.spec.training.args == {"epochs": 100, "imgsz": 640, "seed": 7}


def test_the_smallest_spec_is_valid() -> None:
    """Task, training data, a model, one export and serving make a complete spec."""
    (loaded,) = load(SMALLEST, "m.yaml")
    assert loaded.key == DIGITS
    assert (loaded.document, loaded.line, loaded.start, loaded.end) == (0, 1, 0, len(SMALLEST))


def test_documents_of_other_kinds_are_counted_but_not_judged() -> None:
    """A ConfigMap with anchors, tags and duplicate keys beside a ModelSpec is nobody's business here."""
    other = "kind: ConfigMap\na: &x !thing [1]\nb: *x\nb: *x\n<<: *x\n"
    text = f"{other}---\n{SMALLEST}---\n- a list\n---\n# nothing\n"
    (loaded,) = load(text, "m.yaml")
    assert (loaded.document, loaded.line) == (1, 7)
    assert text[loaded.start : loaded.end] == f"---\n{SMALLEST}"


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "{{ .Values.helm }}: [", "kind: ConfigMap\n", "\x00", "a: &a [*a, *a]\n"],
    ids=["empty", "comment", "template", "other kind", "binary", "aliases"],
)
def test_files_that_mention_no_model_are_not_judged(text: str) -> None:
    """A repository may hold any file; only those that mention a ModelSpec have to be YAML."""
    assert load(text, "m.yaml") == []


def test_a_kind_of_the_same_name_in_another_group_is_not_ours() -> None:
    """Somebody else's ModelSpec is left alone."""
    assert load("apiVersion: models.example.com/v1\nkind: ModelSpec\nspec: 7\n", "m.yaml") == []


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"kind: ModelSpec\nname: \xff\n", "m.yaml:2:7"), ("kind: ModelSpec # é\n".encode("latin-1"), "m.yaml:1:19"),
     (b"x" * (SIZE_LIMIT + 1), "m.yaml: ")],
    ids=["byte", "latin-1", "too long"],
)  # fmt: skip
def test_bytes_that_are_no_short_utf8_are_refused(data: bytes, place: str) -> None:
    """Bytes that are not UTF-8 are reported with the place of the first of them."""
    with pytest.raises(InvalidManifest) as caught:
        decode(data, "m.yaml")
    assert caught.value.message.startswith(place)


@pytest.mark.parametrize(
    ("character", "words"),
    [("\x00", "U+0000"), ("\x1b", "U+001B"), ("\u2028", "U+2028"), ("\x85", "U+0085"), ("\r", "U+000D"),
     ("\ufeff", "U+FEFF"), ("\udc80", "UTF-8"), ("\u2029", "U+2029")],
    ids=["nul", "escape", "line separator", "next line", "lone carriage return", "bom inside", "surrogate", "para"],
)  # fmt: skip
def test_characters_that_readers_disagree_about_are_refused(character: str, words: str) -> None:
    """Control characters and exotic line breaks are reported where they stand."""
    (problem,) = problems_of(SMALLEST.replace("digits\n", f"dig{character}its\n", 1))
    assert problem.startswith("4:12: ")
    assert words in problem


def test_a_byte_order_mark_is_refused_with_advice() -> None:
    """A file saved with a byte order mark is told to be saved without one."""
    assert problems_of("\ufeff" + SMALLEST) == [
        "1:1: begins with a byte order mark; save the file as UTF-8 without one"
    ]


def test_crlf_files_are_read_like_others() -> None:
    """Line endings do not change what a file says or where."""
    (loaded,) = load(SMALLEST.replace("\n", "\r\n"), "m.yaml")
    assert loaded.model == load(SMALLEST, "m.yaml")[0].model


def test_a_file_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    """The limit of size holds for texts as for bytes."""
    (problem,) = problems_of(SMALLEST + "# x\n" * (SIZE_LIMIT // 4))
    assert "longer than 1048576 bytes" in problem


def test_a_file_that_is_too_deep_is_refused_without_recursing_into_it() -> None:
    """Ten thousand brackets end at the limit of depth."""
    deep = "[" * 10_000
    (problem,) = problems_of(SMALLEST + f"  tracking: {deep}")
    assert f"more than {DEPTH_LIMIT} mappings and lists" in problem


def test_an_alias_bomb_is_never_expanded() -> None:
    """Ten anchors and nine times nine aliases are 91 problems, not 9 to the power of 9 values."""
    bomb = "  bomb0: &b0 [x]\n" + "".join(f"  bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 10))
    problems = problems_of(SMALLEST + bomb)
    assert len(problems) == PROBLEM_LIMIT + 1
    assert problems[-1].endswith(f"and {10 + 81 - PROBLEM_LIMIT} more")


def test_nothing_in_a_file_becomes_a_python_object() -> None:
    """A tag that unsafe loaders execute is a problem and nothing else."""
    text = SMALLEST.replace("store://digits", '!!python/object/apply:os.system ["true"]')
    assert any(
        "has the tag tag:yaml.org,2002:python/object/apply:os.system" in problem for problem in problems_of(text)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 100000.0), (".5", 0.5), ("-3.", -3.0), ("+12", 12), ("0", 0), ("~", None), ("Null", None),
     ("TRUE", True), ("false", False), ("tRue", "tRue"), ("2026-11-23", "2026-11-23"), ("1.2.3", "1.2.3"),
     ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"), ("4f1c2e9", "4f1c2e9"), ("e5", "e5"), ("15m", "15m"),
     ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
)  # fmt: skip
def test_plain_scalars_are_read_by_the_core_schema(text: str, value: object) -> None:
    """Unquoted values mean what YAML 1.2 says; dates stay texts."""
    read = scalar(text, plain=True)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["yes", "010", "0x1F", "1_000", "1:30", ".inf", "1e999", "9" * 5000], ids=str)
def test_quoted_scalars_are_texts(text: str) -> None:
    """Whatever is in quotes is a text; without them these would be refused."""
    assert scalar(text, plain=False) == text
    with pytest.raises(ValueError, match=r"."):
        scalar(text, plain=True)


def test_what_is_accepted_means_the_same_to_a_yaml_1_1_reader() -> None:
    """The full example reads alike with PyYAML's own resolver."""
    (loaded,) = load(FULL, "m.yaml")
    other = yaml.safe_load(FULL)["spec"]
    mine = loaded.model.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert mine == other


class TestParse:
    def test_gives_the_model_that_is_asked_for(self) -> None:
        """One of several ModelSpecs is read by its key."""
        second = SMALLEST.replace("name: digits", "name: second\n  namespace: lab")
        loaded = parse(f"{SMALLEST}---\n{second}", "m.yaml", ModelKey("lab", "second"))
        assert (loaded.key, loaded.document) == (ModelKey("lab", "second"), 1)

    def test_does_not_care_about_other_models_that_are_wrong(self) -> None:
        """One bad ModelSpec does not stop another one of the same file."""
        bad = SMALLEST.replace("digits", "bad", 1).replace("classify", "nonsense")
        assert parse(f"{bad}---\n{SMALLEST}", "m.yaml", DIGITS).key == DIGITS

    def test_reports_the_problems_of_that_model_only(self) -> None:
        """The problems are those of the model that is asked for."""
        bad = SMALLEST.replace("digits", "bad", 1).replace("classify", "nonsense")
        with pytest.raises(InvalidManifest) as caught:
            parse(f"{SMALLEST}---\n{bad}", "m.yaml", ModelKey("default", "bad"))
        assert [problem.field for problem in caught.value.problems] == ["spec.task"]

    def test_says_which_models_there_are(self) -> None:
        """A key that the file does not hold is answered with those it holds."""
        with pytest.raises(InvalidManifest, match="no ModelSpec default/other; there is default/digits"):
            parse(SMALLEST, "m.yaml", ModelKey("default", "other"))

    def test_refuses_a_name_that_is_given_twice(self) -> None:
        """Of two ModelSpecs of one name neither is right."""
        with pytest.raises(InvalidManifest, match="of line 1 stands in line 20 too"):
            parse(f"{SMALLEST}---\n{SMALLEST}", "m.yaml", DIGITS)


def test_find_names_models_that_are_not_valid() -> None:
    """A wrong ModelSpec still has a key and a line, so that its status can say what is wrong."""
    bad = SMALLEST.replace("classify", "nonsense")
    nameless = SMALLEST.replace("name: digits", "name: [1]")
    assert [(c.key, c.line) for c in find(f"{bad}---\n{nameless}", "m.yaml")] == [(DIGITS, 1), (None, 20)]
