"""Which repository and folder a namespace's models come from: real repositories and the desk, without a cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.jobs_local import LocalJobs
from adapters.kubernetes_api import MODEL_SPEC
from adapters.servers_local import LocalServers
from adapters.store import Store
from controller.cluster import Common, Parts, bind
from controller.desk import Desk
from controller.informer import Informer
from controller.metrics import Metrics
from controller.queue import Priority, WorkQueue
from controller.settings import load
from controller.trunk import Touched, Trunk
from controller.why import why
from reconcilers.limits import Limits
from specs.errors import Stalled, Transient
from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus
from tests.support.gitrepo import Hub, git
from tests.support.place import SPEC

SHELF = SPEC.replace("TRAIN", "sha256:" + "a" * 64).replace("GOLDEN", "sha256:" + "b" * 64)


def model(namespace: str, name: str = "shelf", epochs: int = 8) -> str:
    """Give a file with a model whose data is nowhere, so that looking at it ends at once with ``DataMissing``."""
    text = SHELF.replace("{name: digits}", f"{{name: {name}, namespace: {namespace}}}")
    return text.replace("epochs: 8", f"epochs: {epochs}")


class Statuses:
    """Status, in memory."""

    def __init__(self) -> None:
        self.known: dict[ModelKey, ModelStatus] = {}

    def read(self, key: ModelKey) -> ModelStatus:
        """Give the last one."""
        return self.known.get(key, ModelStatus())

    def write(self, key: ModelKey, status: ModelStatus) -> bool:
        """Keep one."""
        new = status != self.known.get(key)
        self.known[key] = status
        return new


class Counting:
    """A port that counts what is asked of it."""

    def __init__(self, port: Any, calls: list[str]) -> None:
        self._port, self._calls = port, calls

    def __getattr__(self, name: str) -> Any:
        self._calls.append(name)
        return getattr(self._port, name)


@dataclass
class Office:
    """The desk and its trunks, over the bindings of a ``trunkline.toml``; looks are taken when a test says so."""

    folder: Path
    text: str
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "trunkline.toml").write_text(f'store = "store"\nstate = "state"\n{self.text}')
        self.settings = load(self.folder, {})
        self.statuses, self.metrics = Statuses(), Metrics()
        self.informer, self.queue = Informer(lambda: 0.0), WorkQueue[ModelKey](lambda: 0.0)
        store, state = str(self.folder / "store"), self.folder / "state"
        common = Common(
            Store(store), LocalJobs(state, store, command=["false"]), LocalServers(state, store, command=["false"]),
            self.statuses, lambda key, before, now: None,
        )  # fmt: skip
        self.bindings = bind(self.settings, common, self.metrics, self._count)
        self.desk = Desk(self.informer, self.queue, self.bindings, self.metrics, lambda: 0.0)

    def _count(self, parts: Parts) -> Parts:
        ports = parts.ports
        counted: dict[str, Any] = {name: Counting(getattr(ports, name), self.calls) for name in ("repository", "forge")}
        return replace(parts, ports=replace(ports, **counted))

    def sync(self, text: str) -> ModelKey:
        """Play Argo CD: bring a model into the cluster."""
        manifest = yaml.safe_load(text)
        version = str(len(self.informer.models()) + 1)
        manifest["metadata"] |= {"uid": manifest["metadata"]["name"], "resourceVersion": version, "generation": 1}
        change = self.informer.saw(MODEL_SPEC, "ADDED", manifest)
        assert change is not None
        self.queue.add(change.key, Priority.CHANGE)
        return change.key

    def look(self) -> None:
        """Look once at every repository, and work until nobody is in line."""
        for site in self.bindings.sites:
            try:
                self.desk.wake(site, site.trunk.look())
            except (Transient, Stalled):
                continue
        self.work()

    def work(self) -> None:
        """Work until nobody is in line now."""
        while self.queue.depth:
            key = self.queue.get(0.1)
            assert key is not None
            self.desk.work(key)

    def reason(self, key: ModelKey) -> str:
        """Say why a model is not ready."""
        ready = self.statuses.read(key).condition(ConditionType.READY)
        return ready.reason if ready else "never looked at"

    def message(self, key: ModelKey) -> str:
        """Give the words of that."""
        ready = self.statuses.read(key).condition(ConditionType.READY)
        return ready.message if ready else ""


def binding(namespaces: list[str], repository: Path, prefix: str = "", branch: str = "main") -> str:
    """Give a table of ``trunkline.toml``."""
    lines = [f"namespaces = {json.dumps(namespaces)}", f'repository = "{repository}"', f'branch = "{branch}"']
    return "\n".join(["[[bindings]]", *lines, f'prefix = "{prefix}"', ""])


def test_a_model_comes_from_its_namespaces_repository_alone(tmp_path: Path) -> None:
    """A file that declares a model of another team's namespace is nothing, however right it is otherwise."""
    retail, street = Hub(tmp_path / "retail"), Hub(tmp_path / "street")
    retail.commit({"a.yaml": model("retail"), "theirs.yaml": model("street", "grabbed")})
    street.commit({"b.yaml": model("street")})
    office = Office(tmp_path, binding(["retail"], retail.path) + binding(["street"], street.path))
    ours, theirs = office.sync(model("retail")), office.sync(model("street"))
    grabbed = office.sync(model("street", "grabbed"))
    office.look()
    assert (office.reason(ours), office.reason(theirs)) == ("DataMissing", "DataMissing")
    assert office.reason(grabbed) == "NotInGit"
    assert str(street.path) in office.message(grabbed)
    assert str(retail.path) not in office.message(grabbed)


