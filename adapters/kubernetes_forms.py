"""What an attempt at a work order is in a cluster: a Job, or a TrainJob, and how each of them is made and read.

Pure: the same arguments always give the same manifests. Both say that they are over by conditions of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.kubernetes_api import JOB, Kind, Object
from adapters.kubernetes_endings import PERMANENT_EXIT, QUEUE, unix
from adapters.kubernetes_pods import Owner, PodStyle, child_metadata, pod_template
from specs.names import attempt_name
from specs.placement import Placement
from specs.workorders import TIRELESS, AnyOrder

JOB_LABEL = "trunkline.dev/job"
ATTEMPT = "trunkline.dev/attempt"
MAX_ATTEMPTS = 3
WORK_ORDER = "TRUNKLINE_WORK_ORDER"
PROCESSES = "TRUNKLINE_PROCESSES"
"""Variable: how many processes share the training in this pod, where that is more than one."""

FOREVER = 2**31 - 1
"""Seconds; what Kubernetes can count to: 68 years."""
_DAY = 86_400
_BRIEFLY = 7_200
"""Seconds; longer than any pause between two attempts, so that they are counted on."""
_GRACE = 30
_POD_OF = "batch.kubernetes.io/job-name"


class Form(Protocol):
    """A kind of object that runs an attempt."""

    kind: Kind

    def manifest(self, order: AnyOrder, owner: Owner, style: PodStyle, placement: Placement, number: int) -> Object:
        """Give the object of an attempt."""

    def works(self, attempt: Object) -> bool:
        """Whether its own status says that its pods are there and ready."""

    def started(self, attempt: Object) -> float:
        """Unix time, seconds, of its (last) start; 0 where it has not started or nobody knows."""

    def ended(self, attempt: Object, condition: Object) -> float:
        """Unix time, seconds, of its end, which a condition tells of."""

    def pod_labels(self, attempt: Object) -> dict[str, str]:
        """Give the labels by which its pods are found."""

    def own(self, attempt: Object, pods: Sequence[Object]) -> list[Object]:
        """Give those of the pods found by these labels that are its own."""


class JobForm:
    """An attempt as a Job of one pod."""

    kind = JOB

    def manifest(self, order: AnyOrder, owner: Owner, style: PodStyle, placement: Placement, number: int) -> Object:
        """See Form."""
        return job_manifest(order, owner, style, placement, number)

    def works(self, attempt: Object) -> bool:
        """See Form."""
        return int((attempt.get("status") or {}).get("ready") or 0) > 0

    def started(self, attempt: Object) -> float:
        """See Form."""
        return unix((attempt.get("status") or {}).get("startTime"))

    def ended(self, attempt: Object, condition: Object) -> float:
        """See Form."""
        return unix(attempt["status"].get("completionTime") or condition.get("lastTransitionTime"))

    def pod_labels(self, attempt: Object) -> dict[str, str]:
        """See Form."""
        return {_POD_OF: attempt["metadata"]["name"]}

    def own(self, attempt: Object, pods: Sequence[Object]) -> list[Object]:
        """See Form: pods of another Job of that name have another owner."""
        owned = [(pod, [o.get("uid") for o in pod["metadata"].get("ownerReferences") or ()]) for pod in pods]
        return [pod for pod, owners in owned if attempt["metadata"]["uid"] in owners]


def job_manifest(order: AnyOrder, owner: Owner, style: PodStyle, placement: Placement, number: int) -> Object:
    """Give the Job of an attempt."""
    metadata = attempt_metadata(order, owner, placement, number)
    spec: Object = {
        "parallelism": 1, "completions": 1, "backoffLimit": 0, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {
                "containerName": order.kind, "operator": "In", "values": [PERMANENT_EXIT]}},
            # Evicted, preempted, its node lost: no fault of the job. The cluster tries again by itself.
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]},
        "template": attempt_template(order, style, placement, metadata),
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


def attempt_metadata(order: AnyOrder, owner: Owner, placement: Placement, number: int, longest: int = 63) -> Object:
    """Give the metadata of an attempt, whose name has at most ``longest`` characters."""
    labels = {JOB_LABEL: order.job, ATTEMPT: str(number)} | ({QUEUE: placement.queue} if placement.queue else {})
    return child_metadata(owner, attempt_name(order.job, number, longest), order.kind, labels)


def attempt_template(order: AnyOrder, style: PodStyle, placement: Placement, metadata: Object) -> Object:
    """Give the template of an attempt's pods. The queue's label stays with the attempt: it is what is admitted."""
    several = {PROCESSES: str(placement.gpus)} if order.kind == "train" and placement.gpus > 1 else {}
    return pod_template(
        style, placement, component=order.kind,
        labels={name: value for name, value in metadata["labels"].items() if name != QUEUE},
        # The autoscaler of nodes must not move it: what it has computed since its last checkpoint would be lost.
        annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        arguments=(), environment={WORK_ORDER: order.encode().decode(), **several}, container={}, restart="Never",
        grace_seconds=_GRACE,
    )  # fmt: skip


def number_of(attempt: Object) -> int:
    """Give which attempt an object is, from 1."""
    label = str((attempt["metadata"].get("labels") or {}).get(ATTEMPT, ""))
    return int(label) if label.isdecimal() else 1
