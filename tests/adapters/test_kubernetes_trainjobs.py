"""Trainings as TrainJobs and in Kueue's queues, on a real API server with the published CRDs of both."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from adapters.jobs_kubernetes import attempts
from adapters.kubernetes_api import JOB, POD, TRAIN_JOB, WORKLOAD, WORKLOAD_BEFORE, Kind, KubernetesApi, Object
from adapters.kubernetes_pods import JobSecret
from adapters.kubernetes_queues import standing
from adapters.kubernetes_trainjobs import TrainJobForm
from specs.errors import Stalled
from specs.facts import JobPhase
from specs.placement import Placement
from specs.training import RuntimeRef, TrainJob
from specs.workorders import TrainOrder, decode
from tests.support.apiserver import ApiServer
from tests.support.jobs_bench import BENCHES, SHA, STYLE, Bench, TrainJobBench, install
from tests.support.kueue import Kueue

WIDE = TrainJob(runtime_ref=RuntimeRef(name="ours", kind="TrainingRuntime"), num_nodes=2)
FORM = TrainJobForm()


@pytest.fixture
def bench(api_server: ApiServer) -> TrainJobBench:
    """A namespace of its own on the shared server, which knows TrainJobs by now."""
    install(api_server, TRAIN_JOB)
    made = TrainJobBench(api_server)
    for kind in (JOB, POD, TRAIN_JOB):
        api_server.items(kind.path(made.key.namespace))
    return made


@pytest.fixture(params=BENCHES)
def queued(request: pytest.FixtureRequest, api_server: ApiServer) -> Bench:
    """A namespace in which an attempt of each kind waits in a queue."""
    install(api_server, TRAIN_JOB, WORKLOAD)
    made = BENCHES[request.param](api_server)
    made.jobs.start(made.order, made.queued)
    return made


def told(bench: Bench) -> str:
    """Give what people read about an attempt that waits."""
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert state.phase is JobPhase.QUEUED
    return state.message


# ------------------------------------------------------------------------------------------------ what is made


def test_a_train_job_is_what_the_spec_asks_for(bench: TrainJobBench) -> None:
    """Nodes, processes, resources and runtime are the spec's; the processes on a node are its GPUs."""
    placement = Placement({"cpu": "4"}, {"nvidia.com/gpu": "2"}, {"gpu": "h100"}, train_job=WIDE)
    bench.jobs.start(bench.order, placement)
    spec = bench.live()["spec"]
    assert spec["runtimeRef"] == {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "ours"}
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (2, 2)
    assert spec["trainer"]["resourcesPerNode"] == {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "2"}}
    pods = bench.template(bench.live())
    assert pods["spec"]["nodeSelector"] == {"gpu": "h100"}
    assert spec["suspend"] is False
    assert "activeDeadlineSeconds" not in spec


def test_a_bare_train_job_takes_the_runtime_that_comes_with_trainer(bench: TrainJobBench) -> None:
    """One node, one process, ``torch-distributed``."""
    bench.jobs.start(bench.order, bench.here)
    spec = bench.live()["spec"]
    assert (spec["runtimeRef"]["kind"], spec["runtimeRef"]["name"]) == ("ClusterTrainingRuntime", "torch-distributed")
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (1, 1)
    assert "resourcesPerNode" not in spec["trainer"]


