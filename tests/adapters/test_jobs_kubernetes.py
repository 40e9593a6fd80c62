"""Work orders as Jobs and TrainJobs, on a real API server. It has no controllers: the tests write status and pods."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adapters.jobs_kubernetes import forget
from adapters.kubernetes_api import JOB, POD, TRAIN_JOB, KubernetesApi, Object, Taken
from adapters.kubernetes_forms import job_manifest
from adapters.kubernetes_pods import Owner
from specs.errors import Transient
from specs.facts import JobPhase, JobState
from specs.workorders import AnyOrder, CompareOrder, EvaluateOrder, ExportOrder, TrackOrder, TrainOrder, decode
from tests.support.apiserver import ApiServer
from tests.support.jobs_bench import BEGAN, BENCHES, OVER, SHA, STYLE, Bench, install

Faults = Callable[[list[dict[str, Any]]], None]


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, api_server: ApiServer) -> Bench:
    """A namespace of its own on the shared server, which answers for all kinds by now; with each kind of attempt."""
    install(api_server, TRAIN_JOB)
    made = BENCHES[request.param](api_server)
    for kind in (JOB, POD, TRAIN_JOB):
        api_server.items(kind.path(made.key.namespace))
    return made


only_jobs = pytest.mark.parametrize("bench", ["Job"], indirect=True)
"""What is about a Job's own fields, or about orders that no TrainJob does."""


@pytest.fixture
def faults(api_server: ApiServer) -> Iterator[Faults]:
    """Set faults of the shared server, which is well again afterwards."""
    api_server.clear_faults()
    yield api_server.faults
    api_server.clear_faults()


def orders(model: str) -> list[AnyOrder]:
    """Give an order of each kind."""
    who: dict[str, Any] = {"model": model, "commit": "c" * 40}
    return [
        TrainOrder(**who, inputs_digest=SHA[0], inputs={"args": {"name": "$(HOME) é"}}, deadline_seconds=60),
        EvaluateOrder(**who, subject=SHA[0], format="pt", task="classify", golden=SHA[1], image_size=[32, 64]),
        CompareOrder(**who, subject=SHA[0], baseline=SHA[1], golden=SHA[2], task="pose"),
        ExportOrder(**who, weights=SHA[0], export_digest=SHA[1], task="obb", format="onnx", args={}, golden=SHA[2]),
    ]


def dead(code: int, message: str = "", reason: str = "Error") -> Object:
    """Give the state of a container that ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


# ------------------------------------------------------------------------------------------------ what is made


@only_jobs
@pytest.mark.parametrize("where", ["here", "gpu", "queued"])
@pytest.mark.parametrize("kind", range(4), ids=["train", "evaluate", "compare", "export"])
def test_the_api_server_accepts_jobs(bench: Bench, kind: int, where: str) -> None:
    """A Job of each kind and placement passes strict validation, and its pod gets the order to the letter."""
    order = orders(str(bench.key))[kind]
    state = bench.jobs.start(order, getattr(bench, where))
    assert state.name == order.job
    live = bench.server.get(JOB.path(bench.key.namespace, order.job))
    (container,) = live["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry["value"].replace("$$", "$") for entry in container["env"]}
    assert decode(values["TRUNKLINE_WORK_ORDER"].encode()) == order
    assert container["command"] == ["python", "-m", "workloads", "--store", "s3://models"]
    assert live["spec"].get("activeDeadlineSeconds") == order.deadline_seconds
    assert bench.calls() == ["list jobs", "create jobs"]


@only_jobs
def test_an_attempt_is_one_pod_that_is_never_run_twice(bench: Bench) -> None:
    """One completion, retried by the cluster after disruptions only, failed for good by exit code 10; our labels."""
    assert bench.owner is not None
    made = job_manifest(bench.order, bench.owner, STYLE, bench.gpu, 2)
    spec, template = made["spec"], made["spec"]["template"]
    assert made["metadata"]["name"] == f"{bench.order.job}-2"
    ours = {
        "app.kubernetes.io/managed-by": "trunkline", "app.kubernetes.io/name": "shelf",
        "app.kubernetes.io/component": "evaluate", "trunkline.dev/model": "shelf",
        "trunkline.dev/job": bench.order.job, "trunkline.dev/attempt": "2",
    }  # fmt: skip
    assert made["metadata"]["labels"] == template["metadata"]["labels"] == ours
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 0)
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": {"containerName": "evaluate", "operator": "In", "values": [10]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    assert (template["spec"]["restartPolicy"], template["spec"]["terminationGracePeriodSeconds"]) == ("Never", 30)
    assert template["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert "activeDeadlineSeconds" not in spec
    assert "suspend" not in spec


@only_jobs
def test_the_same_order_gives_the_same_bytes(bench: Bench) -> None:
    """Manifests are deterministic."""
    assert bench.owner is not None
    one, two = (json.dumps(job_manifest(bench.order, bench.owner, STYLE, bench.gpu, 1)) for _ in range(2))
    assert one == two


@only_jobs
def test_the_last_attempt_is_never_collected(bench: Bench) -> None:
    """Earlier attempts go a day after their end; the last one is the memory that the job is lost."""
    assert bench.owner is not None
    lives = [
        job_manifest(bench.order, bench.owner, STYLE, bench.here, number)["spec"].get("ttlSecondsAfterFinished")
        for number in (1, 2, 3)
    ]
    assert lives == [86_400, 86_400, None]


# ------------------------------------------------------------------------------------------------ how it stands


def test_what_never_started_has_no_state(bench: Bench) -> None:
    """Looking costs one request, and makes nothing."""
    assert bench.jobs.state(bench.order) is None
    assert bench.calls() == ["list jobs"]
    assert bench.all() == []


def test_a_job_with_a_ready_pod_runs(bench: Bench) -> None:
    """The Job's own status tells, in one request."""
    assert bench.jobs.start(bench.order, bench.here) == JobState(bench.order.job, JobPhase.RUNNING)
    bench.report(ready=1, active=1)
    bench.calls()
    assert bench.jobs.state(bench.order) == JobState(bench.order.job, JobPhase.RUNNING, started=BEGAN)
    assert bench.calls() == ["list jobs"]


