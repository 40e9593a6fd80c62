"""The agent, told to let in only what is signed, or what others approved: with real keys, git and the local forge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.forge_local import LocalForge
from controller.settings import load
from specs.errors import Stalled
from tests.support.gitrepo import git
from tests.support.place import Place
from tests.support.signers import SshKey, unsigned

pytestmark = pytest.mark.xdist_group("agent")
EPOCHS = ("epochs: 8", "epochs: 9")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place of the test's own."""
    made = Place(tmp_path / "place")
    try:
        yield made
    finally:
        made.stop()


def require(place: Place, *lines: str) -> None:
    """Write the table, and begin with an agent that knows it."""
    with (place.folder / "trunkline.toml").open("a") as file:
        file.write("\n".join(["[provenance]", *lines, ""]))
    place.restart()


def verified(place: Place) -> tuple[str, str, str]:
    """Let the agent look, and give the condition."""
    place.passes()
    found = place.condition("SourceVerified")
    return found.status, found.reason, found.message


def test_an_unsigned_change_starts_nothing_and_a_signed_one_does(place: Place) -> None:
    """Refused while it is the file's last commit; what the signed one says is done, and who signed is told."""
    key = SshKey(place.folder, "ada")
    (place.folder / "signers").write_text(key.allowed())
    require(place, "require_signed = true", 'ssh_signers = "signers"')
    place.write(place.spec())
    assert verified(place)[:2] == ("False", "Unsigned")
    assert place.condition("Stalled").reason == "Unsigned"
    assert place.jobs() == []
    key.signs(place.hub)
    place.change(*EPOCHS)
    status, reason, message = verified(place)
    assert (status, reason) == ("True", "InGit")
    assert message.endswith("signed by ada@example.com")
    place.hub.merge(place.proposed().branch)  # by git: the local forge signs nothing
    place.until("it serves", lambda: place.reason("Serving") == "ReleaseServing")
    place.settle()
    source = place.status().source
    assert source is not None
    assert (source.pull_request, source.signed_by) == (1, "ada@example.com")
    place.assert_quiet()
    unsigned(place.hub)
    started = place.jobs()
    place.change("epochs: 9", "epochs: 10")
    assert verified(place)[:2] == ("False", "Unsigned")
    assert place.jobs() == started
    (name,) = place.app.servers.names()
    state = place.app.servers.state(name)
    assert state is not None
    assert (state.ready, state.version) == (True, 1)


def test_a_change_needs_a_pull_request_that_somebody_else_approved(place: Place) -> None:
    """A push is refused, a merge without approval too; with one it goes on, and the status says by whom."""
    require(place, "require_pull_request = true", "approvals = 1")
    place.write(place.spec())
    assert verified(place)[1] == "NoPullRequest"
    ada, bob = LocalForge(place.hub.path, actor=("Ada", "a@b.c")), LocalForge(place.hub.path, actor=("Bob", "b@b.c"))
    for number, epochs in ((1, "epochs: 9"), (2, "epochs: 10")):
        text = place.read()
        git(place.hub.clone, "fetch", "-q", "origin")
        place.hub.commit(
            {"digits.yaml": text.replace("epochs: 8", epochs).replace("epochs: 9", epochs)},
            branch=f"work-{number}", start="origin/main",
        )  # fmt: skip
        assert ada.open(branch=f"work-{number}", title="Train longer", body="").number == number
        if number == 2:
            bob.approve(number)
        ada.merge(number)
        place.restart()  # what was said before is kept in a file, and holds for its own commit only
        status, reason, message = verified(place)
        if number == 1:
            assert (status, reason) == ("False", "NotReviewed")
            assert "#1" in message
            assert place.jobs() == []
    assert (status, reason) == ("True", "InGit")
    assert message.endswith("pull request #2, approved by Bob <b@b.c>")
    source = place.status().source
    assert source is not None
    assert (source.pull_request, source.approved_by) == (2, ["Bob <b@b.c>"])
    place.until("it trains", place.jobs)


@pytest.mark.parametrize(
    ("lines", "words"),
    [(["require_signed = true"], "needs ssh_signers or gpg_keys"), (["approvals = 1"], "needs require_pull_request"),
     (["require_sined = true"], "require_sined")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(place: Place, lines: list[str], words: str) -> None:
    """A requirement that could never be met, or would be ignored, is said at the start."""
    with pytest.raises(Stalled, match=words):
        require(place, *lines)


def test_key_files_are_relative_to_the_settings(place: Place) -> None:
    """As all paths in the file are."""
    require(place, 'ssh_signers = "a/b"', 'gpg_keys = ["c.asc", "/d.asc"]')
    found = load(place.folder, {}).provenance
    assert found.ssh_signers == place.folder / "a/b"
    assert found.gpg_keys == [place.folder / "c.asc", Path("/d.asc")]
