"""``trunkline why``: where a digest, or a release, comes from."""

from __future__ import annotations

import re
from dataclasses import asdict

import click
from rich.console import Group
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from controller import wiring
from controller.console import as_json, console, print_json, settings
from controller.history_text import plain
from controller.past import Past, pulls, release, told
from controller.settings import Settings
from reconcilers.lineage import Link, Place, Trust, Witnesses, also, chain, find, headline, places
from specs.digests import short
from specs.errors import Stalled

_DIGEST = re.compile(r"(?:sha256:|md5:)?([0-9a-f]{12,64})(?:\.dir)?")
_RELEASE = re.compile(r"([a-z0-9./-]+?)(?:@v?([0-9]+))?")
_MARKS = {
    Trust.PROVED: ("✓", "green"), Trust.CLAIMED: ("~", "yellow"),
    Trust.OUT_OF_REACH: ("?", "yellow"), Trust.WRONG: ("✗", "red"),
}  # fmt: skip


@click.command()
@click.argument("target", metavar="DIGEST|MODEL[@vN]")
@as_json
def why(target: str, json_: bool) -> None:
    """Say where bytes come from: file, export, weights, run, inputs, merge commit, pull request.

    \b
    trunkline why sha256:1f0c9a…     an export, weights, a run, data, evidence; 12 digits are enough
    trunkline why digits@v3          what v3 serves; without @v3 the newest release

    Every link says how it is known: ✓ proved here and now, ~ only claimed, ? out of reach, ✗ wrong.
    """
    found = settings()
    digest = _DIGEST.fullmatch(target)
    past = told(found, None if digest else wanted(target)[0])
    place, others = _by_digest(found, past, digest[1]) if digest else (_by_name(past, target), [])
    asked, _ = pulls(found, [place.event.step], approvals=True)
    witnesses = Witnesses(
        wiring.store(found), None if asked is None else {pull.merge_commit or "": pull for pull in asked}
    )
    root = chain(place.event, place.role, witnesses, past.story)
    if json_:
        print_json({"digest": place.digest, "role": place.role, "model": str(place.event.key),
                    "version": place.event.release and place.event.release.version, "also": others,
                    "chain": asdict(root)})  # fmt: skip
        return
    out = console()
    out.print(headline(place), markup=False)
    if others:
        out.print(f"also in {', '.join(others)}", markup=False)
    out.print(_tree(root), soft_wrap=False)


def wanted(target: str) -> tuple[str, int | None]:
    """Read MODEL or MODEL@vN; Stalled ``TargetUnknown`` for anything else."""
    match = _RELEASE.fullmatch(target)
    if match is None:
        text = f"{target!r} is neither a digest (12 or more hexadecimal digits) nor a MODEL, nor MODEL@vN"
        raise Stalled("TargetUnknown", text)
    return match[1], int(match[2]) if match[2] else None


def _by_name(past: Past, target: str) -> Place:
    """Give what a release serves, or its first export where it serves nothing."""
    event = release(past, wanted(target)[1])
    after = event.moment.after
    files = event.release.exports if event.release else {}
    serving = after.spec.serving.export if after and after.spec.serving else ""
    name = serving if serving in files else min(files)
    return Place(event, f"export {name}", files[name])


def _by_digest(found: Settings, past: Past, start: str) -> tuple[Place, list[str]]:
    """Give the first release that has it, and the names of the others."""
    there = find(past.events(), start)
    if there:
        return there[0], also(there, there[0].event)
    releases = sum(event.release is not None for event in past.events())
    known = len({place.digest for place in places(past.events())})
    text = (
        f"no release ever had anything whose digest begins with {start}; searched: {known} digests of {releases} "
        f"releases of {len(past.keys)} models on {found.branch} up to commit {past.head[:12]}"
    )
    if len(start) == 64 and wiring.store(found).has_blob(f"sha256:{start}"):
        text += "; the store has a file of that digest, which was never released"
    raise Stalled("DigestUnknown", text)


def _tree(link: Link) -> Tree:
    tree = Tree(_text(link), guide_style="dim")
    for source in link.sources:
        tree.children.append(_tree(source))
    return tree


def _text(link: Link) -> Group:
    mark, colour = _MARKS[link.trust]
    name = link.name if link.name.startswith("#") else short(link.name)
    head = Text.assemble((f"{mark} ", colour), f"{link.what} {name}".rstrip())
    below = [Text(plain(link.detail))] if link.detail else []
    return Group(head, *(Padding(line, (0, 0, 0, 2), expand=False) for line in (*below, Text(plain(link.how), colour))))
