"""The whole world in memory: one model, the loop that looks after it, and what people do."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from reconcilers.limits import Limits
from reconcilers.loop import Reconciler, Result
from reconcilers.world import Ports
from specs.facts import SourcedSpec
from specs.names import BRANCH_PREFIX
from specs.records import ArtifactRecord, artifact_key
from specs.status import ModelStatus
from tests.support.builders import GOLDEN, NAME, NOW, PATH, TRAIN
from tests.support.data_stages import BARE, md5
from tests.support.fake_git import TRUNK, FakeForge, FakeRepository
from tests.support.fakes import (
    FakeCalendar,
    FakeJobs,
    FakeServers,
    FakeSource,
    FakeSources,
    FakeStore,
    FakeTraffic,
    release_of,
)
from tests.support.wire import Wire

TEXT = f"""\
# The model that watches the shelves.
apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {{name: shelf, namespace: retail}}
spec:
  task: classify
  suspend: false   # true stops everything

  data:
    train: {{uri: {{url: "store://train", digest: "{TRAIN.digest()}"}}}}
    golden: {{uri: {{url: "store://golden", digest: "{GOLDEN.digest()}"}}}}

  training:
    model: yolo26n-cls.yaml
    args: {{epochs: 2, imgsz: 32}}   # more is better

  exports:
    - {{name: onnx, format: onnx, args: {{dynamic: false}}}}

  gates:
    - {{name: floor, metric: metrics/accuracy_top1, min: 0.95}}

  serving:
    export: onnx
"""


ELSEWHERE = re.sub(
    r"train: .*",
    f"""train:
      dvc:
        repoURL: {BARE["dvc"]["repoURL"]}
        path: {BARE["dvc"]["path"]}   # of this team
        targetRevision: main""",
    TEXT.replace("epochs: 2", "epochs: 5"),
) + "  triggers: {onData: true}\n"
"""A model whose training data lies in a DVC repository, and is not pinned yet."""


WATCHED = re.sub(
    r"train: .*", f"train: {{dvc: {{repoURL: {BARE['dvc']['repoURL']}, path: {BARE['dvc']['path']}, "
    'targetRevision: v1, digest: "' + md5(1) + '"}}', TEXT.replace("epochs: 2", "epochs: 5"),
) + """\
  monitoring:
    window: 1h
    minSamples: 100
    forWindows: 2
    signals:
      - {name: errors, type: ErrorRate, max: 0.05}
      - {name: faults, type: ErrorRate, max: 0.2}
  triggers: {onSignal: [errors, faults]}
