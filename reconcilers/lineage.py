"""Where a digest comes from: byte, export, weights, run, inputs, commit, pull request. Looks through the port only.

Every link says how it is known: proved here and now, only claimed by somebody, or not to be looked up from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from reconcilers.chronicle import Chronicle, Event
from reconcilers.ports import Store
from reconcilers.releases import row, stamp
from specs.digests import digest_of, short
from specs.errors import CorruptArtifact, Stalled, Transient
from specs.evidence import Evidence, ExportEvidence
from specs.facts import PullRequest
from specs.past import pull_claim
from specs.release import Release


class Trust(StrEnum):
    """How a link is known."""

    PROVED = "proved"
    CLAIMED = "claimed"
    OUT_OF_REACH = "out of reach"
    WRONG = "wrong"


@dataclass(frozen=True)
class Link:
    """One thing in the chain, and what it was made from."""

    what: str
    name: str
    """Full digest or commit, ``#7`` for a pull request; empty where there is none."""
    detail: str
    trust: Trust
    how: str
    """How that was verified, or why it was not."""
    sources: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a digest stands in the history."""

    event: Event
    role: str
    """``export onnx``, ``weights``, ``run``, ``training data``, ``golden data``, ``evidence``, ``base model`` …"""
    digest: str


def places(events: Iterable[Event]) -> Iterator[Place]:
    """Give every digest that releases and their evidence name, in the order of the events."""
    for event in events:
        release, proof = event.release, event.proof
        if release is None or event.how == "went back":
            continue
        yield from (Place(event, f"export {name}", file) for name, file in sorted(release.exports.items()))
        yield Place(event, "weights", release.weights)
        yield Place(event, "run", release.run)
        if release.evidence:
            yield Place(event, "evidence", release.evidence)
        if proof is not None and proof.evidence is not None:
            yield from (Place(event, role, digest) for role, digest in _named(proof.evidence) if digest)


def _named(evidence: Evidence) -> Iterator[tuple[str, str | None]]:
    data, run = evidence.data, evidence.run
    sets = (("training data", data.train), ("golden data", data.golden), ("calibration data", data.calibration))
    for role, told in sets:
        yield role, told.digest if told else None
        if told is not None and told.pinned != told.digest:
            yield f"{role} as git names it", told.pinned
    if run is not None:
        yield "base model", run.base_model
        yield from ((f"file {name} of the run", digest) for name, digest in sorted(run.files.items()))
    if evidence.evaluation is not None:
        yield "results of each golden image", evidence.evaluation.per_image
    yield from ((f"way of export {each.name}", each.record.export_digest) for each in evidence.exports if each.record)


def find(events: Iterable[Event], start: str) -> list[Place]:
    """Give the places of the one digest that begins with ``start`` (hexadecimal); Stalled where there are several."""
    found = [place for place in places(events) if place.digest.rpartition(":")[2].startswith(start)]
    digests = sorted({place.digest for place in found})
    if len(digests) > 1:
        names = ", ".join(f"{digest[:27]}…" for digest in digests[:5])
        text = f"{start} is the beginning of {len(digests)} digests: {names}; give more of it"
        raise Stalled("DigestNotUnique", text)
    return found


@dataclass(frozen=True)
class Witnesses:
    """Who can be asked besides git."""

    store: Store
    pulls: dict[str, PullRequest] | None
    """By merge commit; None where no forge can be asked."""


def chain(event: Event, role: str, witnesses: Witnesses, story: Chronicle) -> Link:
    """Give the chain from what a release has in a role down to the pull request that a person merged."""
    release, evidence = event.release, event.proof.evidence if event.proof else None
    if release is None:
        raise Stalled("NoSuchRelease", "nothing is released by that commit")
    run = _run(event, release, evidence, witnesses, story)
    weights = _file("weights", release.weights, _trained(evidence), witnesses.store, run)
    name = role.removeprefix("export ")
    if role.startswith("export ") and name in release.exports:
        found = next((each for each in evidence.exports if each.name == name), None) if evidence else None
        return _file(role, release.exports[name], _exported(found), witnesses.store, weights)
    if role == "weights":
        return weights
    if role == "run":
        return run
    if role == "evidence":
        return _evidence(event, _commit(event, witnesses, story))
    digest = next(place.digest for place in places([event]) if place.role == role)
    used = Link(role, digest, "named by the evidence below", Trust.CLAIMED, "the evidence names it", (run,))
    return _data(role, digest, evidence, (run,)) if role.startswith("training data") else used


def _exported(found: ExportEvidence | None) -> str:
    record = found.record if found else None
    if record is None:
        return "nothing is recorded about it"
    words = ", ".join(f"{key}={value}" for key, value in sorted(record.args.items()))
    made = f"{record.format}{f' with {words}' if words else ''}"
    calibrated = f", INT8 by the pictures of {short(record.calibration)}" if record.calibration else ""
    device = f", for {record.runtime['gpu']}" if "gpu" in record.runtime else ""
    return made + calibrated + device


def _trained(evidence: Evidence | None) -> str:
    run = evidence.run if evidence else None
    if run is None:
        return "nothing is recorded about them"
    where = f" on {run.environment.device}" if run.environment else ""
    when = f" {run.finished}" if run.finished else ""
    course = f", {run.course}" if run.course else ""
    return f"trained{when}{where} in {run.seconds:.0f} s, seed {run.seed}{course}"


def _file(what: str, digest: str, detail: str, store: Store, source: Link) -> Link:
    try:
        size = len(store.read_blob(digest))
    except CorruptArtifact:
        return Link(what, digest, detail, Trust.WRONG, "the store has other bytes under this digest", (source,))
    except Stalled:
        return Link(what, digest, detail, Trust.OUT_OF_REACH, "the store has no such file", (source,))
    except Transient as error:
        return Link(what, digest, detail, Trust.OUT_OF_REACH, f"the store: {error.message}", (source,))
    return Link(what, digest, detail, Trust.PROVED, f"digest of the {size:,} bytes in the store matches", (source,))


def _run(event: Event, release: Release, evidence: Evidence | None, witnesses: Witnesses, story: Chronicle) -> Link:
    commit = _commit(event, witnesses, story)
    proof = _evidence(event, commit)
    if evidence is None:
        return Link("run", release.run, "its inputs are unknown", Trust.CLAIMED, "only the release names it", (proof,))
    inputs = _inputs(evidence)
    good = digest_of(evidence.inputs) == release.run
    how = "the digest of the recorded inputs is its name" if good else "the recorded inputs have another digest"
    asked = Link(
        "asked for by", evidence.source.commit, evidence.source.path, *_on_branch(evidence.source.commit, story)
    )  # fmt: skip
    sources = (*inputs, asked, proof)
    return Link("run", release.run, _words(evidence), Trust.PROVED if good else Trust.WRONG, how, sources)


def _words(evidence: Evidence) -> str:
    args, model = evidence.inputs.get("args"), evidence.inputs.get("model")
    base = next(iter(model.values()), "?") if isinstance(model, dict) else "?"
    told = ", ".join(f"{key}={value}" for key, value in sorted(args.items())) if isinstance(args, dict) else "?"
    return f"{base} with {told or 'no arguments'}"


def _inputs(evidence: Evidence) -> Iterator[Link]:
    train = evidence.data.train
    if train is not None:
        yield _data("training data", train.digest, evidence, ())
    if evidence.run is not None and evidence.run.base_model is not None:
        yield Link("base model", evidence.run.base_model, "", Trust.CLAIMED, "the run's record names it")


def _data(role: str, digest: str, evidence: Evidence | None, sources: tuple[Link, ...]) -> Link:
    train = evidence.data.train if evidence else None
    named = train.pinned if train else ""
    good = evidence is not None and evidence.inputs.get("data") in (digest, named)
    detail = f"{train.images} images, {len(train.names)} classes" if train else ""
    how = "it is among the inputs" if good else "the inputs name other data"
    if good and train is not None and digest != named:
        how = f"the inputs name {named}, which the evidence says is this data set"
        return Link(role, digest, detail, Trust.CLAIMED, how, sources)
    return Link(role, digest, detail, Trust.PROVED if good else Trust.WRONG, how, sources)


def _evidence(event: Event, commit: Link) -> Link:
    proof, release = event.proof, event.release
    if proof is None or release is None or proof.state == "missing":
        return Link("evidence", "", "there is none", Trust.CLAIMED, "nothing but the commit says so", (commit,))
    if proof.state == "verified":
        whose = f" of v{proof.of}, which released the same bytes" if proof.of else ""
        how = f"its digest is what the release{whose} pins"
        return Link("evidence", proof.found, proof.path, Trust.PROVED, how, (commit,))
    how = "the release pins another digest" if proof.state == "altered" else proof.problem
    return Link("evidence", proof.found, proof.path, Trust.WRONG, how, (commit,))


def _on_branch(sha: str, story: Chronicle) -> tuple[Trust, str]:
    there = any(step.sha == sha for step in story.steps)
    return (Trust.PROVED, "on the tracked branch") if there else (Trust.WRONG, "not on the tracked branch any more")


def _commit(event: Event, witnesses: Witnesses, story: Chronicle) -> Link:
    told = row(event)
    detail = f"{told.when}, merged by {_who(told.merged_by)}"
    return Link("merge commit", event.step.sha, detail, *_on_branch(event.step.sha, story), (_pull(event, witnesses),))


def _pull(event: Event, witnesses: Witnesses) -> Link:
    claim, told = pull_claim(event.step), row(event)
    who = f"proposed by {_who(told.proposed_by)}, approved by {', '.join(map(_who, told.approved_by or (None,)))}"
    if witnesses.pulls is None:
        if claim.number is None:
            return Link("pull request", "", who, Trust.CLAIMED, "git does not tell which; no forge can be asked")
        how = f"the commit's {claim.where} says so; no forge can be asked"
        return Link("pull request", f"#{claim.number}", who, Trust.CLAIMED, how)
    pull = witnesses.pulls.get(event.step.sha)
    if pull is None:
        how = "the forge merged no pull request as this commit"
        trust = Trust.WRONG if claim.number is not None else Trust.PROVED
        return Link("pull request", f"#{claim.number}" if claim.number else "", "none", trust, how)
    approved = ", ".join(pull.approved_by) or "nobody"
    who = f"opened by {pull.author or 'unknown'} {stamp(pull.opened)}, approved by {approved}"
    good = claim.number in (None, pull.number)
    how = "the forge merged it as this commit" if good else f"the commit says #{claim.number}"
    return Link("pull request", f"#{pull.number}", who, Trust.PROVED if good else Trust.WRONG, how)


def _who(person: str | None) -> str:
    return person.partition(" <")[0] if person else "unknown"


def also(places_: Iterable[Place], event: Event) -> list[str]:
    """Name the other releases that have the same digest."""
    found = [f"{place.event.key} v{place.event.release.version}" for place in places_
             if place.event.release is not None and place.event is not event]  # fmt: skip
    return list(dict.fromkeys(found))


def headline(place: Place) -> str:
    """Say in one line what a digest is."""
    release = place.event.release
    version = f" v{release.version}" if release else ""
    kind = place.digest.rpartition(":")[0]
    return f"{f'{kind}:' if kind else ''}{short(place.digest)}… is the {place.role} of {place.event.key}{version}"
