"""One revision of a data repository, for a job: its small files, read from objects that are never checked out.

Under the same rules as everything that Trunkline asks git, in a folder that the job throws away.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from adapters.git_environment import (
    check_branch,
    check_url,
    configuration,
    environment,
    folder_of,
    held_fast,
    hidden,
    host_of,
    is_commit_name,
    printable,
    sanitise,
    strays,
    trouble,
)
from adapters.git_objects import Answer, GitObjects
from specs.dvc_pointers import SIZE_LIMIT
from specs.errors import Stalled, Transient, TrunklineError
from workloads.sources.addresses import Rules
from workloads.sources.folders import FOLDERS

CREDENTIALS = "TRUNKLINE_DATA_CREDENTIALS"
"""Variable: a file in the format of git's ``store`` helper."""
_SECONDS = 600.0
_WANTED = "refs/trunkline/wanted"
_SHORT = re.compile(r"[0-9a-f]{7,63}")
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_ANY = range(-64, 256)


class Snapshot:
    """Files of one revision: a commit, a tag, or a branch as it is now. ``folder`` is empty and ours.

    Stalled ``DataMissing`` where there is no such revision, Transient ``DataSourceUnreachable`` where nobody answers.
    """

    def __init__(self, url: str, revision: str, folder: Path, rules: Rules) -> None:
        try:
            self.url = check_url(url)
        except Stalled as error:
            raise Stalled("DataSourceUnsupported", error.message) from error
        _, host, port = host_of(self.url)
        local = folder_of(self.url)
        if local is not None and not is_open(local):
            msg = (
                f"the data repository {printable(self.url)} is a folder on this machine, and is read only if the "
                "settings say so: put it, or a folder above it, into allow_folders of [data]"
            )
            raise Stalled("DataSourceUnsupported", msg)
        credentials = os.environ.get(CREDENTIALS)
        also = held_fast(self.url, rules.addresses(host, port) if host else ())
        self._git = _Git(folder, Path(credentials) if credentials else None, also)
        self._objects = GitObjects(self._git)
        self._revision = revision
        self._git.run("init", "--bare", "--quiet", "--template=", "--initial-branch=trunk")
        self.commit = self._fetch()

    @property
    def place(self) -> str:
        """Which revision of which repository, for people."""
        named = self._revision if is_commit_name(self._revision) else f"{self._revision} ({self.commit[:12]})"
        return f"{named} of {printable(sanitise(self.url))}"

    def read(self, path: str) -> bytes | None:
        """Give a file, or None where there is none; Stalled ``DataMissing`` for a link or anything large."""
        try:
            return self._objects.read(self.commit, path, SIZE_LIMIT)
        except Stalled as error:
            raise Stalled("DataMissing", error.message) from error

    def _fetch(self) -> str:
        """Fetch as little as the other side lets us; give the commit."""
        name = self._revision
        if is_commit_name(name):
            return self._take(name) or self._take_all(name)
        try:
            plain = check_branch(name)
        except Stalled as error:
            raise Stalled("DataMissing", error.message) from error
        found = self._take(f"refs/tags/{plain}") or self._take(f"refs/heads/{plain}")
        return found or self._take_all(name)

    def _take(self, ref: str) -> str | None:
        """Fetch one reference without its history; None where there is none, or where single commits are not given."""
        answer = self._ask("--depth=1", f"+{ref}:{_WANTED}")
        if answer.status == 0:
            return self._parse(_WANTED)
        if "find remote ref" in answer.err or "not our ref" in answer.err or "unadvertised" in answer.err:
            return None
        raise _unreachable(trouble("fetch", answer.status, answer.err, _SECONDS))

    def _take_all(self, name: str) -> str:
        """Fetch all there is, for a commit that is named in short, or by a server that gives none by name."""
        found = None
        if is_commit_name(name) or _SHORT.fullmatch(name):
            answer = self._ask(*_EVERYTHING)
            if answer.status:
                raise _unreachable(trouble("fetch", answer.status, answer.err, _SECONDS))
            found = self._parse(name)
        if found is None:
            msg = (
                f"the data repository {printable(sanitise(self.url))} has no tag, branch or commit {printable(name)}; "
                "correct targetRevision, or push it"
            )
            raise Stalled("DataMissing", msg)
        return found

    def _ask(self, *wanted: str) -> Answer:
        flags = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        options = [word for word in wanted if word.startswith("--")]
        refs = [word for word in wanted if not word.startswith("--")]
        return self._git.run("fetch", *flags, *options, "--", self.url, *refs, accept=_ANY, timeout=_SECONDS)

    def _parse(self, name: str) -> str | None:
        answer = self._git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", accept=(0, 1, 128))
        return answer.text if answer.status == 0 else None


def is_open(path: Path) -> bool:
    """Whether a folder of this machine may be read: it lies below one that the settings name."""
    folders = [Path(folder).resolve() for folder in os.environ.get(FOLDERS, "").split(":") if folder]
    return any(path.resolve().is_relative_to(folder) for folder in folders)


def _unreachable(error: TrunklineError) -> TrunklineError:
    return Transient("DataSourceUnreachable", error.message) if isinstance(error, Transient) else error


class _Git:
    """Runs git on one bare repository, in the hardened environment that it always gets."""

    def __init__(self, git_dir: Path, credentials: Path | None, also: Sequence[str]) -> None:
        self._credentials = credentials
        self._command = ["git", f"--git-dir={git_dir}", *configuration(credentials), *also]

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        accept: Collection[int] = (0,),
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Run one command; Transient or Stalled where its exit status is not in ``accept``."""
        own = {name: value for name, value in os.environ.items() if name not in strays()}
        seconds = timeout or _SECONDS
        try:
            done = subprocess.run(
                [*self._command, *args], input=stdin, env={**own, **environment(), **(env or {})}, capture_output=True,
                timeout=seconds, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Stalled("GitMissing", "git is not on PATH; put it into the image that runs jobs") from error
        except subprocess.TimeoutExpired as error:
            msg = f"the data repository gave no answer in {seconds:g} s"
            raise Transient("DataSourceUnreachable", msg) from error
        err = hidden(sanitise(printable(done.stderr.decode("utf-8", "surrogateescape"))), self._credentials).strip()
        if done.returncode not in accept:
            raise trouble(args[0], done.returncode, err, seconds)
        return Answer(done.returncode, done.stdout, err)
