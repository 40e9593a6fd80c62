"""What Jobs and pods tell, in every way they can: conditions, exit codes, disruptions, waits, and no pod at all."""

from __future__ import annotations

import re
from typing import Any

import pytest

from adapters.kubernetes_endings import conclusion, ending, hindrance, suspension, unix

Object = dict[str, Any]
SIGNS = re.compile(r"hunter2|\x1b|\n")


def job(*conditions: Object, **spec: Any) -> Object:
    """Give a Job with conditions, all true."""
    told = [{"status": "True", "type": "Failed", **condition} for condition in conditions]
    metadata = {"name": "train-shelf-1", "namespace": "retail", "labels": {}}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": told}}


def pod(name: str = "a", phase: str = "Failed", *, container: Object | None = None, **status: Any) -> Object:
    """Give a pod; ``container`` is the state of its one container."""
    states = [{"name": "train", "image": "registry.example.com/t:1", "state": container}] if container else []
    labels = {"app.kubernetes.io/component": "train"}
    told = {"phase": phase, "containerStatuses": states}
    return {"metadata": {"name": name, "labels": labels}, "status": told | status}


def dead(code: int, message: str = "", reason: str = "Error", finished: str = "2026-11-24T10:00:00Z") -> Object:
    """Give the state of a container that ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}}


def waits(reason: str, message: str = "") -> Object:
    """Give the state of a container that cannot start."""
    return {"waiting": {"reason": reason, "message": message}}


def disrupted(reason: str) -> list[Object]:
    """Give the conditions of a pod that the cluster ended."""
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason}]


LIMIT = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
LATE = {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
POLICY = {"reason": "PodFailurePolicy", "message": "Container train for pod retail/a failed with exit code 10 matching"}
ENDS: list[Any] = [
    pytest.param(POLICY, [pod(container=dead(10, "no such task"))], 10, "Permanent",
                 "never going to work: no such task", id="permanent"),
    pytest.param(POLICY, [], 10, "Permanent", "never going to work", id="permanent-pod-gone"),
    pytest.param(LIMIT, [pod(container=dead(3, "first\noops"))], 3, "Error", "exit code 3: first | oops", id="error"),
    pytest.param(LIMIT, [pod(container=dead(139))], 139, "Error", "exit code 139 (SIGSEGV)", id="crash"),
    pytest.param(LIMIT, [pod(container=dead(137, "epoch 3", "OOMKilled"))], 137, "OutOfMemory",
                 "it used more memory than its limit; raise resources.limits.memory, or lower batch: epoch 3",
                 id="oom"),
    pytest.param(LIMIT, [pod(container=dead(1, "", "OOMKilled"))], 1, "OutOfMemory", "", id="oom-of-a-child"),
    pytest.param(LIMIT, [pod(container=dead(137, "trunkline: OutOfMemory: give the job more"))], 137, "OutOfMemory",
                 "ran out of memory (exit code 137)", id="said-out-of-memory"),
    pytest.param(LIMIT, [pod(container=dead(1, "CUDA out of memory."))], 1, "OutOfMemory", "", id="device-memory"),
    pytest.param(LIMIT, [pod(container=dead(137))], 137, "Killed", "killed by signal 9", id="killed"),
    pytest.param(LIMIT, [pod(container=dead(143))], 143, "Killed", "killed by signal 15", id="terminated"),
    pytest.param(LATE, [], None, "DeadlineExceeded", "ran longer than its deadline of 60 s", id="deadline-pod-gone"),
    pytest.param(LATE, [pod(container=dead(143, "epoch 9"))], 143, "DeadlineExceeded", "60 s: epoch 9", id="deadline"),
    pytest.param(LIMIT, [pod(reason="DeadlineExceeded")], None, "DeadlineExceeded", "60 s", id="deadline-of-the-pod"),
    pytest.param(LIMIT, [pod(reason="Evicted", message="The node was low on resource: ephemeral-storage.")], None,
                 "Evicted", "ended by its node (Evicted: The node was low on resource", id="evicted"),
    pytest.param(LIMIT, [pod(container=dead(143), conditions=disrupted("PreemptionByScheduler"))], 143, "Preempted",
                 "higher priority", id="preempted"),
    pytest.param(LIMIT, [pod(conditions=disrupted("DeletionByTaintManager"))], None, "NodeLost", "node", id="tainted"),
    pytest.param(LIMIT, [pod(reason="NodeLost")], None, "NodeLost", "NodeLost", id="node-lost"),
    pytest.param(LIMIT, [pod(conditions=disrupted("SomethingNew"))], None, "Evicted", "SomethingNew", id="new-word"),
    pytest.param(LIMIT, [pod(container=dead(128, "exec: no such file", "StartError"))], 128, "StartError",
                 "its container could not start: exec: no such file", id="no-program"),
    pytest.param(LIMIT, [pod(container=waits("ImagePullBackOff"))], None, "ImageUnavailable",
                 "its image registry.example.com/t:1 could not be pulled", id="image"),
    pytest.param(LIMIT, [], None, "Error", "its pod is gone, and with it the reason (BackoffLimitExceeded", id="gone"),
    pytest.param(LIMIT, [pod()], None, "Error", "its pod does not say why", id="silent"),
    pytest.param(POLICY, [pod(container=dead(10, reason="OOMKilled"))], 10, "Permanent", "never",
                 id="10-before-memory"),
    pytest.param(LIMIT, [pod(container=dead(10), conditions=disrupted("EvictionByEvictionAPI"))], 10, "Permanent",
                 "never", id="10-before-eviction"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "pods", "code", "reason", "words"), ENDS)
def test_an_end_is_explained(condition: Object, pods: list[Object], code: int | None, reason: str, words: str) -> None:
    """Exit code, reason and words of an attempt, from what is left of it."""
    failed = job(condition, activeDeadlineSeconds=60)
    found = conclusion(failed)
    assert found is not None
    told = ending(failed, found, pods)
    assert (told.code, told.reason) == (code, reason)
    assert words in told.message


def test_the_last_pod_that_failed_by_itself_decides() -> None:
    """Disrupted pods were replaced: what failed the Job is the one that ended by itself, the last of several."""
    pods = [
        pod("c", container=dead(143, finished="2026-11-24T12:00:00Z"), conditions=disrupted("EvictionByEvictionAPI")),
        pod("b", container=dead(3, finished="2026-11-24T11:00:00Z")),
        pod("a", container=dead(4, finished="2026-11-24T10:00:00Z")),
    ]
    failed = job(LIMIT)
    for each in (pods, pods[::-1]):
        assert ending(failed, failed["status"]["conditions"][0], each).code == 3


def test_our_container_is_told_from_those_that_were_added() -> None:
    """A proxy that a mesh put into the pod does not speak for the job."""
    found = pod(container=dead(3, "ours"))
    found["status"]["containerStatuses"].insert(0, {"name": "proxy", "state": dead(0, "theirs")})
    failed = job(LIMIT)
    told = ending(failed, failed["status"]["conditions"][0], [found])
    assert (told.code, told.message) == (3, "exit code 3: ours")


def test_words_are_short_plain_and_without_credentials() -> None:
    """Whatever a process or the cluster says comes as one short line without escapes, user names and passwords."""
    said = "x" * 3000 + "\n\x1b[31mcannot open s3://me:hunter2@host/models\x1b[0m\n"
    failed = job(LIMIT)
    condition = failed["status"]["conditions"][0]
    told = ending(failed, condition, [pod(container=dead(1, said))]).message
    assert "cannot open s3://***@host/models" in told
    noisy = "x" * 230 + " https://me:hunter2@host\n" + "pull https://me:hunter2@host\n" * 100
    messages = [
        told,
        ending(failed, condition | {"message": noisy}, []).message,
        ending(failed, condition, [pod(reason="Evicted", message=noisy)]).message,
        hindrance(failed, [pod(phase="Pending", container=waits("CreateContainerError", noisy))], patient=False)[1],
    ]
    for message in messages:
        assert len(message) <= 500
        assert not SIGNS.search(message)


@pytest.mark.parametrize(
    ("type_", "status", "over"),
    [
        pytest.param("Complete", "True", True, id="complete"),
        pytest.param("Failed", "True", True, id="failed"),
        pytest.param("Failed", "False", False, id="not-failed"),
        pytest.param("SuccessCriteriaMet", "True", False, id="pods-still-going"),
        pytest.param("FailureTarget", "True", False, id="pods-still-going-failed"),
        pytest.param("Suspended", "True", False, id="suspended"),
    ],
)
def test_only_complete_and_failed_end_a_job(type_: str, status: str, over: bool) -> None:  # noqa: FBT001
    """While a Job's pods are still being ended it is not over: another attempt would run beside them."""
    found = conclusion(job({"type": type_, "status": status}))
    assert (found is not None) == over


