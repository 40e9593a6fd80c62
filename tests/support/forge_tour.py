"""A walk through everything an adapter asks of its forge, so that a contract sees each kind of request once."""

from __future__ import annotations

from specs.facts import Check, CheckState
from tests.support.forge_project import BOT, Comment
from tests.support.forge_stage import RemoteStage

BRANCH = "trunkline/promote/default.digits/0123456789ab"
OTHER = "trunkline/rollback/default.digits/ba9876543210"
MARK = "<!-- trunkline:closed reason=Superseded -->"
STICKY = "<!-- trunkline:plan -->"


def tour(stage: RemoteStage) -> None:
    """Do all of it: two pull requests, one closed, opened again and merged, and what is said about them."""
    forge, server = stage.forge, stage.server
    server.page_size = 1
    head = stage.push(BRANCH)
    first = forge.open(branch=BRANCH, title="Promote", body="Body")
    forge.open(branch=BRANCH, title="Promote", body="Body")
    stage.push(OTHER, path="n.yaml")
    second = forge.open(branch=OTHER, title="Roll back", body="Body")
    forge.list()
    forge.update(first.number, title="Promote v2", body="Other body")
    server.pull(first.number).comments += [Comment(server.next_number(), BOT, f"old\n\n{STICKY}") for _ in range(2)]
    forge.say(first.number, "plan", marker=STICKY)
    forge.say(second.number, "plan", marker=STICKY)
    stage.review(first.number, "ann")
    forge.approvals(first.number)
    for state in (CheckState.PENDING, CheckState.SUCCESS, CheckState.FAILURE):
        forge.report(head, Check("trunkline/edit", state, "as it is", "https://ci.example.com/1"))
    forge.close(first.number, comment="Superseded", mark=MARK)
    forge.reopen(first.number)
    forge.merge_when_allowed(second.number)
    forge.close(second.number, comment="", mark=MARK)
    forge.pull_of(stage.merge(first.number))
    stage.another().list()
