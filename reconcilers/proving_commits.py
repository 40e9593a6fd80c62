"""Whether a commit did what it says, by those who may, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconcilers.chronicle import Chronicle, Event
from reconcilers.findings import Code, Finding, finding, whole
from reconcilers.promotion import pin
from reconcilers.said import Moment
from specs.edits import INTENT_FIELDS
from specs.errors import UnsafeEdit
from specs.facts import PullRequest
from specs.manifest import edit, prove, prove_rewritten
from specs.modelspec import ModelKey
from specs.names import data_evidence_root, evidence_dir, signals_dir, tuning_dir
from specs.past import MERGED_BY, Step, email, pull_claim
from specs.workorders import tuning_digest

_ROOTS = tuple(dict.fromkeys(INTENT_FIELDS.values()))


def prove_bookkeeping(event: Event, highest: int) -> Iterator[Finding]:
    """Versions only grow, ``previous`` is what was there, and what was denied stays out.

    ``highest``: the highest version that was ever released before, 0 if none was.
    """
    release, old = event.release, event.before
    if release is None:
        return
    if event.how == "altered":
        text = "a version that means what it meant before"
        yield finding(event.moment, Code.VERSION_REUSED, text, f"v{release.version} pins something else than before")
    elif event.how != "went back" and release.version <= highest:
        text = f"a version above v{highest}"
        yield finding(event.moment, Code.VERSION_REUSED, text, f"v{release.version}")
    if event.how in ("promoted", "rolled back"):
        wanted, there = pin(old) if old else None, pin(release.previous) if release.previous else None
        if wanted != there:
            yield finding(event.moment, Code.PREVIOUS_DIFFERS, f"previous: {_pinned(wanted)}", _pinned(there))
    denied = [*(old.deny or () if old else ()), *(release.deny or ())]
    reason = next((each.reason for each in denied if each.run == release.run), None)
    if reason is not None:
        text = "a run that spec.release.deny does not list, before or after the commit"
        yield finding(event.moment, Code.DENIED_RUN, text, f"run {release.run} is denied: {reason}")


def _pinned(value: dict[str, Any] | None) -> str:
    return f"v{value['version']}, weights {value['weights'][:19]}…" if value else "none"


def prove_edits(step: Step, moments: Sequence[Moment], ours: str) -> Iterator[Finding]:
    """What Trunkline wrote, or what says so, changed only what its intent allows. ``ours``: our email address."""
    intent = step.one("Trunkline-Intent")
    writer = step.brought.author if step.brought else step.commit.author
    if not step.parents or (intent not in INTENT_FIELDS and email(writer) != ours):
        return
    named = step.one("Trunkline-Model")
    mine = next((m for m in moments if str(m.key) == named), moments[0] if moments and not named else None)
    who = f"a commit for {intent}" if intent in INTENT_FIELDS else "a commit of Trunkline"
    roots = (INTENT_FIELDS[intent],) if intent in INTENT_FIELDS else _ROOTS
    allowed = _allowed(mine, intent)
    extra = sorted(path for path in step.files if not _within(path, allowed))
    if extra:
        text = f"{who} changes nothing but {' and '.join(allowed) or 'a ModelSpec'}"
        found = f"it changes {', '.join(extra[:5])}"
        yield _finding(mine, step, Code.EDIT_OUTSIDE_PATH, text, found)
    for moment in moments:
        problem = _outside(moment, roots) if moment is mine else "it changes another model"
        if problem:
            expected = f"{who} changes {' or '.join(roots)} and no other byte"
            yield finding(moment, Code.EDIT_OUTSIDE_PATH, expected, problem)


def _finding(moment: Moment | None, step: Step, code: Code, expected: str, found: str) -> Finding:
    """Make a finding about what a commit did to a model, or about the commit where it did nothing to any."""
    if moment is not None:
        return finding(moment, code, expected, found)
    return whole(code, step.sha, expected, found, model=step.one("Trunkline-Model"))


def _allowed(moment: Moment | None, intent: str) -> tuple[str, ...]:
    if moment is None or moment.after is None:
        return ()
    release = moment.after.spec.release
    released = [f"{evidence_dir(*moment.key, release.version)}/"] if release and intent in ("promote", "") else []
    data = [f"{data_evidence_root(*moment.key)}/"] if intent in ("bump-data", "") else []
    search = tuning_digest(moment.key, moment.after.spec)
    tuned = [f"{tuning_dir(*moment.key, search)}/"] if search and intent in ("tune", "") else []
    nonce = moment.after.spec.training.nonce
    asked = [f"{signals_dir(*moment.key, nonce)}/"] if nonce and intent in ("retrain", "") else []
    return (moment.after.path, *released, *data, *tuned, *asked)


def _within(path: str, allowed: Sequence[str]) -> bool:
    return any(path == place or (place.endswith("/") and path.startswith(place)) for place in allowed)


def _outside(moment: Moment, roots: Sequence[str]) -> str:
    """Say what an edit touched beyond every one of the fields that it may touch; empty where it did not."""
    before, after = moment.before, moment.after
    if before is None or after is None or before.path != after.path:
        return "it adds, moves or removes the model"
    problem = ""
    for root in roots:
        value = _at(after.data, root)
        try:
            if edit(before.text, moment.key, root, value) == after.text:
                return ""  # byte for byte what our own edit writes, which was proved when it was made
            prove(before.text, after.text, moment.key, root, value)
        except UnsafeEdit as error:
            if _is_rewritten(before.text, after.text, moment.key, root):
                return ""
            told = error.message.partition(": ")[2].removesuffix("; nothing was changed")
            problem = problem or told or error.message
        else:
            return ""
    return problem


def _is_rewritten(before: str, after: str, key: ModelKey, root: str) -> bool:
    """Whether several single values changed, and nothing between them."""
    try:
        return bool(prove_rewritten(before, after, key, root))
    except UnsafeEdit:
        return False


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def prove_trailers(step: Step, moments: Sequence[Moment], events: Sequence[Event]) -> Iterator[Finding]:
    """What a commit says of itself is what it did."""
    intent, model = step.one("Trunkline-Intent"), step.one("Trunkline-Model")
    event = next((event for event in events if str(event.key) == model), events[0] if events else None)
    about = event.moment if event else next((m for m in moments if str(m.key) == model), None)
    for name, expected, found in _claims(step, event, moments, intent):
        if expected != found:
            text, said = f"{name}: {expected}", f"{name}: {found}"
            yield _finding(about, step, Code.TRAILER_FORGED, text, said)


def _claims(step: Step, event: Event | None, moments: Sequence[Moment], intent: str) -> Iterator[tuple[str, str, str]]:
    """Give (trailer, what the diff says, what the trailer says)."""
    release = event.release if event else None
    model = step.one("Trunkline-Model")
    if model:
        changed = [str(moment.key) for moment in moments]
        yield "Trunkline-Model", model if model in changed else ", ".join(changed) or "(no model changed)", model
    if intent:
        yield "Trunkline-Intent", _did(event, intent), intent
    pinned = {
        "Trunkline-Version": str(release.version), "Trunkline-Run": release.run,
        "Trunkline-Weights": release.weights, "Trunkline-Evidence": release.evidence or "",
    } if release else {}  # fmt: skip
    for name in ("Trunkline-Version", "Trunkline-Run", "Trunkline-Weights", "Trunkline-Evidence"):
        if step.one(name):
            yield name, pinned.get(name, "(nothing is released)"), step.one(name)
    evidence = event.proof.evidence if event and event.proof else None
    if evidence is not None and step.one("Trunkline-Source"):
        yield "Trunkline-Source", evidence.source.commit, step.one("Trunkline-Source")
    merger = step.one(MERGED_BY)
    if merger:
        yield MERGED_BY, step.commit.author if merger not in (step.commit.author, step.committer) else merger, merger


def _did(event: Event | None, intent: str) -> str:
    """Say what a commit did, in the word it uses itself where that is true."""
    if event is None or event.release is None:
        return intent if intent in INTENT_FIELDS and intent not in ("promote", "rollback") else "(nothing is released)"
    return {"promoted": "promote", "rolled back": "rollback"}.get(event.how, event.how)


def prove_pull_request(
    event: Event, pulls: Mapping[str, PullRequest] | None, *, required: bool, claimed: Mapping[int, str]
) -> Iterator[Finding]:
    """A release came by the pull request it names. ``pulls``: those of the forge by merge commit, None: out of reach.

    ``claimed``: pull request number to the first commit of the branch that names it.
    """
    claim = pull_claim(event.step)
    number = f"#{claim.number}"
    if claim.number is not None and claimed.get(claim.number, event.step.sha) != event.step.sha:
        other = claimed[claim.number][:12]
        yield finding(event.moment, Code.TRAILER_FORGED, f"{number} is merged once", f"commit {other} is {number} too")
    if pulls is not None:
        pull = pulls.get(event.step.sha)
        if claim.number is not None and (pull is None or pull.number != claim.number):
            there = f"#{pull.number}" if pull else "none"
            text = f"the forge merged {number} as this commit"
            yield finding(event.moment, Code.TRAILER_FORGED, text, f"it merged {there}")
        arrived = pull is not None
    else:
        arrived = bool(claim.where)
    if required and not arrived:
        how = f"pushed by {event.step.committer}"
        yield finding(event.moment, Code.NO_PULL_REQUEST, "a pull request that brought it", how)


def prove_evidence_kept(story: Chronicle) -> Iterator[Finding]:
    """Evidence stays as it was released, unless its release is undone by the same commit."""
    released = {
        event.proof.path: event for events in reversed(story.events.values()) for event in reversed(events)
        if event.proof is not None and event.how in ("promoted", "altered")
    }  # fmt: skip
    order = {step.sha: at for at, step in enumerate(story.steps)}
    undone = {
        (event.step.sha, str(event.key), event.replaced) for events in story.events.values() for event in events
        if event.how in ("went back", "removed")
    }  # fmt: skip
    for change in story.evidence:
        event = released.get(change.path)
        if event is None or event.proof is None or order[change.step.sha] <= order[event.step.sha]:
            continue
        version = event.release.version if event.release else None
        if change.after == event.proof.blob or (change.step.sha, str(event.key), version) in undone:
            continue
        code = Code.EVIDENCE_ALTERED if change.after else Code.EVIDENCE_REMOVED
        said = "it has other content" if change.after else "it is removed"
        expected = f"{change.path} as commit {event.step.sha[:12]} has it"
        yield whole(code, change.step.sha, expected, said, model=str(event.key), version=version)
