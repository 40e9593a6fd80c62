"""GitLab's language over the neutral stand-in: as much of its API as our adapter speaks, with its traps."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.forge_project import BEGIN, BOT, Comment, Pull, Status, Unwilling
from tests.support.forge_server import Answer, Call, ForgeServer

_STATES = {"open": "opened", "closed": "closed", "merged": "merged"}
_THEIRS = {"failure": "failed"}
_OURS = {"failed": "failure"}


def _time(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.123Z") if seconds else None


class GitLabServer(ForgeServer):
    """One project on GitLab. What has a number has the time of its number, so that order and time agree.

    ``rule`` is what keeps merge requests from being merged, in GitLab's words; ``pipeline`` the state of the newest
    one, empty for none; ``old`` makes it a GitLab that does not say when somebody approved; ``fast_forward`` is the
    merge method that makes no commits of its own; ``may_merge`` is whether our user could press the button.
    """

    root = "/api/v4"
    closes_when_empty = False
    opens_empty = True
    rule = "not_approved"
    pipeline = ""
    old = False
    fast_forward = False
    may_merge = True

    def __init__(self, repository: Path, *, project: str = "acme/models", branch: str = "main") -> None:
        super().__init__(repository, project=project, branch=branch)
        self.pushed: dict[int, dict[str, int]] = {}
        """By merge request: its heads, oldest first, each with a number."""

    def touch(self, pull: Pull) -> None:
        super().touch(pull)
        heads = self.pushed.setdefault(pull.number, {})
        if pull.head != next(reversed(heads), None):
            heads[pull.head] = self.next_number()

    # ------------------------------------------------------------------------------------------------- requests
    def welcomes(self, call: Call) -> bool:
        token = {name.lower(): value for name, value in call.headers.items()}.get("private-token")
        return token == self.token or super().welcomes(call)

    def list_pulls(self, call: Call) -> Answer:
        query = call.query
        found = [pull for pull in self.listed() if query.get("state", "all") in ("all", _STATES[pull.state])]
        if "source_branch" in query:
            found = [pull for pull in found if pull.branch == query["source_branch"]]
        if query.get("order_by", "created_at") == "created_at":
            found.sort(key=lambda pull: -pull.number)
        if query.get("sort", "desc") == "asc":
            found.reverse()
        return self.page(call, [self.short(pull) for pull in found])

    def open_pull(self, call: Call) -> Answer:
        wanted = call.body
        there = self.opened(wanted["source_branch"])
        if there is not None and there.base == wanted["target_branch"]:
            raise Unwilling(409, f"Another open merge request already exists for this source branch: !{there.number}")
        pull = self.create(
            title=wanted["title"], body="", branch=wanted["source_branch"], base=wanted["target_branch"]
        )
        pull.labels = list(wanted.get("labels", ()))
        pull.body = self.obey(pull, wanted.get("description", ""))
        return Answer(201, self.long(pull))

    def get_pull(self, call: Call) -> Answer:
        return Answer(200, self.long(self.pull(call.parts[0])))

    def change_pull(self, call: Call) -> Answer:
        pull, event = self.pull(call.parts[0]), call.body.get("state_event")
        pull.title = call.body.get("title", pull.title)
        if "description" in call.body:
            pull.body = self.obey(pull, call.body["description"])
        self.touch(pull)
        if event == "close":
            self.close(pull.number)
        elif event == "reopen" and pull.state == "closed":
            with suppress(Unwilling):  # GitLab answers 200, and it stays closed
                self.reopen(pull.number)
        return Answer(200, self.long(pull))

    def merge_pull(self, call: Call) -> Answer:
        """Auto-merge waits only where there is something to wait for; else this merges, as the real one does."""
        pull = self.pull(call.parts[0])
        if not self.may_merge:
            raise Unwilling(401, "401 Unauthorized")
        if call.body.get("sha", pull.head) != pull.head:
            raise Unwilling(409, f"SHA does not match HEAD of source branch: {pull.head}")
        if not self.waits():
            self.merge(pull.number, by=BOT)
        elif call.body.get("auto_merge") or call.body.get("merge_when_pipeline_succeeds"):
            pull.auto_merge = "merge"
            self.touch(pull)
        else:
            raise Unwilling(405, "405 Method Not Allowed")
        return Answer(200, self.long(pull))

    def waits(self) -> bool:
        """Whether something keeps merge requests from being merged now."""
        return self.auto_merge_allowed and (self.rule != "mergeable" or self.pipeline == "running")

    def approvals(self, call: Call) -> Answer:
        """Approvals stay when something is pushed, as the free edition has it."""
        latest = {review.person: review for review in self.pull(call.parts[0]).reviews if review.verdict != "comment"}
        given = [r for r in latest.values() if r.verdict == "approve" and r.person not in self.readers]
        times = {review.person: {} if self.old else {"approved_at": _time(BEGIN + review.number)} for review in given}
        return Answer(200, {
            "user_has_approved": False, "user_can_approve": False, "approved": bool(given),
            "approved_by": [{"user": self.user(person), **when} for person, when in times.items()],
        })  # fmt: skip

    def versions(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        return self.page(call, [
            {"id": number, "head_commit_sha": head, "base_commit_sha": pull.start, "start_commit_sha": pull.start,
             "created_at": _time(BEGIN + number), "merge_request_id": pull.number, "state": "collected",
             "real_size": "1", "patch_id_sha": None}
            for head, number in reversed(self.pushed[pull.number].items())
        ])  # fmt: skip

    def list_notes(self, call: Call) -> Answer:
        notes = [self.note(self.pull(call.parts[0]), comment) for comment in self.pull(call.parts[0]).comments]
        return self.page(call, notes if call.query.get("sort", "desc") == "asc" else notes[::-1])

    def make_note(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        comment = Comment(self.next_number(), BOT, self.obey(pull, call.body["body"]))
        pull.comments.append(comment)
        self.touch(pull)
        return Answer(201, self.note(pull, comment))

    def change_note(self, call: Call) -> Answer:
        pull, comment = self._own_note(call)
        comment.body = self.obey(pull, call.body["body"])
        self.touch(pull)
        return Answer(200, self.note(pull, comment))

    def delete_note(self, call: Call) -> Answer:
        pull, comment = self._own_note(call)
        pull.comments.remove(comment)
        return Answer(204)

    def _own_note(self, call: Call) -> tuple[Pull, Comment]:
        pull = self.pull(call.parts[0])
        comment = next((each for each in pull.comments if each.number == int(call.parts[1])), None)
        if comment is None:
            raise Unwilling(404, "404 Note Not Found")
        if comment.author != BOT:
            raise Unwilling(403, "403 Forbidden")
        return pull, comment

    def pulls_of(self, call: Call) -> Answer:
        commit = call.parts[0]
        found = [pull for pull in self.pulls.values() if commit in self.brought(pull)]
        wanted = call.query.get("state", "all")
        return self.page(call, [self.short(pull) for pull in found if wanted in ("all", _STATES[pull.state])])

    def list_statuses(self, call: Call) -> Answer:
        found = self._statuses(call.parts[0])
        return self.page(call, [each for each in found if each["name"] == call.query.get("name", each["name"])])

    def make_status(self, call: Call) -> Answer:
        wanted, there = call.body, self.statuses.setdefault(call.parts[0], [])
        last = next((status for status in reversed(there) if status.context == wanted["name"]), None)
        if last is not None and (last.state, wanted["state"]) == ("pending", "pending"):
            raise Unwilling(400, "Cannot transition status via :enqueue from :pending")
        state = _OURS.get(wanted["state"], wanted["state"])
        there.append(Status(wanted["name"], state, wanted.get("description", ""), wanted.get("target_url", "")))
        return Answer(201, self._statuses(call.parts[0])[-1])

    def _statuses(self, commit: str) -> list[dict[str, Any]]:
        return [
            {"id": number, "sha": commit, "ref": self.branch, "status": _THEIRS.get(each.state, each.state),
             "name": each.context, "target_url": each.url or None, "description": each.summary or None,
             "created_at": _time(self.now), "started_at": None, "finished_at": None, "allow_failure": False,
             "coverage": None, "author": self.user(BOT)}
            for number, each in enumerate(self.statuses.get(commit, []), 1)
        ]  # fmt: skip

    routes = (
        ("GET", r"/projects/acme%2Fmodels/merge_requests", list_pulls),
        ("POST", r"/projects/acme%2Fmodels/merge_requests", open_pull),
        ("GET", r"/projects/acme%2Fmodels/merge_requests/(\d+)", get_pull),
        ("PUT", r"/projects/acme%2Fmodels/merge_requests/(\d+)", change_pull),
        ("PUT", r"/projects/acme%2Fmodels/merge_requests/(\d+)/merge", merge_pull),
        ("GET", r"/projects/acme%2Fmodels/merge_requests/(\d+)/approvals", approvals),
        ("GET", r"/projects/acme%2Fmodels/merge_requests/(\d+)/versions", versions),
        ("GET", r"/projects/acme%2Fmodels/merge_requests/(\d+)/notes", list_notes),
        ("POST", r"/projects/acme%2Fmodels/merge_requests/(\d+)/notes", make_note),
        ("PUT", r"/projects/acme%2Fmodels/merge_requests/(\d+)/notes/(\d+)", change_note),
        ("DELETE", r"/projects/acme%2Fmodels/merge_requests/(\d+)/notes/(\d+)", delete_note),
        ("GET", r"/projects/acme%2Fmodels/repository/commits/(\w+)/merge_requests", pulls_of),
        ("GET", r"/projects/acme%2Fmodels/repository/commits/(\w+)/statuses", list_statuses),
        ("POST", r"/projects/acme%2Fmodels/statuses/(\w+)", make_status),
    )

    # ------------------------------------------------------------------------------------------------- JSON
    def obey(self, pull: Pull, text: str) -> str:
        """Carry out quick actions, as whoever wrote them, and give what is left of the text."""
        kept = []
        for line in text.splitlines():
            if line.strip() == "/close":
                self.close(pull.number)
            elif line.strip() == "/merge":
                self.merge(pull.number, by=BOT)
            else:
                kept.append(line)
        return "\n".join(kept)

    def trouble(self, status: int, words: str) -> Any:
        return {"message": [words]} if status in (409, 422) else {"message": words}

    def user(self, name: str) -> dict[str, Any]:
        return {"id": sum(name.encode()), "username": name, "name": name.title(), "state": "active", "web_url": ""}

    def short(self, pull: Pull) -> dict[str, Any]:
        """Give one as lists do."""
        merged, closed = pull.state == "merged", pull.state == "closed"
        made = pull.merge_commit if merged and pull.merge_commit != pull.head else None
        return {
            "id": 1000 + pull.number, "iid": pull.number, "project_id": 7, "title": pull.title,
            "description": pull.body or None, "state": _STATES[pull.state], "created_at": _time(pull.opened),
            "updated_at": _time(pull.updated), "merged_at": _time(pull.closed) if merged else None,
            "closed_at": _time(pull.closed) if closed else None, "author": self.user(pull.author),
            "merged_by": self.user(pull.merged_by) if merged else None,
            "merge_user": self.user(pull.merged_by or BOT) if merged or pull.auto_merge else None,
            "source_branch": pull.branch, "target_branch": pull.base, "labels": pull.labels,
            "source_project_id": 8 if pull.fork else 7, "target_project_id": 7, "sha": pull.head,
            "merge_commit_sha": made if not self.fast_forward else None,
            "squash_commit_sha": made if self.fast_forward else None,
            "merge_when_pipeline_succeeds": bool(pull.auto_merge),
            "detailed_merge_status": self.rule if self.auto_merge_allowed else "mergeable",
            "web_url": f"https://gitlab.example.com/{self.project}/-/merge_requests/{pull.number}",
        }  # fmt: skip

    def long(self, pull: Pull) -> dict[str, Any]:
        """Give one as it is told alone."""
        pipeline = {"id": 1, "sha": pull.head, "status": self.pipeline} if self.pipeline else None
        return {**self.short(pull), "head_pipeline": pipeline, "user": {"can_merge": self.may_merge}}

    def note(self, pull: Pull, comment: Comment) -> dict[str, Any]:
        return {
            "id": comment.number, "body": comment.body, "author": self.user(comment.author), "system": False,
            "created_at": _time(pull.updated), "updated_at": _time(pull.updated), "noteable_id": 1000 + pull.number,
            "noteable_type": "MergeRequest", "noteable_iid": pull.number,
        }  # fmt: skip