"""
"""A model whose live traffic is watched, and whose data has versions that only a signal asks for."""


STEPPED = re.sub(
    r"\n    export: onnx\n",
    "\n    export: onnx\n    strategy: {canary: {steps: [{mirror: 50, pause: 2s}, {weight: 10, pause: 3s}, "
    "{weight: 50, pause: 4s}]}}\n",
    TEXT.replace("epochs: 2", "epochs: 5"),
)
"""A model whose releases take over in steps, within seconds."""


class World:
    """Everything there is, with one model whose spec was just merged. ``copy.deepcopy`` makes another one of it."""

    def __init__(self, text: str = TEXT) -> None:
        self.now = NOW
        self.wire = Wire()
        self.git = FakeRepository(self.wire)
        self.forge = FakeForge(self.wire, self.git, self.clock)
        self.store = FakeStore()
        self.jobs = FakeJobs(self.wire, self.store, self.clock)
        self.servers = FakeServers(self.wire, self.clock, self.engine)
        self.sources = FakeSources()
        self.traffic = FakeTraffic()
        self.calendar = FakeCalendar()
        self.status = ModelStatus()
        self.limits = Limits()
        self.git.person_commits(TRUNK, {PATH: text.encode()}, "Add the shelf model", int(self.now))

    def clock(self) -> float:
        """Give the time; it stands still until a test moves it."""
        return self.now

    def fork(self) -> World:
        """Give a world of its own that is like this one."""
        return copy.deepcopy(self)

    # ------------------------------------------------------------------------------------------------- the loop
    def reconciler(self) -> Reconciler:
        """Give a controller that was just started."""
        ports = Ports(
            self.store, self.git, self.forge, self.jobs, self.servers, data=self.sources, traffic=self.traffic,
            calendar=self.calendar,
        )  # fmt: skip
        return Reconciler(ports, self.clock, limits=self.limits)

    def one_pass(self, reconciler: Reconciler | None = None) -> Result:
        """Look once, with a controller that was just started unless one is given."""
        loop = reconciler or self.reconciler()
        shared = loop.share()
        result = loop.run(self.source(), shared, self.status)
        self.status = result.status
        return result

    def source(self) -> SourcedSpec:
        """Give the spec as it is on trunk."""
        source = FakeSource(self.git)
        source.refresh()
        assert source.found is not None
        return source.found

    def converge(self, reconciler: Reconciler | None = None, limit: int = 60) -> World:
        """Look again and again, jobs going well, until nothing is left to do."""
        loop = reconciler or self.reconciler()
        for _ in range(limit):
            result = self.one_pass(loop)
            running = self.jobs.running()
            for name in running:
                self.jobs.finish(name)
            if not result.acted and not running:
                if result.after <= 0:
                    return self
                self.now += result.after
        raise AssertionError(f"not settled after {limit} passes: {self.wire.log[-12:]}")

    def quiet(self, passes: int = 3) -> bool:
        """Whether that many further passes do nothing at all."""
        before = len(self.wire.log)
        for _ in range(passes):
            self.one_pass()
        return len(self.wire.log) == before

    # ------------------------------------------------------------------------------------------------- people
    @property
    def text(self) -> str:
        """The manifest on trunk."""
        return self.git.commits[self.git.heads[TRUNK]].tree[PATH].decode()

    @property
    def release(self) -> Mapping[str, Any]:
        """``spec.release`` on trunk."""
        return release_of(self.text.encode())

    def change(self, pattern: str, new: str) -> str:
        """Merge a person's edit of the manifest, and give the commit."""
        text, count = re.subn(pattern, new, self.text)
        assert count == 1, (pattern, count)
        return self.rewrite(text)

    def rewrite(self, text: str) -> str:
        """Merge a person's new text of the manifest, and give the commit."""
        tree = {**self.git.commits[self.git.heads[TRUNK]].tree, PATH: text.encode()}
        return self.git.person_commits(TRUNK, tree, "Change the model", int(self.now))

    def revert(self, sha: str | None = None) -> bool:
        """``git revert`` of a commit of trunk, by default the newest; False where that conflicts."""
        head = self.git.heads[TRUNK]
        wrong = self.git.commits[sha or head]
        tree = self.git.merge_three(wrong.tree, self.git.commits[head].tree, self.git.commits[wrong.parents[0]].tree)
        if tree is None:
            return False
        self.git.person_commits(TRUNK, tree, f"Revert {wrong.message}", int(self.now))
        return True

    def merged(self) -> list[str]:
        """Give the merge commits of our pull requests, oldest first."""
        pulls = sorted(self.forge.pulls, key=lambda pull: (pull.closed, pull.number))
        return [pull.merge_commit for pull in pulls if pull.merge_commit and pull.base == TRUNK]

    def branches(self) -> list[str]:
        """Give the names of our branches."""
        return sorted(self.git.branches(BRANCH_PREFIX))

    def merge(self) -> bool:
        """Merge the newest open proposal."""
        opened = self.forge.opened()
        return bool(opened) and self.forge.merge(opened[-1].number)

    def hours(self, *errors: float, requests: int = 1000) -> None:
        """Let hours of traffic go by, each with a share of errors, as the release that answers has them."""
        version = self.serving[0] or 0
        for share in errors:
            self.traffic.had(version, self.now - self.now % 3600, 3600.0, errors=share, requests=requests)
            self.now += 3600

    def push_foreign(self, branch: str) -> None:
        """Commit to a branch of ours."""
        tree = dict(self.git.commits[self.git.heads[branch]].tree)
        self.git.person_commits(branch, {**tree, "NOTES": b"mine"}, "Add notes", int(self.now))

    # ------------------------------------------------------------------------------------------------- answers
    @property
    def serving(self) -> tuple[int | None, str | None]:
        """Version and file that answer."""
        state = self.servers.state(NAME)
        return (state.version, state.file) if state and state.ready else (None, None)

    def facts(self) -> dict[str, object]:
        """Give all that may be compared: records, pull requests, branches, trunk, serving, status without its times."""
        return {
            "records": sorted(self.store.records),
            "pulls": list(self.forge.pulls),
            "heads": dict(self.git.heads),
            "serving": dict(self.servers.states),
            "needless": list(self.jobs.needless),
            "status": [(c.type, c.status, c.reason, c.message) for c in self.status.conditions],
            "summary": self.status.model_copy(update={"conditions": []}),
        }

    def engine(self, file: str) -> dict[str, str]:
        """Give the kind of device that a file of the store works on alone."""
        known = self.store.read(artifact_key(file))
        return ArtifactRecord.decode(known).runtime if known else {}

    def artifacts(self) -> list[str]:
        """Give the digests of all exports that were ever made."""
        names = [key.split("/")[1] for key in sorted(self.store.records) if key.startswith("artifacts/")]
        return [f"sha256:{name.removesuffix('.json')}" for name in names]