def test_its_pods_are_as_restricted_as_those_of_a_job(bench: TrainJobBench) -> None:
    """Order, store, account, volumes and Secrets reach the runtime's container, and nothing of Trainer's is taken."""
    secret = JobSecret("signing", "trunkline-signing", ("train",), (("TRUNKLINE_SIGNING_KEY_FILE", "key.pem"),))
    style = replace(STYLE, job_secrets=(secret,), store_url="file:///srv/store", store_claim="store")
    order = TrainOrder(
        model=str(bench.key), commit="c" * 40, inputs_digest=SHA[1], inputs={"args": {"name": "$(HOME) é"}},
        deadline_seconds=3600,
    )  # fmt: skip
    assert bench.owner is not None
    manifest = FORM.manifest(order, bench.owner, style, bench.here, 1)
    bench.server.create(TRAIN_JOB.path(bench.key.namespace), bodied(TRAIN_JOB, manifest))
    assert manifest["spec"]["activeDeadlineSeconds"] == 3600
    pods = bench.template(manifest)
    (main,) = pods["spec"]["containers"]
    values = {entry["name"]: entry["value"].replace("$$", "$") for entry in main["env"]}
    assert decode(values["TRUNKLINE_WORK_ORDER"].encode()) == order
    assert main["command"] == ["python", "-m", "workloads", "--store", "file:///srv/store"]
    assert main["securityContext"]["readOnlyRootFilesystem"] is True
    assert pods["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pods["spec"]["serviceAccountName"] == "trunkline-job"
    mounts = {mount["name"]: mount["mountPath"] for mount in main["volumeMounts"]}
    assert mounts["store"] == "/srv/store"
    assert mounts["signing"] == "/etc/trunkline/signing"
    assert mounts["variables"] == values["TRUNKLINE_VARIABLES"] == "/etc/trunkline/variables"
    assert {volume["name"] for volume in pods["spec"]["volumes"]} == mounts.keys()
    assert pods["metadata"]["labels"]["app.kubernetes.io/component"] == "train"
    own = [entry["name"] for entry in manifest["spec"]["trainer"]["env"]]
    assert not [name for name in own if name.startswith("PET_") or name == "TRUNKLINE_PROCESSES"]


def test_the_same_order_gives_the_same_bytes(bench: TrainJobBench) -> None:
    """Manifests are deterministic."""
    assert bench.owner is not None
    one, two = (json.dumps(FORM.manifest(bench.order, bench.owner, STYLE, bench.gpu, 1)) for _ in range(2))
    assert one == two


def test_a_long_name_leaves_room_for_its_pods(bench: TrainJobBench) -> None:
    """A pod's name is a host's name: model names are cut, the key never; its attempts are found by labels."""
    bench.key = bench.key._replace(name="a-model-with-a-name-of-nearly-sixty-three-characters-in-all")
    assert bench.owner is not None
    bench.owner = replace(bench.owner, key=bench.key)
    for number in (1, 2):
        bench.jobs.start(bench.order, bench.here)
        assert len(f"{bench.name(number)}-node-0-999") <= 63
        bench.finish(number)
    key = bench.order.job[-12:]
    assert {name.partition(key)[2] for name in bench.all()} == {"", "-2"}


# ------------------------------------------------------------------------------------------------ how it ends


def test_of_several_nodes_the_one_that_can_never_work_decides(bench: TrainJobBench) -> None:
    """The others are killed for it, later; their deaths say nothing."""
    bench.jobs.start(bench.order, bench.here)
    ends: list[Object] = [
        {"terminated": {"exitCode": 143, "reason": "Error", "finishedAt": "2026-11-24T10:59:59Z"}},
        {"terminated": {"exitCode": 10, "reason": "Error", "message": "no such task",
                        "finishedAt": "2026-11-24T10:59:00Z"}},
        {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "2026-11-24T10:59:58Z"}},
    ]  # fmt: skip
    for end in ends:
        bench.pod(state=end)
    bench.finish()
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.exit_code, state.reason) == (10, "Permanent")
    assert "no such task" in state.message
    assert bench.jobs.start(bench.order, bench.here) == state


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("FailedJobs", "Error"), ("DeadlineExceeded", "DeadlineExceeded"), ("TrainingRuntimeNotSupported", "Error")],
)
def test_without_its_pods_a_train_job_says_what_trainer_says(bench: TrainJobBench, reason: str, expected: str) -> None:
    """JobSet and its pods may be gone: what is left is the condition."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(reason=reason)
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.exit_code, state.reason) == (JobPhase.ENDED, None, expected)


def test_pods_of_an_earlier_train_job_say_nothing(bench: TrainJobBench) -> None:
    """One that was made anew under its name is told from the one before by its age."""
    made = {"metadata": {"creationTimestamp": "2026-11-24T10:00:00Z"}}
    pods: list[Object] = [
        {"metadata": {"name": name, "creationTimestamp": when}}
        for name, when in (("before", "2026-11-24T09:59:59Z"), ("after", "2026-11-24T10:00:00Z"))
    ]
    assert [pod["metadata"]["name"] for pod in FORM.own(made, pods)] == ["after"]


def test_old_train_jobs_are_cleared_away(bench: TrainJobBench) -> None:
    """Trainer never removes one. What ended a day ago goes when another training begins; what failed for good stays."""
    gone, lost, young = (
        TrainOrder(model=str(bench.key), commit="c" * 40, inputs_digest=digest, inputs={}) for digest in SHA[:3]
    )
    ends: list[tuple[TrainOrder, str, int]] = [(gone, "Complete", 1), (lost, "Failed", 3), (young, "Complete", 1)]
    for order, type_, count in ends:
        for number in range(1, count + 1):
            bench.jobs.start(order, bench.here)
            name = order.job if number == 1 else f"{order.job}-{number}"
            when = "2026-11-24T11:00:00Z" if order is not young else "2026-11-26T10:00:00Z"
            condition = {"type": type_, "status": "True", "reason": "x", "message": "", "lastTransitionTime": when}
            path = TRAIN_JOB.path(bench.key.namespace, name, "status")
            bench.server.merge(path, {"status": {"conditions": [condition]}})
    bench.now = 1_795_518_000.0 + 2 * 86_400  # 2026-11-26T11:00:00Z
    bench.jobs.start(bench.order, bench.here)
    assert sorted(bench.all()) == sorted([bench.order.job, young.job, f"{lost.job}-3"])


# ------------------------------------------------------------------------------------------------ two backends


def test_a_change_of_backend_adopts_what_runs(bench: TrainJobBench) -> None:
    """A training that runs as a Job goes on as one; its next attempt is a TrainJob, with the next number."""
    namespace = bench.key.namespace
    plain = Placement()
    bench.jobs.start(bench.order, plain)
    assert bench.jobs.start(bench.order, bench.here).attempts == 1
    assert bench.all() == []
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "",
                 "lastTransitionTime": "2026-11-24T11:00:00Z"}  # fmt: skip
    bench.server.merge(JOB.path(namespace, bench.order.job, "status"), {"status": {"conditions": [condition]}})
    assert bench.jobs.start(bench.order, bench.here).attempts == 2
    assert bench.all() == [bench.name(2)]
    assert bench.jobs.start(bench.order, plain).attempts == 2
    found = attempts(bench.api, namespace, bench.order.job)
    kinds = {attempt["metadata"]["name"]: form.kind for form, attempt in found}
    assert kinds == {bench.order.job: JOB, bench.name(2): TRAIN_JOB}


class Without(KubernetesApi):
    """A cluster without Trainer."""

    def offers(self, kind: Kind) -> bool:
        """Say no."""
        return False


def test_without_trainer_people_are_told_what_to_install(bench: TrainJobBench) -> None:
    """No Job is started in its place: people asked for what the cluster cannot do. Plain Jobs go on."""
    with pytest.raises(Stalled, match="install Kubeflow Trainer") as caught:
        bench.through(Without).start(bench.order, bench.here)
    assert caught.value.reason == "TrainerMissing"
    assert bench.server.items(JOB.path(bench.key.namespace)) == []
    assert bench.through(Without).start(bench.order, Placement()).phase is JobPhase.RUNNING


# ------------------------------------------------------------------------------------------------ Kueue


def test_people_read_why_a_training_waits(queued: Bench) -> None:
    """In Kueue's own words; before it has looked, that it waits."""
    assert told(queued) == "waits until Kueue's queue gpus admits it"
    kueue = Kueue(queued.server, queued.path())
    kueue.refuse("couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100")
    assert told(queued) == (
        "waits in queue gpus: couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in "
        "flavor a100"
    )
    kueue.refuse("LocalQueue gpus doesn't exist", "Inadmissible")
    assert told(queued) == "waits in queue gpus: LocalQueue gpus doesn't exist"
    kueue.reserve("provisioning", "waiting for nodes")
    assert told(queued) == "has its quota in queue gpus, and waits for admission check provisioning: waiting for nodes"