@only_jobs
def test_a_job_that_ended_well_is_over(bench: Bench) -> None:
    """Whether its work is done only the record tells; the Job says that exit code and its times, in one request."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(type_="Complete", reason="CompletionsReached")
    bench.report(completionTime="2026-11-24T10:59:00Z")
    bench.calls()
    state = bench.jobs.state(bench.order)
    assert state == JobState(bench.order.job, JobPhase.ENDED, 1, 0, started=BEGAN, ended=OVER - 60)
    assert bench.calls() == ["list jobs"]


@pytest.mark.parametrize("type_", ["FailureTarget", "SuccessCriteriaMet"])
def test_a_job_whose_pod_still_ends_is_not_over(bench: Bench, type_: str) -> None:
    """Another attempt must not run beside a pod that is being ended."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(type_=type_)
    bench.pod(phase="Running")
    for state in (bench.jobs.state(bench.order), bench.jobs.start(bench.order, bench.here)):
        assert state is not None
        assert state.phase is JobPhase.RUNNING
    assert bench.all() == [bench.order.job]


@only_jobs
@pytest.mark.parametrize(
    ("end", "status", "condition", "verdict", "words"),
    [
        pytest.param(dead(10, "no such task"), {}, "PodFailurePolicy", (10, "Permanent"), "no such task",
                     id="permanent"),
        pytest.param(dead(3, "at s3://me:hunter2@host"), {}, "BackoffLimitExceeded", (3, "Error"),
                     "exit code 3: at s3://***@host", id="error"),
        pytest.param(dead(137, "", "OOMKilled"), {}, "BackoffLimitExceeded", (137, "OutOfMemory"), "memory",
                     id="memory"),
        pytest.param(dead(137), {}, "BackoffLimitExceeded", (137, "Killed"), "signal 9", id="killed"),
        pytest.param(dead(143), {}, "DeadlineExceeded", (143, "DeadlineExceeded"), "deadline", id="deadline"),
        pytest.param(None, {"reason": "Evicted", "message": "low on memory"}, "BackoffLimitExceeded",
                     (None, "Evicted"), "low on memory", id="evicted"),
        pytest.param(dead(143), {"conditions": [{"type": "DisruptionTarget", "status": "True",
                                                 "reason": "PreemptionByScheduler"}]},
                     "BackoffLimitExceeded", (143, "Preempted"), "priority", id="preempted"),
        pytest.param({"waiting": {"reason": "ImagePullBackOff"}}, {"phase": "Pending"}, "BackoffLimitExceeded",
                     (None, "ImageUnavailable"), "image", id="image"),
    ],
)  # fmt: skip
def test_a_failure_is_explained_by_its_pod(
    bench: Bench, end: Object | None, status: Object, condition: str, verdict: tuple[int | None, str], words: str
) -> None:
    """Exit code, reason, last words and times of a failed attempt, in two requests."""
    bench.jobs.start(bench.order, bench.here)
    bench.pod(state=end, **status)
    bench.finish(reason=condition)
    bench.calls()
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.attempts, state.exit_code, state.reason) == (JobPhase.ENDED, 1, *verdict)
    assert (state.started, state.ended) == (BEGAN, OVER)
    assert words in state.message
    assert bench.calls()[:2] == ["list jobs", "list pods"]