@pytest.mark.parametrize("prefix", ["team-a", "team-a/", "/team-a", "team-a//"])
def test_a_model_comes_from_its_namespaces_folder_alone(tmp_path: Path, prefix: str) -> None:
    """``team-ab`` is not below ``team-a``, nor is a link that leads there, however the folder is spelled."""
    hub = Hub(tmp_path)
    hub.clone.joinpath("team-a").mkdir()
    hub.clone.joinpath("team-a", "link.yaml").symlink_to("../team-ab/linked.yaml")
    hub.commit({
        "team-a/in.yaml": model("a", "inside"), "team-ab/out.yaml": model("a", "near"), "out.yaml": model("a", "above"),
        "team-ab/linked.yaml": model("a", "linked"), "x/team-a/in.yaml": model("a", "deep"),
        "Team-A/in.yaml": model("a", "large"),
    })  # fmt: skip
    office = Office(tmp_path, binding(["a"], hub.path, prefix))
    keys = [office.sync(model("a", name)) for name in ("inside", "near", "above", "linked", "deep", "large")]
    office.look()
    assert [office.reason(key) for key in keys] == ["DataMissing", *["NotInGit"] * 5]
    assert "below team-a/" in office.message(keys[1])


def test_a_file_that_moved_out_of_the_folder_is_gone(tmp_path: Path) -> None:
    """What a folder had before is an older version, as after a deletion; what is outside has no say."""
    hub = Hub(tmp_path)
    hub.commit({"team-a/in.yaml": model("a")})
    office = Office(tmp_path, binding(["a"], hub.path, "team-a"))
    key = office.sync(model("a"))
    office.look()
    hub.commit({"team-a/in.yaml": None, "team-b/in.yaml": model("a")})
    office.look()
    assert office.reason(key) == "AwaitingSync"


def test_a_model_at_rest_is_looked_at_again_where_its_binding_changed(tmp_path: Path) -> None:
    """The mark of what was looked at does not hold for a file that has no say any more."""
    hub = Hub(tmp_path)
    hub.commit({"team-a/a.yaml": model("a"), "team-b/b.yaml": model("b")})
    office = Office(tmp_path, binding(["a"], hub.path, "team-a") + binding(["b"], hub.path, "team-b"))
    office.look()
    ours, theirs = office.bindings.of("a"), office.bindings.of("b")
    assert ours is not None
    assert theirs is not None
    assert ours.blob("team-a/a.yaml") != ""
    assert theirs.blob("team-b/b.yaml") != ""
    assert ours.blob("team-b/b.yaml") == theirs.blob("team-a/a.yaml") == ours.blob("team-a") == ""


def test_a_namespace_that_nobody_bound_is_left_alone(tmp_path: Path) -> None:
    """The status says so once, and ``kube why`` what to do; nothing else happens."""
    hub = Hub(tmp_path)
    hub.commit({"a.yaml": model("elsewhere")})
    office = Office(tmp_path, binding(["retail"], hub.path))
    key = office.sync(model("elsewhere"))
    office.look()
    assert office.reason(key) == "NotBound"
    status = office.statuses.read(key)
    source = status.condition(ConditionType.SOURCE_VERIFIED)
    assert source is not None
    assert (source.status, source.reason) == ("False", "NotBound")
    live = {"metadata": {"generation": 0}, "status": status.model_dump(mode="json", by_alias=True)}
    answer = why(key, live, [], [])
    assert any("binding" in advice for advice in answer.advice)
    assert any("namespace elsewhere" in finding for finding in answer.findings)


