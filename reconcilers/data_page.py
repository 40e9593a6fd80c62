"""What people read before they merge a newer version of the training data. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reconcilers.context import Context
from reconcilers.data_report import difference_lines, validation_lines
from reconcilers.markdown import code, escape, picture, table
from reconcilers.observed import NewerData
from specs.data import Source
from specs.digests import short


def name_of(source: Source) -> str:
    """Name a version as people do: its tag, its commit, its number."""
    if source.dvc is not None:
        revision = source.dvc.target_revision
        return revision[:12] if re.fullmatch(r"[0-9a-f]{40,64}", revision) else revision
    if source.platform is not None and source.platform.version is not None:
        return f"version {source.platform.version}"
    return short(source.digest or "")


def title(ctx: Context, newer: NewerData) -> str:
    """Give the pull request's title, with how much more there is to learn from."""
    found = newer.difference
    counts = [] if found is None else [f"{sign}{n}" for sign, n in (("+", found.added), ("−", found.removed)) if n]
    changed = f", {found.relabelled} relabelled" if found and found.relabelled else ""
    change = f" ({' '.join(counts) or '±0'} images{changed})" if found else ""
    return f"{ctx.key}: train on data {name_of(newer.source)}{change}"


def pictures(newer: NewerData) -> dict[str, str]:
    """Give the pictures that belong to a version: name in the evidence folder to digest."""
    records = [record.files for record in (newer.difference, newer.validation) if record is not None]
    return {name: file for files in records for name, file in files.items() if name.endswith((".png", ".jpg"))}


def body(ctx: Context, newer: NewerData, folder: str) -> str:
    """Give the pull request's text: what changes, what merging does, how to undo it, how to say no."""
    shown = sorted(pictures(newer))
    seen = f"Pictures are among the files of this change: {', '.join(code(f'{folder}/{name}') for name in shown)}.\n"
    undone = (
        "### How to undo it\n\n`git revert` the merge. Then the run that was trained on the data before is the "
        "candidate again; nothing is trained anew.\n"
    )
    refused = (
        "### How to say no\n\nClose this without merging: Trunkline remembers that, and asks again only when there is "
        "another version.\n"
    )
    evidence = f"Evidence: {code(folder + '/data.json')}, report and pictures beside it.\n"
    merged = f"### What merging does\n\n{_consequence(ctx)}"
    return "\n".join((findings(ctx, newer), *([seen] if shown else []), merged, undone, refused, evidence))


def page(ctx: Context, newer: NewerData, shown: Sequence[str]) -> str:
    """Give report.md: what was found out about the version, with its pictures."""
    head = f"# {escape(str(ctx.key))}: data {escape(name_of(newer.source))}\n"
    return "\n".join([head, findings(ctx, newer), *(f"{picture(name)}\n" for name in shown)])


def findings(ctx: Context, newer: NewerData) -> str:
    """Give what remains true after the merge."""
    parts = [_change(ctx, newer)]
    if newer.difference is not None:
        parts.append(f"### What is different\n\n{difference_lines(newer.difference)}")
    if newer.validation is not None:
        parts.append(f"### What looking at every picture and label found\n\n{validation_lines(newer.validation)}")
    return "\n".join(parts)


def _change(ctx: Context, newer: NewerData) -> str:
    before, after = ctx.spec.data.train, newer.source
    old, new = (source.plain()[after.kind] for source in (before, after))
    rows = [
        (code(f"spec.data.train.{after.kind}.{name}"), code(str(old.get(name, ""))), code(str(new.get(name, ""))))
        for name in sorted({*old, *new}) if old.get(name) != new.get(name)
    ]  # fmt: skip
    head = f"There is a newer version of what {code(str(ctx.key))} is trained on, in {code(_place(after))}.\n"
    return f"{head}\n{table(('field', 'now', 'after'), rows)}"


def _place(source: Source) -> str:
    if source.dvc is not None:
        return f"{source.dvc.path} of {source.dvc.repo_url}"
    if source.uri is not None:
        return source.uri.url
    return source.platform.uri if source.platform is not None else ""


def _consequence(ctx: Context) -> str:
    gates = "the gates decide whether it is proposed as a release" if ctx.spec.gates else "it is proposed as a release"
    serving = ", and what serves goes on serving until then" if ctx.spec.serving and ctx.spec.release else ""
    return f"A model is trained on the new version, with everything else as it is{serving}. Then {gates}.\n"
