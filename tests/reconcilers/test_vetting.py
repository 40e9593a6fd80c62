"""What is required of the commit that changed a model: signatures, pull requests, approvals; and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.arrivals import ForgeArrivals
from reconcilers.vetting import Objection, Policy, Vetting, claimed, told
from specs.errors import Stalled, Transient
from specs.facts import Arrival, Commit, PullRequest, Seal, Signature, SourcedSpec
from specs.status import ConditionType, ModelStatus, Reason, SourceStatus
from tests.support.builders import KEY
from tests.support.fake_reviews import FakeReviews, merged
from tests.support.story import phases
from tests.support.world import World

SHA = "c" * 40
COMMIT = Commit(SHA, "Ada <ada@example.com>", 1, "Change the model")
SOURCE = SourcedSpec(KEY, "models/shelf.yaml", "", SHA, COMMIT)
REVIEWED = Policy(pull_request=True, approvals=2, not_counted=frozenset({"trunkline"}))


class Seals:
    """Signatures by commit."""

    def __init__(self, found: Signature) -> None:
        self.found = found
        self.listed = "k"

    def of(self, commit: str) -> Signature:
        return self.found

    def keys(self) -> str:
        if not self.listed:
            raise Stalled("KeysUnreadable", "no file")
        return self.listed


def vetted(vetting: Vetting, source: SourcedSpec = SOURCE) -> SourcedSpec | Objection:
    """Give what comes of it."""
    try:
        return vetting.vet(source, ModelStatus())
    except Objection as objection:
        return objection


@pytest.mark.parametrize(
    ("seal", "reason", "word"),
    [(Seal.NONE, Reason.UNSIGNED, "not signed"), (Seal.INVALID, Reason.SIGNATURE_INVALID, "altered"),
     (Seal.UNKNOWN, Reason.SIGNATURE_UNTRUSTED, "SHA256:abc"), (Seal.EXPIRED, Reason.SIGNATURE_EXPIRED, "renew"),
     (Seal.REVOKED, Reason.SIGNATURE_REVOKED, "revoked")],
)  # fmt: skip
def test_each_seal_but_a_good_one_is_refused_in_its_own_words(seal: Seal, reason: Reason, word: str) -> None:
    """The message names the commit, its author, the file, and what to do."""
    vetting = Vetting(Policy(signed=True), signatures=Seals(Signature(seal, key="SHA256:abc")))
    found = vetted(vetting)
    assert isinstance(found, Objection)
    assert found.reason == reason
    for part in (word, SHA[:12], "Ada", "models/shelf.yaml", "revert"):
        assert part in found.message


def test_a_good_seal_is_told() -> None:
    """Who signed is part of what the status says."""
    vetting = Vetting(Policy(signed=True), signatures=Seals(Signature(Seal.GOOD, "ada@example.com", "SHA256:abc")))
    found = vetted(vetting)
    assert isinstance(found, SourcedSpec)
    assert told(found) == f"commit {SHA[:12]} by Ada <ada@example.com>, signed by ada@example.com"


def test_required_and_nobody_to_ask_means_no() -> None:
    """A host that was put together wrongly lets nothing in."""
    for policy in (Policy(signed=True), Policy(pull_request=True)):
        assert isinstance(vetted(Vetting(policy)), Objection)


@pytest.mark.parametrize(
    ("names", "fine"),
    [([], False), (["bob"], False), (["bob", "bob"], False), (["bob", "cem"], True), (["ada", "bob"], False),
     (["trunkline", "bob"], False), (["renovate[bot]", "bob"], False), (["ada", "bob", "cem"], True),
     (["ada <ada@example.com>", "bob <b@example.com>"], False), (["bob <b@example.com>", "cem <c@example.com>"], True)],
)  # fmt: skip
def test_approvals_count_people_other_than_the_author(tmp_path: Path, names: list[str], fine: bool) -> None:  # noqa: FBT001
    """Not the author, not Trunkline, no program, nobody twice."""
    forge = FakeReviews({SHA: merged(7, SHA)}, {7: names})
    found = vetted(Vetting(REVIEWED, ForgeArrivals(forge, tmp_path)))
    assert isinstance(found, SourcedSpec) is fine
    if isinstance(found, Objection):
        assert found.reason == Reason.NOT_REVIEWED
        assert "#7" in found.message
        assert "of 2 approvals" in found.message


def test_a_direct_push_is_refused_whatever_it_says_about_itself(tmp_path: Path) -> None:
    """A trailer or a subject that names a pull request is a hint for people, and proves nothing."""
    forged = replace(COMMIT, subject="Better model (#7)", trailers=(("Trunkline-Pull-Request", "7"),))
    vetting = Vetting(Policy(pull_request=True), ForgeArrivals(FakeReviews(), tmp_path))
    found = vetted(vetting, replace(SOURCE, changed=forged))
    assert isinstance(found, Objection)
    assert found.reason == Reason.NO_PULL_REQUEST


@pytest.mark.parametrize(
    ("subject", "trailers", "number"),
    [("Change (#12)", (), 12), ("Merge pull request #9 from a/b", (), 9), ("Fix #3 (later)", (), None),
     ("x", (("Trunkline-Pull-Request", "4"),), 4), ("x", (("Trunkline-Pull-Request", "-4"),), None),
     (f"x (#{'9' * 40})", (), None)],
)  # fmt: skip
def test_hints_are_read_from_messages(subject: str, trailers: tuple[tuple[str, str], ...], number: int | None) -> None:
    """Of squashes, of merges, of our own trailers; nothing else."""
    assert claimed(replace(COMMIT, subject=subject, trailers=trailers)) == number


@pytest.mark.parametrize(
    ("arrival", "subject", "words"),
    [(Arrival(True, 7, "u", "ada", ("bob",)), "x", ", pull request #7, approved by bob"),
     (Arrival(True), "x", ", no pull request"), (Arrival(), "x", ""),
     (Arrival(), "x (#7)", ", pull request #7 by its own words")],
    ids=["reviewed", "pushed", "nobody knows", "hint"],
)  # fmt: skip
def test_where_it_comes_from_is_told(arrival: Arrival, subject: str, words: str) -> None:
    """What the forge confirmed and what only the commit says are told apart."""
    source = replace(SOURCE, changed=replace(COMMIT, subject=subject), arrival=arrival)
    assert told(source) == f"commit {SHA[:12]} by Ada <ada@example.com>{words}"


def test_names_of_peoples_choice_do_nothing_to_a_terminal() -> None:
    """Control characters are blanks, and no name is endless."""
    source = replace(SOURCE, changed=replace(COMMIT, author="\x1b[2JAda\u202e\n" + "x" * 10_000))
    assert "\x1b" not in told(source)
    assert "\u202e" not in told(source)
    assert len(told(source)) < 300


def test_what_a_status_says_already_is_not_asked_again(tmp_path: Path) -> None:
    """Ten thousand models after a restart: their statuses tell, unless something is required."""
    forge = FakeReviews({SHA: merged(8, SHA)}, {8: ["bob", "cem"]})
    previous = ModelStatus(commit=SHA, source=SourceStatus(author="Ada", pull_request=7, url="u"))
    found = Vetting(arrivals=ForgeArrivals(forge, tmp_path)).vet(SOURCE, previous)
    assert (found.arrival.pull, forge.asked) == (7, [])
    found = Vetting(arrivals=ForgeArrivals(forge, tmp_path)).vet(SOURCE, previous.model_copy(update={"commit": "d"}))
    assert found.arrival.pull == 8
    found = Vetting(REVIEWED, ForgeArrivals(forge, tmp_path)).vet(SOURCE, previous)  # a status can be forged
    assert found.arrival.pull == 8


def test_rules_have_a_name_that_changes_with_them() -> None:
    """So that models at rest are looked at again; nothing required has no name, and keys that fail do not stop all."""
    assert Vetting(Policy(not_counted=frozenset({"x"}))).rules() == ""
    seals = Seals(Signature(Seal.NONE))
    signed = Vetting(Policy(signed=True), signatures=seals)
    names = [signed.rules(), Vetting(REVIEWED).rules(), Vetting(replace(REVIEWED, approvals=1)).rules()]
    for seals.listed in ("other", ""):
        names.append(signed.rules())
    assert len(set(names)) == 5
    assert all(names)


# ----------------------------------------------------------------------------------------------- in the loop
class Guarded(World):
    """The world, with a forge that is asked before anything is done."""

    def __init__(self, world: World, folder: Path, policy: Policy) -> None:
        vars(self).update(vars(world.fork()))
        self.reviews = FakeReviews()
        self.vetting = Vetting(policy, ForgeArrivals(self.reviews, folder, self.clock))

    def look(self) -> ModelStatus:
        """Look once."""
        loop = self.reconciler()
        loop.ports = replace(loop.ports, vetting=self.vetting)
        result = loop.run(self.source(), loop.share(), self.status)
        self.status = result.status
        return self.status

    def bless(self, number: int, *names: str) -> PullRequest:
        """Let the forge know the commit that changed the model."""
        commit = self.source().changed.sha
        self.reviews.pulls[commit] = merged(number, commit)
        self.reviews.approved[number] = names
        return self.reviews.pulls[commit]


def _verified(status: ModelStatus) -> tuple[str, str]:
    found = status.condition(ConditionType.SOURCE_VERIFIED)
    assert found is not None
    return found.status, found.reason


def test_an_unreviewed_change_does_nothing_and_what_serves_goes_on(tmp_path: Path) -> None:
    """No job, no rollout, no proposal; the status keeps what it knew, and says what to do."""
    world = Guarded(phases()[2].after, tmp_path, REVIEWED)
    world.bless(1, "bob", "cem")
    before = world.look()
    assert _verified(before) == ("True", Reason.IN_GIT)
    world.change(r"epochs: \d+", "epochs: 99")
    effects, serving = len(world.wire.log), world.serving
    status = world.look()
    assert _verified(status) == ("False", Reason.NO_PULL_REQUEST)
    stalled = status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert "open a pull request" in stalled.message
    assert (len(world.wire.log), world.serving, status.serving) == (effects, serving, before.serving)
    world.bless(2, "bob", "cem")
    world.now += 3600
    assert _verified(world.look()) == ("True", Reason.IN_GIT)
    assert [name.split("-")[0] for name in world.jobs.running()] == ["train"]


def test_a_forge_that_is_down_makes_wait_not_refuse(tmp_path: Path) -> None:
    """A new commit is retried; one whose verdict is known goes on as it was."""
    world = Guarded(phases()[2].after, tmp_path, REVIEWED)
    pull = world.bless(1, "bob", "cem")
    world.look()
    world.reviews.trouble = Transient("ForgeUnavailable", "no answer")
    assert _verified(world.look()) == ("True", Reason.IN_GIT)
    world.change(r"epochs: \d+", "epochs: 99")
    status = world.look()
    reconciling = status.condition(ConditionType.RECONCILING)
    assert reconciling is not None
    assert (reconciling.reason, reconciling.message) == (Reason.RETRYING, "no answer")
    assert world.jobs.running() == []
    assert status.source is not None
    assert status.source.pull_request == pull.number


def test_the_status_names_commit_author_and_pull_request(tmp_path: Path) -> None:
    """For people in the condition's message, for programs in a field; the same again after a restart."""
    world = Guarded(phases()[2].after, tmp_path, Policy())
    pull = world.bless(12)
    status = world.look()
    source = world.source().changed
    assert status.commit == source.sha
    assert status.source == SourceStatus(author=source.author, pull_request=12, url=pull.url)
    verified = status.condition(ConditionType.SOURCE_VERIFIED)
    assert verified is not None
    assert verified.message == f"commit {source.sha[:12]} by {source.author}, pull request #12"
    world.reviews.trouble = Transient("ForgeUnavailable", "no answer")
    assert world.look() == status
    assert world.reviews.asked == [f"pull of {source.sha[:4]}"]
