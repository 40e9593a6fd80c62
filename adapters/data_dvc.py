"""Data repositories: git repositories with DVC's pointer files, seen through a bare mirror. DVC itself is not needed.

The hygiene is that of the repository with the specs, and stricter where it can be: whoever writes a spec names the
address, so it must be public or allowed, is held fast against names that change their mind, and may not redirect.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass

from adapters.git_environment import check_branch, held_fast, host_of, is_commit_name, printable, sanitise
from adapters.repository import Git, Repository
from specs.addresses import is_public
from specs.data import DvcSource
from specs.dvc_pointers import SIZE_LIMIT, Pointer, configurations, find
from specs.errors import Stalled, Transient
from specs.monitoring import OnData

_HEAD = "refs/trunkline/head"
_SHORT = re.compile(r"[0-9a-f]{7,63}")
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
_BEFORE = re.compile(r"[-._]?(?:a|alpha|b|beta|c|dev|pre|preview|rc)(?![a-z])", re.IGNORECASE)
_WORDS = re.compile(r"\d+|[A-Za-z]+")
_LOOKED_BACK = 20
"""Commits that are looked at for the first one that said what the newest one says."""


class DvcRepository(Repository):
    """One data repository. ``workdir`` is ours alone; any number of threads may share this.

    ``credentials`` is a file in the format of git's ``store`` helper; ``allow_hosts`` may have private addresses.
    Errors are Stalled ``DataMissing`` or ``DataSourceUnsupported`` and Transient ``DataSourceUnreachable``.
    """

    wanted: tuple[str, ...] = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", f"+HEAD:{_HEAD}")

    def __init__(
        self,
        url: str,
        workdir: Path,
        *,
        credentials: Path | None = None,
        allow_hosts: Sequence[str] = (),
        timeout: float = 120.0,
    ) -> None:
        with _in_words_of_data():
            super().__init__(url, workdir, credentials=credentials, timeout=timeout)
        self._allowed = tuple(allow_hosts)

    @property
    def shown(self) -> str:
        """The address, for people."""
        return printable(sanitise(self.url))

    def look(self) -> str:
        """Fetch what is new, and name the state of all branches and tags: the same name, the same answers."""
        with _in_words_of_data():
            self.fetch()
            listed = self.git.run("for-each-ref", "--format=%(objectname) %(refname)").out
        return hashlib.sha256(listed).hexdigest()

    def resolve_source(self, source: DvcSource) -> DvcSource:
        """Give a source as it would be pinned: a tag stays a tag, everything else becomes a commit."""
        with _in_words_of_data():
            name = source.target_revision
            commit = self._tagged(name)
            if commit is not None:
                return self._pinned(source, commit, name)
            branch = self._branch(name)
            if branch is not None:
                return self._pinned(source, self._said_since(branch, source.path), None)
            return self._pinned(source, self._commit(name), None)

    def newest_source(self, source: DvcSource, follow: OnData) -> DvcSource:
        """Give what is newest: the highest tag of a pattern, or what the head of a branch says."""
        with _in_words_of_data():
            if follow.tags is not None:
                tag = self._highest(follow.tags)
                return self._pinned(source, self._tagged(tag) or "", tag)
            head = self._branch(follow.branch) if follow.branch is not None else self._default()
            if head is None:
                raise Stalled("DataMissing", f"the data repository {self.shown} has no branch {follow.branch}")
            return self._pinned(source, self._said_since(head, source.path), None)

    # ---------------------------------------------------------------------------------------------- revisions

    def _parse(self, name: str) -> str | None:
        answer = self.git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", accept=(0, 1, 128))
        return answer.text if answer.status == 0 else None

    def _tagged(self, name: str) -> str | None:
        return None if is_commit_name(name) else self._parse(f"refs/tags/{check_branch(name)}")

    def _branch(self, name: str) -> str | None:
        return None if is_commit_name(name) else self._parse(f"refs/heads/{check_branch(name)}")

    def _commit(self, name: str) -> str:
        found = self._parse(name) if is_commit_name(name) or _SHORT.fullmatch(name) else None
        if found is None:
            msg = (
                f"the data repository {self.shown} has no tag, branch or commit {printable(name)}, or a shortened "
                "commit is not enough to tell one; correct targetRevision, or push it"
            )
            raise Stalled("DataMissing", msg)
        return found

    def _default(self) -> str:
        found = self._parse(_HEAD)
        if found is None:
            msg = f"the data repository {self.shown} does not say which branch is its own; name one to follow"
            raise Stalled("DataMissing", msg)
        return found

    def _highest(self, pattern: str) -> str:
        names = [name.removeprefix("refs/tags/") for name in self.refs("refs/tags/")]
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise Stalled("DataMissing", f"the data repository {self.shown} has no tag that fits {printable(pattern)}")
        return check_branch(max(fitting, key=version))

    # ------------------------------------------------------------------------------------------------ content

    def _pinned(self, source: DvcSource, commit: str, tag: str | None) -> DvcSource:
        digest = self._pointer(commit, source.path).digest
        return source.model_copy(update={"target_revision": tag or commit, "digest": digest})

    def _pointer(self, commit: str, path: str) -> Pointer:
        return find(path, lambda name: self.read(commit, name, SIZE_LIMIT), f"{commit[:12]} of {self.shown}")

    def _said_since(self, head: str, path: str) -> str:
        """Give the first commit of the branch's line that says of ``path`` what ``head`` says, and where it is kept.

        So commits about other things change no pin, and no open pull request.
        """
        pointer = self._pointer(head, path)
        configured = list(configurations(pointer))
        line = ("rev-list", "--first-parent", f"--max-count={_LOOKED_BACK}", head, "--", pointer.file, *configured)
        found = head
        for at, commit in enumerate(self.git.run(*line).text.splitlines()):
            if at and not self._same(commit, head, pointer, configured):
                break
            found = commit
        return found

    def _same(self, commit: str, head: str, pointer: Pointer, configured: Sequence[str]) -> bool:
        try:
            then = self._pointer(commit, pointer.path)
        except Stalled:
            return False
        there, here = self._along(commit, configured), self._along(head, configured)
        return then == pointer and all(there.get(name) == here.get(name) for name in configured)

    # ----------------------------------------------------------------------------------------------- the remote

    def _head(self) -> str:
        return self._parse(_HEAD) or ""

    def _fetch(self, git: Git) -> None:
        try:
            super()._fetch(git)
        except Transient as error:
            if "find remote ref HEAD" not in error.message:
                raise
            # Its HEAD names a branch that was never pushed. Those that were are fetched all the same.
            self.wanted = self.wanted[:2]
            super()._fetch(git)

    def _also(self) -> Sequence[str]:
        scheme, host, port = host_of(self.url)
        proxied = scheme == "https" and bool(getproxies_environment().get("https")) and not proxy_bypass(host)
        return held_fast(self.url, _allowed(host, port, self._allowed, proxied=proxied))


def _allowed(host: str, port: int, allowed: Sequence[str], *, proxied: bool) -> list[str]:
    """Give the addresses to hold a host to; none where somebody else decides.

    Stalled ``DataSourceUnsupported`` where it has a private one; Transient where it is unknown. Whom the settings name
    may be anywhere, and a proxy looks names up itself.
    """
    if not host or host in {each.casefold().rstrip(".") for each in allowed}:
        return []
    if proxied and not _is_address(host):
        return []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Transient("DataSourceUnreachable", f"the host {host} has no address that is known here") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    private = [address for address in addresses if not is_public(address)]
    if private:
        msg = (
            f"the data repository's host {host} has the address {private[0]}, which is not public; data is read there "
            f"only if the settings say so: put {host!r} into allow_hosts of [data]"
        )
        raise Stalled("DataSourceUnsupported", msg)
    return addresses


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ip_address(host))
    return False


def version(tag: str) -> tuple[object, ...]:
    """Give what tags are ordered by: the numbers in them, a ``-rc1`` before what it leads to, the name at last."""
    start = _NUMBERS.search(tag)
    if start is None:
        return (), 0, (), tag
    rest = tag[start.end() :]
    words = tuple((1, int(word), "") if word.isdigit() else (0, 0, word.lower()) for word in _WORDS.findall(rest))
    return tuple(map(int, start[0].split("."))), 0 if _BEFORE.match(rest) else 1, words, tag


@contextlib.contextmanager
def _in_words_of_data() -> Iterator[None]:
    """Say of which kind an error is, as data has kinds: the words are right already."""
    try:
        yield
    except Transient as error:
        raise Transient("DataSourceUnreachable", error.message) from error
    except Stalled as error:
        if error.reason.startswith("Data"):
            raise
        missing = error.reason in ("UnsafeRef", "UnsafePath", "BranchMissing", "CommitMissing", "FileTooLarge")
        raise Stalled("DataMissing" if missing else "DataSourceUnsupported", error.message) from error
