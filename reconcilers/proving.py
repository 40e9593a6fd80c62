"""Proving a past anew: every release, from the first, by what git says and, where it is at hand, the forge. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reconcilers.chronicle import Chronicle, Event
from reconcilers.findings import Code, Finding, finding, whole
from reconcilers.proving_commits import (
    prove_bookkeeping,
    prove_edits,
    prove_evidence_kept,
    prove_pull_request,
    prove_trailers,
)
from reconcilers.proving_evidence import prove_evidence
from reconcilers.said import Moment
from specs.facts import PullRequest, PullState
from specs.modelspec import ModelKey
from specs.past import Step, pull_claim


@dataclass(frozen=True)
class Demands:
    """What is asked of the past beyond what every past must be, and what is known from elsewhere."""

    ours: str
    """Email address of Trunkline's commits."""
    branch: str = "main"
    since: str = ""
    """Full name of the last commit that needs no proof any more; it must still be part of the past."""
    require_pull_request: bool = False
    pulls: Sequence[PullRequest] | None = None
    """All pull requests of the forge; None where it is out of reach, or knows only some."""
    unsigned: Mapping[str, str] | None = None
    """Commit to what is wrong with its signature, of those where something is; None: signatures are not asked for."""


@dataclass(frozen=True)
class Verdict:
    """What the proof came to."""

    findings: tuple[Finding, ...]
    releases: int
    """Changes of releases that were proved."""
    commits: int
    """Commits that were looked at."""


@dataclass
class _Ground:
    """What many checks need, computed once."""

    order: Mapping[str, int]
    since: int
    pulls: Mapping[str, PullRequest] | None
    """By merge commit."""
    at: dict[str, list[Moment]] = field(default_factory=dict)
    """What each commit did to models."""
    events: dict[str, list[Event]] = field(default_factory=dict)
    """What each commit released."""
    said: dict[ModelKey, list[tuple[int, Moment]]] = field(default_factory=dict)
    """What happened to each model, and when, as places in the line."""
    claimed: dict[int, str] = field(default_factory=dict)
    """The first release commit that names each pull request."""


def prove_past(story: Chronicle, demands: Demands, only: ModelKey | None = None) -> Verdict:
    """Prove all of a past, or of one model; findings are in the order of the commits."""
    ground = _ground(story, demands)
    order = ground.order
    found = [*_rewritten(story, demands, ground), *prove_evidence_kept(story)]
    for step in story.steps[ground.since + 1 :]:
        moments = ground.at.get(step.sha, [])
        found += prove_edits(step, moments, demands.ours)
        found += prove_trailers(step, moments, ground.events.get(step.sha, []))
    proved = 0
    for key, events in story.events.items():
        if only not in (None, key):
            continue
        highest = 0
        for event in events:
            if order[event.step.sha] > ground.since:
                proved += 1
                found += _release(event, highest, demands, ground)
            highest = max(highest, event.release.version if event.release else 0)
    kept = [
        each for each in dict.fromkeys(found)
        if (only is None or each.model in ("", str(only))) and order.get(each.commit, len(order)) > ground.since
    ]  # fmt: skip
    kept.sort(key=lambda each: (order.get(each.commit, -1), each.model))
    return Verdict(tuple(kept), proved, len(story.steps) - ground.since - 1)


def _ground(story: Chronicle, demands: Demands) -> _Ground:
    order = {step.sha: at for at, step in enumerate(story.steps)}
    pulls = None if demands.pulls is None else {pull.merge_commit or "": pull for pull in demands.pulls}
    ground = _Ground(order, order.get(demands.since, -1), pulls)
    for moment in story.moments:
        ground.at.setdefault(moment.step.sha, []).append(moment)
        ground.said.setdefault(moment.key, []).append((order[moment.step.sha], moment))
    for events in story.events.values():
        for event in events:
            ground.events.setdefault(event.step.sha, []).append(event)
    for sha in sorted(ground.events, key=lambda sha: order[sha]):
        number = pull_claim(ground.events[sha][0].step).number
        if number is not None:
            ground.claimed.setdefault(number, sha)
    return ground


def _release(event: Event, highest: int, demands: Demands, ground: _Ground) -> Iterator[Finding]:
    yield from prove_evidence(event)
    yield from prove_bookkeeping(event, highest)
    yield from _asked_for(event, ground)
    required = demands.require_pull_request
    yield from prove_pull_request(event, ground.pulls, required=required, claimed=ground.claimed)
    problem = (demands.unsigned or {}).get(event.step.sha)
    if problem:
        yield finding(event.moment, Code.NOT_SIGNED, "a good signature of a known key", problem)


def _asked_for(event: Event, ground: _Ground) -> Iterator[Finding]:
    """The commit that the evidence names is still there, before the release, and asked for that run."""
    evidence, release = event.proof.evidence if event.proof else None, event.release
    if evidence is None or release is None or event.how in ("went back", "rolled back"):
        return
    source, here = evidence.source.commit, ground.order[event.step.sha]
    place = ground.order.get(source)
    if place is None or place >= here:
        text = "it is not there" if place is None else "it comes later"
        expected = f"commit {source}, which asked for v{release.version}, earlier on the branch"
        yield finding(event.moment, Code.HISTORY_REWRITTEN, expected, text)
        return
    line = ground.said[event.key]
    at = bisect_right(line, place, key=lambda one: one[0]) - 1
    after = line[at][1].after if at >= 0 else None
    asked = after.spec.inputs_digest if after else "nothing"
    if asked != release.run:
        expected = f"commit {source[:12]} asks for run {release.run}"
        yield finding(event.moment, Code.INPUTS_NOT_ASKED, expected, f"it asks for {asked}")


def _rewritten(story: Chronicle, demands: Demands, ground: _Ground) -> Iterator[Finding]:
    """Commits that others remember are still part of the branch."""
    where = f"on the first-parent line of {demands.branch}"
    if demands.since and demands.since not in ground.order:
        yield whole(Code.HISTORY_REWRITTEN, demands.since, f"commit {demands.since[:12]} {where}", "it is not there")
    for pull in demands.pulls or ():
        merged = pull.state is PullState.MERGED and pull.base == demands.branch and pull.merge_commit
        if merged and pull.merge_commit not in ground.order:
            expected = f"commit {str(pull.merge_commit)[:12]}, which merged #{pull.number}, {where}"
            yield whole(Code.HISTORY_REWRITTEN, str(pull.merge_commit), expected, "it is not there")
    for step in story.steps:
        named = step.one("Trunkline-Source")
        told = any(event.proof and event.proof.evidence for event in ground.events.get(step.sha, ()))
        if named and named not in ground.order and not told:  # else what the evidence names is looked up
            yield whole(Code.HISTORY_REWRITTEN, step.sha, f"commit {named[:12]}, which it names, {where}", "not there")


def steps_with_releases(story: Chronicle, since: str = "") -> list[Step]:
    """Give the commits after ``since`` that changed a release, oldest first."""
    wanted = {event.step.sha for events in story.events.values() for event in events}
    first = next((at + 1 for at, step in enumerate(story.steps) if step.sha == since), 0)
    return [step for step in story.steps[first:] if step.sha in wanted]
