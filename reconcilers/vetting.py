"""Whether a commit may change what runs: who signed it, and by which pull request it came."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from reconcilers.ports import Arrivals, Signatures
from specs.digests import digest_of
from specs.errors import Stalled, TrunklineError
from specs.facts import Arrival, Commit, Seal, Signature, SourcedSpec
from specs.status import ModelStatus, Reason, SourceStatus

NUMBER_TRAILER = "Trunkline-Pull-Request"
_SUBJECT = re.compile(r"\(#(\d{1,9})\)$|^Merge pull request #(\d{1,9}) ")
_NAME_LIMIT = 200
_APP_SUFFIX = "[bot]"
"""Ends the names of programs on GitHub and Forgejo."""


@dataclass(frozen=True)
class Policy:
    """What people require of a commit that changes a ModelSpec, beyond that it is on the tracked branch."""

    signed: bool = False
    pull_request: bool = False
    """It must have come by a merged pull request."""
    approvals: int = 0
    """Of that many people, its author not counted."""
    not_counted: frozenset[str] = frozenset()
    """Names whose approval counts for nothing: our own, and those of other programs."""


class Objection(Stalled):
    """The tracked branch asks for it, but it did not get there in the way that is required."""


@dataclass(frozen=True)
class Vetting:
    """Looks at the commit that last changed a model's file; the verdict is the same for all models of a commit."""

    policy: Policy = Policy()
    arrivals: Arrivals | None = None
    signatures: Signatures | None = None

    def vet(self, source: SourcedSpec, previous: ModelStatus) -> SourcedSpec:
        """Give the source with what is known about its commit.

        Objection where that is not what is required; Transient where a forge or a file must be asked and cannot be.
        """
        commit, policy = source.changed, self.policy
        signature = self.signatures.of(commit.sha) if policy.signed and self.signatures else None
        if policy.signed and (signature is None or signature.seal is not Seal.GOOD):
            raise _unsealed(source, signature or Signature(Seal.NONE))
        arrival = self._arrival(commit, previous)
        if policy.pull_request and not self._is_enough(arrival):
            raise _unreviewed(source, arrival, policy, self._count(arrival))
        return replace(source, arrival=arrival, signer=signature.signer if signature else "")

    def rules(self) -> str:
        """Name what is required; empty where nothing is. Another name means that every verdict may be another."""
        if self.policy == Policy(not_counted=self.policy.not_counted):
            return ""
        try:
            keys = self.signatures.keys() if self.policy.signed and self.signatures else ""
        except TrunklineError as error:  # each model will say so
            keys = error.reason
        policy = self.policy
        return digest_of([policy.signed, policy.pull_request, policy.approvals, sorted(policy.not_counted), keys])

    def _arrival(self, commit: Commit, previous: ModelStatus) -> Arrival:
        if self.policy.pull_request:
            return self.arrivals.of(commit.sha, enough=self._is_enough) if self.arrivals else Arrival()
        known = previous.source
        if previous.commit == commit.sha and known is not None and known.pull_request is not None:
            return Arrival(True, known.pull_request, known.url)  # said before; a status is good enough to tell
        return self.arrivals.of(commit.sha) if self.arrivals else Arrival()

    def _is_enough(self, arrival: Arrival) -> bool:
        return arrival.pull is not None and self._count(arrival) >= self.policy.approvals

    def _count(self, arrival: Arrival) -> int:
        """Count the people who approved, its author and programs left out."""
        people = {_account(name) for name in arrival.approved_by or () if not name.endswith(_APP_SUFFIX)}
        return len(people - {_account(name) for name in (*self.policy.not_counted, arrival.author)})


def claimed(commit: Commit) -> int | None:
    """Give the number that a commit's own message names. A hint: anybody can write that."""
    trailer = dict(commit.trailers).get(NUMBER_TRAILER, "")
    if trailer.isdecimal() and len(trailer) < 10:
        return int(trailer)
    found = _SUBJECT.search(commit.subject)
    return int(found[1] or found[2]) if found else None


