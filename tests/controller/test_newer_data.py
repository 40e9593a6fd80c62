"""A model's data goes on, its agent asks, a person merges: with real git, forge, store and jobs; and all is proved."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.checkout import Checkout
from adapters.git_changes import changeset
from reconcilers.loop import Reconciler
from specs.claims import Standing, judge
from specs.errors import Transient
from specs.facts import PullRequest
from tests.support.data_stages import BARE, md5, pinned
from tests.support.fakes import FakeSources
from tests.support.gitrepo import git
from tests.support.place import SPEC, Place
from tests.support.typed import said, trunkline

TRAIN = f"train: {json.dumps(BARE)}   # the shelf team's"
BEGINNING = re.sub(r"train: .*", TRAIN, SPEC) + "  triggers: {onData: true}\n"


class Farm(Place):
    """A place whose model's data lies elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.sources = FakeSources(pinned(1))
        super().__init__(folder)

    def restart(self) -> object:  # type: ignore[override]
        """Begin with a new agent that asks this data repository."""
        agent = super().restart()
        ports = replace(self.app.ports, data=self.sources)
        agent.passes.reconciler = Reconciler(ports, lambda: time.time() + self.skew)
        return agent

    def begin(self) -> None:
        """Put the model on the tracked branch."""
        self.write(BEGINNING.replace("GOLDEN", self.dataset("b")))

    def merged(self, pull: PullRequest) -> None:
        """Merge as a person, after asking whether it is what it claims to be."""
        objects = Checkout(self.hub.path)
        change = changeset(objects, self.hub.head(), objects.resolve(pull.head), pull.branch)
        proof = judge(change, lambda blob: objects.blobs([blob])[blob])
        assert proof.standing is Standing.PROVED, proof.sentences
        self.forge().merge(pull.number)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """Give one, with its model on trunk."""
    made = Farm(tmp_path)
    made.begin()
    yield made
    made.stop()


def test_data_travels_by_pull_requests_to_what_serves_and_is_proved(farm: Farm) -> None:
    """Pin, release, newer version, release: each asked for, each merged by a person, and the past holds up."""
    pin = farm.proposed()
    assert pin.title == "default/digits: pin training data"
    assert farm.condition("DataReady").reason == "DataNotPinned"
    farm.assert_quiet()
    farm.merged(pin)
    farm.until("v1 is proposed", lambda: farm.reason("Proposed") == "PullRequestOpen")
    farm.merged(farm.proposed())
    farm.until("v1 serves", lambda: farm.reason("Ready") == "AsDesired")

    farm.sources.latest = pinned(2)
    newer = farm.proposed()
    assert newer.title == "default/digits: train on data v2 (+1 −1 images)"
    shown = git(farm.hub.path, "ls-tree", "-r", "--name-only", newer.branch)
    assert {path.rpartition("/")[2] for path in shown.splitlines() if "/data/" in path} == {
        "data.json", "report.md", "difference.jpg",
    }  # fmt: skip
    farm.assert_quiet()
    farm.merged(newer)
    assert "# the shelf team's" in farm.read()
    farm.until("v2 is proposed", lambda: farm.reason("Proposed") == "PullRequestOpen")
    promote = farm.proposed()
    assert "Every picture and label was looked at" in promote.body
    farm.merged(promote)
    farm.until("v2 serves", lambda: farm.status().serving and farm.status().serving.version == 2)
    farm.settle()

    evidence = json.loads(farm.read("evidence/default.digits/v2/evidence.json"))
    assert evidence["data"]["train"]["source"]["dvc"]["digest"] == evidence["inputs"]["data"] == md5(2)
    assert evidence["data"]["train"]["imported"]["manifest"] == evidence["run"]["dataset"]
    assert evidence["data"]["validation"]["train_digest"] == evidence["run"]["dataset"]
    told = said(farm.folder, "verify-history", "--deep", "--strict", "--require-pull-request")
    assert "nothing is wrong" in told
    assert f"md5:{md5(2)[4:16]}… is the training data as git names it of default/digits v2" in said(
        farm.folder, "why", md5(2)[4:36]
    )  # fmt: skip


def test_data_repository_that_is_down_holds_nothing_up(farm: Farm) -> None:
    """The pin waits, and says for what; once it was made, training, releasing and serving need nobody."""
    farm.sources.trouble = Transient("DataSourceUnreachable", "the data repository does not answer")
    farm.passes(3)
    assert farm.condition("Reconciling").reason == "DataSourceUnreachable"
    farm.sources.trouble = None
    pin = farm.proposed()
    farm.sources.trouble = Transient("DataSourceUnreachable", "the data repository does not answer")
    farm.merged(pin)
    farm.until("v1 is proposed", lambda: farm.reason("Proposed") == "PullRequestOpen")
    farm.merged(farm.proposed())
    farm.until("v1 serves", lambda: farm.reason("Ready") == "AsDesired")
    assert farm.reason("DataCurrent") == "DataSourceUnreachable"
    farm.assert_quiet()


def test_somebody_elses_words_in_the_evidence_are_noticed(farm: Farm) -> None:
    """Evidence that names another data set than the inputs, or another import, is a finding."""
    farm.merged(farm.proposed())
    farm.until("v1 is proposed", lambda: farm.reason("Proposed") == "PullRequestOpen")
    farm.forge().merge(farm.proposed().number)
    farm.until("v1 serves", lambda: farm.reason("Ready") == "AsDesired")
    key = next(key for key in farm.store.list("imports/"))
    text = farm.store.read(key)
    assert text is not None
    (farm.folder / "store" / key).chmod(0o644)
    (farm.folder / "store" / key).write_bytes(text.replace(b'"images":3', b'"images":4'))
    done = trunkline(farm.folder, "verify-history", "--json")
    assert done.exit_code == 1
    assert [each["code"] for each in json.loads(done.stdout)["findings"]] == ["RecordDiffers"]