@pytest.mark.parametrize(
    ("condition", "code", "reason"),
    [
        pytest.param("BackoffLimitExceeded", None, "Error", id="failed"),
        pytest.param("DeadlineExceeded", None, "DeadlineExceeded", id="deadline"),
        pytest.param("PodFailurePolicy", 10, "Permanent", id="permanent"),
    ],
)
@only_jobs
def test_without_its_pod_a_job_says_what_it_can(bench: Bench, condition: str, code: int | None, reason: str) -> None:
    """A pod that is gone leaves the Job's own condition; pods of another Job of that name say nothing."""
    bench.jobs.start(bench.order, bench.here)
    bench.pod(state=dead(3, "of an earlier Job"))
    bench.server.delete(bench.path())
    bench.jobs.start(bench.order, bench.here)
    bench.finish(reason=condition)
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.exit_code, state.reason) == (JobPhase.ENDED, code, reason)
    assert "earlier" not in state.message


def test_a_pod_that_waits_says_what_for(bench: Bench) -> None:
    """A Job whose pod cannot start tells people why; only one that no node takes counts as queued."""
    bench.jobs.start(bench.order, bench.here)
    bench.report(active=1, ready=0)
    bench.pod(phase="Pending", state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.reason) == (JobPhase.RUNNING, "ImageUnavailable")
    assert "cannot be pulled" in state.message


def test_a_pod_that_finds_no_node_is_queued(bench: Bench) -> None:
    """No room in the cluster is the same to people as no room in a queue."""
    bench.jobs.start(bench.order, bench.gpu)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    bench.pod(phase="Pending", conditions=[condition])
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.message) == (JobPhase.QUEUED, "no node takes its pod: 0/1 nodes")


def test_a_job_without_a_pod_is_told_after_a_while(bench: Bench) -> None:
    """Only after a minute anybody wonders why there is no pod; then people are shown where to look."""
    bench.jobs.start(bench.order, bench.here)
    bench.now = 0.0
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert state.message == ""
    bench.now = 4e9
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.reason) == (JobPhase.RUNNING, "NoPod")
    assert f"kubectl -n {bench.key.namespace} describe {bench.kind.name.lower()} {bench.order.job}" in state.message


# ------------------------------------------------------------------------------------------------ attempts


def test_attempts_are_three_and_never_four(bench: Bench) -> None:
    """Each start after an end begins the next attempt; after the third it gives how that ended."""
    for number in (1, 2, 3):
        state = bench.jobs.start(bench.order, bench.here)
        assert (state.phase, state.attempts) == (JobPhase.RUNNING, number)
        assert bench.live(number)["metadata"]["labels"]["trunkline.dev/attempt"] == str(number)
        bench.finish(number)
        ended = bench.jobs.state(bench.order)
        assert ended is not None
        assert (ended.phase, ended.attempts) == (JobPhase.ENDED, number)
    before = bench.all()
    assert bench.jobs.start(bench.order, bench.here) == ended
    assert bench.all() == before == [bench.order.job, f"{bench.order.job}-2", f"{bench.order.job}-3"]


class Mirroring(Bench):
    """Likewise, with the order to mirror a run."""

    @property
    def order(self) -> Any:
        """The work order."""
        where: dict[str, Any] = {"tracking_uri": "http://mlflow:5000", "experiment": "x"}
        return TrackOrder(model=str(self.key), commit="c" * 40, inputs_digest=SHA[0], **where)


