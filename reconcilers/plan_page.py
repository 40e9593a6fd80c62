"""What merging does, as markdown for a pull request: text from users is plain, and a comment has room for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconcilers.consequence import Consequence, DataChange
from reconcilers.markdown import code, escape, table
from specs.digests import short
from specs.errors import Problem

LIMIT = 60_000
"""Characters; GitHub takes 65,536 in one comment, and the edit proof needs room, too."""
_PROBLEMS, _LINES = 50, 40
_CELL = 300

BLIND = (
    "No store was asked, so this is what the files alone tell: that the data is there and as expected, and what was "
    "trained, exported or measured before, is not known. Merging may do less than this, or stop at the data.\n"
)


def page(told: Sequence[Consequence], problems: Sequence[Problem], *, blind: bool = False, limit: int = LIMIT) -> str:
    """Give the page, at most ``limit`` characters: what does not fit is counted instead of shown."""
    head = _problems(problems)
    if not told and not problems:
        return head + "Nothing changes: no ModelSpec differs.\n"
    if told:
        head += _overview(told, limit // 3)
    if blind:
        head += f"\n{BLIND}"
    parts, room = [head], limit - len(head) - 200
    for index, consequence in enumerate(told):
        part = "\n" + section(consequence)
        if len(part) > room:
            parts.append(_left_out(len(told) - index))
            break
        parts.append(part)
        room -= len(part)
    return "".join(parts)


def _left_out(count: int) -> str:
    what = "1 more model is" if count == 1 else f"{count} more models are"
    return f"\n{what} not shown: a comment has no room for more. `trunkline plan` shows all.\n"


def _problems(problems: Sequence[Problem]) -> str:
    if not problems:
        return ""
    more = len(problems) - _PROBLEMS
    shown = [problem_line(problem) for problem in problems[:_PROBLEMS]] + ([f"- and {more} more"] if more > 0 else [])
    return "**These files are wrong; merging them does nothing:**\n\n" + "\n".join(shown) + "\n\n"


def problem_line(problem: Problem) -> str:
    """Show a problem as one item of a list: file and line, field, sentence."""
    place = f"{problem.path}:{problem.line}" if problem.line else problem.path
    field = f"{code(problem.field)} " if problem.field else ""
    return f"- {code(place)} {field}{_cell(problem.message)}"


def _overview(told: Sequence[Consequence], room: int) -> str:
    rows: list[tuple[str, str, str]] = []
    for one in told:
        row = (code(str(one.key)), one.change, _cell(one.forecast.sentence))
        room -= sum(map(len, row)) + 12
        if room < 0:
            rows.append((f"and {len(told) - len(rows)} more", "", ""))
            break
        rows.append(row)
    return table(("model", "", "what merging does"), rows)


def _cell(text: str) -> str:
    return escape(text if len(text) <= _CELL else text[:_CELL] + "…")


def section(told: Consequence) -> str:
    """Give one model's part: its change, the data, how long, the gates, where it stops."""
    lines = [f"### {code(str(told.key))} {told.change}\n"]
    if told.path:
        lines.append(f"In {code(told.path)}. Merging: **{_cell(told.forecast.sentence)}**.\n")
    if told.lines:
        shown = [f"- {code(line[:_CELL])}" for line in told.lines[:_LINES]]
        more = len(told.lines) - _LINES
        lines.append("\n".join([*shown, f"- and {more} more changes"] if more > 0 else shown) + "\n")
    lines += [_data(change) for change in told.data]
    if told.training is not None:
        lines.append(f"Time to train: {told.training.sentence}.\n")
    if told.forecast.gates:
        lines.append(table(("gates that will decide",), [(_cell(gate),) for gate in told.forecast.gates]))
    if told.forecast.stopped:
        lines.append(f"**Then it stops:** {escape(told.forecast.stopped[: 4 * _CELL])}\n")
    return "\n".join(lines)


def _data(change: DataChange) -> str:
    name = {"train": "Training data", "golden": "Golden set"}[change.field]
    digests = " → ".join(code(short(digest)) if digest else "none" for digest in (change.before, change.after))
    found = change.difference
    if found is None:
        return f"{name}: {digests}; what differs in them is not known here.\n"
    before, after = found.images
    parts = [f"{before} → {after} images", f"{found.added} added", f"{found.removed} removed"]
    if found.relabelled:
        parts.append(f"{found.relabelled} relabelled")
    for what, names in (("new classes", found.classes_added), ("classes gone", found.classes_removed)):
        if names:
            parts.append(f"{what}: {_cell(', '.join(names))}")
    return f"{name}: {digests}; {', '.join(parts)}.\n"
