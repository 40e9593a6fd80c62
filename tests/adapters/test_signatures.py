"""Signatures of commits: real keys, real git, ssh-keygen and gpg; each way to be wrong has its own name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.repository import Repository
from adapters.signatures import CommitSignatures, KeyFiles
from specs.errors import Stalled
from specs.facts import Seal, Signature
from tests.support.gitrepo import Hub, git
from tests.support.signers import Gpg, SshKey, keyring, unsigned

IN_2021 = 1_609_500_000
"""Unix time, seconds."""


class Bench:
    """A hub whose person signs, and keys that are accepted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = Hub(folder)
        self.signers = folder / "signers"
        self.repository = Repository(str(self.hub.path), folder / "state")

    def commit(self, *, when: int | None = None) -> str:
        """Push a commit that changes a file; give it."""
        made = self.hub.commit({"model.yaml": str(len(list(self.folder.iterdir())))}, when=when)
        self.repository.fetch()
        return made

    def checker(self, *, revoked: Path | None = None, gpg: tuple[Path, ...] = (), ssh: bool = True) -> CommitSignatures:
        """Give one that has the keys as they are now, and has checked nothing yet."""
        files = KeyFiles(self.signers if ssh else None, revoked, gpg)
        return CommitSignatures(self.repository, files, self.folder / "work")

    def seal(self, commit: str) -> Seal:
        """Check against the SSH keys alone."""
        return self.checker().of(commit).seal


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh one."""
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def ring() -> Iterator[Gpg]:
    """A person's keyring."""
    with keyring() as made:
        yield made


def test_a_listed_key_is_good_and_says_whose_it_is(bench: Bench) -> None:
    """The list names the owner, whatever the commit says about its author."""
    key = SshKey(bench.folder, "ada")
    bench.signers.write_text(key.allowed('namespaces="git"'))
    key.signs(bench.hub)
    found = bench.checker().of(bench.commit())
    assert (found.seal, found.signer) == (Seal.GOOD, "ada@example.com")
    assert found.key.startswith("SHA256:")


def test_no_signature_and_a_strangers_are_not_the_same(bench: Bench) -> None:
    """What to do about them differs, so they have different names."""
    ada, eve = SshKey(bench.folder, "ada"), SshKey(bench.folder, "eve")
    bench.signers.write_text(ada.allowed())
    assert bench.seal(bench.commit()) is Seal.NONE
    eve.signs(bench.hub)
    assert bench.seal(bench.commit()) is Seal.UNKNOWN


def test_what_was_altered_after_signing_is_invalid(bench: Bench) -> None:
    """The same signature over other words counts for nothing."""
    key = SshKey(bench.folder, "ada")
    bench.signers.write_text(key.allowed())
    key.signs(bench.hub)
    text = git(bench.hub.path, "cat-file", "commit", bench.commit())
    forged = text.replace("author Ada <", "author Eve <") + "\n"
    made = git(bench.hub.path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=forged.encode())
    git(bench.hub.path, "update-ref", "refs/heads/main", made)
    bench.repository.fetch()
    assert bench.seal(made) is Seal.INVALID


@pytest.mark.parametrize(
    ("bound", "when", "seal"),
    [('valid-before="20220101"', IN_2021, Seal.GOOD), ('valid-before="20200101"', IN_2021, Seal.EXPIRED),
     ('valid-after="20220101"', IN_2021, Seal.EXPIRED)],
    ids=["in time", "too late", "too early"],
)  # fmt: skip
def test_a_key_counts_while_it_was_valid(bench: Bench, bound: str, when: int, seal: Seal) -> None:
    """By the commit's date, so that what was good yesterday is good tomorrow."""
    key = SshKey(bench.folder, "ada")
    bench.signers.write_text(key.allowed(bound))
    key.signs(bench.hub)
    assert bench.seal(bench.commit(when=when)) is seal


def test_a_revoked_key_counts_no_more(bench: Bench) -> None:
    """Whenever it signed; other keys are not touched by the list of revoked ones."""
    ada, bob = SshKey(bench.folder, "ada"), SshKey(bench.folder, "bob")
    bench.signers.write_text(ada.allowed() + bob.allowed())
    revoked = bench.folder / "revoked"
    revoked.write_text(f"{ada.public}\n")
    ada.signs(bench.hub)
    hers = bench.commit()
    bob.signs(bench.hub)
    checker = bench.checker(revoked=revoked)
    assert checker.of(hers).seal is Seal.REVOKED
    assert checker.of(bench.commit()).seal is Seal.GOOD


