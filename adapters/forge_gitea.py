"""Pull requests of one repository on Gitea or Forgejo, which speak the same language.

A deleted branch is still named by ``label``; ``ref`` then says ``refs/pull/N/head``. Pull requests towards other
branches are known too, so that one that was retargeted is not lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from adapters.forge_comments import Comment, StickyComments
from adapters.forge_http import PAGE, ForgeClient, PullList, Refused, marked, same_text
from specs.errors import Stalled, Transient
from specs.facts import Check, CheckState, PullRequest, PullState
from specs.names import BRANCH_PREFIX

_CHECKS = {CheckState.PENDING: "pending", CheckState.SUCCESS: "success", CheckState.FAILURE: "failure"}
_UNMET = frozenset({"pending", "error", "failure"})
_TITLE = 255


class GiteaForge:
    """Pull requests of ``project`` (``owner/name``) towards ``branch``; ``labels`` that it has go on what we open.

    ``client`` asks the root of the API (``https://HOST/api/v1``). Any number of threads may share one.
    """

    def __init__(self, client: ForgeClient, project: str, *, branch: str, labels: Sequence[str] = ()) -> None:
        self._client, self._project, self._branch, self._labels = client, project, branch, tuple(labels)
        self._root = f"/repos/{quote(project)}"
        self._list = PullList(self._pages, _ours)
        self._speaking = threading.Lock()
        self._label_numbers: dict[str, int] = {}

    # ---------------------------------------------------------------------------------------------- pull requests
    def list(self) -> tuple[PullRequest, ...]:
        """Give our pull requests (head branch begins with ``trunkline/``) in all states, oldest first."""
        return self._list.refresh()

    def open(self, *, branch: str, title: str, body: str) -> PullRequest:
        """Open one from ``branch`` to the tracked branch; adopts the open one of the same branch as it is."""
        found = self._open_from(branch)
        if found is not None:
            return found
        sent = {
            "head": branch, "base": self._branch, "title": title[:_TITLE], "body": body, "labels": self._label_ids()
        }  # fmt: skip
        try:
            return self._learned(self._client.send("POST", f"{self._root}/pulls", sent))
        except Refused as error:
            if error.status != 409:
                raise
            found = self._open_from(branch)  # somebody was faster, or the first answer was lost
            if found is None:
                text = f"Gitea does not show the open pull request of {branch} yet: {error.message}"
                raise Transient("ForgeBehind", text) from error
            return found

    def update(self, number: int, *, title: str, body: str) -> None:
        """Set title and body where they differ, and look at the branch's head anew."""
        entry, wanted = self._entry(number), {"title": title[:_TITLE], "body": body}
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
        self._unschedule(number)
        try:
            self._edit(number, {"body": marked(entry["body"] or "", mark), "state": "closed"})
        except Refused as error:
            if error.status != 412:  # merged meanwhile
                raise

    def reopen(self, number: int) -> PullRequest:
        """Open a closed one again; Stalled where it is merged, another took its place, or its branch is gone."""
        entry = self._entry(number)
        pull = self._learned(entry)
        if pull.state is PullState.OPEN:
            return pull
        if pull.state is PullState.MERGED:
            raise Stalled("PullRequestMerged", f"#{number} is merged; revert its merge commit to undo it")
        if entry["head"]["ref"] != pull.branch:
            text = f"the branch {pull.branch} of #{number} was deleted; push {pull.head} to it to have it back"
            raise Stalled("BranchMissing", text)
        other = self._open_from(pull.branch)
        if other is not None:
            raise Stalled("PullRequestOpen", f"#{other.number} is open for {pull.branch} already")
        try:
            pull = self._edit(number, {"state": "open"})
        except Refused as error:
            raise Stalled("ReopenRefused", f"Gitea does not open #{number} again: {error.message}") from error
        if pull.state is not PullState.OPEN:
            raise Stalled("ReopenRefused", f"Gitea left #{number} closed and does not say why")
        return pull

    def merge_when_allowed(self, number: int) -> None:
        """Schedule a merge; Stalled ``AutoMergeUnavailable``, and where nothing is left to wait for.

        Gitea merges at once what no rule holds back. That would be us merging, so the request is made only while
        the branch's protection asks for a check or an approval that is not there.
        """
        entry = self._entry(number)
        pull = self._learned(entry)
        if pull.state is PullState.MERGED:
            return
        if pull.state is not PullState.OPEN:
            raise Stalled("AutoMergeUnavailable", f"#{number} is closed")
        if not self._held_back(entry):
            msg = (
                f"nothing keeps #{number} from being merged now, so Gitea would not wait but merge; let the protection "
                f"of {pull.base} require a check or an approval, or merge it yourself"
            )
            raise Stalled("AutoMergeUnavailable", msg)
        style = (self._client.get(self._root) or {}).get("default_merge_style") or "merge"
        sent = {"do": style, "merge_when_checks_succeed": True, "head_commit_id": pull.head}
        try:
            self._client.send("POST", f"{self._root}/pulls/{number}/merge", sent)
        except Refused as error:
            if "already scheduled" in error.message:
                return
            if error.status == 409:
                raise Transient("BranchMoved", f"{pull.branch} is not at {pull.head} any more: {error}") from error
            raise Stalled("AutoMergeUnavailable", f"Gitea schedules no merge of #{number}: {error.message}") from error

    # ---------------------------------------------------------------------------------------------- reviews
    def pull_of(self, commit: str) -> PullRequest | None:
        """Give the merged one by which a commit came to the tracked branch, None where by none."""
        entry = self._client.get(f"{self._root}/commits/{commit}/pull")
        pull = _pull(entry) if entry else None
        return pull if pull and pull.state is PullState.MERGED and pull.base == self._branch else None

    def approvals(self, number: int) -> tuple[str, ...]:
        """Give who approves the last commit and may (Gitea calls that official), sorted."""
        return self._approvals(self._entry(number))

    def say(self, number: int, text: str, *, marker: str) -> None:
        """Put one comment there, or change it where one with that hidden ``marker`` is there."""
        path, root = f"{self._root}/issues/{number}/comments", f"{self._root}/issues/comments"

        def comments() -> Iterator[Comment]:
            for entry in self._client.get(path) or ():  # all at once: Gitea gives this list without pages
                yield Comment(f"{root}/{entry['id']}", _name(entry, "user"), entry["body"] or "")

        with self._speaking:
            StickyComments(self._client, path, "PATCH", comments).say(text, marker=marker)

    def report(self, commit: str, check: Check) -> None:
        """Set a check on a commit; no-op where it stands like that already."""
        state, wanted = _CHECKS[check.state], {"description": check.summary, "target_url": check.url}
        last = self._statuses(commit).get(check.name)
        if last is None or last["status"] != state or any(last[field] != value for field, value in wanted.items()):
            sent = {"context": check.name, "state": state, **wanted}
            self._client.send("POST", f"{self._root}/statuses/{commit}", sent)

    # ---------------------------------------------------------------------------------------------- requests
    def _pages(self) -> Iterator[Sequence[Any]]:
        try:
            yield from self._client.pages(f"{self._root}/pulls", state="all", sort="recentupdate", limit=PAGE)
        except Refused as error:
            if error.status != 404:
                raise
            text = f"{self._project} is not there, or our token may not see it; correct `project`, or its rights"
            raise Stalled("ProjectUnknown", text) from error

    def _open_from(self, branch: str) -> PullRequest | None:
        pulls = self._list.refresh()
        return next((pull for pull in pulls if pull.state is PullState.OPEN and pull.branch == branch), None)

    def _label_ids(self) -> Sequence[int]:
        if not set(self._labels) <= set(self._label_numbers):
            pages = self._client.pages(f"{self._root}/labels", limit=PAGE)
            self._label_numbers = {label["name"]: int(label["id"]) for page in pages for label in page}
        return [self._label_numbers[name] for name in self._labels if name in self._label_numbers]

    def _held_back(self, entry: Any) -> bool:
        """Whether the branch's protection surely waits for something; in doubt it does not."""
        base = self._client.get(f"{self._root}/branches/{quote(entry['base']['ref'])}") or {}
        if not base.get("protected"):
            return False
        if (base.get("required_approvals") or 0) > len(self._approvals(entry)):
            return True
        if not base.get("enable_status_check"):
            return False
        states = {name: status["status"] for name, status in self._statuses(entry["head"]["sha"]).items()}
        patterns = base.get("status_check_contexts") or ["*"]
        return any(_unmet(pattern, states) for pattern in patterns)

    def _unschedule(self, number: int) -> None:
        """Take back a scheduled merge: Gitea would remember it, and merge when the pull request is opened again."""
        try:
            self._client.send("DELETE", f"{self._root}/pulls/{number}/merge")
        except Refused as error:
            if error.status != 404:
                raise

    def _approvals(self, entry: Any) -> tuple[str, ...]:
        pages = self._client.pages(f"{self._root}/pulls/{entry['number']}/reviews", limit=PAGE)
        last: dict[str, Any] = {}
        for review in sorted((review for page in pages for review in page), key=lambda review: int(review["id"])):
            if review["state"] in ("APPROVED", "REQUEST_CHANGES") and not review["dismissed"]:
                last[_name(review, "user")] = review
        return tuple(sorted(
            name for name, review in last.items()
            if name and review["state"] == "APPROVED" and review["official"] and not review["stale"]
            and review["commit_id"] == entry["head"]["sha"]
        ))  # fmt: skip

    def _statuses(self, commit: str) -> dict[str, Any]:
        """Give the last status of each name."""
        pages = self._client.pages(f"{self._root}/commits/{commit}/statuses", sort="oldest", limit=PAGE)
        found = sorted((status for page in pages for status in page), key=lambda status: int(status["id"]))
        return {status["context"]: status for status in found}

    def _entry(self, number: int) -> Any:
        entry = self._client.get(f"{self._root}/pulls/{number}")
        if entry is None:
            raise Stalled("PullRequestUnknown", f"there is no pull request #{number} in {self._project}")
        return entry

    def _edit(self, number: int, changes: Mapping[str, str]) -> PullRequest:
        return self._learned(self._client.send("PATCH", f"{self._root}/pulls/{number}", changes))

    def _learned(self, entry: Any) -> PullRequest:
        return self._list.learn(entry) or _pull(entry)


def _ours(entry: Any) -> tuple[int, PullRequest | None]:
    """Read an entry of the list; a fork may have a branch of any name, so only the repository's own are ours."""
    own = entry["head"]["repo_id"] == entry["base"]["repo_id"]
    ours = own and entry["head"]["label"].startswith(BRANCH_PREFIX)
    return _seconds(entry["updated_at"]), _pull(entry) if ours else None


def _pull(entry: Any) -> PullRequest:
    merged = bool(entry["merged"])
    state = PullState.MERGED if merged else PullState.OPEN if entry["state"] == "open" else PullState.CLOSED
    return PullRequest(
        entry["number"], state, entry["head"]["label"], entry["head"]["sha"], entry["base"]["ref"], entry["title"],
        entry["body"] or "", author=_name(entry, "user"), opened=_seconds(entry["created_at"]),
        closed=_seconds(entry["merged_at"] if merged else entry["closed_at"]) if state is not PullState.OPEN else 0,
        merge_commit=entry["merge_commit_sha"] if merged else None,
        merged_by=_name(entry, "merged_by") if merged else "", url=entry["html_url"],
    )  # fmt: skip


def _seconds(time: str | None) -> int:
    """Give Unix time; 0 where it has not happened."""
    return max(0, int(datetime.fromisoformat(time).timestamp())) if time else 0


def _name(entry: Any, field: str) -> str:
    return (entry.get(field) or {}).get("login") or ""


def _unmet(pattern: str, states: dict[str, str]) -> bool:
    """Whether a required check is surely not there: it stands badly, or one of exactly that name is missing."""
    matching = [state for name, state in states.items() if fnmatchcase(name, pattern)]
    return any(state in _UNMET for state in matching) or (not matching and not set("*?[{\\") & set(pattern))
