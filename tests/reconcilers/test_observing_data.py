"""Looking at data outside the store: what is read, who is asked, and that nobody who is silent holds up the rest."""

from __future__ import annotations

import pytest

from reconcilers.observe import Observer
from reconcilers.observed import FOLLOWED, Observed
from reconcilers.records import Records
from reconcilers.world import Ports
from specs.data_records import ImportRecord, import_key
from specs.errors import Stalled, Transient
from specs.manifest import parse
from specs.records import dataset_key
from specs.status import ConditionType, Reason
from specs.workorders import ImportOrder
from tests.support.builders import KEY, TRAIN, digest
from tests.support.data_stages import difference, dvc, imported, md5, pinned, validation
from tests.support.fakes import FakeSources, FakeStore
from tests.support.story import data_phases
from tests.support.world import ELSEWHERE, World


def look(world: World) -> Observed:
    """Give the snapshot of a world."""
    observer = Observer(Ports(world.store, world.git, world.forge, world.jobs, world.servers, data=world.sources))
    source = world.source()
    return observer.observe(source, parse(source.text, source.path, KEY).model.spec, observer.share())


def reason(world: World, type_: ConditionType) -> str:
    """Give the reason of a condition."""
    found = world.status.condition(type_)
    return found.reason if found else ""


@pytest.fixture
def world() -> World:
    """Give a model that serves v1, trained on version 1 of data that it follows."""
    return next(phase.after for phase in data_phases() if phase.name == "v1 merged").fork()


@pytest.fixture
def bare() -> World:
    """Give a model whose data is not pinned, and nobody knows yet what it stands for."""
    return World(ELSEWHERE)


def test_import_says_which_manifest_a_digest_stands_for(world: World) -> None:
    """The pinned digest stays git's; what was fetched is known by its manifest, and by how it came."""
    seen = look(world)
    assert seen.train is not None
    assert seen.train.imported is not None
    assert seen.train.manifest is not None
    assert seen.train.imported.digest == md5(1)
    assert seen.train.digest == seen.train.imported.manifest == seen.train.manifest.digest()
    assert seen.validation is not None
    assert seen.validation.train_digest == seen.train.digest
    assert (seen.newer, seen.troubles, seen.resolved) == (None, {}, {})


def test_newer_version_is_looked_up_as_far_as_it_is_known(world: World) -> None:
    """First its name, then what was fetched, then what was found out about it."""
    world.sources.latest = pinned(2)
    named = look(world).newer
    assert named is not None
    assert (named.source, named.fact.digest, named.fact.manifest) == (pinned(2), md5(2), None)
    world.converge()
    known = look(world).newer
    assert known is not None
    assert known.fact.imported is not None
    assert known.difference is not None
    assert known.validation is not None
    assert known.difference.after == known.validation.train_digest == known.fact.digest


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(Transient("DataSourceUnreachable", "no route"), (Reason.DATA_UNREACHABLE, True)),
     (Stalled("DataMissing", "no such branch"), (Reason.DATA_MISSING, False)),
     (Stalled("PlatformUnauthorized", "no key"), (Reason.DATA_UNSUPPORTED, False))],
)  # fmt: skip
def test_silence_of_a_source_is_a_fact(
    world: World, trouble: Stalled | Transient, told: tuple[Reason, bool]
) -> None:  # fmt: skip
    """A model that serves goes on: it is ready, training and proposing go on, and its data may be newer or not."""
    world.sources.trouble = trouble
    world.change(r"epochs: \d+", "epochs: 6")
    world.converge()
    seen = look(world).troubles[FOLLOWED]
    assert ((seen.reason, seen.passing), seen.message) == (told, trouble.message)
    assert [pull.title.split()[1] for pull in world.forge.opened()] == ["promote"]
    assert world.merge()
    world.converge()
    assert world.serving[0] == 2
    assert (reason(world, ConditionType.READY), reason(world, ConditionType.DATA_CURRENT)) == ("AsDesired", told[0])
    assert world.quiet()


def test_bare_reference_is_asked_for_until_it_is_known(bare: World) -> None:
    """While its source is down nothing is proposed and nothing trained; then the pin is."""
    bare.sources.trouble = Transient("DataSourceUnreachable", "no route")
    bare.converge()
    assert reason(bare, ConditionType.RECONCILING) == Reason.DATA_UNREACHABLE
    assert bare.wire.log == []
    bare.sources = FakeSources(pinned(1))
    bare.converge()
    assert [pull.title for pull in bare.forge.opened()] == ["retail/shelf: pin training data"]