def test_one_binding_may_be_for_all_others(tmp_path: Path) -> None:
    """A namespace that is named comes from where it is named, not from the one for all."""
    named, rest = Hub(tmp_path / "named"), Hub(tmp_path / "rest")
    named.commit({"a.yaml": model("retail")})
    rest.commit({"a.yaml": model("retail", "stray"), "b.yaml": model("anything")})
    office = Office(tmp_path, binding(["*"], rest.path) + binding(["retail"], named.path))
    keys = [office.sync(model("retail")), office.sync(model("anything")), office.sync(model("retail", "stray"))]
    office.look()
    assert [office.reason(key) for key in keys] == ["DataMissing", "DataMissing", "NotInGit"]


def test_bindings_of_one_repository_share_what_it_costs(tmp_path: Path) -> None:
    """One mirror, and for each look one fetch and one list of pull requests, for however many folders."""
    hub = Hub(tmp_path)
    teams = [f"team-{number}" for number in range(5)]
    hub.commit({f"{team}/a.yaml": model(team) for team in teams})
    office = Office(tmp_path, "".join(binding([team], hub.path, team) for team in teams))
    keys = [office.sync(model(team)) for team in teams]
    assert len(office.bindings.sites) == 1
    office.look()
    assert {office.reason(key) for key in keys} == {"DataMissing"}
    assert len(list((tmp_path / "state").glob("repositories/*/git/mirror.git"))) == 1
    before = office.calls.copy()
    office.look()
    now = office.calls[len(before) :]
    assert (now.count("fetch"), now.count("list")) == (1, 1)


def test_two_branches_of_one_repository_are_two_places(tmp_path: Path) -> None:
    """Each namespace follows its own branch."""
    hub = Hub(tmp_path)
    hub.commit({"a.yaml": model("stable")})
    hub.commit({"a.yaml": model("next", epochs=9)}, branch="next", start="main")
    office = Office(tmp_path, binding(["stable"], hub.path) + binding(["next"], hub.path, branch="next"))
    stable, newer = office.sync(model("stable")), office.sync(model("next", epochs=9))
    office.look()
    assert (office.reason(stable), office.reason(newer)) == ("DataMissing", "DataMissing")


def test_a_repository_that_is_down_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Its own models stand aside without being asked about again and again, and go on as soon as it is back."""
    fine, away = Hub(tmp_path / "fine"), Hub(tmp_path / "away")
    fine.commit({"a.yaml": model("retail")})
    away.commit({"a.yaml": model("street"), "b.yaml": model("street", "second")})
    office = Office(tmp_path, binding(["street"], away.path) + binding(["retail"], fine.path))
    away.path.joinpath("HEAD").rename(tmp_path / "HEAD")
    ours, theirs, foreign = (
        office.sync(model("retail")), office.sync(model("street")), office.sync(model("street", "unknown"))
    )  # fmt: skip
    office.look()
    assert (office.reason(ours), office.reason(theirs)) == ("DataMissing", "never looked at")
    assert [site.trunk.answers for site in office.bindings.sites] == [False, True]
    assert office.queue.depth == 0
    (tmp_path / "HEAD").rename(away.path / "HEAD")
    office.look()
    assert (office.reason(theirs), office.reason(foreign)) == ("DataMissing", "NotInGit")
    away.path.joinpath("HEAD").unlink()
    fine.commit({"a.yaml": model("retail", epochs=9)})
    office.look()
    assert office.reason(ours) == "AwaitingSync"
    assert office.reason(theirs) == "DataMissing"


def test_a_repository_wakes_none_but_its_own(tmp_path: Path) -> None:
    """Whatever names and branches a repository has, models of others are not looked at for it."""
    ours, theirs = Hub(tmp_path / "ours"), Hub(tmp_path / "theirs")
    ours.commit({"a.yaml": model("retail")})
    theirs.commit({"a.yaml": model("street")})
    office = Office(tmp_path, binding(["retail"], ours.path) + binding(["street"], theirs.path))
    mine, other = office.sync(model("retail")), office.sync(model("street"))
    office.look()
    site = next(site for site in office.bindings.sites if str(theirs.path) in site.trunk.name)
    office.desk.wake(site, Touched(frozenset({"shelf"}), frozenset({mine, other})))
    assert office.queue.depth == 1
    assert office.queue.get(0.1) == other


def test_proposals_go_to_the_bindings_repository(tmp_path: Path) -> None:
    """Pull requests and branches are those of the namespace's own site."""
    one, two = Hub(tmp_path / "one"), Hub(tmp_path / "two")
    one.commit({"a.yaml": model("retail")})
    two.commit({"a.yaml": model("street")})
    office = Office(tmp_path, binding(["retail"], one.path) + binding(["street"], two.path))
    office.look()
    for namespace, hub, other in (("retail", one, two), ("street", two, one)):
        bound = office.bindings.of(namespace)
        assert bound is not None
        ports = bound.site.passes.reconciler.ports
        branch = f"trunkline/promote/{namespace}.shelf/0123456789ab"
        commit = ports.repository.commit_files(hub.head(), {"a.yaml": b"x\n"}, "A proposal")
        ports.repository.push(branch, commit, None)
        ports.forge.open(branch=branch, title="t", body="b")
        assert git(hub.path, "rev-parse", branch) == commit
        assert branch not in other.heads()
        assert [pull.branch for pull in ports.forge.list()] == [branch]


