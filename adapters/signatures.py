"""Signatures of commits, checked by git itself against the keys that were configured, and no others.

git asks ssh-keygen or gpg; both get a copy of the key files that is named after its content, so that one verdict is
about one list of keys, whatever happens to the files meanwhile.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.git_environment import LAST_WORDS, check_commit, printable, sanitise
from adapters.git_objects import Answer, GitObjects
from specs.digests import digest_of
from specs.errors import Stalled, Transient
from specs.facts import Seal, Signature

_CACHE_SIZE = 50_000
_SECONDS = 60.0
_PROGRAMS = {"ssh": "ssh-keygen", "gpg": "gpg"}
_BEGINS = {b"-----BEGIN SSH SIGNATURE-----": "ssh", b"-----BEGIN PGP SIGNATURE-----": "gpg"}
_HEADER = re.compile(rb"^gpgsig(?:-sha256)? (.+)$", re.MULTILINE)
_SSH_GOOD = re.compile(r'^Good "git" signature for (.+) with \S+ key (\S+)$', re.MULTILINE)
_SSH_STRANGER = re.compile(r'^Good "git" signature with \S+ key (\S+)$', re.MULTILINE)
_GPG_CONFIGURATION = "trust-model always\nno-autostart\nno-auto-check-trustdb\nlock-never\nno-auto-key-retrieve\n"
"""A key is trusted because it is listed. No program goes on running, no key is looked for elsewhere."""


@dataclass(frozen=True)
class KeyFiles:
    """Whose signatures are accepted."""

    ssh_signers: Path | None = None
    """In the format of ssh-keygen's allowed signers."""
    ssh_revoked: Path | None = None
    """Keys that are not accepted any more, as public keys or as a revocation list of OpenSSH."""
    gpg_keys: Sequence[Path] = ()
    """Public keys, armored or not; a revoked key is listed with its revocation."""


@dataclass(frozen=True)
class _Keys:
    """A copy of the key files, ready for use."""

    digest: str
    folder: Path
    kinds: frozenset[str]


class CommitSignatures:
    """Answers for the commits of one repository. ``workdir`` is ours alone; any number of threads may ask."""

    def __init__(self, objects: GitObjects, files: KeyFiles, workdir: Path) -> None:
        self._git = objects.git
        self._files = files
        self._workdir = workdir.absolute() / "keys"
        self._known: dict[tuple[str, str], Signature] = {}

    def of(self, commit: str) -> Signature:
        """Say who signed a commit.

        Stalled ``KeysUnreadable`` or ``ProgramMissing`` where nobody could tell; Transient where git cannot be run.
        """
        keys = self._keys()
        known = self._known.get((commit, keys.digest))
        if known is None:
            known = self._check(commit, keys)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[commit, keys.digest] = known
        return known

    def keys(self) -> str:
        """Name the keys that are accepted now, by what the files hold. Raises as ``of`` does."""
        return self._keys().digest

    def _check(self, commit: str, keys: _Keys) -> Signature:
        answer = self._verify(check_commit(commit), keys)
        if answer.status == 0:
            return _read_gpg(answer) if "[GNUPG:]" in answer.err else _read_ssh(answer)
        kind = self._kind(commit)
        if kind == "none":
            return Signature(Seal.NONE)
        if kind not in keys.kinds:
            return Signature(Seal.UNKNOWN)
        if shutil.which(_PROGRAMS[kind]) is None:
            text = f"{_PROGRAMS[kind]} is not on PATH, so signatures cannot be checked; install it"
            raise Stalled("ProgramMissing", text)
        if kind == "gpg":
            return _read_gpg(answer)
        read = _read_ssh(answer)
        if read.seal is Seal.INVALID and self._files.ssh_revoked is not None:  # git does not say which of the two
            again = _read_ssh(self._verify(commit, keys, revoked=os.devnull))
            return read if again.seal is Seal.INVALID else replace(again, seal=Seal.REVOKED)
        return read

    def _kind(self, commit: str) -> str:
        """Give what a commit is signed with: ``ssh``, ``gpg``, ``other`` or ``none``."""
        header = self._git.run("cat-file", "commit", commit).out.partition(b"\n\n")[0]
        found = _HEADER.search(header)
        return _BEGINS.get(found[1].strip(), "other") if found else "none"

    def _verify(self, commit: str, keys: _Keys, revoked: str = "") -> Answer:
        env = _environment(keys, revoked or str(keys.folder / "revoked"))
        return self._git.run("verify-commit", "--raw", commit, accept=(0, 1), env=env)

    def _keys(self) -> _Keys:
        """Read the files, and keep a copy of them for the programs."""
        ssh = {"signers": self._files.ssh_signers, "revoked": self._files.ssh_revoked}
        contents = {name: _read(path) for name, path in ssh.items() if path is not None}
        contents |= {f"gpg-{at}": _read(path) for at, path in enumerate(self._files.gpg_keys)}
        digest = digest_of({name: data.hex() for name, data in contents.items()})[7:23]
        kinds = {"ssh"} if self._files.ssh_signers is not None else set()
        kinds |= {"gpg"} if self._files.gpg_keys else set()
        folder = self._workdir / digest
        if not folder.is_dir():
            _lay_out(folder, contents)
        return _Keys(digest, folder, frozenset(kinds))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Stalled("KeysUnreadable", f"the keys of [provenance] cannot be read: {error}") from error


