"""Carrying out a plan. Every effect may be cut off anywhere: the next pass looks again and goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconcilers.actions import (
    Action,
    AskToMerge,
    CloseProposal,
    DeleteBranch,
    ForgeAction,
    HaltWaves,
    OpenWave,
    Proposal,
    Propose,
    Register,
    RollOut,
    StartJob,
    Withdraw,
)  # fmt: skip
from reconcilers.drafts import answered
from reconcilers.world import Ports
from specs.errors import Stalled, TrunklineError
from specs.facts import SourcedSpec
from specs.manifest import rewrite


@dataclass(frozen=True)
class Trouble:
    """An action that did not go through, and the error that says why."""

    action: Action
    error: TrunklineError


Permit = Callable[[Proposal], None]
"""Asked before a pull request is opened, and before anything is pushed for it; raises where that is too much."""


def _any(_proposal: Proposal) -> None:
    """Allow it."""


class Applier:
    """Turns actions into calls of the ports."""

    def __init__(self, ports: Ports) -> None:
        self._store = ports.store
        self._repository = ports.repository
        self._forge = ports.forge
        self._jobs = ports.jobs
        self._servers = ports.servers
        self._registry = ports.registry
        self._fleet = ports.fleet

    def apply(self, source: SourcedSpec, actions: tuple[Action, ...], permit: Permit = _any) -> tuple[Trouble, ...]:
        """Carry out all actions in order; one that fails does not keep the others from their turn."""
        troubles = []
        for action in actions:
            try:
                self._carry_out(source, action, permit)
            except TrunklineError as error:
                troubles.append(Trouble(action, error))
        return tuple(troubles)

    def _carry_out(self, source: SourcedSpec, action: Action, permit: Permit) -> None:
        match action:
            case StartJob(order=order, placement=placement):
                self._jobs.start(order, placement)
            case RollOut(target=target, rejected=rejected):
                self._servers.roll_out(target, rejected)
            case Withdraw(name=name):
                self._servers.withdraw(name)
            case Register(registration=registration):
                if self._registry is not None:
                    self._registry.register(registration)
            case OpenWave(record=wave):
                if self._fleet is not None:
                    self._fleet.open(wave)
            case HaltWaves(record=halt):
                if self._fleet is not None:
                    self._fleet.halt(halt)
            case Propose() | AskToMerge() | CloseProposal() | DeleteBranch():
                self._ask(source, action, permit)

    def _ask(self, source: SourcedSpec, action: ForgeAction, permit: Permit) -> None:
        match action:
            case Propose():
                self._propose(source, action, permit)
            case AskToMerge():
                self._ask_to_merge(action)
            case CloseProposal():
                self._forge.close(action.number, comment=action.comment, mark=action.mark)
                if action.branch_head is not None:
                    self._repository.delete_branch(action.branch, action.branch_head)
            case DeleteBranch(branch=branch, head=head):
                self._repository.delete_branch(branch, head)

    def _propose(self, source: SourcedSpec, action: Propose, permit: Permit) -> None:
        """Edit, prove, commit, push, ask. The same proposal on the same base makes the same commit."""
        proposal = action.proposal
        text = rewrite(source.text, source.key, proposal.edits)
        files = {proposal.path: text.encode(), **proposal.files}
        files |= {path: self._store.read_blob(digest) for path, digest in proposal.blobs.items()}
        number, expected = action.number, action.expected
        if number is None:
            permit(proposal)
            number, expected = self._reopened(source, action)
        commit = self._repository.commit_files(source.head, files, proposal.message)
        self._repository.push(proposal.branch, commit, expected)
        if number is None:
            self._forge.open(branch=proposal.branch, title=proposal.title, body=proposal.body)
        else:
            self._forge.update(number, title=proposal.title, body=proposal.body)

    def _reopened(self, source: SourcedSpec, action: Propose) -> tuple[int | None, str | None]:
        """Open the one again that we closed; give its number, None where that cannot be, and its branch's commit.

        Forges reopen only where the branch is as it was when it was closed, so that comes first. The text still says
        that it was closed until it is updated, so a pass that is cut off after this is finished by the next one.
        """
        before = action.again
        if before is None or not self._repository.has(before.head):
            return None, action.expected
        if self._repository.is_foreign(source.head, before.head):
            return None, action.expected
        self._repository.push(action.proposal.branch, before.head, action.expected)
        try:
            self._forge.reopen(before.number)
        except Stalled:  # its own rules, or a person's doing: a new one asks the same
            return None, before.head
        return before.number, before.head

    def _ask_to_merge(self, action: AskToMerge) -> None:
        """Ask, then write down what the forge said: it is asked once, and a person who undoes that is not overruled."""
        refusal = None
        try:
            self._forge.merge_when_allowed(action.number)
        except Stalled as error:
            refusal = error.message
        self._forge.update(action.number, title=action.title, body=answered(action.body, refusal))
