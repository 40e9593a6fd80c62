"""The git repository that holds the ModelSpecs, seen through a bare mirror of our own. The only user of GitPython.

Objects are read from the mirror and never checked out. The remote is only ever asked to fetch, and to move or delete
one branch under compare-and-swap. Everything here may be killed at any moment: an exclusive lock that git's own
processes share tells live work from leftovers, and a mirror that is broken is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from git import Git as GitCommand
from git.exc import GitCommandNotFound, GitError

from adapters.git_environment import (
    LAST_WORDS,
    check_branch,
    check_commit,
    check_url,
    configuration,
    environment,
    hidden,
    printable,
    sanitise,
    strays,
    trouble,
)
from adapters.git_objects import Answer, GitObjects
from specs.errors import Stalled, Transient, TrunklineError

_LOCAL_SECONDS = 120.0
_ANY = range(-64, 256)
"""Exit statuses, those of killed processes included."""


class Git:
    """Runs git on one bare repository, in a hardened environment. ``git_dir`` need not exist before ``init``."""

    def __init__(self, git_dir: Path, *, credentials: Path | None = None, also: Sequence[str] = ()) -> None:
        self.git_dir = git_dir.absolute()
        self._configuration, self._credentials = (*configuration(credentials), *also), credentials
        self._command = GitCommand("/")
        self._shared: tuple[int, ...] = ()
        self.suspect = False
        """Whether git failed in a way that a damaged repository would explain."""

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        accept: Collection[int] = (0,),
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Run one command; Transient or Stalled where its exit status is not in ``accept``.

        ``timeout`` in seconds; git is killed after it.
        """
        clean = [word for name in strays() if name not in (env or ()) for word in ("-u", name)]
        command = [*(["env", *clean] if clean else []), "git", f"--git-dir={self.git_dir}", *self._configuration, *args]
        seconds = timeout or _LOCAL_SECONDS
        try:
            with tempfile.TemporaryFile() as source:
                if stdin:
                    source.write(stdin)
                    source.seek(0)
                status, out, err = self._command.execute(
                    command,
                    istream=source if stdin else None,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    env=environment() | dict(env or {}),
                    kill_after_timeout=seconds,
                    pass_fds=self._shared,
                )
        except GitCommandNotFound as error:
            raise Stalled("GitMissing", "git is not on PATH; install git 2.38 or newer") from error
        except (GitError, OSError) as error:
            raise Transient("RepositoryUnavailable", f"git could not be started: {sanitise(str(error))}") from error
        answer = Answer(status, out, self.shown(printable(err)).strip())
        if status not in accept:
            self.suspect = True
            raise trouble(args[0], status, answer.err, seconds)
        return answer

    def shown(self, words: str) -> str:
        """Give words of git, or of a remote, without secrets."""
        return hidden(sanitise(words), self._credentials)

    @contextlib.contextmanager
    def sharing(self, descriptor: int) -> Iterator[None]:
        """Let git's processes inherit a descriptor, so that a lock on it outlives us while they do."""
        before, self._shared = self._shared, (descriptor,)
        try:
            yield
        finally:
            self._shared = before

    def check_ref(self, branch: str) -> str:
        """Give the full name of a branch; Stalled ``UnsafeRef`` where it or git does not like it."""
        name = f"refs/heads/{check_branch(branch)}"
        if self.run("check-ref-format", name, accept=(0, 1)).status:
            raise Stalled("UnsafeRef", f"git does not accept {branch!r} as a branch name")
        return name