def test_an_evicted_training_goes_on_as_the_same_attempt(queued: Bench) -> None:
    """Preempted, it waits again and says why; admitted again, it runs. It never counts as failed, nothing is made."""
    kueue = Kueue(queued.server, queued.path())
    kueue.admit()
    queued.report(ready=1)
    for _ in range(2):
        state = queued.jobs.start(queued.order, queued.queued)
        assert (state.phase, state.attempts) == (JobPhase.RUNNING, 1)
        kueue.evict("Preempted", "Preempted to accommodate a workload of higher priority")
        waiting = queued.jobs.start(queued.order, queued.queued)
        assert (waiting.phase, waiting.attempts) == (JobPhase.QUEUED, 1)
        words = "Preempted to accommodate a workload of higher priority"
        assert waiting.message == f"put back (Preempted: {words}), waits in queue gpus: {words}"
        kueue.admit()
    assert queued.all() == [queued.name()]


def test_a_workload_that_was_taken_out_asks_for_a_person(queued: Bench) -> None:
    """Kueue admits it no more by itself; people are told which object to change."""
    kueue = Kueue(queued.server, queued.path())
    kueue.deactivate("DeactivatedDueToRequeuingLimitExceeded", "exceeding the maximum number of retries")
    why = "DeactivatedDueToRequeuingLimitExceeded: exceeding the maximum number of retries"
    assert told(queued) == f"taken out of queue gpus ({why}): set spec.active of Workload {kueue.name} to true"


def test_an_older_kueue_is_asked_in_its_own_version(queued: Bench) -> None:
    """Where only v1beta1 is served, that is what is read."""

    class Older(KubernetesApi):
        """A cluster with a Kueue of 2025."""

        def offers(self, kind: Kind) -> bool:
            return kind != WORKLOAD and super().offers(kind)

    Kueue(queued.server, queued.path()).refuse("no room")
    asked: list[Any] = []

    class Seen(Older):
        """Likewise; tells what it is asked."""

        def list(self, kind: Kind, *given: Any, **how: Any) -> Any:
            asked.append(kind)
            return super().list(kind, *given, **how)

    state = queued.through(Seen).state(queued.order)
    assert state is not None
    assert state.message == "waits in queue gpus: no room"
    assert WORKLOAD_BEFORE in asked
    assert WORKLOAD not in asked


def test_the_newest_workload_counts() -> None:
    """Kueue makes another one where the object changed; the older one may still be there for a moment."""
    older, newer = (
        {"metadata": {"name": name, "creationTimestamp": when}, "spec": {},
         "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": name}]}}
        for name, when in (("older", "2026-11-24T10:00:00Z"), ("newer", "2026-11-24T10:00:01Z"))
    )  # fmt: skip
    assert standing("q", [newer, older]) == "waits in queue q: newer"
    assert standing("q", []) == ""


def bodied(kind: Kind, manifest: Object) -> Object:
    """Give a manifest as it is sent."""
    return {"apiVersion": kind.api_version, "kind": kind.name, **manifest}
