"""What looking at data found, as people read it: what stops training, and the lines of reports."""

from __future__ import annotations

from typing import Any

import pytest
from markdown_it import MarkdownIt

from reconcilers.data_report import difference_lines, faults, validation_lines
from specs.data import Expectations
from specs.data_records import Alike, ClassDifference, DifferenceRecord, SetReport, ValidationRecord
from tests.reconcilers.test_hostile_text import HOSTILE, check
from tests.support.builders import digest


def report(**changes: Any) -> SetReport:
    """Give a set with nothing wrong about it."""
    good: dict[str, Any] = {
        "images": 100, "objects": 150, "background": 5, "class_counts": {"milk": 90, "bread": 60},
        "width": (640, 640, 1280), "height": (480, 480, 720),
    }  # fmt: skip
    return SetReport(**good | changes)


def record(train: SetReport | None = None, golden: SetReport | None = None, **changes: Any) -> ValidationRecord:
    """Give a record about a detect set and its golden set."""
    return ValidationRecord(
        train_digest=digest("train"), golden_digest=digest("golden"), task="detect", train=train or report(),
        golden=golden or report(images=20), **changes,
    )  # fmt: skip


def near(count: int, exact: int = 0) -> dict[str, Any]:
    """Give that many leaks."""
    leaks = [Alike(first=f"t{n}.png", second=f"g{n}.png", exact=n < exact) for n in range(count)]
    return {"leak_count": count, "near_leak_count": count - exact, "leaks": leaks}