class Repository(GitObjects):
    """A remote repository and its tracked branch.

    ``url`` is a path, ``file://``, ``https://``, ``ssh://`` or ``user@host:path``; ``workdir`` is ours alone, and
    holds the mirror. ``author`` (name, email) signs our commits and tells them from those of people. ``credentials``
    is a file in the format of git's ``store`` helper, or gives one each time the remote is asked: tokens expire. Any
    number of threads and processes may share a ``workdir``.
    """

    wanted: tuple[str, ...] = ("+refs/heads/*:refs/heads/*",)
    """What is fetched, and under which names it is kept."""

    def __init__(
        self,
        url: str,
        workdir: Path,
        *,
        branch: str = "main",
        author: tuple[str, str] = ("Trunkline", "trunkline@localhost"),
        credentials: Path | Callable[[], Path] | None = None,
        timeout: float = 300.0,
    ) -> None:
        self.url = check_url(url)
        self.branch = check_branch(branch)
        self.author = author
        self._mirror = workdir.absolute() / "mirror.git"
        self._timeout = timeout
        self._credentials = credentials
        self._reader = Git(self._mirror)
        super().__init__(self._reader)

    def fetch(self) -> str:
        """Bring all branches up to date and give the tracked branch's newest commit.

        Transient ``RepositoryUnavailable`` where the remote cannot be reached; Stalled ``BranchMissing`` where it has
        no such branch.
        """
        with self._alone() as git:
            if self._reader.suspect and not self._sound(git):
                self._make(git)
            self._reader.suspect = False
            try:
                self._fetch(git)
            except Transient as error:
                # Whose fault is it? The mirror's only if the remote answers and the mirror lacks something.
                if error.reason != "RepositoryUnavailable" or not self._answers(git) or self._sound(git):
                    raise
                self._make(git)
                self._fetch(git)
        return self._head()

    def branches(self, prefix: str) -> Mapping[str, str]:
        """Give branch name to head commit, of branches that begin with ``prefix``, as last fetched."""
        names = {name.removeprefix("refs/heads/"): sha for name, sha in self.refs("refs/heads/").items()}
        return {name: sha for name, sha in names.items() if name.startswith(prefix)}

    def commit_files(self, base: str, files: Mapping[str, bytes], message: str) -> str:
        """Make one commit on top of ``base`` and give its name; no branch moves.

        Author and committer are ours and both dates are the committer date of ``base``, so the same arguments give the
        same commit. Stalled ``UnsafePath`` for a path that leaves the tree or goes through a link.
        """
        when = self.log(base, "", 1)[0].when
        return self.put_commit(self.put_tree(base, files), [base], message, author=self.author, when=when)

    def push(self, branch: str, commit: str, expected: str | None) -> None:
        """Point a branch at ``commit`` if it points at ``expected`` now (None: if it does not exist).

        Transient ``BranchMoved`` where it points elsewhere; no-op where it is at ``commit`` already. The tracked branch
        can only be born here, never moved: changes of it are other people's merges (Stalled ``TrackedBranch``).
        """
        if branch == self.branch and expected is not None:
            raise Stalled("TrackedBranch", f"Trunkline never moves {branch}, the tracked branch; open a pull request")
        self._swap(branch, check_commit(commit), expected)

    def delete_branch(self, branch: str, expected: str) -> None:
        """Delete a branch if it points at ``expected``; no-op where it is gone."""
        if branch == self.branch:
            raise Stalled("TrackedBranch", f"Trunkline never deletes {branch}, the tracked branch")
        self._swap(branch, None, expected)

    def is_foreign(self, base: str, head: str) -> bool:
        """Whether ``head`` is a commit that ``base`` does not have, whose author or committer is not ours, by email."""
        span = f"{check_commit(base)}..{check_commit(head)}"
        emails = self.git.run("log", "--max-count=1", "--format=%ae%x00%ce", span).out.strip().split(b"\0")
        return any(email and email != self.author[1].encode() for email in emails)

    def _swap(self, branch: str, commit: str | None, expected: str | None) -> None:
        lease = check_commit(expected) if expected else ""
        with self._alone() as git:
            ref = git.check_ref(branch)
            answer = git.run(
                "push",
                "--porcelain",
                "--no-verify",
                f"--force-with-lease={ref}:{lease}",
                "--",
                self.url,
                f"{commit or ''}:{ref}",
                accept=_ANY,
                timeout=self._timeout,
            )
            if answer.status != 0:
                # Whatever git said, an answer may have been lost: where the branch is now decides.
                found = self._remote(git, ref)
                if found != commit:
                    said = git.shown(printable(f"{answer.text}\n{answer.err}"))
                    raise _rejected(branch, expected, found, answer, said, self._timeout)
            git.run("update-ref", *((ref, commit) if commit else ("-d", ref)))

    def _remote(self, git: Git, ref: str) -> str | None:
        lines = git.run("ls-remote", "--refs", "--", self.url, ref, timeout=self._timeout).text.splitlines()
        return next((sha for sha, _, name in (line.partition("\t") for line in lines) if name == ref), None)

    def _head(self) -> str:
        heads = self.branches("")
        if self.branch not in heads:
            there = f"it has {', '.join(sorted(heads)[:10])}" if heads else "it has no commits at all yet"
            msg = f"the repository {self.url} has no branch {self.branch}: {there}. Push one, or name another branch"
            raise Stalled("BranchMissing", msg)
        return heads[self.branch]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Git]:
        """Hold the mirror against other threads and processes; clears what killed ones left behind."""
        credentials = self._credentials() if callable(self._credentials) else self._credentials
        self._mirror.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._mirror.parent / "mirror.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            git = Git(self._mirror, credentials=credentials, also=self._also())
            with git.sharing(descriptor):
                if (self._mirror / "HEAD").is_file():
                    # The lock is inherited by git: whoever has it knows that no git process is left to own these.
                    for leftover in (*self._mirror.glob("*.lock"), *self._mirror.glob("refs/**/*.lock")):
                        leftover.unlink(missing_ok=True)
                else:
                    self._make(git)
                yield git
        except OSError as error:
            raise Transient("RepositoryUnavailable", f"the mirror {self._mirror} cannot be used: {error}") from error
        finally:
            os.close(descriptor)

    def _also(self) -> Sequence[str]:
        """Give more ``-c`` arguments for each time the remote is asked."""
        return ()

    def _make(self, git: Git) -> None:
        if self._mirror.is_dir() and not self._mirror.is_symlink():
            shutil.rmtree(self._mirror)
        else:
            self._mirror.unlink(missing_ok=True)
        git.run("init", "--bare", "--quiet", "--template=", "--initial-branch=trunk")

    def _fetch(self, git: Git) -> None:
        answer = git.run(
            "fetch", "--quiet", "--prune", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--", self.url, *self.wanted, timeout=self._timeout,
        )  # fmt: skip
        if "shallow roots" in answer.err:  # git says so, leaves our branches as they were, and calls it success
            msg = f"{self.url} is a shallow clone, so its history is not all there; run git fetch --unshallow in it"
            raise Stalled("RepositoryShallow", msg)

    def _answers(self, git: Git) -> bool:
        return git.run("ls-remote", "--heads", "--", self.url, accept=_ANY, timeout=self._timeout).status == 0

    @staticmethod
    def _sound(git: Git) -> bool:
        """Whether every branch of the mirror can be read, with every object it needs."""
        listed = git.run("for-each-ref", "--format=%(refname)", accept=_ANY)
        walked = git.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress", accept=_ANY)
        return listed.status == walked.status == 0 and not listed.err


def _rejected(
    branch: str, expected: str | None, found: str | None, answer: Answer, words: str, seconds: float
) -> TrunklineError:
    if found != expected:
        now, then = (found or "nothing")[:12], (expected or "nothing")[:12]
        text = f"{branch} points at {now}, not at {then} as it did; look again and decide anew"
        return Transient("BranchMoved", text)
    said = "; ".join(line.strip() for line in words.splitlines() if "rejected" in line or "remote:" in line)
    if said:
        return Transient("PushRejected", f"the repository does not let us move {branch}: {said[:LAST_WORDS]}")
    return trouble("push", answer.status, answer.err, seconds)