@only_jobs
def test_mirroring_is_tried_for_ever(bench: Bench) -> None:
    """The fourth attempt follows the third, whatever code that ended with; old ones are collected within hours."""
    mirror = Mirroring(bench.server)
    mirror.key, mirror.owner = bench.key, bench.owner
    for number in (1, 2, 3, 4):
        state = mirror.jobs.start(mirror.order, mirror.here)
        assert (state.phase, state.attempts) == (JobPhase.RUNNING, number)
        mirror.pod(number, state=dead(10))
        mirror.finish(number, reason="PodFailurePolicy")
        ended = mirror.jobs.state(mirror.order)
        assert ended is not None
        assert (ended.phase, ended.exit_code) == (JobPhase.ENDED, 10)
        assert mirror.live(number)["spec"]["ttlSecondsAfterFinished"] == 7200


def test_collected_attempts_still_count(bench: Bench) -> None:
    """The number of the newest attempt counts, not how many are left."""
    for number in (1, 2):
        bench.jobs.start(bench.order, bench.here)
        bench.finish(number)
    bench.server.delete(bench.path(1))
    assert bench.jobs.start(bench.order, bench.here).attempts == 3


def test_an_old_attempt_on_its_way_out_is_no_hindrance(bench: Bench) -> None:
    """While the cluster collects attempt 1 the state of attempt 2 is told."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(1)
    bench.jobs.start(bench.order, bench.here)
    bench.server.merge(bench.path(1), {"metadata": {"finalizers": ["tests/hold"]}})
    bench.server.delete(bench.path(1))
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert (state.phase, state.attempts) == (JobPhase.RUNNING, 2)
    bench.server.merge(bench.path(1), {"metadata": {"finalizers": None}})


@only_jobs
def test_a_job_that_can_never_work_is_not_tried_again(bench: Bench) -> None:
    """Exit code 10 ends it at once, and its Job is kept from being collected by one write: it is the only memory."""
    bench.jobs.start(bench.order, bench.here)
    bench.pod(state=dead(10, "no such task"))
    bench.finish(reason="PodFailurePolicy")
    bench.calls()
    first = bench.jobs.state(bench.order)
    assert bench.calls() == ["list jobs", "list pods", "patch jobs"]
    assert bench.live()["spec"]["ttlSecondsAfterFinished"] > 60 * 365 * 86_400
    assert bench.jobs.state(bench.order) == first
    assert bench.jobs.start(bench.order, bench.here) == first
    assert set(bench.calls()) == {"list jobs", "list pods"}
    assert bench.all() == [bench.order.job]


def test_forgetting_makes_room_for_new_attempts(bench: Bench) -> None:
    """All attempts of that job go, and nothing else does; forgetting what is not there is no trouble."""
    other = orders(str(bench.key))[0]
    bench.jobs.start(other, bench.here)
    for number in (1, 2, 3):
        bench.jobs.start(bench.order, bench.here)
        bench.finish(number)
    for _ in range(2):
        forget(bench.api, bench.key.namespace, bench.order.job)
        assert bench.all() == [other.job]
    assert bench.jobs.start(bench.order, bench.here).attempts == 1


@pytest.mark.parametrize("where", ["here", "queued"], ids=["runs", "waits"])
def test_a_job_that_is_not_over_is_not_forgotten(bench: Bench, where: str) -> None:
    """Whoever wants to forget it is told how to end it, and no attempt of it goes."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(1)
    bench.jobs.start(bench.order, getattr(bench, where))
    what = f"{bench.kind.name.lower()} {bench.name(2)}"
    with pytest.raises(Transient, match=f"kubectl -n {bench.key.namespace} delete {what}") as caught:
        forget(bench.api, bench.key.namespace, bench.order.job)
    assert caught.value.reason == "JobRunning"
    assert len(bench.all()) == 2


