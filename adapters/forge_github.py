"""GitHub, and GitHub Enterprise Server: pull requests by its REST API, auto-merge by its GraphQL API.

Before each change the pull request itself is read: a list may be old, and what is so already is not written again. An
answer that is lost ends in Transient; the next look at the list tells what became of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.forge_comments import Comment, StickyComments
from adapters.forge_http import PAGE, ForgeClient, PullList, Refused, fitting, marked, same_text
from specs.errors import Stalled, Transient
from specs.facts import Check, PullRequest, PullState
from specs.names import BRANCH_PREFIX

_MERGE = """
mutation($pull: ID!, $method: PullRequestMergeMethod!) {
  enablePullRequestAutoMerge(input: {pullRequestId: $pull, mergeMethod: $method}) { clientMutationId }
}
"""
_METHODS = (("allow_merge_commit", "MERGE"), ("allow_squash_merge", "SQUASH"), ("allow_rebase_merge", "REBASE"))
"""The first one that the repository allows is asked for: a merge commit keeps the proposal's own commit."""
_TITLE, _BODY = 256, 65_536
"""Characters that GitHub takes; a body leaves room for the mark of closing."""
_MAY_PUSH = ("admin", "write")
_DECISIONS = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")


class GitHubForge:
    """Pull requests of ``project`` (``owner/name``) towards ``branch``; ``labels`` are put on what we open.

    ``client`` asks the root of the REST API (``https://api.github.com`` or ``https://HOST/api/v3``). Any number of
    threads may share one.
    """

    def __init__(self, client: ForgeClient, project: str, *, branch: str, labels: Sequence[str] = ()) -> None:
        self.project, self.branch = project, branch
        self._client, self._labels = client, tuple(labels)
        self._root = f"/repos/{project}"
        self._list = PullList(self._pages, self._read)
        self._speaking = threading.Lock()
        self._unlabelled: set[str] = set()

    # ------------------------------------------------------------------------------------------------- Forge
    def list(self) -> tuple[PullRequest, ...]:
        """Give our pull requests (head branch begins with ``trunkline/``) in all states, oldest first."""
        pulls = self._list.refresh()
        for pull in pulls:
            if pull.state is PullState.OPEN and pull.branch in self._unlabelled:
                self._label(pull)
        return pulls

    def open(self, *, branch: str, title: str, body: str) -> PullRequest:
        """Open one from ``branch``, or adopt the open one of that branch as it is.

        Stalled ``NothingToMerge``; Transient ``BranchNotSeen`` where GitHub does not know the branch (yet).
        """
        found = self._opened(branch)
        if found is not None:
            return found
        wanted = {**_texts(title, body), "head": branch, "base": self.branch}
        try:
            made = self._client.send("POST", f"{self._root}/pulls", wanted)
        except Refused as error:
            found = self._opened(branch) if error.status == 422 else None
            if found is None:
                raise self._not_opened(branch, error) from error
            return found
        except Transient:
            self._unlabelled.add(branch)  # it may be open all the same
            raise
        pull = self._learn(made)
        self._label(pull)
        return pull

    def update(self, number: int, *, title: str, body: str) -> None:
        """Set title and body where they differ, and look at the branch's head anew."""
        now = self._pull(number)
        changed = {key: text for key, text in _texts(title, body).items() if not same_text(now[key], text)}
        if changed:
            self._patch(number, changed)

    def close(self, number: int, *, comment: str, mark: str) -> None:
        """Comment once and close; no-op where it is closed or merged already. ``mark`` is added to the body with it."""
        now = self._pull(number)
        if now["state"] != "open":
            return
        if comment:
            self.say(number, comment, marker=f"<!-- trunkline:said {mark.strip('<!-> ')} -->")
        self._patch(number, {"state": "closed", "body": marked(now["body"] or "", mark)})

    def reopen(self, number: int) -> PullRequest:
        """Open a closed one again; Stalled where it is merged, another took its place, or GitHub does not let us."""
        now = self._pull(number)
        if now["merged_at"]:
            raise Stalled("PullRequestMerged", f"#{number} is merged; revert its merge commit to undo it")
        if now["state"] == "open":
            return self._learn(now)
        try:
            return self._patch(number, {"state": "open"})
        except Refused as error:
            other = self._opened(now["head"]["ref"])
            if other is not None and other.number == number:
                return other
            if other is not None:
                raise Stalled("PullRequestOpen", f"#{other.number} is open for {other.branch} already") from error
            text = f"GitHub opens #{number} again only while its branch is where it was: {error.message}"
            raise Stalled("ReopenRefused", text) from error

    def merge_when_allowed(self, number: int) -> None:
        """Ask GitHub to merge by itself once branch protection allows; Stalled ``AutoMergeUnavailable``."""
        pull = self._pull(number)
        if pull["state"] != "open" or pull["auto_merge"]:
            return
        settings = self._client.get(self._root) or {}
        method = next((name for key, name in _METHODS if settings.get(key, True)), "MERGE")
        if settings.get("allow_auto_merge") is False:
            raise _no_auto_merge(self.project, number, "the repository does not allow it")
        variables = {"pull": pull["node_id"], "method": method}
        answer = self._client.send("POST", self.graphql, {"query": _MERGE, "variables": variables})
        errors = (answer or {}).get("errors") or ()
        if any(error.get("type") == "RATE_LIMITED" for error in errors):
            raise Transient("ForgeRateLimited", f"{self.graphql} answers no more for now")
        if errors:
            raise _no_auto_merge(self.project, number, "; ".join(str(error.get("message")) for error in errors))
        self._learn({**pull, "auto_merge": {"merge_method": method.lower()}})

    # ------------------------------------------------------------------------------------------------- Reviews
    def pull_of(self, commit: str) -> PullRequest | None:
        """Give the merged pull request by which a commit came to the tracked branch, None where by none."""
        try:
            pages = [*self._client.pages(f"{self._root}/commits/{commit}/pulls", per_page=PAGE)]
        except Refused as error:
            if error.status in (404, 422):
                return None
            raise
        merged = [e for page in pages for e in page if e["merged_at"] and e["base"]["ref"] == self.branch]
        if not merged:
            return None
        best = min(merged, key=lambda entry: (entry["merge_commit_sha"] != commit, entry["merged_at"]))
        return _fact(self._pull(best["number"]))

    def approvals(self, number: int) -> tuple[str, ...]:
        """Give who approves the last commit: by their latest review, and only people who may push."""
        head = self._pull(number)["head"]["sha"]
        latest: dict[str, Mapping[str, Any]] = {}
        for page in self._client.pages(f"{self._root}/pulls/{number}/reviews", per_page=PAGE):
            latest |= {r["user"]["login"]: r for r in page if r["user"] and r["state"] in _DECISIONS}
        names = (n for n, r in latest.items() if r["state"] == "APPROVED" and r["commit_id"] == head)
        return tuple(sorted(name for name in names if self._may_push(name)))

    def say(self, number: int, text: str, *, marker: str) -> None:
        """Put one comment on a pull request, or change it where one with that hidden ``marker`` is there."""
        comments = f"{self._root}/issues/{number}/comments"

        def read() -> Iterator[Comment]:
            for page in self._client.pages(comments, per_page=PAGE):
                for entry in page:
                    author = (entry["user"] or {}).get("login", "")
                    yield Comment(f"{self._root}/issues/comments/{entry['id']}", author, entry["body"] or "")

        with self._speaking:
            StickyComments(self._client, comments, "PATCH", read).say(text, marker=marker)

    def report(self, commit: str, check: Check) -> None:
        """Set a commit status; its context is the check's name. What is so already is not written again."""
        wanted = {"state": str(check.state), "description": check.summary}
        wanted |= {"target_url": check.url} if check.url else {}
        pages = self._client.pages(f"{self._root}/commits/{commit}/statuses", per_page=PAGE)
        newest = next((s for page in pages for s in page if s["context"] == check.name), None)
        said = newest and {key: newest[key] for key in ("state", "description", "target_url") if newest[key]}
        if said != wanted:
            self._client.send("POST", f"{self._root}/statuses/{commit}", {**wanted, "context": check.name})

    # ------------------------------------------------------------------------------------------------- its inside
    @property
    def graphql(self) -> str:
        """Address of the GraphQL API that goes with the REST API."""
        return f"{self._client.url.removesuffix('/v3')}/graphql"

    def _pages(self) -> Iterator[Sequence[Any]]:
        order: Mapping[str, str] = {"state": "all", "sort": "updated", "direction": "desc"}
        try:
            yield from self._client.pages(f"{self._root}/pulls", per_page=PAGE, **order)
        except Refused as error:
            if error.status != 404:
                raise
            text = f"{self.project} is not there, or our token may not see it; correct `project`, or the token's rights"
            raise Stalled("ProjectUnknown", text) from error

    def _read(self, entry: Mapping[str, Any]) -> tuple[int, PullRequest | None]:
        home = (entry["head"]["repo"] or {}).get("full_name", "")
        ours = entry["head"]["ref"].startswith(BRANCH_PREFIX) and home.lower() == self.project.lower()
        return _seconds(entry["updated_at"]), _fact(entry) if ours else None

    def _learn(self, entry: Mapping[str, Any]) -> PullRequest:
        return self._list.learn(entry) or _fact(entry)

    def _pull(self, number: int) -> Any:
        """Read one as it is now, and remember it."""
        entry = self._client.get(f"{self._root}/pulls/{number}")
        if entry is None:
            raise Stalled("PullRequestUnknown", f"{self.project} has no pull request #{number}")
        self._list.learn(entry)
        return entry

    def _patch(self, number: int, changes: Mapping[str, str]) -> PullRequest:
        return self._learn(self._client.send("PATCH", f"{self._root}/pulls/{number}", changes))

    def _opened(self, branch: str) -> PullRequest | None:
        """Find the open one of a branch of this repository; GitHub ignores a filter that does not name the owner."""
        owner = self.project.partition("/")[0]
        asked = {"state": "open", "head": f"{owner}:{branch}"}
        for page in self._client.pages(f"{self._root}/pulls", per_page=PAGE, **asked):
            for entry in page:
                pull = self._read(entry)[1]
                if pull is not None and pull.branch == branch:
                    return self._learn(entry)
        return None

    def _not_opened(self, branch: str, error: Refused) -> Stalled | Transient:
        if "No commits between" in error.message:
            return Stalled("NothingToMerge", f"{branch} has no commit that {self.branch} does not have already")
        if error.status != 422:
            return error
        text = f"GitHub does not open a pull request from {branch} (it may not have seen the push yet): {error.message}"
        return Transient("BranchNotSeen", text)

    def _label(self, pull: PullRequest) -> None:
        """Put our labels on, once: people may take them off. Where it cannot be done now, the next look does it."""
        self._unlabelled.discard(pull.branch)
        if not self._labels:
            return
        try:
            self._client.send("POST", f"{self._root}/issues/{pull.number}/labels", {"labels": list(self._labels)})
        except Refused:
            return  # the pull request is open, and that is what counts
        except Transient:
            self._unlabelled.add(pull.branch)

    def _may_push(self, person: str) -> bool:
        found = self._client.get(f"{self._root}/collaborators/{person}/permission")
        return bool(found) and found["permission"] in _MAY_PUSH


