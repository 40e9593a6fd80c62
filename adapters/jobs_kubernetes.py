"""Jobs in a cluster: one Job for each attempt at a work order, named after what it does.

A Job is created, never overwritten: one of that name is the attempt that was wanted, whoever created it. So a lost
answer, a second operator or a restart find it and go on, and one that Kueue has admitted is never suspended again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from adapters.kubernetes_api import JOB, POD, KubernetesApi, Object, Taken
from adapters.kubernetes_endings import (
    PERMANENT_EXIT,
    QUEUE,
    conclusion,
    ended_well,
    ending,
    hindrance,
    suspension,
    unix,
)  # fmt: skip
from adapters.kubernetes_pods import (
    Owner,
    Owners,
    PodStyle,
    belongs,
    child_metadata,
    is_orphan,
    pod_template,
    reference,
    selector,
)  # fmt: skip
from specs.errors import Transient
from specs.facts import JobPhase, JobState
from specs.modelspec import ModelKey
from specs.names import attempt_name
from specs.placement import Placement
from specs.workorders import TIRELESS, AnyOrder

JOB_LABEL = "trunkline.dev/job"
ATTEMPT = "trunkline.dev/attempt"
MAX_ATTEMPTS = 3
WORK_ORDER = "TRUNKLINE_WORK_ORDER"

_DAY = 86_400
_BRIEFLY = 7_200
"""Seconds; longer than any pause between two attempts, so that they are counted on."""
_FOREVER = 2**31 - 1
"""Seconds; what Kubernetes can count to: 68 years."""
_PATIENCE = 60.0
"""Seconds in which a Job may be without a pod before anybody wonders."""
_GRACE = 30
_POD_OF = "batch.kubernetes.io/job-name"


class KubernetesJobs:
    """Runs work orders as Jobs in the namespaces of their models; any number of operators may look and start at once.

    How a Job ended is told by its status and its pods; whether the work is done, only by the record in the store.
    """

    def __init__(
        self, api: KubernetesApi, owners: Owners, style: PodStyle, clock: Callable[[], float] = time.time
    ) -> None:
        self._api = api
        self._owners = owners
        self._style = style
        self._clock = clock

    def state(self, order: AnyOrder) -> JobState | None:
        """Give the state of an order's newest attempt, or None where there is none.

        Asks once; once more where the Job's own status does not tell all (it has no running pod, or it failed).
        Transient ``BeingDeleted`` while Jobs of an earlier ModelSpec of that name go, ``ModelGone`` where it is gone.
        A Job that lost its owner gets it back, and one that failed for good is kept from being collected: it is the
        only memory of that.
        """
        owner = self._owner(order)
        newest = self._newest(order, owner)
        return None if newest is None else self._state(order, newest, owner)

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        """Start an attempt, or adopt the one that runs or waits; after the last one, give how that ended.

        Taken where somebody else has a Job of that name; Transient ``ModelGone`` where there is no such ModelSpec.
        """
        owner = self._owner(order)
        newest = self._newest(order, owner)
        number = 1
        if newest is not None:
            state = self._state(order, newest, owner)
            lost = state.exit_code == PERMANENT_EXIT or state.attempts >= MAX_ATTEMPTS
            lost = lost and order.kind != TIRELESS
            if state.phase is not JobPhase.ENDED or lost:
                return state
            number = state.attempts + 1
        manifest = job_manifest(order, owner, self._style, placement, number)
        if not self._api.create(JOB, manifest):
            return self._state(order, self._adopted(order, owner, manifest["metadata"]["name"]), owner)
        waits = suspension(manifest)
        return JobState(order.job, JobPhase.QUEUED if waits else JobPhase.RUNNING, number, message=waits)

    def _owner(self, order: AnyOrder) -> Owner:
        key = ModelKey(*order.model.split("/", 1))
        owner = self._owners(key)
        if owner is None:
            raise Transient("ModelGone", f"there is no ModelSpec {key} in the cluster any more; nothing is started")
        return owner

    def _newest(self, order: AnyOrder, owner: Owner) -> Object | None:
        labels = selector(owner.key, labels={JOB_LABEL: order.job})
        newest = max(self._api.list(JOB, owner.key.namespace, labels=labels), key=_number, default=None)
        return newest if belongs(newest, owner) else None

    def _adopted(self, order: AnyOrder, owner: Owner, name: str) -> Object:
        """Give the Job whose name was taken just now, if it is the one that was to be created."""
        found = self._api.get(JOB, owner.key.namespace, name)
        if found is None or not belongs(found, owner):
            raise Transient("KubernetesConflict", f"Job {owner.key.namespace}/{name} came and went; look again")
        if (found["metadata"].get("labels") or {}).get(JOB_LABEL) != order.job:
            text = f"Job {owner.key.namespace}/{name} is not for {order.job} (its labels say so): rename or delete it"
            raise Taken(text)
        return found

    def _state(self, order: AnyOrder, job: Object, owner: Owner) -> JobState:
        condition = conclusion(job)
        state = self._unfinished(order, job) if condition is None else self._ended(order, job, condition)
        self._tend(job, owner, state, order.kind)
        return state

    def _unfinished(self, order: AnyOrder, job: Object) -> JobState:
        waits = suspension(job)
        if waits:
            return JobState(order.job, JobPhase.QUEUED, _number(job), message=waits)
        status = job.get("status") or {}
        started = unix(status.get("startTime"))
        if int(status.get("ready") or 0) > 0:
            return JobState(order.job, JobPhase.RUNNING, _number(job), started=started)
        age = self._clock() - unix(job["metadata"].get("creationTimestamp"))
        reason, message = hindrance(job, self._pods(job), patient=age < _PATIENCE)
        phase = JobPhase.QUEUED if reason == "Unschedulable" else JobPhase.RUNNING
        return JobState(order.job, phase, _number(job), reason=reason, message=message, started=started)

    def _ended(self, order: AnyOrder, job: Object, condition: Object) -> JobState:
        status = job["status"]
        started = unix(status.get("startTime"))
        ended = unix(status.get("completionTime") or condition.get("lastTransitionTime"))
        if ended_well(condition):
            return JobState(order.job, JobPhase.ENDED, _number(job), 0, started=started, ended=ended)
        how = ending(job, condition, self._pods(job))
        return JobState(order.job, JobPhase.ENDED, _number(job), how.code, how.reason, how.message, started, ended)

    def _pods(self, job: Object) -> Sequence[Object]:
        metadata = job["metadata"]
        found = self._api.list(POD, metadata["namespace"], labels={_POD_OF: metadata["name"]})
        owned = [(pod, [o.get("uid") for o in pod["metadata"].get("ownerReferences") or ()]) for pod in found]
        return [pod for pod, owners in owned if metadata["uid"] in owners]

    def _tend(self, job: Object, owner: Owner, state: JobState, kind: str) -> None:
        """Give a Job its owner back, and keep the memory of one that failed for good; nothing where all is well."""
        lifetime = job["spec"].get("ttlSecondsAfterFinished")
        forgets = state.exit_code == PERMANENT_EXIT and lifetime not in (None, _FOREVER) and kind != TIRELESS
        if not forgets and not is_orphan(job):
            return
        metadata = {name: job["metadata"][name] for name in ("name", "namespace", "uid")}
        wanted: Object = {"metadata": {**metadata, "ownerReferences": [reference(owner)]}}
        if state.exit_code == PERMANENT_EXIT and lifetime is not None and kind != TIRELESS:
            wanted["spec"] = {"ttlSecondsAfterFinished": _FOREVER}
        # By force, but over our own number only; the uid says that it is still this Job.
        self._api.apply(JOB, wanted, force=True)


def forget(api: KubernetesApi, namespace: str, job: str) -> None:
    """Delete all attempts at a job, so that it is tried anew; no-op where there is none.

    Transient ``JobRunning``, and nothing done, where one is not over.
    """
    found = sorted(api.list(JOB, namespace, labels=selector(labels={JOB_LABEL: job})), key=_number)
    for attempt in found:
        if conclusion(attempt) is None:
            name = attempt["metadata"]["name"]
            text = f"job {job} runs or waits; end it first with `kubectl -n {namespace} delete job {name}`"
            raise Transient("JobRunning", text)
    # The newest goes last: cut off in between, the job is still as lost as it was.
    for attempt in found:
        api.delete(JOB, namespace, attempt["metadata"]["name"], uid=attempt["metadata"]["uid"])


def job_manifest(order: AnyOrder, owner: Owner, style: PodStyle, placement: Placement, number: int) -> Object:
    """Give the Job of an attempt. The same arguments always give the same manifest."""
    labels = {JOB_LABEL: order.job, ATTEMPT: str(number)} | ({QUEUE: placement.queue} if placement.queue else {})
    metadata = child_metadata(owner, attempt_name(order.job, number), order.kind, labels)
    template = pod_template(
        style, placement, component=order.kind,
        labels={name: value for name, value in metadata["labels"].items() if name != QUEUE},
        # The autoscaler of nodes must not move it: what it has computed so far would be lost.
        annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        arguments=(), environment={WORK_ORDER: order.encode().decode()}, container={}, restart="Never",
        grace_seconds=_GRACE,
    )  # fmt: skip
    spec: Object = {
        "parallelism": 1, "completions": 1, "backoffLimit": 0, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {
                "containerName": order.kind, "operator": "In", "values": [PERMANENT_EXIT]}},
            # Evicted, preempted, its node lost: no fault of the job. The cluster tries again by itself.
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]},
        "template": template,
    }  # fmt: skip
    if order.kind == TIRELESS:
        spec["ttlSecondsAfterFinished"] = _BRIEFLY
    elif number < MAX_ATTEMPTS:
        spec["ttlSecondsAfterFinished"] = _DAY  # the last one is the memory that the job is lost
    if order.deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = order.deadline_seconds
    if placement.queue:
        spec["suspend"] = True  # until Kueue admits it
    return {"metadata": metadata, "spec": spec}


def _number(job: Object) -> int:
    """Give which attempt a Job is, from 1."""
    label = str((job["metadata"].get("labels") or {}).get(ATTEMPT, ""))
    return int(label) if label.isdecimal() else 1