def test_only_what_was_looked_at_is_forgotten(bench: Bench) -> None:
    """A Job of the same name that was made between looking and deleting stays."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(1)

    class Late(KubernetesApi):
        """Deletes after another Job has taken the name."""

        def delete(self, *asked: Any, **how: Any) -> None:
            bench.server.delete(bench.path())
            bench.jobs.start(bench.order, bench.here)
            super().delete(*asked, **how)

    forget(Late.connect(kubeconfig=str(bench.server.kubeconfig_of("operator"))), bench.key.namespace, bench.order.job)
    assert bench.all() == [bench.order.job]


def test_cut_off_forgetting_leaves_the_job_lost(bench: Bench, faults: Faults) -> None:
    """The newest attempt goes last, so that half-forgotten is not tried again by surprise."""
    for number in (1, 2, 3):
        bench.jobs.start(bench.order, bench.here)
        bench.finish(number)
    faults([{"method": "DELETE", "path": f"{bench.order.job}-2$", "status": 500, "count": -1}])
    with pytest.raises(Transient):
        forget(bench.api, bench.key.namespace, bench.order.job)
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert state.attempts == 3
    faults([])
    forget(bench.api, bench.key.namespace, bench.order.job)
    assert bench.all() == []


# ------------------------------------------------------------------------------------------------ twice, at once


def test_starting_twice_adopts(bench: Bench) -> None:
    """The second start finds the Job that runs, and writes nothing."""
    bench.jobs.start(bench.order, bench.here)
    bench.report(ready=1)
    version = bench.live()["metadata"]["resourceVersion"]
    bench.calls()
    state = bench.jobs.start(bench.order, bench.gpu)
    assert (state.phase, state.attempts) == (JobPhase.RUNNING, 1)
    assert bench.calls() == ["list jobs"]
    assert bench.live()["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("number", [1, 2], ids=["first", "second"])
def test_of_many_starters_at_once_one_job_comes(bench: Bench, number: int) -> None:
    """Operators that start at the same moment get one attempt together, the first as well as the next one."""
    if number == 2:
        bench.jobs.start(bench.order, bench.here)
        bench.finish(1)
    barrier, states = threading.Barrier(5), []

    def work() -> None:
        jobs = bench.jobs
        barrier.wait()
        states.append(jobs.start(bench.order, bench.here))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(state.phase, state.attempts) for state in states] == [(JobPhase.RUNNING, number)] * 5
    assert len(bench.all()) == number


def test_a_job_made_behind_our_back_is_adopted(bench: Bench) -> None:
    """Somebody of us created it between looking and creating: the name is taken by just what was wanted."""
    bench.jobs.start(bench.order, bench.here)
    bench.server.merge(bench.path(), {"metadata": {"labels": {"trunkline.dev/job": "hidden"}}})
    with pytest.raises(Taken, match="is not for"):
        bench.jobs.start(bench.order, bench.here)

    class Late(KubernetesApi):
        """Lists before the label is back, and creates after."""

        def list(self, *asked: Any, **how: Any) -> Any:
            found = super().list(*asked, **how)
            bench.server.merge(bench.path(), {"metadata": {"labels": {"trunkline.dev/job": bench.order.job}}})
            return found

    state = bench.through(Late).start(bench.order, bench.here)
    assert (state.phase, state.attempts) == (JobPhase.RUNNING, 1)
    assert bench.all() == [bench.order.job]


def test_a_job_that_came_and_went_is_looked_for_again(bench: Bench) -> None:
    """The name was taken while creating and is free again: Transient, and the next start creates it."""
    bench.foreign()

    class Late(KubernetesApi):
        """Looks at what took the name when that is gone."""

        def create(self, *asked: Any) -> bool:
            made = super().create(*asked)
            bench.server.delete(bench.path())
            return made

    with pytest.raises(Transient, match="came and went"):
        bench.through(Late).start(bench.order, bench.here)
    assert bench.jobs.start(bench.order, bench.here).attempts == 1


FAULTS: dict[str, dict[str, Any]] = {
    "409": {"status": 409}, "429": {"status": 429}, "500": {"status": 500}, "no answer": {"drop": True},
    "500 after it was done": {"status": 500, "after": True}, "answer lost": {"drop": True, "after": True},
    "429 after it was done": {"status": 429, "after": True}, "409 after it was done": {"status": 409, "after": True},
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_creating_under_faults_gives_one_job(bench: Bench, faults: Faults, fault: str) -> None:
    """Trouble while creating is Transient; the next start gives the one Job that a good day gives, and adopts it."""
    path = f"/namespaces/{bench.key.namespace}/{bench.kind.plural}$"
    faults([{"method": "POST", "path": path, "count": 1, **FAULTS[fault]}])
    with pytest.raises(Transient):
        bench.jobs.start(bench.order, bench.here)
    assert bench.all() == ([bench.order.job] if FAULTS[fault].get("after") else [])
    assert bench.jobs.start(bench.order, bench.here).attempts == 1
    uid = bench.live()["metadata"]["uid"]
    assert bench.jobs.start(bench.order, bench.here).attempts == 1
    assert bench.all() == [bench.order.job]
    assert bench.live()["metadata"]["uid"] == uid


@only_jobs
@pytest.mark.parametrize("fault", ["409", "429", "500", "no answer"])
@pytest.mark.parametrize("plural", ["jobs", "pods"])
def test_looking_under_faults_is_transient(bench: Bench, faults: Faults, plural: str, fault: str) -> None:
    """No answer is never taken for "there is none": nothing is started on it."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(1)
    path = f"/namespaces/{bench.key.namespace}/{bench.kind.plural if plural == 'jobs' else plural}"
    faults([{"method": "GET", "path": path, "count": -1, **FAULTS[fault]}])
    for ask in (bench.jobs.state, lambda order: bench.jobs.start(order, bench.here)):
        with pytest.raises(Transient):
            ask(bench.order)
    faults([])
    assert bench.all() == [bench.order.job]
    assert bench.jobs.start(bench.order, bench.here).attempts == 2