def test_openpgp_keys_likewise(bench: Bench, ring: Gpg) -> None:
    """Listed, a stranger's, and one of a kind that nobody listed."""
    gina, vic = ring.make("Gina"), ring.make("Vic")
    file = bench.folder / "keys.asc"
    file.write_bytes(ring.export(gina))
    ring.signs(bench.hub, gina)
    good = bench.commit()
    checker = bench.checker(gpg=(file,), ssh=False)
    assert checker.of(good) == Signature(Seal.GOOD, "Gina <gina@example.com>", gina)
    ring.signs(bench.hub, vic)
    assert checker.of(bench.commit()).seal is Seal.UNKNOWN
    ada = SshKey(bench.folder, "ada")
    bench.signers.write_text(ada.allowed())
    assert bench.seal(good) is Seal.UNKNOWN
    ada.signs(bench.hub)
    assert checker.of(bench.commit()).seal is Seal.UNKNOWN


def test_an_expired_openpgp_key_is_good_for_what_it_signed_before(bench: Bench, ring: Gpg) -> None:
    """As with SSH keys: the day on which we look changes nothing, the day of the signature does."""
    key = ring.make("Olaf", ends="1d", now="20200101T000000")
    file = bench.folder / "keys.asc"
    file.write_bytes(ring.export(key))
    ring.signs(bench.hub, key, now="20200101T010000")
    checker = bench.checker(gpg=(file,), ssh=False)
    assert checker.of(bench.commit()) == Signature(Seal.GOOD, "Olaf <olaf@example.com>", key)
    ring.run("--quick-set-expire", key, "0")  # what was listed still ends
    ring.signs(bench.hub, key)
    assert checker.of(bench.commit()).seal is Seal.EXPIRED


def test_a_revoked_openpgp_key_counts_no_more(bench: Bench, ring: Gpg) -> None:
    """Once the listed file has the revocation."""
    key = ring.make("Rita")
    ring.signs(bench.hub, key)
    file = bench.folder / "keys.asc"
    file.write_bytes(ring.export(key))
    commit = bench.commit()
    checker = bench.checker(gpg=(file,), ssh=False)
    assert checker.of(commit).seal is Seal.GOOD
    ring.revoke(key)
    file.write_bytes(ring.export(key))
    assert checker.of(commit).seal is Seal.REVOKED


def test_what_the_machine_and_the_repository_say_about_keys_is_not_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of signers that comes with the environment is nobody's list."""
    ada, eve = SshKey(bench.folder, "ada"), SshKey(bench.folder, "eve")
    bench.signers.write_text(ada.allowed())
    hers = bench.folder / "hers"
    hers.write_text(eve.allowed())
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'gpg.ssh.allowedSignersFile={hers}'")
    eve.signs(bench.hub)
    assert bench.seal(bench.commit()) is Seal.UNKNOWN


def test_a_changed_list_changes_the_verdict_and_nothing_else_does(bench: Bench) -> None:
    """A verdict is kept for the keys that it was about; git is asked once."""
    key, other = SshKey(bench.folder, "ada"), SshKey(bench.folder, "eve")
    bench.signers.write_text(key.allowed())
    key.signs(bench.hub)
    commit, checker = bench.commit(), bench.checker()
    before = checker.keys()
    assert checker.of(commit).seal is Seal.GOOD
    bench.signers.write_text(other.allowed())
    assert checker.of(commit).seal is Seal.UNKNOWN
    assert checker.keys() != before
    bench.signers.write_text(key.allowed())
    shutil.rmtree(bench.folder / "state")  # nobody could look again
    assert checker.of(commit).seal is Seal.GOOD


def test_keys_that_cannot_be_read_let_nothing_in(bench: Bench) -> None:
    """No file, or no keys in it: a person must mend that; it is never taken for "no keys needed"."""
    unsigned(bench.hub)
    commit = bench.commit()
    with pytest.raises(Stalled, match=r"cannot be read.*signers") as caught:
        bench.checker().of(commit)
    assert caught.value.reason == "KeysUnreadable"
    file = bench.folder / "keys.asc"
    file.write_text("no key")
    with pytest.raises(Stalled, match="gpg cannot read the public keys"):
        bench.checker(gpg=(file,), ssh=False).of(commit)


def test_many_ask_at_once(bench: Bench, ring: Gpg) -> None:
    """Workers that begin together all get the answer, whoever laid out the keys."""
    key = ring.make("Mona")
    ring.signs(bench.hub, key)
    file = bench.folder / "keys.asc"
    file.write_bytes(ring.export(key))
    commit = bench.commit()
    with ThreadPoolExecutor(4) as pool:
        checkers = [bench.checker(gpg=(file,), ssh=False) for _ in range(4)]
        assert {found.seal for found in pool.map(lambda each: each.of(commit), checkers)} == {Seal.GOOD}
