"""A place where the agent works for real: git, forge, store, jobs and server; only the learning is pretended.

The agent runs in the test's own process, pass by pass, so that a test says when it looks and sees what it did.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from adapters.forge_local import LocalForge
from adapters.store import Store
from controller import wiring
from controller.agent import Agent
from controller.passes import Passes
from controller.settings import load
from controller.statuses import Statuses
from reconcilers.loop import Reconciler
from specs.facts import PullRequest, PullState
from specs.modelspec import ModelKey
from specs.records import DatasetManifest, FileEntry, dataset_key
from specs.status import Condition, ModelStatus
from tests.support.gitrepo import PERSON, Hub, git
from tests.support.jobs_at_once import JobsAtOnce

ROOT = Path(__file__).parents[2]
KEY = ModelKey("default", "digits")
FILE = "digits.yaml"
SPEC = """\
# a person's model
apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {name: digits}
spec:
  task: classify
  data:
    train: {uri: {url: "store://train", digest: "TRAIN"}}
    golden: {uri: {url: "store://golden", digest: "GOLDEN"}}
  training:
    model: yolo26n-cls.yaml
    args: {epochs: 8, imgsz: 32}
  exports:
    - {name: onnx, format: onnx, args: {dynamic: true}}
  gates:
    - {name: floor, metric: metrics/accuracy_top1, min: 0.9}
  serving: {export: onnx}
