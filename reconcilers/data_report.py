"""What looking at data found, for people: markdown for reports and pull requests, sentences where it stops. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconcilers.markdown import code, escape, table
from specs.data import Expectations
from specs.data_records import Alike, DifferenceRecord, SetReport, ValidationRecord

_LISTED = 10
"""Findings of one kind that are listed; the rest is counted."""
_CLASSES = 40
_NAME = 120
"""Characters of a path or a class name; nobody reads longer ones."""
_EXAMPLES = 3


def faults(record: ValidationRecord, expect: Expectations | None) -> list[str]:
    """Give a sentence for everything that must be mended before training: what, where, what to do.

    Plain text with paths as people wrote them: whoever makes markup of it escapes it.
    """
    expect = expect or Expectations()
    found = _set_faults("training", record.train)
    if record.golden is not None:
        found += _set_faults("golden", record.golden)
    found += _leaks(record, expect.max_near_leaks or 0)
    return found + _above(record.train, expect)


def _set_faults(name: str, report: SetReport) -> list[str]:
    found = []
    if report.unreadable_count:
        what = f"{_count(report.unreadable_count, f'{name} picture')} cannot be used"
        found.append(f"{what}: {_examples(report.unreadable, report.unreadable_count)}; repair or remove them")
    if report.bad_label_count:
        what = f"{_count(report.bad_label_count, 'label')} of {name} pictures cannot be used"
        found.append(f"{what}: {_examples(report.bad_labels, report.bad_label_count)}; correct them")
    return found


def _leaks(record: ValidationRecord, allowed: int) -> list[str]:
    found = []
    exact, near = record.leak_count - record.near_leak_count, record.near_leak_count
    if exact:
        pairs = _pairs([pair for pair in record.leaks if pair.exact], exact)
        what = _count(exact, "golden picture")
        found.append(f"{what} can also be found in the training data: {pairs}; remove them from one of the two")
    if near > allowed:
        pairs = _pairs([pair for pair in record.leaks if not pair.exact], near)
        found.append(
            f"{_count(near, 'golden picture')} can be found nearly the same in the training data, at most {allowed} "
            f"allowed: {pairs}; remove them from one of the two, or allow for them in spec.data.expect.maxNearLeaks"
        )
    return found


def _above(train: SetReport, expect: Expectations) -> list[str]:
    found = []
    if expect.max_duplicates is not None and train.duplicate_count > expect.max_duplicates:
        what = _count(train.duplicate_count, "training picture")
        found.append(
            f"{what} can be found in the training data twice, at most {expect.max_duplicates} allowed "
            f"(spec.data.expect.maxDuplicates): {_pairs(train.duplicates, train.duplicate_count)}; remove one of each"
        )
    if expect.max_background is not None and train.background > expect.max_background * train.images:
        found.append(
            f"{train.background} of {_count(train.images, 'training picture')} have no labels, at most a share of "
            f"{expect.max_background:g} allowed (spec.data.expect.maxBackground); label them, or remove some"
        )
    return found


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _examples(shown: Sequence[str], count: int) -> str:
    more = count - len(shown[:_EXAMPLES])
    return ", ".join([*(text[: 2 * _NAME] for text in shown[:_EXAMPLES]), *([f"{more:,} more"] if more else [])])


def _pairs(pairs: Sequence[Alike], count: int) -> str:
    return _examples([f"{pair.second[:_NAME]} (as {pair.first[:_NAME]})" for pair in pairs], count)


def validation_lines(record: ValidationRecord) -> str:
    """Give markdown: a table of both sets, their classes, and lists of what was found.

    Its pictures (``record.files``) are shown by whoever knows where they lie.
    """
    sets = [("training", record.train), *([("golden", record.golden)] if record.golden else [])]
    parts = [_overview(sets, record), _classes(sets, record)]
    for name, report in sets:
        parts.append(_list(f"Pictures that cannot be used, {name}", report.unreadable, report.unreadable_count))
        parts.append(_list(f"Labels that cannot be used, {name}", report.bad_labels, report.bad_label_count))
    parts.append(_alike("Golden pictures that training data shows as well", record.leaks, record.leak_count))
    for name, report in sets:
        parts.append(_alike(f"Pictures that show the same, {name}", report.duplicates, report.duplicate_count))
    return "\n".join(part for part in parts if part)


def _overview(sets: Sequence[tuple[str, SetReport]], record: ValidationRecord) -> str:
    reports = [report for _, report in sets]
    rows = [
        ("pictures", *(f"{r.images:,}" for r in reports)),
        ("width, height in pixels (least, median, most)", *(_size(r) for r in reports)),
        ("pictures that cannot be used", *(_found(r.unreadable_count) for r in reports)),
    ]
    if record.task != "classify":
        rows += [
            ("labelled objects", *(f"{r.objects:,}" for r in reports)),
            ("pictures without labels", *(f"{r.background:,}" for r in reports)),
            ("labels that cannot be used", *(_found(r.bad_label_count) for r in reports)),
        ]
    copies = (_copies(r.duplicate_count, r.near_duplicate_count) for r in reports)
    rows.append(("show the same as another one", *copies))
    if record.golden is not None:
        rows.append(("also in the training data", "", _copies(record.leak_count, record.near_leak_count)))
    return table(("", *(name for name, _ in sets)), rows)


def _size(report: SetReport) -> str:
    least, median, most = zip(report.width, report.height, strict=True)
    if least == most:
        return f"{least[0]} × {least[1]}"
    return ", ".join(f"{width} × {height}" for width, height in (least, median, most))


def _found(count: int) -> str:
    return f"**{count:,}**" if count else "none"


def _copies(count: int, near: int) -> str:
    if not count:
        return "none"
    return f"{count:,} ({count - near:,} exactly, {near:,} nearly)"


def _classes(sets: Sequence[tuple[str, SetReport]], record: ValidationRecord) -> str:
    names = list(dict.fromkeys(name for _, report in sets for name in report.class_counts))
    rows = [(_name(name), *(f"{r.class_counts.get(name, 0):,}" for _, r in sets)) for name in names[:_CLASSES]]
    if len(names) > _CLASSES:
        rows.append((f"and {len(names) - _CLASSES} more", *("" for _ in sets)))
    what = "pictures" if record.task == "classify" else "objects"
    return table(("class", *(f"{what}, {name}" for name, _ in sets)), rows)


def _name(name: str) -> str:
    return escape(name if len(name) <= _NAME else f"{name[:_NAME]}…")


def _list(title: str, shown: Sequence[str], count: int) -> str:
    if not count:
        return ""
    lines = [f"- {code(text[: 4 * _NAME])}" for text in shown[:_LISTED]]
    return "\n".join([f"{title}:\n", *lines, *_more(count - len(lines))]) + "\n"


def _alike(title: str, pairs: Sequence[Alike], count: int) -> str:
    if not count:
        return ""
    lines = [
        f"- {code(pair.second[:_NAME])} {'is' if pair.exact else 'is nearly'} {code(pair.first[:_NAME])}"
        for pair in pairs[:_LISTED]
    ]
    return "\n".join([f"{title}:\n", *lines, *_more(count - len(lines))]) + "\n"


def _more(count: int) -> list[str]:
    return [f"- and {count:,} more"] if count > 0 else []


def difference_lines(record: DifferenceRecord) -> str:
    """Give markdown: what came and went, and how the classes changed. Its picture is shown as in validation_lines."""
    before, after = record.images
    changed = [
        f"{count:,} {what}"
        for count, what in ((record.added, "added"), (record.removed, "removed"), (record.relabelled, "relabelled"))
        if count
    ]
    head = f"{before:,} → {after:,} pictures: {', '.join(changed) or 'none added, removed or relabelled'}.\n"
    return "\n".join(part for part in (head, _class_changes(record)) if part)


def _class_changes(record: DifferenceRecord) -> str:
    """Show the classes whose numbers changed, those that changed most first; the others are counted."""
    moved = [each for each in record.classes if each.before != each.after]
    moved.sort(key=lambda each: -abs((each.after or 0) - (each.before or 0)))
    rows = [
        (_name(each.name), _number(each.before), _number(each.after), f"{(each.after or 0) - (each.before or 0):+,}")
        for each in moved[:_CLASSES]
    ]
    if len(moved) > _CLASSES:
        rows.append((f"and {len(moved) - _CLASSES} more", "", "", ""))
    same = len(record.classes) - len(moved)
    if same:
        rows.append((f"{same} with the same numbers" if moved else f"all {same} classes as before", "", "", ""))
    return table(("class", "before", "after", "change"), rows)


def _number(count: int | None) -> str:
    return "no such class" if count is None else f"{count:,}"