FOUND: dict[str, tuple[ValidationRecord, dict[str, Any], str]] = {
    "unreadable": (
        record(report(unreadable_count=1, unreadable=["images/1.jpg: ends too early"])), {},
        "1 training picture cannot be used: images/1.jpg: ends too early; repair or remove them",
    ),
    "unreadable golden, many": (
        record(golden=report(unreadable_count=9, unreadable=[f"{n}.jpg: broken" for n in range(9)])), {},
        "9 golden pictures cannot be used: 0.jpg: broken, 1.jpg: broken, 2.jpg: broken, 6 more; repair or remove them",
    ),
    "labels": (
        record(report(bad_label_count=2, bad_labels=["labels/1.txt:3: no", "labels/2.txt:1: no"])), {},
        "2 labels of training pictures cannot be used: labels/1.txt:3: no, labels/2.txt:1: no; correct them",
    ),
    "exact leaks are never allowed": (
        record(**near(1, exact=1)), {"maxNearLeaks": 5},
        "1 golden picture can also be found in the training data: g0.png (as t0.png); remove them from one of the two",
    ),
    "near leaks": (
        record(**near(2)), {"maxNearLeaks": 1},
        ("2 golden pictures can be found nearly the same in the training data, at most 1 allowed: g0.png (as t0.png), "
        "g1.png (as t1.png); remove them from one of the two, or allow for them in spec.data.expect.maxNearLeaks"),
    ),
    "a near leak where nothing is said": (
        record(**near(1)), {},
        ("1 golden picture can be found nearly the same in the training data, at most 0 allowed: g0.png (as t0.png); "
         "remove them from one of the two, or allow for them in spec.data.expect.maxNearLeaks"),
    ),
    "duplicates": (
        record(report(duplicate_count=2, near_duplicate_count=1, duplicates=[
            Alike(first="a.png", second="b.png", exact=True), Alike(first="a.png", second="c.png", exact=False)])),
        {"maxDuplicates": 1},
        ("2 training pictures can be found in the training data twice, at most 1 allowed "
        "(spec.data.expect.maxDuplicates): b.png (as a.png), c.png (as a.png); remove one of each"),
    ),
    "background": (
        record(report(background=11)), {"maxBackground": 0.1},
        ("11 of 100 training pictures have no labels, at most a share of 0.1 allowed (spec.data.expect.maxBackground); "
        "label them, or remove some"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_what_must_be_mended_is_one_sentence_each(case: str) -> None:
    """What is wrong, where, what to do; and with nothing of the kind found, or as much allowed, nothing is said."""
    found, expect, sentence = FOUND[case]
    assert faults(found, Expectations.model_validate(expect)) == [sentence]
    assert faults(record(), Expectations.model_validate(expect)) == []


@pytest.mark.parametrize(
    ("found", "expect"),
    [
        pytest.param(record(**near(3)), {"maxNearLeaks": 3}, id="near leaks"),
        pytest.param(record(report(duplicate_count=3)), {"maxDuplicates": 3}, id="duplicates"),
        pytest.param(record(report(duplicate_count=3)), {}, id="duplicates are only reported"),
        pytest.param(record(report(background=10)), {"maxBackground": 0.1}, id="background"),
        pytest.param(record(report(background=100)), {}, id="background is only reported"),
        pytest.param(record(report(background=0), report(duplicate_count=3, background=20)),
                     {"maxDuplicates": 0, "maxBackground": 0}, id="golden is measured on as it is"),
    ],
)  # fmt: skip
def test_what_is_allowed_for_stops_nothing(found: ValidationRecord, expect: dict[str, Any]) -> None:
    """Bounds are inclusive; without one, duplicates and background are facts and no faults."""
    assert faults(found, Expectations.model_validate(expect)) == []


def test_the_report_shows_both_sets_side_by_side() -> None:
    """Numbers first, then classes, then what was found, with how many more there are than are listed."""
    text = validation_lines(
        record(
            report(duplicate_count=2, near_duplicate_count=1, duplicates=[
                Alike(first="a.png", second="b.png", exact=True), Alike(first="a.png", second="c.png", exact=False)]),
            report(images=20, unreadable_count=1, unreadable=["x.jpg: ends too early"], width=(8, 8, 8),
                   height=(9, 9, 9)),
            **near(15),
        )
    )  # fmt: skip
    assert "| pictures | 100 | 20 |" in text
    assert "| 640 × 480, 640 × 480, 1280 × 720 | 8 × 9 |" in text
    assert "| pictures that cannot be used | none | **1** |" in text
    assert "| show the same as another one | 2 (1 exactly, 1 nearly) | none |" in text
    assert "| also in the training data |  | 15 (0 exactly, 15 nearly) |" in text
    assert "| milk | 90 | 90 |" in text
    assert "- `b.png` is `a.png`\n- `c.png` is nearly `a.png`" in text
    assert "- `x.jpg: ends too early`" in text
    assert "- `g9.png` is nearly `t9.png`\n- and 5 more" in text
    assert "g10" not in text


def test_without_golden_there_is_one_column() -> None:
    """Nothing is said about what was not looked at; a classify set has no labels to speak of."""
    alone = record().model_copy(update={"golden": None, "golden_digest": None, "task": "classify"})
    text = validation_lines(alone)
    assert "golden" not in text
    assert "labels" not in text
    assert "| class | pictures, training |" in text


def test_a_difference_names_what_changed() -> None:
    """Classes whose numbers changed, most first; the others are counted."""
    classes = [ClassDifference(name=f"c{n}", before=5, after=5) for n in range(3)]
    moved = [
        ClassDifference(name="milk", before=10, after=12), ClassDifference(name="rye", after=40),
        ClassDifference(name="old", before=3),
    ]  # fmt: skip
    text = difference_lines(
        DifferenceRecord(
            before=digest("a"), after=digest("b"), images=(1000, 1050), added=60, removed=10, relabelled=0,
            classes=[*moved, *classes],
        )
    )  # fmt: skip
    assert text.startswith("1,000 → 1,050 pictures: 60 added, 10 removed.\n")
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("|")][2:] == [
        "| rye", "| old", "| milk", "| 3 with the same numbers",
    ]  # fmt: skip
    assert "| rye | no such class | 40 | +40 |" in text
    same = DifferenceRecord(before=digest("a"), after=digest("b"), images=(2, 2), added=0, removed=0, relabelled=0)
    assert difference_lines(same) == "2 → 2 pictures: none added, removed or relabelled.\n"


def hostile_lines(text: str) -> str:
    """Give both reports with somebody's text in every place that people can fill."""
    pair = Alike(first=text, second=text, exact=False)
    bad = report(
        unreadable_count=1, unreadable=[text], bad_label_count=1, bad_labels=[text], duplicate_count=1,
        near_duplicate_count=1, duplicates=[pair], class_counts={f"x{text}": 1},
    )  # fmt: skip
    found = record(bad, bad, leak_count=1, near_leak_count=1, leaks=[pair])
    changed = DifferenceRecord(
        before=digest("a"), after=digest("b"), images=(1, 1), added=0, removed=0, relabelled=0,
        classes=[ClassDifference(name=f"x{text}", before=1, after=2)],
    )  # fmt: skip
    return f"{validation_lines(found)}\n{difference_lines(changed)}"


@pytest.mark.parametrize("text", HOSTILE)
def test_paths_and_classes_stay_text(text: str) -> None:
    """Whatever pictures and classes are called, the report has no link, no HTML, no mention, no command."""
    check(hostile_lines(text), hostile_lines("calm"))


def test_a_report_stays_short() -> None:
    """A data set with thousands of classes and endless names still fits into a pull request."""
    endless = "x" * 5000
    many = report(
        class_counts={f"{endless}{n}": n for n in range(3000)}, bad_label_count=3000, bad_labels=[endless] * 100
    )
    text = validation_lines(record(many, many, **near(500)))
    assert len(text) < 25_000
    assert "and 2960 more" in text
    assert len(MarkdownIt("commonmark").enable("table").render(text)) > 0
    assert all(len(sentence) < 1_000 for sentence in faults(record(many), None))