"""


class Place:
    """A folder with settings, repository and store, the person's clone, and an agent.

    ``tables`` are more settings, as TOML. Jobs of the kinds in ``real`` are done in earnest, the others are pretended;
    with ``at_once`` in the test's own process, for stories that are not about jobs.
    """

    def __init__(
        self, folder: Path, *, tables: str = "", real: Sequence[str] = (), at_once: bool = False
    ) -> None:  # fmt: skip
        self.folder, self._at_once = folder, at_once
        self.log = folder / "log"
        self.log.mkdir(parents=True)
        self.hub = Hub(folder)
        self.store = Store(str(folder / "store"))
        surroundings = ("env", f"STORY_LOG={self.log}", f"STORY_REAL={' '.join(real)}", f"PYTHONPATH={ROOT}")
        jobs = json.dumps((*surroundings, sys.executable, "-m", "tests.support.story_workload"))
        server = json.dumps((*surroundings, sys.executable, "-m", "workloads.serve"))
        (folder / "trunkline.toml").write_text(
            'repository = "hub.git"\nstore = "store"\nstate = "state"\nparallel_jobs = 2\n'
            f"workload_command = {jobs}\nserver_command = {server}\n{tables}"
        )
        self.skew = 0.0
        """Seconds by which the agent's clock is ahead, so that nobody waits for pauses between attempts."""
        self.restart()

    def restart(self) -> Agent:
        """Begin with a new agent that remembers nothing."""
        self.app = wiring.build(load(self.folder, {}))
        self.statuses = Statuses(self.folder / "state/status")
        ports = replace(self.app.ports, jobs=JobsAtOnce(self.store)) if self._at_once else self.app.ports
        reconciler = Reconciler(ports, lambda: time.time() + self.skew)
        self.agent = Agent(Passes(reconciler, self.statuses), self.app.source, self.app.servers, self.statuses)
        return self.agent

    def spec(self, *changes: tuple[str, str], train: str = "a", golden: str = "b") -> str:
        """Give the model's file with its data pinned, after changes."""
        text = SPEC.replace("TRAIN", self.dataset(train)).replace("GOLDEN", self.dataset(golden))
        for old, new in changes:
            assert text.count(old) == 1, (old, text)
            text = text.replace(old, new)
        return text

    def dataset(self, letters: str, names: tuple[str, ...] = ("x", "y")) -> str:
        """Put a data set of one picture a letter into the store; give its digest."""
        files = [
            FileEntry(path=f"x/{letter}.png", size=1, digest=self.store.put_blob(letter.encode())) for letter in letters
        ]
        manifest = DatasetManifest(
            task="classify", names=list(names), images=len(files), class_counts={names[0]: len(files)}, files=files
        )
        self.store.create(dataset_key(manifest.digest()), manifest.encode())
        return manifest.digest()

    def write(self, files: dict[str, str | bytes | None] | str) -> str:
        """Put files (or the model's own) on the tracked branch as a person; give the commit."""
        if self.hub.heads():
            git(self.hub.clone, "fetch", "-q", "origin")
            git(self.hub.clone, "checkout", "-q", "-B", "main", "origin/main")
        return self.hub.commit({FILE: files} if isinstance(files, str) else files, "A person's change")

    def read(self, path: str = FILE, ref: str = "main") -> str:
        """Give a file of a branch."""
        return git(self.hub.path, "show", f"{ref}:{path}") + "\n"

    def change(self, old: str, new: str) -> None:
        """Replace one thing in the model's file on the tracked branch."""
        text = self.read()
        assert text.count(old) == 1, (old, text)
        self.write(text.replace(old, new))

    def passes(self, count: int = 1) -> None:
        """Let the agent look."""
        for _ in range(count):
            self.agent.once()

    def until(self, what: str, true: Callable[[], object], seconds: float = 60) -> None:
        """Let the agent look until something is so."""
        give_up = time.monotonic() + seconds
        while True:
            self.passes()
            if true():
                return
            assert time.monotonic() < give_up, f"never: {what}; {self.status().summary}"
            time.sleep(0.05)

    def settle(self) -> None:
        """Let the agent look until it says that nothing is left to do."""
        give_up = time.monotonic() + 60
        while self.agent.once():
            assert time.monotonic() < give_up, f"never settled: {self.status().summary}"
            time.sleep(0.05)

    def status(self, key: ModelKey = KEY) -> ModelStatus:
        """Give the status of a model."""
        return self.statuses.read(key)

    def condition(self, type_: str, key: ModelKey = KEY) -> Condition:
        """Give a condition that must be there."""
        found = {str(c.type): c for c in self.status(key).conditions}
        assert type_ in found, found
        return found[type_]

    def reason(self, type_: str) -> str:
        """Give the reason of a condition, empty where there is none."""
        return next((c.reason for c in self.status().conditions if c.type == type_), "")

    def forge(self) -> LocalForge:
        """The forge as the person sees it."""
        return LocalForge(self.hub.path, actor=PERSON)

    def open_pulls(self) -> list[PullRequest]:
        """Give the open pull requests."""
        return [pull for pull in self.forge().list("") if pull.state is PullState.OPEN]

    def proposed(self) -> PullRequest:
        """Wait for the one open proposal, and for the agent to be content with it."""
        self.until("something is proposed", self.open_pulls)
        self.settle()
        (pull,) = self.open_pulls()
        return pull

    def released(self) -> int:
        """Promote the candidate as a person, and wait until it serves; give the version."""
        self.forge().merge(self.proposed().number)
        self.until("it serves", lambda: self.reason("Proposed") == "CandidateReleased"
                   and self.reason("Serving") == "ReleaseServing")  # fmt: skip
        serving = self.status().serving
        assert serving is not None
        assert serving.version is not None
        return serving.version

    def jobs(self, kind: str = "") -> list[str]:
        """Give every start of a job, or of those of a kind, oldest first."""
        file = self.log / "jobs"
        return [job for job in file.read_text().splitlines() if job.startswith(kind)] if file.exists() else []

    def world(self) -> dict[str, object]:
        """Give what a pass could have an effect on."""
        status = self.folder / "state/status"
        return {
            "refs": git(self.hub.path, "for-each-ref"),
            "store": sorted(self.store.list()),
            "jobs": self.jobs(),
            "statuses": {p.name: p.stat().st_mtime_ns for p in status.iterdir()} if status.exists() else {},
        }

    def assert_quiet(self) -> None:
        """Say that three more passes have no effect at all, nor has a new agent's first."""
        self.passes()  # the one that writes down what the one before it did
        before = self.world()
        self.passes(3)
        assert self.world() == before
        self.restart().once()
        assert self.world() == before

    def blob(self, digest: str) -> Path:
        """Where the store keeps a file."""
        return self.folder / "store/blobs/sha256" / digest.removeprefix("sha256:")

    def tamper(self, digest: str) -> None:
        """Change a stored file behind the store's back."""
        path = self.blob(digest)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.chmod(0o644)
        path.write_bytes(bytes(data))
        assert hashlib.sha256(bytes(data)).hexdigest() != path.name

    def stop(self) -> None:
        """End all jobs and the server."""
        for kind in ("train", "evaluate", "export"):
            (self.log / f"hold-{kind}").unlink(missing_ok=True)
        self.app.jobs.stop_all(grace=1)
        self.app.servers.stop(grace=1)
