"""Looking at the world: what is read, from where, how often, and what is refused."""

from __future__ import annotations

import pytest

from reconcilers.observe import Observer
from reconcilers.observed import Observed
from reconcilers.records import Records, shared_pictures
from reconcilers.world import Ports
from specs.errors import Stalled
from specs.facts import JobPhase, PullState
from specs.manifest import parse
from specs.modelspec import ModelKey
from specs.records import ExportRecord, RunRecord, dataset_key, run_key
from specs.status import ConditionType, Reason
from tests.support.builders import GOLDEN, KEY, NAME, TRAIN, candidate_ready, digest, manifest
from tests.support.fake_git import TRUNK
from tests.support.fakes import FakeStore
from tests.support.world import World


class CountingStore(FakeStore):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def read(self, key: str) -> bytes | None:
        self.reads.append(key)
        return super().read(key)


def look(world: World, observer: Observer | None = None) -> Observed:
    """Give the snapshot of a world."""
    observer = observer or Observer(Ports(world.store, world.git, world.forge, world.jobs, world.servers))
    source = world.source()
    return observer.observe(source, parse(source.text, source.path, KEY).model.spec, observer.share())


@pytest.fixture
def world() -> World:
    """Give a model with v1 serving and a second candidate proposed."""
    made = World()
    made.change(r"epochs: \d+", "epochs: 5")
    made.converge()
    made.merge()
    made.converge()
    made.change(r"epochs: \d+", "epochs: 8")
    return made.converge()


def test_snapshot_holds_what_a_plan_asks_for(world: World) -> None:
    """Runs of candidate, champion and previous; measurements, exports, artifacts, serving, proposals."""
    seen = look(world)
    spec = parse(world.text, "", KEY).model.spec
    assert spec.release is not None
    weights = {run.weights for run in seen.runs.values()}
    assert set(seen.runs) == {spec.inputs_digest, spec.release.run}
    assert {subject for subject, _ in seen.evaluations} >= weights
    assert [(s, b) for s, b, _ in seen.comparisons] == [(digest("weights", spec.inputs_digest), spec.release.weights)]
    assert set(seen.artifacts) == set(spec.release.exports.values())
    assert len(seen.exports) == 1
    assert seen.serving is not None
    assert seen.serving.name == NAME
    assert [(p.intent, p.pull.state) for p in seen.proposals] == [
        ("promote", PullState.MERGED), ("promote", PullState.OPEN),
    ]  # fmt: skip
    assert seen.train is not None
    assert seen.train.manifest == TRAIN
    assert (seen.shared_pictures, seen.jobs, seen.leftovers) == ((), {}, {})


def test_jobs_are_asked_for_by_what_is_missing(world: World) -> None:
    """Only jobs whose records are not there are looked up."""
    world.change(r"epochs: \d+", "epochs: 9")
    world.one_pass()
    seen = look(world)
    assert [state.phase for state in seen.jobs.values()] == [JobPhase.RUNNING]
    assert list(seen.jobs) == world.jobs.running()


def test_records_are_read_once_and_absent_ones_again() -> None:
    """What is there never changes and is remembered; what is not there may come."""
    store = CountingStore()
    records = Records(store)
    key = run_key(digest("run"))
    assert records.get(key, RunRecord) is None
    run = RunRecord(inputs_digest=digest("run"), inputs={}, status="Failed", model="m", commit="c")
    store.put(key, run)
    assert records.get(key, RunRecord) == run
    assert records.get(key, RunRecord) == run
    assert store.reads == [key, key]


def test_a_second_look_reads_nothing_anew(world: World) -> None:
    """Once converged, looking again costs no read of the store."""
    counting = CountingStore()
    counting.records = world.store.records
    world.store = counting
    observer = Observer(Ports(counting, world.git, world.forge, world.jobs, world.servers))
    look(world, observer)
    before = len(counting.reads)
    look(world, observer)
    assert len(counting.reads) == before


LAB = candidate_ready().lab
RUN = next(record for record in LAB.records.values() if isinstance(record, RunRecord))
EXPORT = next(record for record in LAB.records.values() if isinstance(record, ExportRecord))
FLAWS = [
    (b"not json", "is not a RunRecord", "no JSON"),
    (b"{}", "fields are wrong", "another shape"),
    (RUN.model_copy(update={"inputs_digest": digest("x")}).encode(), "is about something else", "another run"),
    (RUN.model_copy(update={"weights": None}).encode(), "names no file", "success without weights"),
]


@pytest.mark.parametrize(("data", "text"), [pytest.param(*case[:2], id=case[2]) for case in FLAWS])
def test_record_that_contradicts_itself_or_its_key_is_refused(data: bytes, text: str) -> None:
    """A record that is not what its key says stalls the model, and says which file to remove."""
    store = FakeStore()
    key = run_key(RUN.inputs_digest)
    store.records[key] = data
    with pytest.raises(Stalled, match=text) as caught:
        Records(store).get(key, RunRecord)
    assert caught.value.reason == "CorruptRecord"
    assert key in caught.value.message
    assert "remove it" in caught.value.message


