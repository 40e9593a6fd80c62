"""The registry on a real MLflow server: a version for each release, the alias where git says, nobody kept waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from adapters.mlflow_api import MlflowApi, Run
from adapters.registry_mlflow import MlflowRegistry
from adapters.tracking_access import Access
from specs.digests import digest_of
from specs.registry_facts import Registered, Registration
from tests.support.mlflow_server import Fate, Looking, an_experiment, bad_server, gateway, is_effect


def release(url: str, experiment: str, number: int = 1, **changes: str) -> Registration:
    """Give a release as it shall be registered; the model's name is the experiment's, so that tests stay apart."""
    run, weights = digest_of([experiment, "run", number]), digest_of([experiment, "weights", number])
    tags = (("trunkline.commit", "c" * 40),)
    made = Registration(url, experiment, experiment, f"retail/{experiment}", number, run, weights, tags)
    return replace(made, **changes)


def mirrored(url: str, wanted: Registration) -> Run:
    """Have the release's run there."""
    api = MlflowApi(url, Access())
    return api.create(api.experiment(wanted.experiment), wanted.run, "run", 1)


def asked(registry: MlflowRegistry, wanted: Registration) -> Registered:
    """Ask until a look ended, and give what it found."""
    while (found := registry.state(wanted)) is None or found.old:
        time.sleep(0.01)
    return found


def told(registry: MlflowRegistry, wanted: Registration) -> Registered:
    """Have it registered, and give what came of it."""
    registry.register(wanted)
    return asked(registry, wanted)


def new(clock: Callable[[], float] = time.monotonic) -> MlflowRegistry:
    """Give a registry as a controller has it that was just started."""
    return MlflowRegistry(Access(), clock)


def aliases(url: str, wanted: Registration) -> dict[str, str]:
    """Give what MLflow's own client says the aliases are."""
    return {name: str(number) for name, number in Looking(url).client.get_registered_model(wanted.name).aliases.items()}


def test_a_release_becomes_a_version_and_the_champion(mlflow_server: str) -> None:
    """The version points at the mirrored run's weights, says which release it is, and bears the alias."""
    wanted = release(mlflow_server, an_experiment())
    run = mirrored(mlflow_server, wanted)
    registry = new()
    assert asked(registry, wanted) == Registered(source=run.id)
    assert told(registry, wanted) == Registered(wanted.model, "1", run.id, "1", "1")
    found = Looking(mlflow_server).client.get_model_version_by_alias(wanted.name, "champion")
    assert (found.run_id, found.source) == (run.id, f"{run.artifacts}/model")
    assert found.tags.items() >= {
        "trunkline.release": "1", "trunkline.run": wanted.run, "trunkline.weights": wanted.weights,
        "trunkline.commit": "c" * 40,
    }.items()  # fmt: skip


def test_the_alias_follows_releases_and_goes_back_with_them(mlflow_server: str) -> None:
    """A second release is a second version; undone in git, the alias is at the first one again, and none is made."""
    experiment = an_experiment()
    first, second = release(mlflow_server, experiment), release(mlflow_server, experiment, 2)
    for wanted in (first, second):
        mirrored(mlflow_server, wanted)
    registry = new()
    for wanted, version in ((first, "1"), (second, "2"), (first, "1")):
        found = told(registry, wanted)
        assert (found.version, found.champion, found.ours) == (version, version, version)
        assert aliases(mlflow_server, wanted) == {"champion": version}
    assert len(Looking(mlflow_server).client.search_model_versions(f"name='{first.name}'")) == 2


def test_a_foreign_change_is_seen_and_can_be_put_back(mlflow_server: str) -> None:
    """Somebody's alias differs from the one that we remember to have set; telling again sets it right."""
    experiment = an_experiment()
    first, second = release(mlflow_server, experiment), release(mlflow_server, experiment, 2)
    for wanted in (first, second):
        mirrored(mlflow_server, wanted)
        told(new(), wanted)
    Looking(mlflow_server).client.set_registered_model_alias(second.name, "champion", "1")
    found = asked(new(), second)
    assert (found.champion, found.ours, found.version) == ("1", "2", "2")
    assert told(new(), second).champion == "2"
    Looking(mlflow_server).client.delete_registered_model_alias(second.name, "champion")
    assert asked(new(), second).champion == ""


