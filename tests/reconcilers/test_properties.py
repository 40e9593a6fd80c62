"""The invariants, whatever people, jobs, servers and crashes do, in any order."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconcilers.actions import Propose
from reconcilers.causes import causes_in
from reconcilers.drafts import closed_because
from reconcilers.limits import Limits
from reconcilers.observe import Observer
from reconcilers.plan import plan
from specs.errors import InvalidManifest, Stalled, Transient
from specs.facts import PullState
from specs.manifest import INTENT_FIELDS, edit, parse
from specs.names import parse_episode
from specs.records import RunRecord
from specs.status import ModelStatus
from tests.support.builders import KEY, digest, manifest
from tests.support.data_stages import md5, pinned
from tests.support.fake_git import TRUNK
from tests.support.fakes import release_of
from tests.support.trials import live
from tests.support.wire import KilledError, Moment
from tests.support.world import ELSEWHERE, STEPPED, TEXT, WATCHED, World

EXAMPLES = settings().max_examples
THOROUGH = EXAMPLES > 100
"""The profile ``thorough`` asks for more; by default the machine is kept short."""
PICKS = st.integers(0, 3)
BROKEN = 4
"""A version of the data whose classes are others than those of the golden set."""
LOSABLE = ("comparisons", "differences", "evaluations", "exports", "imports", "validations")
MOMENTS = st.sampled_from(["before", "after"])


def killed() -> None:
    """End the process."""
    raise KilledError


@cache
def _serving_world(text: str) -> World:
    world = World(text).converge()
    world.merge()
    return world.converge()


def serving_world(text: str) -> World:
    """Give a world with a model that serves."""
    return _serving_world(text).fork()


class AnyOrder(RuleBasedStateMachine):
    """One model; people and faults act in any order, and so do passes."""

    OUTCOMES: ClassVar = ["ok", "ok", "ok", "killed", "hopeless"]

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.limits = Limits(2, 4)
        self.asked = 0
        self.strategy = ""
        """Of serving, as it comes back when a person takes the section in again."""
        self.reopened: set[int] = set()
        """Numbers of pull requests that a person reopened."""

    @initialize(
        auto_merge=st.sampled_from(["told", "untold", "never"]), reopens=st.booleans(),
        text=st.sampled_from([TEXT, ELSEWHERE, WATCHED, STEPPED]),
    )  # fmt: skip
    def world_has_its_ways(self, auto_merge: Any, reopens: bool, text: str) -> None:  # noqa: FBT001  named
        if text is not TEXT:
            self.world = World(text) if text is ELSEWHERE else serving_world(text)
            self.world.limits = Limits(2, 4)
            self.world.sources.latest = pinned(1)
            self.world.jobs.lab.elsewhere[md5(BROKEN)] = manifest("broken", names=["beer", "wine"])
        self.strategy = next(iter(re.findall(r"    strategy: .*\n", text)), "")
        self.world.forge.auto_merge = auto_merge
        self.world.forge.reopens = reopens

    # ------------------------------------------------------------------------------------------------- people
    @rule(epochs=st.sampled_from([2, 5, 8]))
    def edit_inputs(self, epochs: int) -> None:
        self.world.now += 60
        self.world.change(r"epochs: \d+", f"epochs: {epochs}")

    @rule(version=st.integers(1, BROKEN))
    def newer_data(self, version: int) -> None:
        self.world.sources.latest = pinned(version)

    @rule(trouble=st.sampled_from([None, Transient("DataSourceUnreachable", "no"), Stalled("DataMissing", "gone")]))
    def data_repository_goes_or_comes_back(self, trouble: Any) -> None:
        self.world.sources.trouble = trouble

    @precondition(lambda self: "onData" in self.world.text)
    @rule(follow=st.booleans())
    def follow_or_not(self, follow: bool) -> None:  # noqa: FBT001  hypothesis gives it by name
        self.world.change(r"onData: \w+", f"onData: {str(follow).lower()}")

    @rule(dynamic=st.booleans())
    def edit_export(self, dynamic: bool) -> None:  # noqa: FBT001  hypothesis gives it by name
        self.world.change(r"dynamic: \w+", f"dynamic: {str(dynamic).lower()}")

    @rule(floor=st.sampled_from(["0.9", "0.98", "0.999"]))
    def edit_gate(self, floor: str) -> None:
        self.world.change(r"min: [0-9.]+", f"min: {floor}")

    @rule()
    def suspend_or_go_on(self) -> None:
        suspended = "suspend: true" in self.world.text
        self.world.change(r"suspend: \w+", f"suspend: {str(not suspended).lower()}")

    @rule()
    def serve_or_not(self) -> None:
        served, bare = r"\n  serving:\n    export: onnx\n(    strategy: .*\n)?", "\n  # nothing serves\n"
        if re.search(served, self.world.text):
            self.world.change(served, bare)
        else:
            self.world.change(bare, "\n  serving:\n    export: onnx\n" + self.strategy)

    @precondition(lambda self: "    strategy:" in self.world.text)
    @rule(steps=st.sampled_from([
        "[{weight: 10, pause: 2s}]", "[{mirror: 50, pause: 2s}, {weight: 20, pause: 3s}, {weight: 50, pause: 4s}]",
    ]))  # fmt: skip
    def edit_steps(self, steps: str) -> None:
        self.world.change(r"steps: \[.*\]", f"steps: {steps}")

    @precondition(lambda self: self.world.release)
    @rule(how=st.sampled_from(["lift hold and deny", "remove", "unknown run", "unknown weights", "no previous"]))
    def edit_release_by_hand(self, how: str) -> None:
        value: Any = copy.deepcopy(dict(self.world.release))
        if how == "lift hold and deny":
            value = {name: part for name, part in value.items() if name not in ("hold", "deny")}
        elif how == "no previous":
            value.pop("previous", None)
        elif how == "remove":
            value = None
        else:
            value[how.removeprefix("unknown ")] = digest("nobody's")
        self.world.now += 60
        self.world.rewrite(edit(self.world.text, KEY, "spec.release", value))

    @precondition(lambda self: self.world.forge.opened())
    @rule(pick=PICKS)
    def merge(self, pick: int) -> None:
        opened = self.world.forge.opened()
        self.world.now += 60
        self.world.forge.merge(opened[pick % len(opened)].number)

    @precondition(lambda self: self.world.forge.opened())
    @rule(pick=PICKS)
    def close(self, pick: int) -> None:
        opened = self.world.forge.opened()
        self.world.forge.shut(opened[pick % len(opened)].number)

    @precondition(lambda self: self.world.forge.pulls)
    @rule(pick=PICKS)
    def reopen(self, pick: int) -> None:
        number = pick % len(self.world.forge.pulls) + 1
        self.reopened.add(number)
        self.world.forge.opened_again(number)

    @precondition(lambda self: self.world.branches())
    @rule(pick=PICKS)
    def commit_to_our_branch(self, pick: int) -> None:
        branches = self.world.branches()
        self.world.push_foreign(branches[pick % len(branches)])

    @precondition(lambda self: self.world.branches())
    @rule(pick=PICKS, closing=st.booleans())
    def delete_our_branch(self, pick: int, closing: bool) -> None:  # noqa: FBT001  hypothesis gives it by name
        branches = self.world.branches()
        branch = branches[pick % len(branches)]
        if closing:
            self.world.forge.delete_branch(branch)
        else:
            del self.world.git.heads[branch]

    @precondition(lambda self: self.world.forge.opened())
    @rule(pick=PICKS, base=st.sampled_from(["dev", TRUNK]))
    def retarget(self, pick: int, base: str) -> None:
        opened = self.world.forge.opened()
        self.world.forge.retarget(opened[pick % len(opened)].number, base)

    @rule(policy=st.sampled_from(["Never", "RollbackOnly", "WhenGatesPass"]))
    def edit_policy(self, policy: str) -> None:
        line = f"\n  policy: {{autoMerge: {policy}}}\n\n  training:"
        self.world.rewrite(re.sub(r"(\n  policy: .*)?\n\n  training:", line, self.world.text))

    @precondition(lambda self: self.world.forge.asked)
    @rule(pick=PICKS, merges=st.booleans())
    def forge_merges_or_is_told_not_to(self, pick: int, merges: bool) -> None:  # noqa: FBT001  hypothesis names it
        forge = self.world.forge
        number = forge.asked[pick % len(forge.asked)]
        self.world.now += 60
        if merges and forge.pulls[number - 1].auto_merge is not False:
            forge.merge(number)
        else:
            forge.turn_off(number)

    @precondition(lambda self: self.world.merged())
    @rule()
    def revert_the_last_release(self) -> None:
        world = self.world
        world.now += 60
        before = dict(world.git.heads)
        if world.revert(world.merged()[-1]):
            try:
                parse(world.text, "", KEY)
            except InvalidManifest:  # two undoings made nonsense of the file, as they can
                world.git.heads = before

    # ------------------------------------------------------------------------------------------------- the rest of it
    @precondition(lambda self: self.world.jobs.running())
    @rule(pick=PICKS, outcome=st.sampled_from(OUTCOMES))
    def job_ends(self, pick: int, outcome: str) -> None:
        running = self.world.jobs.running()
        self.world.jobs.finish(running[pick % len(running)], outcome)

    @precondition(lambda self: self.world.artifacts())
    @rule(pick=PICKS)
    def file_will_not_load(self, pick: int) -> None:
        artifacts = self.world.artifacts()
        self.world.servers.bad = {artifacts[pick % len(artifacts)]}

    @rule()
    def files_load_again(self) -> None:
        self.world.servers.bad = set()

    @rule()
    def server_restarts(self) -> None:
        self.world.servers.restart()

    @precondition(lambda self: any(k.startswith(LOSABLE) for k in self.world.store.records))
    @rule(pick=PICKS)
    def record_is_lost(self, pick: int) -> None:
        made = sorted(k for k in self.world.store.records if k.startswith(LOSABLE))
        del self.world.store.records[made[pick % len(made)]]

    @rule(seconds=st.sampled_from([1, 30, 400]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds

    @precondition(lambda self: "monitoring:" in self.world.text)
    @rule(
        hours=st.sampled_from([[0.0], [0.0, 0.0], [0.1], [0.1, 0.1], [0.3, 0.3], [0.1, 0.0, 0.1], [0.1] * 26]),
        n=st.sampled_from([1000, 1000, 10]),
    )  # fmt: skip
    def traffic_goes_by(self, hours: list[float], n: int) -> None:
        self.world.hours(*hours, requests=n)

    @precondition(lambda self: self.world.text.count("monitoring:") + self.world.text.count("canary:"))
    @precondition(lambda self: self.world.release)
    @rule(errors=st.sampled_from([0.01, 0.3]))
    def release_had_traffic(self, errors: float) -> None:
        """The release that is pinned was asked a lot while it was on trial, and so was the one before it."""
        trials, release = self.world.traffic.trials, self.world.release
        trials.setdefault(release["version"], live(errors))
        if release.get("previous"):
            trials.setdefault(release["previous"]["version"], live())

    @rule(trouble=st.sampled_from(["", "", "Prometheus does not answer"]), silent=st.booleans())
    def traffic_is_counted_or_not(self, trouble: str, silent: bool) -> None:  # noqa: FBT001  hypothesis names it
        self.world.traffic.trouble, self.world.traffic.silent = trouble, silent

    @precondition(lambda self: "triggers:" in self.world.text and "monitoring:" in self.world.text)
    @rule(triggers=st.sampled_from([
        "{onSignal: [errors]}", "{onSignal: [{allOf: [errors, faults]}]}", '{schedule: "0 0 * * *"}',
        "{onSignal: [errors, faults], cooldown: 6h}", "{onSignal: [faults], require: {newLabels: 13}}",
        '{schedule: "bad * * * *"}',
    ]))  # fmt: skip
    def edit_triggers(self, triggers: str) -> None:
        self.world.change(r"\n  triggers: .*", f"\n  triggers: {triggers}")

    # ------------------------------------------------------------------------------------------------- passes
    @rule()
    def one_pass(self) -> None:
        self.checked_pass()

    @rule(effect=st.integers(1, 4), moment=MOMENTS)
    def pass_that_is_killed(self, effect: int, moment: Moment) -> None:
        self.interrupted(effect, moment, killed)

    @rule(effect=st.integers(1, 4), moment=MOMENTS)
    def two_passes_at_once(self, effect: int, moment: Moment) -> None:
        self.interrupted(effect, moment, self.world.one_pass)

    @rule()
    def everything_settles(self) -> None:
        """Convergence, and then silence: three further passes, by new controllers, have no effect at all."""
        self.world.converge()
        assert self.world.quiet(), self.world.wire.log[-6:]

    @rule()
    def status_is_lost(self) -> None:
        """One pass says the same again, as far as the windows that are known reach back."""
        world = self.world
        world.traffic.silent, world.traffic.trouble = False, ""
        world.converge()
        before, hours = world.status, sorted(start for version, start in world.traffic.windows)[-24:]
        began = [parse_episode(signal.episode) for signal in before.signals if signal.state == "Firing"]
        if any(each is None or each[2] < hours[0] for each in began):
            return  # silence, or a long episode: its beginning is out of sight
        world.status = ModelStatus()
        self.watched_pass()
        told = [[(c.type, c.status, c.reason) for c in status.conditions] for status in (before, world.status)]
        assert told[0] == told[1]
        assert [s.episode for s in before.signals] == [s.episode for s in world.status.signals]

    def interrupted(self, effect: int, moment: Moment, do: Callable[[], object]) -> None:
        wire = self.world.wire
        at, armed = len(wire.log) + effect, [True]

        def script(number: int, when: Moment, _name: str) -> None:
            if armed and (number, when) == (at, moment):
                armed.clear()
                do()

        wire.script = script
        with contextlib.suppress(KilledError):
            self.watched_pass()
        wire.script = None

    def checked_pass(self) -> None:
        """Make a pass, and ask the plan of it once more by hand: it is a pure function that edits its field only."""
        world = self.world
        ports = world.reconciler().ports
        observer = Observer(ports)
        source = world.source()
        spec = parse(source.text, source.path, KEY).model.spec
        observed = observer.observe(source, spec, observer.share(), world.status, world.now)
        before = copy.deepcopy((spec, observed))
        first, second = (plan(KEY, spec, observed, world.now) for _ in range(2))
        assert first == second
        assert (spec, observed) == before
        for action in first.intended:
            if isinstance(action, Propose):
                fields = [field for field, _ in action.proposal.edits]
                allowed = INTENT_FIELDS[action.proposal.intent]
                assert all(field == allowed or field.startswith(f"{allowed}.") for field in fields)
        self.watched_pass()

    def watched_pass(self) -> None:
        """Make a pass: the last good one keeps serving, unless trunk names no release any more."""
        world, before = self.world, self.world.serving
        try:
            world.one_pass()
        finally:
            asked_for = world.release and "\n  serving:" in world.text
            assert world.serving != (None, None) or before == (None, None) or not asked_for

    # ------------------------------------------------------------------------------------------------- invariants
    @invariant()
    def same_inputs_train_once(self) -> None:
        """No training begins whose run is recorded, and no job name stands for two trainings."""
        assert self.world.jobs.needless == []

    @invariant()
    def nothing_is_trained_on_data_that_git_does_not_pin(self) -> None:
        """A run has a digest among its inputs; what is known to be broken is neither trained on nor proposed."""
        runs = [RunRecord.decode(text) for key, text in self.world.store.records.items() if key.startswith("runs/")]
        assert all(run.inputs["data"] not in (None, md5(BROKEN)) for run in runs)
        assert not [pull.title for pull in self.world.forge.pulls if f"train on data v{BROKEN}" in pull.title]

    @invariant()
    def only_merged_releases_serve(self) -> None:
        """Whatever ever answered was named by ``spec.release`` of some commit of trunk."""
        git = self.world.git
        named: set[object] = set()
        for _, commit in git.line(git.heads[TRUNK]):
            for text in (text for path, text in commit.tree.items() if path.endswith(".yaml")):
                release = release_of(text)
                for pin in (release, release.get("previous") or {}):
                    named |= set(pin.get("exports", {}).values())
        assert self.world.servers.ever <= named

    @invariant()
    def at_most_one_release_is_beside_another(self) -> None:
        """One answers, at most one newer one is beside it, and none is asked to take more than git ever said."""
        for state in self.world.servers.states.values():
            assert state.canary is None or (state.ready and state.canary.version > (state.version or 0))
        assert all(old < new for old, new, _ in self.world.servers.shares)

    @invariant()
    def one_open_proposal_of_each_content(self) -> None:
        """No two open pull requests ask the same."""
        branches = [pull.branch for pull in self.world.forge.opened()]
        assert len(branches) == len(set(branches))

    @invariant()
    def one_question_for_each_cause(self) -> None:
        """However readings flap: what people answered is not asked again, and one retraining at most is asked for."""
        git, asked = self.world.git, [p for p in self.world.forge.pulls if "/retrain/" in p.branch]
        for cause in {name for pull in asked for name in causes_in(pull.body)}:
            *earlier, _ = [p for p in asked if causes_in(p.body) == (cause,)] or [None]
            for pull in earlier:
                answered = pull is not None and pull.state is not PullState.OPEN and closed_because(pull) is None
                assert not answered or (pull is not None and pull.number in self.reopened)
        ours = [p for p in asked if p.state is PullState.OPEN and p.base == TRUNK and p.branch in git.heads]
        ours = [p for p in ours if p.number not in self.reopened]
        assert len([p for p in ours if not git.is_foreign(git.heads[TRUNK], git.heads[p.branch])]) <= 1

    @invariant()
    def no_more_proposals_than_a_repository_takes(self) -> None:
        """Rollbacks aside, no hour sees more of them opened than the limit."""
        opened = sorted(p.opened for p in self.world.forge.pulls if "/rollback/" not in p.branch)
        most = self.world.limits.max_per_hour
        assert all(later - first >= 3600 for first, later in zip(opened, opened[most:], strict=False))

    @invariant()
    def forge_merges_what_git_says_it_may(self) -> None:
        """Nobody is asked to merge anything while ``spec.policy.autoMerge`` is Never."""
        asked = [self.world.forge.pulls[number - 1].branch for number in self.world.forge.asked[self.asked :]]
        self.asked += len(asked)
        allowed = {"RollbackOnly": ["rollback"], "WhenGatesPass": ["rollback", "promote"]}
        policy = next((word for word in allowed if word in self.world.text), "")
        assert all(branch.split("/")[1] in allowed.get(policy, []) for branch in asked)

    @invariant()
    def proposals_change_their_field_and_add_evidence_only(self) -> None:
        """A branch of ours that nobody else touched differs from its base in its intent's field and evidence files."""
        git = self.world.git
        for pull in self.world.forge.opened():
            head = git.heads.get(pull.branch)
            if head is None or git.is_foreign(git.heads[TRUNK], head):
                continue
            commit = git.commits[head]
            base = git.commits[commit.parents[0]].tree
            changed = {path for path in {*base, *commit.tree} if base.get(path) != commit.tree.get(path)}
            assert all(path.startswith(("evidence/", "models/")) for path in changed)
            texts = [tree["models/shelf.yaml"].decode() for tree in (base, commit.tree)]
            specs = [parse(text, "", KEY).model.spec for text in texts]
            section, _, rest = INTENT_FIELDS[pull.branch.split("/")[1]].removeprefix("spec.").partition(".")
            bare = [spec.model_dump(mode="json") for spec in specs]
            for each in bare:
                (each[section] if rest else each)[rest or section] = None
            assert bare[0] == bare[1]

    @invariant()
    def versions_are_never_used_twice(self) -> None:
        """Two merged proposals never have the same version."""
        merged = [p for p in self.world.forge.pulls if p.state is PullState.MERGED and p.base == TRUNK]
        titles = [p.title.split(" (")[0] for p in merged]
        promoted = [title for title in titles if "promote" in title]
        assert len(promoted) == len(set(promoted))


AnyOrder.TestCase.settings = settings(
    max_examples=EXAMPLES if THOROUGH else 50,
    stateful_step_count=80 if THOROUGH else 40,
)
TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.__doc__ = "Nothing that people and faults do, in any order, breaks an invariant."