def test_a_forge_that_is_not_said_well_is_named_by_its_namespaces(tmp_path: Path) -> None:
    """Of many bindings the one that has to be corrected."""
    hub = Hub(tmp_path)
    away = '[[bindings]]\nnamespaces = ["retail"]\nrepository = "https://git.example.com/a/b.git"\n'
    with pytest.raises(Stalled, match="namespaces retail: "):
        Office(tmp_path, binding(["x"], hub.path) + away)


def test_each_repository_has_limits_of_its_own(tmp_path: Path) -> None:
    """What one forge takes says nothing about another."""
    one, two = Hub(tmp_path / "one"), Hub(tmp_path / "two")
    for hub in (one, two):
        hub.commit({"a.yaml": model("x")})
    forge = '[bindings.forge]\nkind = "local"\nmax_open = 3\nmax_per_hour = 5\n'
    office = Office(tmp_path, binding(["x"], one.path) + forge + binding(["y"], two.path))
    office.look()
    shared = [site.trunk.shared for site in office.bindings.sites]
    assert [each.crowd.limits for each in shared if each] == [Limits(3, 5), Limits()]


def _forever(trunk: Trunk, interval: float, seen: Callable[[int], bool]) -> int:
    """Let a trunk look until ``seen`` (given the number of looks) says that it is enough; gives how many."""
    stop, count = threading.Event(), 0

    def touched(_: Touched) -> None:
        nonlocal count
        count += 1
        if seen(count):
            stop.set()
            trunk.want()

    trunk.forever(interval, stop, touched)
    return count


def test_a_storm_of_wakes_is_few_looks(tmp_path: Path) -> None:
    """Webhooks that come while a look goes on are one look after it, and there is a rest before that."""
    hub = Hub(tmp_path)
    hub.commit({"a.yaml": model("a")})
    office = Office(tmp_path, binding(["a"], hub.path))
    trunk, rests = office.bindings.sites[0].trunk, []

    class Resting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout)
            return super().wait(0)

    stop, count = Resting(), 0

    def touched(_: Touched) -> None:
        nonlocal count
        count += 1
        for _number in range(1000):
            trunk.want()
        if count == 3:
            stop.set()

    trunk.forever(600.0, stop, touched)
    assert count == 3
    assert len(rests) == 3
    assert all(rest is not None and rest > 0 for rest in rests)


def test_a_pass_that_pushed_something_does_not_wait_for_the_rest(tmp_path: Path) -> None:
    """Only webhooks have to be patient."""
    hub = Hub(tmp_path)
    hub.commit({"a.yaml": model("a")})
    office = Office(tmp_path, binding(["a"], hub.path))
    trunk = office.bindings.sites[0].trunk

    def asks(count: int) -> bool:
        trunk.want([ModelKey("a", "shelf")])
        return count == 3

    assert _forever(trunk, 600.0, asks) == 3


def test_a_bug_of_one_repository_is_no_end(tmp_path: Path) -> None:
    """An unexpected error is logged and counted, and the next look is tried."""
    hub = Hub(tmp_path)
    hub.commit({"a.yaml": model("a")})
    outcomes: list[str] = []
    office = Office(tmp_path, binding(["a"], hub.path))
    reconciler = office.bindings.sites[0].passes.reconciler
    stop = threading.Event()

    class Buggy:
        def read(self, head: str) -> frozenset[str]:
            raise KeyError(head)

    def looked(name: str, outcome: str) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 2:
            stop.set()
        trunk.want()

    broken: Any = Buggy()
    trunk = Trunk("x", reconciler, broken, lambda: 0.0, looked)
    trunk.forever(0.001, stop, lambda touched: None)
    assert outcomes == ["error", "error"]
    assert not trunk.answers