def test_a_job_without_status_is_not_over() -> None:
    """A Job that its controller has not seen yet has no conclusion, and nothing is in its way."""
    fresh = {"metadata": {"name": "a", "namespace": "b"}, "spec": {}}
    assert conclusion(fresh) is None
    assert suspension(fresh) == ""
    assert hindrance(fresh, [], patient=True) == ("", "")


def test_suspension_names_who_must_act() -> None:
    """A queue is named; where there is none, a person is told what to do."""
    held = job(suspend=True)
    assert "set it to false" in suspension(held)
    held["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    assert suspension(held) == "waits until Kueue's queue gpus admits it"
    assert suspension(job(suspend=False)) == ""


UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        pytest.param([pod(phase="Pending", container=waits("ErrImagePull", "a"))], "ImageUnavailable",
                     "its image registry.example.com/t:1 cannot be pulled", id="image"),
        pytest.param([pod(phase="Pending", container=waits("ImagePullBackOff", "b"))], "ImageUnavailable",
                     "its image registry.example.com/t:1 cannot be pulled", id="image-again-in-the-same-words"),
        pytest.param([pod(phase="Pending", container=waits("CreateContainerConfigError", 'secret "x" not found'))],
                     "ContainerConfig", 'its container cannot be made: secret "x" not found', id="secret"),
        pytest.param([pod(phase="Pending", conditions=[UNSCHEDULABLE])], "Unschedulable",
                     "no node takes its pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", id="no-room"),
        pytest.param([pod(phase="Pending", container=waits("ContainerCreating"))], "", "", id="on-its-way"),
        pytest.param([pod(container=waits("ImagePullBackOff"))], "", "", id="ended-pods-do-not-wait"),
        pytest.param([], "NoPod", "`kubectl -n retail describe job train-shelf-1` says why", id="no-pod"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_told(pods: list[Object], reason: str, words: str) -> None:
    """What keeps a pod from working, in words that stay the same while it does."""
    found, told = hindrance(job(), pods, patient=False)
    assert found == reason
    assert words in told
    assert (told == "") == (words == "")
    assert "preemption" not in told


def test_times_are_unix_seconds() -> None:
    """Times of the API are UTC; none is 0."""
    assert unix("1970-01-02T00:00:01Z") == 86_401
    assert unix(None) == 0.0
