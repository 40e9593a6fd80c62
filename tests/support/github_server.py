"""GitHub's language over the neutral stand-in: as much of its API as our adapter speaks, with its traps."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.forge_project import BOT, Comment, Pull, Review, Status, Unwilling
from tests.support.forge_server import Answer, Call, ForgeServer

_VERDICTS = {"approve": "APPROVED", "reject": "CHANGES_REQUESTED", "comment": "COMMENTED", "dismissed": "DISMISSED"}


def _time(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None


class GitHubServer(ForgeServer):
    """One repository on GitHub Enterprise Server, with App 7 installed in it as 42 where ``app_key`` is set."""

    root = "/api/v3"

    def __init__(self, repository: Path, *, project: str = "acme/models", branch: str = "main") -> None:
        super().__init__(repository, project=project, branch=branch)
        self.app_key: RSAPublicKey | None = None
        self.clock = float(self.now)
        """Unix time by which signatures and the App's tokens hold."""
        self.given: dict[str, float] = {}
        """Tokens of the App, and when each ends."""

    # ------------------------------------------------------------------------------------------------- the App
    def welcomes(self, call: Call) -> bool:
        token = call.headers.get("Authorization", "").removeprefix("Bearer ")
        if call.path.startswith("/app/"):
            return self._signed(token)
        return token == self.token or self.given.get(token, 0.0) > self.clock

    def _signed(self, token: str) -> bool:
        """Whether App 7 signed it for now, and for ten minutes at most."""
        head, _, signature = token.rpartition(".")
        try:
            assert self.app_key is not None
            self.app_key.verify(_decode(signature), head.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        header, claims = (json.loads(_decode(part)) for part in head.split("."))
        fresh = claims["iat"] <= self.clock < claims["exp"] <= self.clock + 600
        return bool(header["alg"] == "RS256" and claims["iss"] == "7" and fresh)

    def give_token(self, call: Call) -> Answer:
        if call.parts[0] != "42":
            raise Unwilling(404, "Not Found")
        token = f"ghs_{len(self.given) + 1}"
        self.given[token] = self.clock + 3600
        return Answer(201, {"token": token, "expires_at": _time(int(self.clock) + 3600), "permissions": {}})

    # ------------------------------------------------------------------------------------------------- requests
    def list_pulls(self, call: Call) -> Answer:
        """A filter by branch alone is ignored, as the real one does."""
        found = [pull for pull in self.listed() if call.query.get("state", "open") in ("all", _open(pull))]
        owner, colon, branch = call.query.get("head", "").partition(":")
        if colon:
            # Forks are found by their owner; here all belong to somebody else.
            found = [p for p in found if (p.fork or self.project).split("/")[0] == owner and p.branch == branch]
        if "base" in call.query:
            found = [pull for pull in found if pull.base == call.query["base"]]
        if call.query.get("sort", "created") == "created":
            found.sort(key=lambda pull: -pull.number)
        if call.query.get("direction", "desc") == "asc":
            found.reverse()
        return self.page(call, [self.short(pull) for pull in found])

    def open_pull(self, call: Call) -> Answer:
        wanted = call.body
        self._fits(wanted)
        pull = self.create(title=wanted["title"], body=wanted["body"], branch=wanted["head"], base=wanted["base"])
        return Answer(201, self.long(pull))

    def get_pull(self, call: Call) -> Answer:
        return Answer(200, self.long(self.pull(call.parts[0])))

    def change_pull(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        self._fits(call.body)
        state = call.body.get("state")
        if state == "open" and pull.state != "open":
            self.reopen(pull.number)
        pull.title, pull.body = call.body.get("title", pull.title), call.body.get("body", pull.body)
        self.touch(pull)
        if state == "closed":
            self.close(pull.number)
        return Answer(200, self.long(pull))

    @staticmethod
    def _fits(texts: dict[str, str]) -> None:
        if len(texts.get("title", "")) > 256 or len(texts.get("body", "")) > 65_536:
            raise Unwilling(422, "title or body is too long")

    def list_comments(self, call: Call) -> Answer:
        return self.page(call, [self.comment(call.parts[0], each) for each in self.pull(call.parts[0]).comments])

    def make_comment(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        comment = Comment(self.next_number(), BOT, call.body["body"])
        pull.comments.append(comment)
        self.touch(pull)
        return Answer(201, self.comment(call.parts[0], comment))

    def change_comment(self, call: Call) -> Answer:
        pull, comment = self._comment(int(call.parts[0]))
        comment.body = call.body["body"]
        self.touch(pull)
        return Answer(200, self.comment(str(pull.number), comment))

    def delete_comment(self, call: Call) -> Answer:
        pull, comment = self._comment(int(call.parts[0]))
        pull.comments.remove(comment)
        return Answer(204)

    def _comment(self, number: int) -> tuple[Pull, Comment]:
        for pull in self.pulls.values():
            for comment in pull.comments:
                if comment.number == number:
                    return pull, comment
        raise Unwilling(404, "Not Found")

    def add_labels(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        pull.labels += [name for name in call.body["labels"] if name not in pull.labels]
        self.touch(pull)
        return Answer(200, [self.label(name) for name in pull.labels])

    def list_reviews(self, call: Call) -> Answer:
        pull = self.pull(call.parts[0])
        return self.page(call, [self.review_of(pull, each) for each in pull.reviews])

    def permission(self, call: Call) -> Answer:
        level = "read" if call.parts[0] in self.readers else "write"
        return Answer(200, {"permission": level, "role_name": level, "user": self.user(call.parts[0])})

    def pulls_of(self, call: Call) -> Answer:
        commit = call.parts[0]
        found = [pull for pull in self.pulls.values() if commit in self.brought(pull)]
        return self.page(call, [self.short(pull) for pull in found])

    def list_statuses(self, call: Call) -> Answer:
        return self.page(call, [self.status(each) for each in reversed(self.statuses.get(call.parts[0], []))])

    def make_status(self, call: Call) -> Answer:
        wanted = call.body
        if len(wanted["description"]) > 140:
            raise Unwilling(422, "description is too long (maximum is 140 characters)")
        made = Status(wanted["context"], wanted["state"], wanted["description"], wanted.get("target_url", ""))
        self.statuses.setdefault(call.parts[0], []).append(made)
        return Answer(201, self.status(made))

    def repository_settings(self, call: Call) -> Answer:
        allowed = {f"allow_{key}": name in self.methods for key, name in
                   (("merge_commit", "merge"), ("squash_merge", "squash"), ("rebase_merge", "rebase"))}  # fmt: skip
        return Answer(200, {
            "full_name": self.project, "name": self.project.split("/")[1], "default_branch": self.branch, **allowed,
            "allow_auto_merge": self.auto_merge_allowed,
        })  # fmt: skip

    def graphql(self, call: Call) -> Answer:
        variables = call.body["variables"]
        pull = self.pull(variables["pull"].removeprefix("PR_"))
        if not self.auto_merge_allowed:
            words = "Pull request Auto merge is not allowed for this repository"
            return Answer(200, {"data": {"enablePullRequestAutoMerge": None}, "errors": [{"message": words}]})
        pull.auto_merge = variables["method"].lower()
        self.touch(pull)
        return Answer(200, {"data": {"enablePullRequestAutoMerge": {"clientMutationId": None}}})

    routes = (
        ("POST", r"/app/installations/(\d+)/access_tokens", give_token),
        ("GET", r"/repos/acme/models", repository_settings),
        ("GET", r"/repos/acme/models/pulls", list_pulls),
        ("POST", r"/repos/acme/models/pulls", open_pull),
        ("GET", r"/repos/acme/models/pulls/(\d+)", get_pull),
        ("PATCH", r"/repos/acme/models/pulls/(\d+)", change_pull),
        ("GET", r"/repos/acme/models/pulls/(\d+)/reviews", list_reviews),
        ("GET", r"/repos/acme/models/issues/(\d+)/comments", list_comments),
        ("POST", r"/repos/acme/models/issues/(\d+)/comments", make_comment),
        ("POST", r"/repos/acme/models/issues/(\d+)/labels", add_labels),
        ("PATCH", r"/repos/acme/models/issues/comments/(\d+)", change_comment),
        ("DELETE", r"/repos/acme/models/issues/comments/(\d+)", delete_comment),
        ("GET", r"/repos/acme/models/collaborators/([^/]+)/permission", permission),
        ("GET", r"/repos/acme/models/commits/(\w+)/pulls", pulls_of),
        ("GET", r"/repos/acme/models/commits/(\w+)/statuses", list_statuses),
        ("POST", r"/repos/acme/models/statuses/(\w+)", make_status),
        ("POST", r"/api/graphql", graphql),
    )

    # ------------------------------------------------------------------------------------------------- JSON
    def trouble(self, status: int, words: str) -> Any:
        if status != 422:
            return {"message": words, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
        return {"message": "Validation Failed", "errors": [{"resource": "PullRequest", "message": words}]}

    def user(self, name: str) -> dict[str, Any]:
        return {"login": name, "id": sum(name.encode()), "type": "Bot" if name == BOT else "User"}

    def label(self, name: str) -> dict[str, Any]:
        return {"name": name, "color": "ededed", "description": None}

    def short(self, pull: Pull) -> dict[str, Any]:
        """Give one as lists do. The commit of a test merge is told where it is not merged, as the real one does."""
        home = pull.fork or self.project
        return {
            "number": pull.number, "node_id": f"PR_{pull.number}", "state": _open(pull), "title": pull.title,
            "body": pull.body, "user": self.user(pull.author), "labels": [self.label(name) for name in pull.labels],
            "head": {"ref": pull.branch, "sha": pull.head, "label": f"{home.split('/')[0]}:{pull.branch}",
                     "repo": {"full_name": home}},
            "base": {"ref": pull.base, "sha": pull.start, "repo": {"full_name": self.project}},
            "created_at": _time(pull.opened), "updated_at": _time(pull.updated), "closed_at": _time(pull.closed),
            "merged_at": _time(pull.closed) if pull.state == "merged" else None,
            "merge_commit_sha": pull.merge_commit or "7e57" * 10,
            "html_url": f"https://github.example.com/{self.project}/pull/{pull.number}",
            "auto_merge": {"merge_method": pull.auto_merge} if pull.auto_merge else None,
        }  # fmt: skip

    def long(self, pull: Pull) -> dict[str, Any]:
        """Give one as it is told alone."""
        merged = pull.state == "merged"
        return {**self.short(pull), "merged": merged, "merged_by": self.user(pull.merged_by) if merged else None}

    def comment(self, number: str, comment: Comment) -> dict[str, Any]:
        address = f"https://github.example.com/{self.project}/pull/{number}#issuecomment-{comment.number}"
        return {"id": comment.number, "body": comment.body, "user": self.user(comment.author), "html_url": address}

    def review_of(self, pull: Pull, review: Review) -> dict[str, Any]:
        return {
            "id": review.number, "user": self.user(review.person), "state": _VERDICTS[review.verdict],
            "commit_id": review.commit, "body": "",
        }  # fmt: skip

    def status(self, status: Status) -> dict[str, Any]:
        return {
            "context": status.context, "state": status.state, "description": status.summary,
            "target_url": status.url or None,
        }  # fmt: skip


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _open(pull: Pull) -> str:
    return "open" if pull.state == "open" else "closed"