def _lay_out(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the copy aside and move it into place whole; who comes second finds it there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as name:
            made = Path(name) / "keys"
            ring = made / "gnupg"
            ring.mkdir(mode=0o700, parents=True)
            for file, data in contents.items():
                (made / file).write_bytes(data)
            (made / "revoked").touch()
            (ring / "gpg.conf").write_text(_GPG_CONFIGURATION)
            for file in sorted(contents.keys() - {"signers", "revoked"}):
                _import(ring, made / file)
            if not folder.is_dir():
                made.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise Transient("StateUnavailable", f"the keys cannot be copied to {folder}: {error}") from error


def _import(ring: Path, file: Path) -> None:
    command = ["gpg", "--homedir", str(ring), "--batch", "--quiet", "--status-fd", "1", "--import", "--", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise Stalled("ProgramMissing", "gpg is not on PATH, so signatures cannot be checked; install it") from error
    except subprocess.TimeoutExpired as error:
        raise Transient("StateUnavailable", f"gpg did not import the keys within {_SECONDS:.0f} s") from error
    # Not by its exit status: gpg takes it ill that there is no agent, whose socket's path may be too long.
    if b"[GNUPG:] IMPORT_OK " not in done.stdout:
        words = sanitise(printable(done.stderr.decode(errors="replace")))[-LAST_WORDS:].strip()
        raise Stalled("KeysUnreadable", f"gpg cannot read the public keys of [provenance]: {words}")


def _environment(keys: _Keys, revoked: str) -> dict[str, str]:
    """Tell git where the keys are, and nothing else of what people configure."""
    settings = {
        "gpg.ssh.allowedSignersFile": str(keys.folder / "signers"),
        "gpg.ssh.revocationFile": revoked,
        "gpg.program": "gpg", "gpg.ssh.program": "ssh-keygen", "gpg.minTrustLevel": "undefined",
    }  # fmt: skip
    numbered = {
        f"GIT_CONFIG_{part}_{at}": word
        for at, pair in enumerate(settings.items())
        for part, word in zip(("KEY", "VALUE"), pair, strict=True)
    }
    return {"GIT_CONFIG_COUNT": str(len(settings)), "GNUPGHOME": str(keys.folder / "gnupg"), "LC_ALL": "C"} | numbered


def _read_ssh(answer: Answer) -> Signature:
    """Read what ssh-keygen says through git, whose exit status is the verdict; the words only tell why not."""
    words = answer.err
    good, stranger = _SSH_GOOD.search(words), _SSH_STRANGER.search(words)
    if answer.status == 0 and good is not None:
        return Signature(Seal.GOOD, good[1], good[2])
    if stranger is None:
        return Signature(Seal.INVALID)
    late = "key has expired" in words or "key is not yet valid" in words
    return Signature(Seal.EXPIRED if late else Seal.UNKNOWN, key=stranger[1])


def _read_gpg(answer: Answer) -> Signature:
    """Read gpg's status lines. An expired key was good for what it signed before, by the signature's own date."""
    status: dict[str, list[list[str]]] = {}
    for line in answer.err.splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "[GNUPG:]":
            name, *arguments = rest.split(" ")
            status.setdefault(name, []).append(arguments)
    if "NO_PUBKEY" in status:
        return Signature(Seal.UNKNOWN, key=status["NO_PUBKEY"][0][0])
    valid = status.get("VALIDSIG", [])
    if len(valid) != 1 or len(status.get("NEWSIG", [])) > 1:  # a commit has one signature
        return Signature(Seal.INVALID)
    key, when = valid[0][-1], valid[0][2]
    if "REVKEYSIG" in status:
        return Signature(Seal.REVOKED, key=key)
    if "EXPKEYSIG" in status:
        ends = [arguments[0] for arguments in status.get("KEYEXPIRED", [])]
        in_time = bool(ends) and all(end.isdecimal() and int(when) < int(end) for end in ends)
        signer = " ".join(status["EXPKEYSIG"][0][1:])
        return Signature(Seal.GOOD, signer, key) if in_time else Signature(Seal.EXPIRED, key=key)
    if "EXPSIG" in status:
        return Signature(Seal.EXPIRED, key=key)
    if answer.status == 0 and "GOODSIG" in status:
        return Signature(Seal.GOOD, " ".join(status["GOODSIG"][0][1:]), key)
    return Signature(Seal.INVALID)
