"""The proof of an edit: made from the two texts alone, whoever made the edit and however."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from specs.diff import changes
from specs.digests import canonical
from specs.edits import Place, checked, edit, insertion_point, line_end, locate, removal_room, value_end
from specs.errors import InvalidManifest, UnsafeEdit
from specs.modelspec import ModelKey
from specs.reading import LoadedModel, find, parse
from specs.yaml_text import comments, documents


def prove(before: str, after: str, key: ModelKey, field: str, value: object) -> None:
    """Prove that ``after`` is ``before`` with ``field`` set to ``value`` (None: removed) and nothing else.

    UnsafeEdit names the first thing that is not so: text elsewhere, another document, another field, a comment,
    another value, or a file that no longer holds valid ModelSpecs.
    """
    old, new = locate(before, key, field), locate(after, key, field)
    wanted = checked(field, value)
    _same_text_outside(before, after, old, wanted)
    _same_documents(before, after, old.candidate.document.number)
    _same_data(old, new, field, wanted)
    _same_meaning(_parsed(before, key, "before"), _parsed(after, key, "after"), field)
    if _comments_outside(before, old, wanted) != [comment for _, comment in comments(after)]:
        _refuse(field, "a comment outside its value would change")


def rewrite(text: str, key: ModelKey, edits: Iterable[tuple[str, object]]) -> str:
    """Give ``text`` with one field after the other set to its value, each edit proved on its own; UnsafeEdit else."""
    for field, value in edits:
        after = edit(text, key, field, value)
        prove(text, after, key, field, value)
        text = after
    return text


def prove_rewritten(before: str, after: str, key: ModelKey, root: str) -> tuple[str, ...]:
    """Prove that ``after`` is ``before`` with single values at or below ``root`` changed, and give their fields.

    They are found by what the two mean; the text must be what editing them one by one, in order, makes of ``before``.
    """
    old, new = (_parsed(text, key, when) for text, when in ((before, "before"), (after, "after")))
    fields = sorted({f"spec.{change.path.partition('[')[0]}" for change in changes(old.model.spec, new.model.spec)})
    for field in fields:
        if field != root and not field.startswith(f"{root}."):
            _refuse(root, f"the meaning of {field} would change")
    data = _document_of(after, key)
    if rewrite(before, key, [(field, _at(data, field)) for field in fields]) != after:
        _refuse(root, "more would change than the values of " + ", ".join(fields))
    return tuple(fields)


def _document_of(text: str, key: ModelKey) -> Any:
    return next(candidate.reading.data for candidate in find(text, "") if candidate.key == key)


def _at(data: Any, field: str) -> Any:
    for part in field.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _refuse(field: str, what: str) -> None:
    msg = f"the edit of {field} is not safe: {what}; nothing was changed"
    raise UnsafeEdit(msg)


def _parsed(text: str, key: ModelKey, when: str) -> LoadedModel:
    try:
        return parse(text, "", key)
    except InvalidManifest as error:
        msg = f"{key} is not valid {when} the edit: {error.problems[0]}"
        raise UnsafeEdit(msg) from error


def _room(text: str, place: Place, wanted: object) -> tuple[int, int]:
    """Give the span of the old text within which it may differ."""
    if place.key is None or place.value is None:
        point = insertion_point(text, place)
        return point, point
    if wanted is None:
        return removal_room(text, place)
    end = max(place.value.end, place.key.end)
    return place.key.end, end if place.parent.style == "flow" else line_end(text, end)


def _same_text_outside(before: str, after: str, old: Place, wanted: object) -> None:
    if wanted is None and old.key is None:
        if before != after:
            _refuse(old.name, "there is nothing to remove, yet the text differs")
        return
    start, end = _room(before, old, wanted)
    rest = len(before) - end
    long_enough = len(after) >= start + rest
    if not long_enough or after[:start] != before[:start] or after[len(after) - rest :] != before[end:]:
        _refuse(old.name, "text outside its value would change")


def _same_documents(before: str, after: str, edited: int) -> None:
    old, new = documents(before, ""), documents(after, "")
    if len(old) != len(new):
        _refuse("the manifest", "the file would hold another number of documents")
    for one, other in zip(old, new, strict=True):
        if one.number != edited and before[one.start : one.end] != after[other.start : other.end]:
            _refuse("the manifest", f"document {one.number + 1} of the file would change")


def _same_data(old: Place, new: Place, field: str, wanted: object) -> None:
    """Compare the documents as data: all but the field alike, and the field as wanted."""
    rest, _ = _without(old.candidate.reading.data, field)
    other_rest, found = _without(new.candidate.reading.data, field)
    if canonical(rest) != canonical(other_rest):
        _refuse(field, "another field would change")
    if (new.key is None) != (wanted is None) or canonical(found) != canonical(wanted):
        _refuse(field, "it would not have the wanted value")


def _without(data: Any, field: str) -> tuple[Any, Any]:
    """Give (the data without a field, the field's value)."""
    rest = copy.deepcopy(data)
    *parents, name = field.split(".")
    section = rest
    for part in parents:
        section = section[part]
    return rest, section.pop(name, None)


def _same_meaning(before: LoadedModel, after: LoadedModel, field: str) -> None:
    """Compare what the specs mean, defaults included: every difference lies inside the field."""
    inside = field.removeprefix("spec.")
    for change in changes(before.model.spec, after.model.spec):
        if change.path != inside and not change.path.startswith((f"{inside}.", f"{inside}[")):
            _refuse(field, f"the meaning of {change.path} would change")


def _comments_outside(text: str, place: Place, wanted: object) -> list[str]:
    """Give the comments that the edit must keep: all but those within the old value."""
    if place.key is None or place.value is None:
        start = end = -1
    elif wanted is None:
        start, end = removal_room(text, place)
    else:
        start, end = place.value.start.offset, value_end(text, place.value)
    return [comment for offset, comment in comments(text) if not start <= offset < end]
