"""People with keys: real ssh-keygen, real gpg, and commits that git signs with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.gitrepo import Hub, git


class SshKey:
    """An Ed25519 key in two files, without passphrase."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.path = folder / f"{owner}-ssh"
        self.owner = f"{owner}@example.com"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", owner, "-f", str(self.path))

    @property
    def public(self) -> str:
        """Give the public key, one line."""
        return self.path.with_suffix(".pub").read_text().strip()

    def allowed(self, options: str = "") -> str:
        """Give the line for a file of allowed signers."""
        return " ".join(part for part in (self.owner, options, self.public) if part) + "\n"

    def signs(self, hub: Hub) -> None:
        """Let the person's clone sign every commit from now on."""
        _configure(hub, {"gpg.format": "ssh", "user.signingkey": str(self.path), "commit.gpgsign": "true"})


class Gpg:
    """A person's own keyring, with its agent."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def make(self, owner: str, *, ends: str = "never", now: str = "") -> str:
        """Make a key, as if it were ``now`` (gpg's ISO form); give its fingerprint."""
        clock = ("--faked-system-time", f"{now}!") if now else ()
        user = f"{owner} <{owner.lower()}@example.com>"
        self.run(*clock, "--passphrase", "", "--quick-generate-key", user, "ed25519", "sign", ends)
        listed = self.run("--list-keys", "--with-colons", user).splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))

    def export(self, fingerprint: str) -> bytes:
        """Give the public key as it is now, armored."""
        return self.run("--armor", "--export", fingerprint).encode()

    def revoke(self, fingerprint: str) -> None:
        """Revoke a key with the certificate that gpg made beside it."""
        made = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.run("--import", stdin=made.replace("\n:---", "\n---").encode())

    def signs(self, hub: Hub, fingerprint: str, *, now: str = "") -> None:
        """Let the person's clone sign every commit from now on, as if it were ``now``."""
        program = self.home / f"gpg-{now or 'now'}"
        clock = f"--faked-system-time {now}!" if now else ""
        program.write_text(f'#!/bin/sh\nexec gpg --homedir {self.home} --batch {clock} "$@"\n')
        program.chmod(0o755)
        wanted = {"gpg.format": "openpgp", "gpg.program": str(program), "user.signingkey": fingerprint}
        _configure(hub, wanted | {"commit.gpgsign": "true"})

    def run(self, *args: str, stdin: bytes = b"") -> str:
        """Run gpg on this keyring."""
        return _run("gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", *args, stdin=stdin)


@contextmanager
def keyring() -> Iterator[Gpg]:
    """Give a keyring. Its folder is a short one: the agent's socket is in it, and its path may not be long."""
    home = Path(tempfile.mkdtemp(prefix="ring-"))
    try:
        yield Gpg(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def unsigned(hub: Hub) -> None:
    """Let the person's clone sign no more."""
    _configure(hub, {"commit.gpgsign": "false"})


def _configure(hub: Hub, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        git(hub.clone, "config", name, value)


def _run(*command: str, stdin: bytes = b"") -> str:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=env)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode()