# ------------------------------------------------------------------------------------------------ whose it is


FOREIGN: dict[str, Object] = {
    "no labels": {},
    "labels of another tool": {"labels": {"app.kubernetes.io/managed-by": "Helm"}},
    "another model's": {"labels": {"app.kubernetes.io/managed-by": "trunkline", "trunkline.dev/model": "other",
                                   "trunkline.dev/job": orders("retail/shelf")[1].job}},
    "another job's": {"labels": {"app.kubernetes.io/managed-by": "trunkline", "trunkline.dev/model": "shelf"}},
}  # fmt: skip


@pytest.mark.parametrize("metadata", FOREIGN.values(), ids=FOREIGN.keys())
@only_jobs
def test_somebody_elses_job_is_never_touched(bench: Bench, metadata: Object) -> None:
    """A Job of our name that is not ours is a Conflict that people can read, and stays as it is."""
    version = bench.foreign(**metadata)
    assert bench.jobs.state(bench.order) is None
    for _ in range(2):
        with pytest.raises(Taken, match=bench.order.job) as caught:
            bench.jobs.start(bench.order, bench.here)
        assert caught.value.reason == "Conflict"
    assert bench.live()["metadata"]["resourceVersion"] == version
    assert bench.all() == [bench.order.job]


def test_a_controllers_job_is_taken_even_with_our_labels(bench: Bench) -> None:
    """Labels can be copied; a controlling owner of another kind says whose it is."""
    bench.jobs.start(bench.order, bench.here)
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "u", "controller": True}
    bench.server.merge(bench.path(), {"metadata": {"ownerReferences": [owner]}})
    version = bench.live()["metadata"]["resourceVersion"]
    for ask in (bench.jobs.state, lambda order: bench.jobs.start(order, bench.here)):
        with pytest.raises(Taken, match="CronJob nightly"):
            ask(bench.order)
    assert bench.live()["metadata"]["resourceVersion"] == version


def test_jobs_of_an_earlier_model_are_waited_for(bench: Bench) -> None:
    """A model deleted and made again does not adopt what the first one started; it waits until that is collected."""
    bench.jobs.start(bench.order, bench.here)
    bench.owner = Owner(bench.key, "00000000-0000-4000-8000-000000000002")
    for ask in (bench.jobs.state, lambda order: bench.jobs.start(order, bench.here)):
        with pytest.raises(Transient) as caught:
            ask(bench.order)
        assert caught.value.reason == "BeingDeleted"
    bench.server.delete(bench.path())
    assert bench.jobs.state(bench.order) is None
    assert bench.jobs.start(bench.order, bench.here).attempts == 1
    assert bench.live()["metadata"]["ownerReferences"][0]["uid"] == bench.owner.uid


def test_without_its_model_nothing_is_started(bench: Bench) -> None:
    """A ModelSpec that is gone is Transient, and nothing is even asked."""
    bench.owner = None
    for ask in (bench.jobs.state, lambda order: bench.jobs.start(order, bench.here)):
        with pytest.raises(Transient) as caught:
            ask(bench.order)
        assert caught.value.reason == "ModelGone"
    assert bench.calls() == []