def _no_auto_merge(project: str, number: int, words: str) -> Stalled:
    text = (
        f"GitHub does not merge #{number} by itself: {words}. In the settings of {project}, allow auto-merge and let "
        "branch protection require a check or a review; or set policy.autoMerge to Never"
    )
    return Stalled("AutoMergeUnavailable", text)


def _texts(title: str, body: str) -> dict[str, str]:
    """Give both as long as GitHub takes them."""
    return {"title": title[:_TITLE], "body": fitting(body, _BODY - 1_000)}


def _fact(entry: Mapping[str, Any]) -> PullRequest:
    merged = entry["merged_at"]
    state = PullState.MERGED if merged else PullState.OPEN if entry["state"] == "open" else PullState.CLOSED
    return PullRequest(
        number=entry["number"], state=state, branch=entry["head"]["ref"], head=entry["head"]["sha"],
        base=entry["base"]["ref"], title=entry["title"], body=entry["body"] or "",
        author=(entry["user"] or {}).get("login", ""), opened=_seconds(entry["created_at"]),
        closed=_seconds(entry["closed_at"]), merge_commit=entry["merge_commit_sha"] if merged else None,
        merged_by=(entry.get("merged_by") or {}).get("login", ""), url=entry["html_url"],
        auto_merge=bool(entry["auto_merge"]),
    )  # fmt: skip


def _seconds(time: str | None) -> int:
    """Give Unix time; 0 where it has not happened."""
    return int(datetime.fromisoformat(time).timestamp()) if time else 0
