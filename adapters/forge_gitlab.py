"""Merge requests of one GitLab project, which are what Trunkline calls pull requests.

GitLab obeys lines that begin with ``/`` in anything that is written to it (``/merge``, ``/approve``): no text leaves
here with such a line. Merge requests towards other branches are known too, so that one that was retargeted is not lost.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from adapters.forge_comments import Comment, StickyComments
from adapters.forge_http import PAGE, ForgeClient, PullList, Refused, fitting, marked, same_text
from specs.errors import Stalled, Transient
from specs.facts import Check, CheckState, PullRequest, PullState
from specs.names import BRANCH_PREFIX

_STATES = {
    "opened": PullState.OPEN, "locked": PullState.OPEN,  # locked: GitLab is about to merge it
    "merged": PullState.MERGED, "closed": PullState.CLOSED,
}  # fmt: skip
_CHECKS = {CheckState.PENDING: "pending", CheckState.SUCCESS: "success", CheckState.FAILURE: "failed"}
_UNDECIDED = frozenset({"approvals_syncing", "checking", "preparing", "unchecked"})
_RUNNING = frozenset({"created", "pending", "preparing", "running", "waiting_for_callback", "waiting_for_resource"})
_TITLE, _TEXT = 255, 1_000_000
"""Characters that GitLab takes; of a text some more, which is room for backslashes."""


class GitLabForge:
    """Merge requests of ``project`` (its path, with all groups) towards ``branch``; ``labels`` go on what we open.

    ``client`` asks the root of the API (``https://HOST/api/v4``). Any number of threads may share one.
    """

    def __init__(self, client: ForgeClient, project: str, *, branch: str, labels: Sequence[str] = ()) -> None:
        self._client, self._project, self._branch, self._labels = client, project, branch, tuple(labels)
        self._root = f"/projects/{quote(project, safe='')}"
        self._list = PullList(self._pages, _ours)
        self._speaking = threading.Lock()

    # ---------------------------------------------------------------------------------------------- pull requests
    def list(self) -> tuple[PullRequest, ...]:
        """Give our merge requests (source branch begins with ``trunkline/``) in all states, oldest first."""
        return self._list.refresh()

    def open(self, *, branch: str, title: str, body: str) -> PullRequest:
        """Open one from ``branch`` to the tracked branch; adopts the open one of the same branch as it is."""
        found = self._open_from(branch)
        if found is not None:
            return found
        sent: Mapping[str, Any] = {
            "source_branch": branch, "target_branch": self._branch, "title": title[:_TITLE],
            "description": _harmless(body), "labels": list(self._labels),
        }  # fmt: skip
        try:
            return self._learned(self._client.send("POST", f"{self._root}/merge_requests", sent))
        except Refused as error:
            if error.status != 409:
                raise
            found = self._open_from(branch)  # somebody was faster, or the first answer was lost
            if found is None:
                text = f"GitLab does not show the open merge request of {branch} yet: {error.message}"
                raise Transient("ForgeBehind", text) from error
            return found

    def update(self, number: int, *, title: str, body: str) -> None:
        """Set title and body where they differ, and look at the branch's head anew."""
        entry, wanted = self._entry(number), {"title": title[:_TITLE], "description": _harmless(body)}
        changed = {field: text for field, text in wanted.items() if not same_text(entry[field], text)}
        if changed:
            self._edit(number, changed)

    def close(self, number: int, *, comment: str, mark: str) -> None:
        """Comment once and close; no-op where it is closed or merged already."""
        entry = self._entry(number)
        if self._learned(entry).state is not PullState.OPEN:
            return
        if comment:
            self.say(number, comment, marker=f"<!-- trunkline:said {mark.strip('<!-> ')} -->")
        body = marked(entry["description"] or "", mark)
        self._edit(number, {"description": _harmless(body), "state_event": "close"})

    def reopen(self, number: int) -> PullRequest:
        """Open a closed one again; Stalled where it is merged, another took its place, or GitLab does not let us."""
        pull = self._learned(self._entry(number))
        if pull.state is PullState.OPEN:
            return pull
        if pull.state is PullState.MERGED:
            raise Stalled("PullRequestMerged", f"!{number} is merged; revert its merge commit to undo it")
        other = self._open_from(pull.branch)
        if other is not None:
            raise Stalled("PullRequestOpen", f"!{other.number} is open for {pull.branch} already")
        try:
            pull = self._edit(number, {"state_event": "reopen"})
        except Refused as error:
            raise Stalled("ReopenRefused", f"GitLab does not open !{number} again: {error.message}") from error
        if pull.state is not PullState.OPEN:
            raise Stalled("ReopenRefused", f"GitLab left !{number} closed; is its branch {pull.branch} still there?")
        return pull

    def merge_when_allowed(self, number: int) -> None:
        """Set auto-merge; Stalled ``AutoMergeUnavailable``, and where nothing is left to wait for.

        Asked for auto-merge, GitLab merges at once what it could merge anyway. That would be us merging, so the
        request is made only while something is in the way: a pipeline that runs, or a rule that is not met.
        """
        entry = self._entry(number)
        pull = self._learned(entry)
        if pull.auto_merge or pull.state is PullState.MERGED:
            return
        if pull.state is not PullState.OPEN:
            raise Stalled("AutoMergeUnavailable", f"!{number} is closed")
        if (entry.get("user") or {}).get("can_merge") is False:
            msg = f"our user may not merge into {pull.base}, and who may not merge may not have it merged either"
            raise Stalled("AutoMergeUnavailable", msg)
        status = entry.get("detailed_merge_status", "mergeable")
        if status in _UNDECIDED:
            raise Transient("ForgeBehind", f"GitLab does not know yet whether !{number} can be merged ({status})")
        if status == "mergeable" and (entry.get("head_pipeline") or {}).get("status") not in _RUNNING:
            msg = (
                f"nothing keeps !{number} from being merged now, so GitLab would not wait but merge; let the project "
                "require a pipeline or an approval, or merge it yourself"
            )
            raise Stalled("AutoMergeUnavailable", msg)
        # GitLab before 17.11 knows the second name only.
        sent = {"auto_merge": True, "merge_when_pipeline_succeeds": True, "sha": pull.head}
        try:
            self._learned(self._client.send("PUT", f"{self._root}/merge_requests/{number}/merge", sent))
        except Refused as error:
            if error.status == 409:
                raise Transient("BranchMoved", f"{pull.branch} is not at {pull.head} any more") from error
            text = f"GitLab takes no auto-merge for !{number}: {error.message}"
            raise Stalled("AutoMergeUnavailable", text) from error

    # ---------------------------------------------------------------------------------------------- reviews
    def pull_of(self, commit: str) -> PullRequest | None:
        """Give the merged one by which a commit came to the tracked branch, None where by none."""
        path = f"{self._root}/repository/commits/{commit}/merge_requests"
        try:
            entries = [entry for page in self._client.pages(path, state="merged", per_page=PAGE) for entry in page]
        except Refused as error:
            if error.status == 404:
                return None
            raise
        came = [pull for pull in map(_pull, entries) if pull.state is PullState.MERGED and pull.base == self._branch]
        return max(came, key=lambda pull: (pull.merge_commit == commit, -pull.closed), default=None)

    def approvals(self, number: int) -> tuple[str, ...]:
        """Give who approves the last commit, sorted. What was said before the last push, and by the author, is not.

        A GitLab that does not say when somebody approved is believed only where nothing was pushed since opening.
        """
        path = f"{self._root}/merge_requests/{number}"
        entry, given = self._entry(number), self._client.get(f"{path}/approvals") or {}
        versions = [v for page in self._client.pages(f"{path}/versions", per_page=PAGE) for v in page]
        last = max(versions, key=lambda version: int(version["id"]), default=None)
        if last is None or last["head_commit_sha"] != entry["sha"]:
            raise Transient("ForgeBehind", f"GitLab has not taken in the last commit of !{number} yet")
        pushed = datetime.fromisoformat(last["created_at"])
        author = _name(entry, "author")
        return tuple(sorted({
            _name(approval, "user") for approval in given.get("approved_by") or ()
            if (datetime.fromisoformat(approval["approved_at"]) >= pushed if approval.get("approved_at")
                else len(versions) == 1)
        } - {author}))  # fmt: skip

    def say(self, number: int, text: str, *, marker: str) -> None:
        """Put one comment there, or change it where one with that hidden ``marker`` is there."""
        path = f"{self._root}/merge_requests/{number}/notes"

        def notes() -> Iterator[Comment]:
            for page in self._client.pages(path, sort="asc", activity_filter="only_comments", per_page=PAGE):
                yield from (Comment(f"{path}/{note['id']}", _name(note, "author"), note["body"]) for note in page)

        with self._speaking:
            StickyComments(self._client, path, "PUT", notes).say(_harmless(text), marker=marker)

    def report(self, commit: str, check: Check) -> None:
        """Set a check on a commit; no-op where it stands like that already."""
        state = _CHECKS[check.state]
        path = f"{self._root}/repository/commits/{commit}/statuses"
        there = [status for page in self._client.pages(path, name=check.name, per_page=PAGE) for status in page]
        last = max(there, key=lambda status: int(status["id"]), default=None)
        wanted = {"description": check.summary, "target_url": check.url or None}
        # What is pending already cannot be made pending again, not even with other words.
        settled = state == "pending" or (last is not None and all(last[key] == value for key, value in wanted.items()))
        if last is not None and last["status"] == state and settled:
            return
        sent = {"state": state, "name": check.name, **{field: value for field, value in wanted.items() if value}}
        try:
            self._client.send("POST", f"{self._root}/statuses/{commit}", sent)
        except Refused as error:
            if error.status == 409 or "Cannot transition" in error.message:
                raise Transient("ForgeBusy", f"another one sets {check.name} on {commit}: {error.message}") from error
            raise

    # ---------------------------------------------------------------------------------------------- requests
    def _pages(self) -> Iterator[Sequence[Any]]:
        order = {"scope": "all", "state": "all", "order_by": "updated_at", "sort": "desc"}
        try:
            yield from self._client.pages(f"{self._root}/merge_requests", per_page=PAGE, **order)
        except Refused as error:
            if error.status != 404:
                raise
            text = f"{self._project} is not there, or our token may not see it; correct `project`, or its rights"
            raise Stalled("ProjectUnknown", text) from error

    def _open_from(self, branch: str) -> PullRequest | None:
        path, wanted = f"{self._root}/merge_requests", {"scope": "all", "state": "opened", "source_branch": branch}
        entries = (entry for page in self._client.pages(path, **wanted) for entry in page)
        return next((self._learned(entry) for entry in entries if _ours(entry)[1] is not None), None)

    def _entry(self, number: int) -> Any:
        entry = self._client.get(f"{self._root}/merge_requests/{number}")
        if entry is None:
            raise Stalled("PullRequestUnknown", f"there is no merge request !{number} in {self._project}")
        return entry

    def _edit(self, number: int, changes: Mapping[str, str]) -> PullRequest:
        return self._learned(self._client.send("PUT", f"{self._root}/merge_requests/{number}", changes))

    def _learned(self, entry: Any) -> PullRequest:
        return self._list.learn(entry) or _pull(entry)


def _ours(entry: Any) -> tuple[int, PullRequest | None]:
    """Read an entry of the list; a fork may have a branch of any name, so only the project's own are ours."""
    own = entry["source_project_id"] == entry["target_project_id"]
    ours = own and entry["source_branch"].startswith(BRANCH_PREFIX)
    return _seconds(entry["updated_at"]), _pull(entry) if ours else None


def _pull(entry: Any) -> PullRequest:
    state = _STATES[entry["state"]]
    merged = state is PullState.MERGED
    # Which one came to the branch depends on the project's merge method: fast-forward makes no commit of its own.
    commit = entry["merge_commit_sha"] or entry["squash_commit_sha"] or entry["sha"]
    return PullRequest(
        entry["iid"], state, entry["source_branch"], entry["sha"] or "", entry["target_branch"], entry["title"],
        entry["description"] or "", author=_name(entry, "author"), opened=_seconds(entry["created_at"]),
        closed=_seconds(entry["merged_at"] if merged else entry["closed_at"]) if state is not PullState.OPEN else 0,
        merge_commit=commit if merged else None,
        merged_by=_name(entry, "merge_user") or _name(entry, "merged_by") if merged else "",
        url=entry["web_url"], auto_merge=bool(entry["merge_when_pipeline_succeeds"]),
    )  # fmt: skip


def _seconds(time: str | None) -> int:
    """Give Unix time; 0 where it has not happened."""
    return int(datetime.fromisoformat(time).timestamp()) if time else 0


def _name(entry: Any, field: str) -> str:
    return (entry.get(field) or {}).get("username") or ""


def _harmless(text: str) -> str:
    """Keep GitLab from taking a line for a command; it shows the same. What is too long is cut before."""
    lines = fitting(text.replace("\r\n", "\n").replace("\r", "\n"), _TEXT)
    return re.sub(r"(?m)^([^\S\n]*)/(?=[A-Za-z])", r"\1\\/", lines)