def test_a_job_that_lost_its_owner_gets_it_back(bench: Bench) -> None:
    """What ``--cascade=orphan`` left is adopted as it runs, by one write that changes nothing else."""
    bench.jobs.start(bench.order, bench.here)
    bench.report(ready=1)
    bench.server.merge(bench.path(), {"metadata": {"ownerReferences": None}})
    before = bench.live()
    bench.owner = Owner(bench.key, "00000000-0000-4000-8000-000000000002")
    bench.calls()
    state = bench.jobs.state(bench.order)
    assert state is not None
    assert state.phase is JobPhase.RUNNING
    assert bench.calls() == ["list jobs", "patch jobs"]
    after = bench.live()
    (owner,) = after["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (bench.owner.uid, True, False)
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])
    assert bench.jobs.state(bench.order) == state
    assert bench.calls() == ["list jobs"]


@only_jobs
def test_an_orphan_that_failed_for_good_keeps_both(bench: Bench) -> None:
    """Getting the owner back does not make a Job that must be remembered one that is collected."""
    bench.jobs.start(bench.order, bench.here)
    bench.finish(reason="PodFailurePolicy")
    bench.jobs.state(bench.order)
    bench.server.merge(bench.path(), {"metadata": {"ownerReferences": None}})
    bench.jobs.state(bench.order)
    live = bench.live()
    assert live["metadata"]["ownerReferences"]
    assert live["spec"]["ttlSecondsAfterFinished"] > 86_400
    bench.calls()
    bench.jobs.state(bench.order)
    assert "patch jobs" not in bench.calls()


# ------------------------------------------------------------------------------------------------ Kueue


def test_a_queue_gets_the_job_suspended(bench: Bench) -> None:
    """Kueue finds the Job by its label, suspended; people read what it waits for. Its pods are not labelled."""
    state = bench.jobs.start(bench.order, bench.queued)
    live = bench.live()
    assert live["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert live["spec"]["suspend"] is True
    assert "kueue.x-k8s.io/queue-name" not in bench.template(live)["metadata"]["labels"]
    assert state == bench.jobs.state(bench.order)
    assert (state.phase, state.message) == (JobPhase.QUEUED, "waits until Kueue's queue gpus admits it")


@only_jobs
def test_an_admitted_job_is_never_suspended_again(bench: Bench) -> None:
    """What Kueue set on admission stays, however often the job is started or its owner is put back."""
    bench.jobs.start(bench.order, bench.queued)
    admitted = {"spec": {"suspend": False, "template": {"spec": {"nodeSelector": {"flavor": "spot"}}}}}
    bench.server.merge(bench.path(), admitted)
    bench.server.merge(bench.path(), {"metadata": {"ownerReferences": None}})
    bench.report(ready=1)
    for _ in range(2):
        assert bench.jobs.start(bench.order, bench.queued).phase is JobPhase.RUNNING
    live = bench.live()
    assert live["spec"]["suspend"] is False
    assert live["spec"]["template"]["spec"]["nodeSelector"] == {"flavor": "spot"}
    assert live["metadata"]["ownerReferences"]


def test_a_job_that_kueue_takes_back_is_queued_again(bench: Bench) -> None:
    """Suspended while it ran: it waits again, and is still the same attempt."""
    bench.jobs.start(bench.order, bench.queued)
    bench.server.merge(bench.path(), {"spec": {"suspend": False}})
    bench.report(ready=1)
    bench.server.merge(bench.path(), {"spec": {"suspend": True}})
    state = bench.jobs.start(bench.order, bench.queued)
    assert (state.phase, state.attempts) == (JobPhase.QUEUED, 1)
    assert bench.all() == [bench.order.job]


# ------------------------------------------------------------------------------------------------ quiet when done


@only_jobs
def test_resyncs_write_nothing(bench: Bench) -> None:
    """Looking at jobs in all phases, three times over, changes nothing in the cluster."""
    made = orders(str(bench.key))
    for order in made:
        bench.jobs.start(order, bench.queued if order.kind == "compare" else bench.here)
    bench.finish(1)
    for order in (bench.order, *made):
        bench.jobs.state(order)
    bench.calls()
    for _ in range(3):
        for order in (bench.order, *made):
            bench.jobs.state(order)
    assert {asked.split()[0] for asked in bench.calls()} == {"list"}