def test_every_kind_of_record_is_held_against_its_key() -> None:
    """Evaluations, comparisons, exports and artifacts under a wrong key are refused like runs."""
    stage = candidate_ready()
    for key, record in stage.lab.records.items():
        store = FakeStore()
        store.records[key] = record.encode()
        assert Records(store).get(key, type(record)) == record
        wrong = key.replace(key[-10:-5], "00000")
        store.records[wrong] = record.encode()
        with pytest.raises(Stalled, match="is about something else"):
            Records(store).get(wrong, type(record))
    store = FakeStore()
    store.records["exports/x.json"] = EXPORT.model_copy(update={"file": None}).encode()
    with pytest.raises(Stalled):
        Records(store).get("exports/x.json", ExportRecord)


def test_data_set_is_looked_up_by_its_digest() -> None:
    """There, not there, or there with other bytes than the digest says."""
    store = FakeStore()
    found = Records(store).dataset(TRAIN.digest())
    assert (found.manifest, found.reason) == (TRAIN, "")
    gone = Records(store).dataset(digest("gone"))
    assert (gone.manifest, gone.reason) == (None, Reason.DATA_MISSING)
    store.records[dataset_key(GOLDEN.digest())] = TRAIN.encode()
    wrong = Records(store).dataset(GOLDEN.digest())
    assert (wrong.manifest, wrong.reason) == (None, Reason.DATA_CORRUPT)


def test_shared_pictures_are_found_by_their_bytes() -> None:
    """A picture in both sets is told by its path in golden, whatever the other calls it; labels do not count."""
    again = TRAIN.files[0].model_copy(update={"path": "bread/again.png"})
    label = TRAIN.files[1].model_copy(update={"path": "labels/1.txt"})
    golden = GOLDEN.model_copy(update={"files": [*GOLDEN.files, label, again]})
    train = TRAIN.model_copy(update={"files": [*TRAIN.files, label]})
    assert shared_pictures(train, golden) == ("bread/again.png",)
    assert shared_pictures(train, manifest("golden")) == ()


def test_foreign_commits_and_conflicts_are_told_of_open_proposals(world: World) -> None:
    """A base that moved on under the branch, and somebody else's commit on it, are facts of the snapshot."""
    (branch,) = set(world.git.heads) - {TRUNK}
    assert [(p.foreign, p.conflicted) for p in look(world).proposals] == [(False, False)] * 2
    world.change(r"    run: \S+", "    run: sha256:" + "0" * 64)
    assert look(world).proposals[-1].conflicted
    world.push_foreign(branch)
    assert look(world).proposals[-1].foreign
    del world.git.heads[branch]
    gone = look(world).proposals[-1]
    assert (gone.foreign, gone.conflicted, gone.branch_head) == (False, False, None)


def test_leftovers_are_our_branches_that_nothing_needs(world: World) -> None:
    """A branch without an open proposal is a leftover, unless somebody else committed to it."""
    spare, taken = (f"trunkline/promote/retail.shelf/{each * 12}" for each in "ab")
    head = world.git.commit_files(world.git.heads[TRUNK], {"x": b"1"}, "ours")
    world.git.heads |= {spare: head, taken: head, "trunkline/promote/retail.other/cccccccccccc": head, "feature": head}
    world.push_foreign(taken)
    seen = look(world)
    assert dict(seen.leftovers) == {spare: head}
    assert set(seen.branches) >= {spare, taken}
    assert all("retail.shelf" in branch for branch in seen.branches)


def test_one_look_serves_all_models(world: World) -> None:
    """Pull requests and branches are listed once and told apart by model; strangers' branches are nobody's."""
    shared = Observer(Ports(world.store, world.git, world.forge, world.jobs, world.servers)).share()
    assert set(shared.pulls) == {KEY}
    assert shared.head == world.git.heads[TRUNK]
    assert ModelKey("retail", "other") not in shared.branches


@pytest.mark.parametrize(
    ("golden", "reason"),
    [
        ('{dvc: {repoURL: "https://e.com/d.git", targetRevision: "1", path: d.dvc}}', Reason.DATA_NOT_PINNED),
        ('{platform: {uri: "ul://me/datasets/shelf", digest: "7"}}', Reason.IMPORTING),
        ('{uri: {url: "store://golden"}}', Reason.DATA_NOT_PINNED),
        ('{uri: {url: "store://golden", digest: "sha256:' + "0" * 64 + '"}}', Reason.DATA_MISSING),
    ],
    ids=["bare", "not fetched", "not pinned", "not there"],
)  # fmt: skip
def test_any_golden_can_be_looked_at_behind_a_trained_candidate(world: World, golden: str, reason: Reason) -> None:
    """A golden set that is not named or not there is the plan's to refuse or to fetch: looking never fails."""
    world.change(r"golden: .*", f"golden: {golden}")
    result = world.one_pass()
    assert result.plan is not None
    ready = world.status.condition(ConditionType.READY)
    assert ready is not None
    assert ready.reason == reason
