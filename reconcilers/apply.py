"""Carrying out a plan. Every effect may be cut off anywhere: the next pass looks again and goes on from there."""

from __future__ import annotations

from dataclasses import dataclass

from reconcilers.actions import Action, CloseProposal, DeleteBranch, Propose, RollOut, StartJob, Withdraw
from reconcilers.ports import Forge, Jobs, Repository, Servers, Store
from specs.errors import TrunklineError
from specs.facts import SourcedSpec
from specs.manifest import edit, prove


@dataclass(frozen=True)
class Trouble:
    """An action that did not go through, and the error that says why."""

    action: Action
    error: TrunklineError


class Applier:
    """Turns actions into calls of the ports."""

    def __init__(self, store: Store, repository: Repository, forge: Forge, jobs: Jobs, servers: Servers) -> None:
        self._store = store
        self._repository = repository
        self._forge = forge
        self._jobs = jobs
        self._servers = servers

    def apply(self, source: SourcedSpec, actions: tuple[Action, ...]) -> tuple[Trouble, ...]:
        """Carry out all actions in order; one that fails does not keep the others from their turn."""
        troubles = []
        for action in actions:
            try:
                self._carry_out(source, action)
            except TrunklineError as error:
                troubles.append(Trouble(action, error))
        return tuple(troubles)

    def _carry_out(self, source: SourcedSpec, action: Action) -> None:
        match action:
            case StartJob(order=order, placement=placement):
                self._jobs.start(order, placement)
            case RollOut(target=target):
                self._servers.roll_out(target)
            case Withdraw(name=name):
                self._servers.withdraw(name)
            case Propose():
                self._propose(source, action)
            case CloseProposal():
                self._forge.close(action.number, comment=action.comment, mark=action.mark)
                if action.branch_head is not None:
                    self._repository.delete_branch(action.branch, action.branch_head)
            case DeleteBranch(branch=branch, head=head):
                self._repository.delete_branch(branch, head)

    def _propose(self, source: SourcedSpec, action: Propose) -> None:
        """Edit, prove, commit, push, ask. The same proposal on the same base makes the same commit."""
        proposal = action.proposal
        text = edit(source.text, source.key, proposal.field, proposal.value)
        prove(source.text, text, source.key, proposal.field, proposal.value)
        files = {proposal.path: text.encode(), **proposal.files}
        files |= {path: self._store.read_blob(digest) for path, digest in proposal.blobs.items()}
        commit = self._repository.commit_files(source.head, files, proposal.message)
        self._repository.push(proposal.branch, commit, action.expected)
        if action.number is None:
            self._forge.open(branch=proposal.branch, title=proposal.title, body=proposal.body)
        else:
            self._forge.update(action.number, title=proposal.title, body=proposal.body)
