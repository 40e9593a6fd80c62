"""Gitea's language over the neutral stand-in: as much of its API as our adapter speaks, with its traps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.forge_project import BOT, Comment, Pull, Review, Status, Unwilling
from tests.support.forge_server import Answer, Call, ForgeServer

_VERDICTS = {"approve": "APPROVED", "reject": "REQUEST_CHANGES", "comment": "COMMENT", "dismissed": "APPROVED"}


def _time(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None


class GiteaServer(ForgeServer):
    """One repository on Gitea or Forgejo, which gives at most 50 of anything.

    ``required_approvals`` and ``required_checks`` (None: not even that there are checks) are the protection of all
    branches; it is off where auto-merge is not allowed.
    """

    root = "/api/v1"
    page_parameter = "limit"
    closes_when_empty = False
    opens_empty = True
    required_checks: tuple[str, ...] | None = None
    required_approvals = 1

    def __init__(self, repository: Path, *, project: str = "acme/models", branch: str = "main") -> None:
        super().__init__(repository, project=project, branch=branch)
        self.page_size = 50
        self.labels = {"bug": 3, "trunkline": 7}

    # ------------------------------------------------------------------------------------------------- requests
    def welcomes(self, call: Call) -> bool:
        token = {name.lower(): value for name, value in call.headers.items()}.get("authorization")
        return token == f"token {self.token}" or super().welcomes(call)

    def repository_settings(self, call: Call) -> Answer:
        style = {"merge": "merge", "squash": "squash", "rebase": "rebase"}[self.methods[0]]
        return Answer(200, {"id": 1, "full_name": self.project, "default_merge_style": style})

    def branch_settings(self, call: Call) -> Answer:
        head = self.heads().get(call.parts[0])
        if head is None:
            raise Unwilling(404, "The target couldn't be found.")
        checks, on = self.required_checks, self.auto_merge_allowed
        return Answer(200, {
            "name": call.parts[0], "commit": {"id": head}, "protected": on,
            "required_approvals": self.required_approvals if on else 0,
            "enable_status_check": on and checks is not None, "status_check_contexts": list(checks or ()),
        })  # fmt: skip

    def list_labels(self, call: Call) -> Answer:
        return self.page(call, [self.label(name) for name in self.labels])

    def list_pulls(self, call: Call) -> Answer:
        found = [pull for pull in self.listed() if call.query.get("state", "open") in ("all", _open(pull))]
        if call.query.get("sort") != "recentupdate":
            found.sort(key=lambda pull: -pull.number)
        return self.page(call, [self.long(pull) for pull in found])

    def open_pull(self, call: Call) -> Answer:
        wanted = call.body
        there = self.opened(wanted["head"])
        if there is not None and there.base == wanted["base"]:
            raise Unwilling(409, f"pull request already exists for these targets [id: {there.number}]")
        pull = self.create(title=wanted["title"], body=wanted["body"], branch=wanted["head"], base=wanted["base"])
        pull.labels = [name for name, number in self.labels.items() if number in wanted["labels"]]
        return Answer(201, self.long(pull))

    def get_pull(self, call: Call) -> Answer:
        return Answer(200, self.long(self.pull(call.parts[0])))

    def change_pull(self, call: Call) -> Answer:
        pull, state = self.pull(call.parts[0]), call.body.get("state")
        pull.title, pull.body = call.body.get("title", pull.title), call.body.get("body", pull.body)
        self.touch(pull)
        if state and pull.state == "merged":
            raise Unwilling(412, "cannot change state of this pull request, it was already merged")
        if state == "open":
            self.reopen(pull.number)
        if state == "closed":
            self.close(pull.number)
        return Answer(201, self.long(pull))

    def merge_pull(self, call: Call) -> Answer:
        """A scheduled merge waits only where there is something to wait for; else this merges, as the real one does."""
        pull, wanted = self.pull(call.parts[0]), call.body
        if wanted.get("head_commit_id", pull.head) != pull.head:
            raise Unwilling(409, f"head out of date: {pull.head}")
        if not wanted.get("merge_when_checks_succeed") or not self.waits(pull):
            self.merge(pull.number, wanted["do"], by=BOT)
            return Answer(200)
        if pull.auto_merge:
            raise Unwilling(409, "pull request is already scheduled to auto merge when checks succeed [pull_id: 1]")
        pull.auto_merge = wanted["do"]
        self.touch(pull)
        return Answer(201)

    def cancel_merge(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        if not pull.auto_merge:
            raise Unwilling(404, "The target couldn't be found.")
        pull.auto_merge = ""
        self.touch(pull)
        return Answer(204)

    def _end(self, pull: Pull, state: str, *, merge_commit: str | None = None, by: str = "") -> None:
        """A scheduled merge outlives that the pull request is closed."""
        scheduled = pull.auto_merge
        super()._end(pull, state, merge_commit=merge_commit, by=by)
        pull.auto_merge = scheduled if state == "closed" else ""

    def waits(self, pull: Pull) -> bool:
        """Whether branch protection keeps one from being merged now."""
        official = [review for review in pull.reviews if review.person not in self.readers]
        approved = sum(review.verdict == "approve" and review.commit == pull.head for review in official)
        states = {status.context: status.state for status in self.statuses.get(pull.head, [])}
        missing = [name for name in self.required_checks or () if states.get(name) != "success"]
        return self.auto_merge_allowed and (approved < self.required_approvals or bool(missing))

    def list_reviews(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        return self.page(call, [self.review_of(pull, each) for each in pull.reviews])

    def list_comments(self, call: Call) -> Answer:
        """All at once: this list has no pages."""
        pull = self.pull(call.parts[0])
        return Answer(200, [self.comment(pull.number, each) for each in pull.comments])

    def make_comment(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        comment = Comment(self.next_number(), BOT, call.body["body"])
        pull.comments.append(comment)
        self.touch(pull)
        return Answer(201, self.comment(pull.number, comment))

    def change_comment(self, call: Call) -> Answer:
        pull, comment = self._own_comment(int(call.parts[0]))
        comment.body = call.body["body"]
        self.touch(pull)
        return Answer(200, self.comment(pull.number, comment))

    def delete_comment(self, call: Call) -> Answer:
        pull, comment = self._own_comment(int(call.parts[0]))
        pull.comments.remove(comment)
        return Answer(204)

    def _own_comment(self, number: int) -> tuple[Pull, Comment]:
        found = ((pull, each) for pull in self.pulls.values() for each in pull.comments if each.number == number)
        pull, comment = next(found, (None, None))
        if pull is None or comment is None:
            raise Unwilling(404, "The target couldn't be found.")
        if comment.author != BOT:
            raise Unwilling(403, "user should have permission to edit the comment")
        return pull, comment

    def pull_of(self, call: Call) -> Answer:
        found = [pull for pull in self.pulls.values() if pull.merge_commit == call.parts[0]]
        if not found:
            raise Unwilling(404, "The target couldn't be found.")
        return Answer(200, self.long(found[0]))

    def list_statuses(self, call: Call) -> Answer:
        found = [self.status(*each) for each in enumerate(self.statuses.get(call.parts[0], []), 1)]
        return self.page(call, found if call.query.get("sort") == "oldest" else found[::-1])

    def make_status(self, call: Call) -> Answer:
        wanted, there = call.body, self.statuses.setdefault(call.parts[0], [])
        there.append(Status(wanted["context"], wanted["state"], wanted["description"], wanted["target_url"]))
        return Answer(201, self.status(len(there), there[-1]))

    routes = (
        ("GET", r"/repos/acme/models", repository_settings),
        ("GET", r"/repos/acme/models/branches/(.+)", branch_settings),
        ("GET", r"/repos/acme/models/labels", list_labels),
        ("GET", r"/repos/acme/models/pulls", list_pulls),
        ("POST", r"/repos/acme/models/pulls", open_pull),
        ("GET", r"/repos/acme/models/pulls/(\d+)", get_pull),
        ("PATCH", r"/repos/acme/models/pulls/(\d+)", change_pull),
        ("POST", r"/repos/acme/models/pulls/(\d+)/merge", merge_pull),
        ("DELETE", r"/repos/acme/models/pulls/(\d+)/merge", cancel_merge),
        ("GET", r"/repos/acme/models/pulls/(\d+)/reviews", list_reviews),
        ("GET", r"/repos/acme/models/issues/(\d+)/comments", list_comments),
        ("POST", r"/repos/acme/models/issues/(\d+)/comments", make_comment),
        ("PATCH", r"/repos/acme/models/issues/comments/(\d+)", change_comment),
        ("DELETE", r"/repos/acme/models/issues/comments/(\d+)", delete_comment),
        ("GET", r"/repos/acme/models/commits/(\w+)/pull", pull_of),
        ("GET", r"/repos/acme/models/commits/(\w+)/statuses", list_statuses),
        ("POST", r"/repos/acme/models/statuses/(\w+)", make_status),
    )

    # ------------------------------------------------------------------------------------------------- JSON
    def trouble(self, status: int, words: str) -> Any:
        return {"message": words, "url": "https://gitea.example.com/api/swagger"}

    def user(self, name: str) -> dict[str, Any]:
        return {"id": sum(name.encode()), "login": name, "full_name": name.title()}

    def label(self, name: str) -> dict[str, Any]:
        return {"id": self.labels[name], "name": name, "color": "00aabb", "description": ""}

    def long(self, pull: Pull) -> dict[str, Any]:
        """Give one. Where its branch is gone, only ``label`` still says how it was called."""
        merged, there = pull.state == "merged", pull.fork or pull.branch in self.heads()
        return {
            "id": 1000 + pull.number, "number": pull.number, "state": _open(pull), "title": pull.title,
            "body": pull.body, "user": self.user(pull.author), "labels": [self.label(name) for name in pull.labels],
            "head": {"label": pull.branch, "ref": pull.branch if there else f"refs/pull/{pull.number}/head",
                     "sha": pull.head, "repo_id": 2 if pull.fork else 1},
            "base": {"label": pull.base, "ref": pull.base, "sha": pull.start, "repo_id": 1},
            "created_at": _time(pull.opened), "updated_at": _time(pull.updated), "closed_at": _time(pull.closed),
            "merged": merged, "merged_at": _time(pull.closed) if merged else None,
            "merge_commit_sha": pull.merge_commit, "merged_by": self.user(pull.merged_by) if merged else None,
            "html_url": f"https://gitea.example.com/{self.project}/pulls/{pull.number}",
        }  # fmt: skip

    def comment(self, number: int, comment: Comment) -> dict[str, Any]:
        address = f"https://gitea.example.com/{self.project}/pulls/{number}#issuecomment-{comment.number}"
        return {"id": comment.number, "body": comment.body, "user": self.user(comment.author), "html_url": address}

    def review_of(self, pull: Pull, review: Review) -> dict[str, Any]:
        return {
            "id": review.number, "user": self.user(review.person), "state": _VERDICTS[review.verdict], "body": "",
            "official": review.person not in self.readers, "stale": review.commit != pull.head,
            "dismissed": review.verdict == "dismissed", "commit_id": review.commit,
        }  # fmt: skip

    def status(self, number: int, status: Status) -> dict[str, Any]:
        return {
            "id": number, "context": status.context, "status": status.state, "description": status.summary,
            "target_url": status.url,
        }  # fmt: skip


def _open(pull: Pull) -> str:
    return "open" if pull.state == "open" else "closed"
