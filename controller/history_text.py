"""Releases in words: for a terminal, a markdown page, a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from rich.text import Text

from reconcilers.findings import Finding
from reconcilers.markdown import code, escape
from reconcilers.markdown import table as markdown_table
from reconcilers.releases import Row
from specs.digests import short

UNKNOWN = "unknown"
_COLUMNS = (
    "model", "version", "how", "when", "proposed_by", "merged_by", "approved_by", "pull_request", "commit",
    "replaced", "ended", "ended_at", "ended_by", "source", "data", "golden", "base", "args", "run", "weights",
    "exports", "evidence", "evidence_of", "evidence_digest", "n", "metrics",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str) -> str:
    """Make the words of others safe for a terminal: one line, nothing that moves the cursor."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def block(row: Row) -> Text:
    """Tell one release in a few lines of at most 80 characters."""
    name = f"v{row.version}" if row.version is not None else "none"
    when = row.when.replace("T", " ")[:16]
    text = Text.assemble((f"{name:<5}", "bold cyan"), f"{row.how} {when} UTC, replaced {_replaced(row)}\n")
    text.append(f"     {_end(row)}by pull request {_pull(row)}, commit {row.commit['sha'][:12]}\n")
    approved = ", ".join(map(_name, row.approved_by or (None,)))
    text.append(f"     proposed by {_name(row.proposed_by)}, merged by {_name(row.merged_by)}, ")
    text.append(f"approved by {approved}\n")
    if row.version is None:
        return text
    if row.args is not None:
        asked = f"     from {row.base or UNKNOWN} with {_args(row)}"
        text.append(_cut(plain(asked), 79) + "\n")
        text.append(f"     data {short(row.data or UNKNOWN)}, golden {short(row.golden or 'none')}, ")
        text.append(f"asked for by {(row.source or UNKNOWN)[:12]}\n")
    for metric, measured in row.metrics.items():
        shown = f"     {metric.removeprefix('metrics/')} {measured}, n = {row.n}\n"
        text.append(plain(shown[:-1]) + "\n", "bold" if metric == row.metric else "")
    digests = ("run", row.run), ("weights", row.weights), *row.exports.items()
    text.append("     " + "  ".join(f"{what} {short(digest or '')}" for what, digest in digests) + "\n")
    good = row.evidence == "verified"
    text.append_text(Text.assemble("     evidence ", (_proved(row), "green" if good else "red"), "\n"))
    return text


def _proved(row: Row) -> str:
    return f"{row.evidence}{f' (of v{row.evidence_of}, the same bytes)' if row.evidence_of else ''}"


def _end(row: Row) -> str:
    return f"until {(row.ended_at or '').replace('T', ' ')[:16]} UTC: {row.ended}\n     " if row.ended else ""


def _replaced(row: Row) -> str:
    return f"v{row.replaced}" if row.replaced else "nothing"


def _pull(row: Row) -> str:
    if row.pull_request is None:
        return f"{UNKNOWN} (a merge commit)" if row.pull_request_from == "merge" else UNKNOWN
    return f"#{row.pull_request}"


def _name(person: str | None) -> str:
    return plain(person.partition(" <")[0]) if person else UNKNOWN


def _args(row: Row) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted((row.args or {}).items()))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def as_markdown(rows: Sequence[Row]) -> str:
    """Give a page: a table of releases for each model, then each one's inputs, numbers and digests."""
    parts = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        header = ("version", "how", "when (UTC)", "proposed by", "merged by", "approved by", "pull request", "commit",
                  "replaced", "ended")  # fmt: skip
        parts += [f"# Releases of {escape(model)}\n", markdown_table(header, map(_cells, mine))]
        parts += [_details(row) for row in mine if row.version is not None]
    return "\n".join(parts) or "No model has a release.\n"


def _cells(row: Row) -> Sequence[str]:
    approved = ", ".join(escape(_name(each)) for each in row.approved_by or (None,))
    people = (escape(_name(row.proposed_by)), escape(_name(row.merged_by)), approved)
    end = f"{row.ended_at}: {row.ended}" if row.ended else "–"
    return (
        f"v{row.version}" if row.version is not None else "none", row.how, row.when, *people,
        f"#{row.pull_request}" if row.pull_request else UNKNOWN, code(row.commit["sha"][:12]),
        _replaced(row), end,
    )  # fmt: skip


def _details(row: Row) -> str:
    told: list[tuple[str, str]] = [
        ("asked for by commit", code(row.source) if row.source else UNKNOWN),
        ("began with", code(row.base) if row.base else UNKNOWN),
        ("arguments", code(_args(row)) if row.args is not None else UNKNOWN),
        ("training data", code(row.data) if row.data else UNKNOWN),
        ("golden data", code(row.golden) if row.golden else UNKNOWN),
        ("run", code(row.run or UNKNOWN)), ("weights", code(row.weights or UNKNOWN)),
        *((f"export {name}", code(digest)) for name, digest in row.exports.items()),
        ("evidence", f"{code(row.evidence_digest) if row.evidence_digest else 'none pinned'}: {_proved(row)}"),
        *((escape(name), f"{measured}, n = {row.n}") for name, measured in row.metrics.items()),
    ]  # fmt: skip
    return f"## v{row.version}, {row.how} {row.when}\n\n" + markdown_table(("", ""), told)


def as_csv(rows: Iterable[Row]) -> str:
    """Give comma-separated values with a header; maps as JSON, unknown things as ``unknown``."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row, column) for column in _COLUMNS])
    return target.getvalue()


def _cell(row: Row, column: str) -> str:
    value = getattr(row, column)
    if column == "commit":
        value = row.commit["sha"]
    if column == "metrics":
        value = {name: [each.value, each.low, each.high] for name, each in row.metrics.items()}
    if value is None:
        empty = column in ("ended", "ended_at", "ended_by", "evidence_of", "replaced", "version")
        return "" if empty else UNKNOWN
    text = json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict) else str(value)
    text = "; ".join(value) if isinstance(value, list) else text
    return f"'{text}" if text.startswith(_FORMULA) else text  # a spreadsheet would run it


def findings_markdown(findings: Sequence[Finding], head: str) -> str:
    """Give a page of findings."""
    rows = [
        (each.severity, each.code, escape(each.model or "the branch"), f"v{each.version}" if each.version else "–",
         code(each.commit[:12]) if each.commit else "–", escape(each.expected), escape(each.found), escape(each.advice))
        for each in findings
    ]  # fmt: skip
    header = ("severity", "code", "model", "version", "commit", "expected", "found", "what to do")
    listed = markdown_table(header, rows) or "Nothing is wrong.\n"
    return f"# Proof of the history up to {code(head)}\n\n{listed}"


def findings_csv(findings: Iterable[Finding]) -> str:
    """Give comma-separated values with a header."""
    names = ("severity", "code", "model", "version", "commit", "expected", "found", "advice")
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(names)
    for each in findings:
        cells = ["" if getattr(each, name) is None else str(getattr(each, name)) for name in names]
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return target.getvalue()
