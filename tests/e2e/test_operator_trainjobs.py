"""Trainings as TrainJobs: the shipped operator with the shipped rights, and a stand-in for Kubeflow Trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.kubernetes_api import TRAIN_JOB
from tests.support.cluster import Cluster
from tests.support.jobs_bench import install
from tests.support.trainer import Trainer

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]


def test_a_model_is_trained_by_trainer(tmp_path: Path) -> None:
    """A merged spec becomes one TrainJob, whose end is watched, not asked for; all else is done by Jobs as ever.

    Whoever deletes the TrainJob afterwards has nothing trained again: the record in the store decides.
    """
    with Cluster(tmp_path, resync=60) as cluster:
        install(cluster.api, TRAIN_JOB)
        with Trainer(cluster.api, cluster.namespace):
            cluster.start()
            person = cluster.person
            person.write(person.spec(("  training:\n", "  training:\n    backend: TrainJob\n")))
            cluster.until("it is trained", lambda: cluster.reason("Trained") == "RunSucceeded")
        (made,) = cluster.api.items(TRAIN_JOB.path(cluster.namespace))
        assert made["metadata"]["labels"]["trunkline.dev/model"] == "digits"
        job = made["metadata"]["name"]
        begun = {name: count for name, count in cluster.jobs_run().items() if name.startswith("train-")}
        assert begun == {job: 1}
        assert job not in [each["metadata"]["name"] for each in cluster.objects("jobs")]
        asked = cluster.api.requests("operator")
        assert [request for request in asked if "WATCH" in request and "trainjobs" in request]
        cluster.api.delete(TRAIN_JOB.path(cluster.namespace, job))
        cluster.until("it is measured", lambda: cluster.reason("Evaluated") == "EvaluationDone")
        assert cluster.api.items(TRAIN_JOB.path(cluster.namespace)) == []
