"""The operator lets in what others reviewed, says so in the status, and judges anew when more is required."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.forge_local import LocalForge
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]


def test_only_what_came_by_a_pull_request_runs(tmp_path: Path) -> None:
    """A push starts nothing. What was merged does, and is named; a model at rest is judged anew under new rules."""
    with Cluster(tmp_path, settings="[provenance]\nrequire_pull_request = true\n") as cluster:
        person = cluster.person
        cluster.start()
        person.write(person.spec())
        cluster.until("it is refused", lambda: cluster.reason("SourceVerified") == "NoPullRequest")
        assert cluster.reason("Stalled") == "NoPullRequest"
        cluster.settle()
        assert cluster.jobs_run() == {}

        text = person.spec(("epochs: 8", "epochs: 9"))
        person.hub.commit({"digits.yaml": text}, branch="longer", start="origin/main")
        forge = LocalForge(person.hub.path, actor=("Ada", "ada@example.com"))
        forge.merge(forge.open(branch="longer", title="Train longer", body="").number)
        cluster.until("v1 is proposed", person.pulls)
        assert _pull_request(cluster) == 1
        person.merge()
        cluster.until("v1 serves", lambda: cluster.serves(1))
        cluster.until("it is at rest", lambda: cluster.reason("Ready") == "AsDesired")
        assert _pull_request(cluster) == 2

        cluster.kill()
        cluster.settings += "approvals = 1\n"
        cluster.start()
        cluster.until("it is refused", lambda: cluster.reason("SourceVerified") == "NotReviewed")
        assert cluster.serves(1)


def _pull_request(cluster: Cluster) -> int | None:
    source = cluster.status().source
    return source.pull_request if source is not None else None