def flaw(signature: Signature) -> str:
    """Say what is wrong with a commit's signature, empty where nothing is."""
    match signature.seal:
        case Seal.GOOD:
            return ""
        case Seal.NONE:
            return "it is not signed"
        case Seal.INVALID:
            return "it was altered after it was signed"
        case Seal.EXPIRED:
            words = "was not valid when it signed"
        case Seal.REVOKED:
            words = "is revoked"
        case _:
            words = "is not among the accepted ones"
    return f"its key {signature.key} {words}" if signature.key else f"its key {words}"


def told(source: SourcedSpec) -> str:
    """Say where a spec comes from, in one line for people."""
    commit, arrival = source.changed, source.arrival
    words = [f"commit {commit.sha[:12]} by {_plain(commit.author)}"]
    number = claimed(commit)
    if arrival.pull is not None:
        words.append(f"pull request #{arrival.pull}")
    elif number is not None:
        words.append(f"pull request #{number} by its own words")
    elif arrival.asked:
        words.append("no pull request")
    if arrival.approved_by:
        words.append(f"approved by {', '.join(map(_plain, arrival.approved_by))}")
    if source.signer:
        words.append(f"signed by {_plain(source.signer)}")
    return ", ".join(words)


def source_status(source: SourcedSpec) -> SourceStatus:
    """Give the same for programs."""
    arrival = source.arrival
    return SourceStatus(
        author=_plain(source.changed.author), pull_request=arrival.pull, url=arrival.url,
        approved_by=[_plain(name) for name in arrival.approved_by or ()], signed_by=_plain(source.signer),
    )  # fmt: skip


def _account(name: str) -> str:
    """Give the part of a name that says who it is: the local forge has addresses behind it."""
    return name.partition(" <")[0]


def _plain(text: str) -> str:
    """Give a name of somebody's choice as one short line that does nothing to a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)[:_NAME_LIMIT]


def _unsealed(source: SourcedSpec, signature: Signature) -> Objection:
    commit, key = _shown(source), f"the key {signature.key}" if signature.key else "its key"
    again = f"commit to {source.path} again with a signature that is accepted, or revert the commit"
    match signature.seal:
        case Seal.NONE:
            return Objection(Reason.UNSIGNED, f"{commit} is not signed, as is required; {again}")
        case Seal.INVALID:
            text = f"{commit} is not what was signed: somebody altered it; find out who, then {again}"
            return Objection(Reason.SIGNATURE_INVALID, text)
        case Seal.EXPIRED:
            text = f"{key} was not valid at the time when it signed {commit}; renew it and list it anew, or {again}"
            return Objection(Reason.SIGNATURE_EXPIRED, text)
        case Seal.REVOKED:
            return Objection(Reason.SIGNATURE_REVOKED, f"{key}, which signed {commit}, is revoked; {again}")
        case _:
            text = f"{commit} is signed, but {key} is not among the accepted ones; list it in [provenance], or {again}"
            return Objection(Reason.SIGNATURE_UNTRUSTED, text)


def _unreviewed(source: SourcedSpec, arrival: Arrival, policy: Policy, count: int) -> Objection:
    commit = _shown(source)
    if arrival.pull is None:
        again = f"revert it and open a pull request for the change of {source.path}"
        text = f"{commit} did not come by a merged pull request, as is required; {again}"
        return Objection(Reason.NO_PULL_REQUEST, text)
    text = (
        f"pull request #{arrival.pull}, by which {commit} came, has {count} of {policy.approvals} approvals that count "
        f"(people other than its author); have it approved now, or revert it and open another one"
    )
    return Objection(Reason.NOT_REVIEWED, text)


def _shown(source: SourcedSpec) -> str:
    return f"commit {source.changed.sha[:12]} by {_plain(source.changed.author)}"