def test_a_model_that_somebody_else_registered_is_left_alone(mlflow_server: str) -> None:
    """Without our mark a registered model is not ours, whatever its name: no version, no alias, no tag."""
    wanted = release(mlflow_server, an_experiment())
    mirrored(mlflow_server, wanted)
    Looking(mlflow_server).client.create_registered_model(wanted.name)
    assert told(new(), wanted).owner == ""
    theirs = Looking(mlflow_server).client.get_registered_model(wanted.name)
    assert (dict(theirs.aliases), dict(theirs.tags), list(theirs.latest_versions)) == ({}, {}, [])


def test_without_a_mirrored_run_there_is_nothing_to_register(mlflow_server: str) -> None:
    """A version must point at something."""
    wanted = release(mlflow_server, an_experiment())
    found = told(new(), wanted)
    assert (found.version, found.champion, found.source) == ("", "", "")


EFFECTS = ["registered-models/create", "model-versions/create", "registered-models/alias", "registered-models/set-tag"]


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("fate", ["refuse", "lose"])
def test_cut_off_at_an_effect_and_told_again_it_is_registered_once(
    mlflow_server: str, effect: str, fate: Fate
) -> None:
    """A controller that ends around any effect leaves what the next one finishes, and takes for nobody else's doing."""
    with gateway(mlflow_server) as between:
        wanted = release(between.url, an_experiment())
        run = mirrored(mlflow_server, wanted)
        between.fate = lambda verb, path: fate if is_effect(verb, path) and path.endswith(effect) else None
        assert not told(new(), wanted).reached
        between.fate = lambda verb, path: None
        left = asked(new(), wanted)
        assert left.champion in (left.ours, left.version)
        assert told(new(), wanted) == Registered(wanted.model, "1", run.id, "1", "1")
        assert len([path for _, path in between.effects if path.endswith("model-versions/create")]) <= 2
    assert len(Looking(mlflow_server).client.search_model_versions(f"name='{wanted.name}'")) == 1


def test_two_controllers_at_once_register_once(mlflow_server: str) -> None:
    """Both saw nothing, both create: one version is left, with the alias."""
    wanted = release(mlflow_server, an_experiment())
    mirrored(mlflow_server, wanted)
    both = [new(), new()]
    threads = [threading.Thread(target=told, args=(each, wanted)) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = told(new(), wanted)
    assert found.champion == found.ours == found.version
    assert len(Looking(mlflow_server).client.search_model_versions(f"name='{wanted.name}'")) == 1


def test_a_server_that_never_answers_holds_nobody_up() -> None:
    """Asking and telling return while the server still holds the connection; nothing is known, nothing is raised."""
    with bad_server(0) as server:
        registry = MlflowRegistry(Access(), time.monotonic, timeout=3600)
        wanted = release(server.url, "x")
        assert registry.state(wanted) is None
        with server.changed:
            server.changed.wait_for(lambda: server.holding)
        assert registry.state(wanted) is None
        registry.register(wanted)
        assert registry.state(release(server.url, "y")) is None
        assert server.holding == 1


def test_a_server_that_fails_is_left_in_peace() -> None:
    """One trouble is enough: for a while no model's look goes there, and what was known stays known."""
    now = [0.0]
    with bad_server(503) as server:
        registry = new(lambda: now[0])
        first, second = release(server.url, "x"), release(server.url, "y")
        assert asked(registry, first) == Registered(reached=False)
        assert asked(registry, second) == Registered(reached=False)
        assert len(server.asked) == 1
        now[0] += 299
        assert asked(registry, first) == Registered(reached=False)
        assert len(server.asked) == 1
        now[0] += 2
        registry.state(first)
        with server.changed:
            server.changed.wait_for(lambda: len(server.asked) == 2)


def test_what_is_known_is_not_asked_for_again_within_a_minute(mlflow_server: str) -> None:
    """A model may be looked at as often as the host likes; the server is asked once a minute."""
    now = [0.0]
    with gateway(mlflow_server) as between:
        wanted = release(between.url, an_experiment())
        mirrored(mlflow_server, wanted)
        registry = new(lambda: now[0])
        told(registry, wanted)
        before = len(between.seen)
        for _ in range(100):
            now[0] += 0.5
            assert registry.state(wanted) == asked(registry, wanted)
        assert len(between.seen) == before
        now[0] += 15
        known = registry.state(wanted)
        assert known is not None
        assert known.old
        assert not asked(registry, wanted).old
        assert len(between.seen) > before