def test_bare_address_is_known_by_its_import(bare: World) -> None:
    """An address has no versions to ask for: fetching it tells its digest, which is proposed, merged, and trained."""
    bare.rewrite(bare.text.replace('{uri: {url: "store://golden", digest', '{uri: {url: "s3://d/g.zip", gone'))
    text = "\n".join(line for line in bare.text.splitlines() if "gone" not in line)
    bare.rewrite(text.replace("\n  training:", '    golden: {uri: {url: "s3://d/g.zip"}}\n\n  training:', 1))
    bare.sources.latest = pinned(1)
    bare.converge()
    (pull,) = bare.forge.opened()
    assert pull.title == "retail/shelf: pin training data and golden set"
    bare.merge()
    bare.converge()
    assert f'{{uri: {{url: "s3://d/g.zip", digest: "{digest("fetched", "s3://d/g.zip")}"}}}}' in bare.text
    assert [pull.title.split()[1] for pull in bare.forge.opened()] == ["promote"]
    fetched = [order for order in bare.jobs.orders.values() if isinstance(order, ImportOrder) and "uri" in order.source]
    assert len(fetched) == 1


def test_import_that_failed_for_good_stops(bare: World) -> None:
    """A pinned version that can never be used needs another pin."""
    bare.sources.latest = pinned(1)
    bare.converge()
    bare.merge()
    bare.one_pass()
    bare.jobs.finish(bare.jobs.running()[0], "hopeless")
    bare.converge()
    stalled = bare.status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert (stalled.reason, stalled.message) == ("ImportFailed", "spec.data.train: Hopeless: It cannot work.")


def test_import_whose_data_is_gone_says_what_to_remove(world: World) -> None:
    """Write-once records say that it was fetched, so fetching again needs a person."""
    seen = look(world).train
    assert seen is not None
    del world.store.records[dataset_key(seen.digest)]
    gone = look(world).train
    assert gone is not None
    assert gone.reason == Reason.DATA_MISSING
    assert "remove imports/" in gone.message


def test_what_a_run_has_learned_is_not_fetched_again(world: World) -> None:
    """Where only the import's record is lost, the run tells what it was trained on; nothing starts."""
    world.store.records = {key: text for key, text in world.store.records.items() if not key.startswith("imports/")}
    seen = look(world).train
    assert seen is not None
    assert seen.manifest is not None
    assert seen.imported is None
    assert world.quiet()


def test_model_at_rest_from_before_validation_stays_at_rest(world: World) -> None:
    """An upgrade starts no job for ten thousand models: what is trained and measured is not looked at again."""
    made = ("imports/", "validations/")
    world.store.records = {key: text for key, text in world.store.records.items() if not key.startswith(made)}
    assert world.quiet()


RECORDS = [imported(2).imported, validation(), difference()]


@pytest.mark.parametrize("record", RECORDS, ids=["import", "validation", "difference"])
def test_record_under_a_wrong_key_is_refused(record: ImportRecord) -> None:
    """Records about data are held against their keys like all others."""
    store = FakeStore()
    store.records["imports/x.json"] = record.encode()
    with pytest.raises(Stalled, match="is about something else"):
        Records(store).get("imports/x.json", type(record))


def test_import_that_names_nothing_is_refused() -> None:
    """A success without a manifest is none."""
    order = ImportOrder(model="m", commit="c", task="classify", source=dvc(1))
    store, key = FakeStore(), import_key(order.import_digest)
    store.put(key, ImportRecord(
        import_digest=order.import_digest, task="classify", source=dvc(1), status="Succeeded", digest=md5(1)
    ))  # fmt: skip
    with pytest.raises(Stalled, match="names no file"):
        Records(store).get(key, ImportRecord)


def test_record_of_a_newer_version_that_cannot_be_read_harms_nobody(world: World) -> None:
    """It keeps that version from being proposed, and says so; the model goes on."""
    world.sources.latest = pinned(2)
    order = ImportOrder(model="m", commit="c", task="classify", source=dvc(2))
    world.store.records[import_key(order.import_digest)] = b"{}"
    world.converge()
    assert reason(world, ConditionType.DATA_CURRENT) == Reason.IMPORT_FAILED
    assert (world.serving[0], reason(world, ConditionType.READY)) == (1, "AsDesired")


def test_data_in_the_store_is_asked_about_nowhere() -> None:
    """Nobody is asked for what git and the store tell."""
    world = World()
    world.sources.trouble = Stalled("DataMissing", "asked in vain")
    world.converge()
    assert look(world).troubles == {}
    assert look(world).train is not None
    assert TRAIN.digest() in world.text
