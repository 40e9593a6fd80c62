"""Why a model of a cluster is not where it should be: everything that stands in the way, in the order to look at it.

Pure: objects of the Kubernetes API in, sentences out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus, Reason

Object = Mapping[str, Any]

_NEXT: dict[str, str] = {
    Reason.NOT_IN_GIT: "change the model by pull request, or undo the change that was made in the cluster",
    Reason.NOT_BOUND: "add the namespace to a binding in the operator's trunkline.toml, or move the model",
    Reason.AWAITING_SYNC: "look at the Argo CD Application: is it syncing, and is the sync allowed now?",
    Reason.UNSIGNED: "commit the file again with a signature that is accepted, or revert the commit",
    Reason.SIGNATURE_UNTRUSTED: "list the key in [provenance], or commit the file again with one that is listed",
    Reason.SIGNATURE_EXPIRED: "renew the key and list it anew, then commit the file again",
    Reason.SIGNATURE_REVOKED: "commit the file again with another key, and look what else the revoked one signed",
    Reason.SIGNATURE_INVALID: "revert the commit, and find out who altered it",
    Reason.NO_PULL_REQUEST: "revert the commit, and open a pull request for it",
    Reason.NOT_REVIEWED: "have the pull request approved by people other than its author, or revert it",
    Reason.PULL_REQUEST_OPEN: "read the pull request, then merge or close it",
    Reason.PROPOSAL_LIMIT: "merge or close what is open, or raise max_open or max_per_hour in [forge]",
    Reason.PROPOSAL_PAUSED: "nothing: Trunkline closed it a moment ago, and opens it again if it is still wanted",
    Reason.RETARGETED: "point the pull request back at the tracked branch, merge it or close it",
    Reason.INVALID_MANIFEST: "mend the file by pull request; `trunkline check FILE` says whether it is right",
    Reason.SUSPENDED: "set spec.suspend to false by pull request",
    Reason.JOB_FAILED: "read `trunkline kube logs JOB`, mend the cause, then `trunkline kube retry JOB`",
    Reason.QUEUED: "look at the queue: `kubectl get workloads`, `kubectl describe localqueue`",
    Reason.DATA_MISSING: "add the data set to the store, or correct the digest by pull request",
    Reason.DATA_NOT_PINNED: "merge the pull request that pins the data, or write the digest by one of your own",
    Reason.DATA_UNREACHABLE: "nothing, unless it lasts: then look at the data repository and the settings",
    Reason.DATA_UNSUPPORTED: "correct the source by pull request, or let Trunkline read it: [data] in the settings",
    Reason.IMPORT_FAILED: "mend the data, then pin the mended version by pull request",
    Reason.DATA_INVALID: "mend the pictures and labels, then pin the mended version by pull request",
    Reason.DATA_LEAKAGE: "remove the pictures from one of the two sets, then pin that by pull request",
    Reason.SIGNAL_FIRING: "read `trunkline signals`, and look at the pictures that were kept for labelling",
    Reason.TRAFFIC_INCONCLUSIVE: "nothing, if it is early; else look whether requests arrive, or lower minSamples",
    Reason.TRAFFIC_UNREACHABLE: "nothing, unless it lasts: then look at Prometheus, or whether servers are reached",
    Reason.PROFILE_FAILED: "read `trunkline kube logs` of the profile job, and mend golden or the export",
    Reason.LABELS_WANTED: "label pictures that were kept, then `trunkline labels import`",
    Reason.SCHEDULE_INVALID: "correct spec.triggers.schedule by pull request; it has five fields, such as 0 3 1 * *",
    Reason.BAKE_INCONCLUSIVE: "look whether requests arrive; the release stays as it is",
    Reason.LIVE_GATE_FAILED: "read the rollback pull request, then merge or close it",
    Reason.GATE_FAILED: "change training, data or gate by pull request",
}
"""What a person can do, by reason."""


@dataclass(frozen=True)
class Answer:
    """Why, with what to do."""

    headline: str
    findings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def why(key: ModelKey, model: Object, jobs: Sequence[Object], pods: Sequence[Object]) -> Answer:
    """Explain one model. ``jobs`` and ``pods`` are those with its label."""
    status = ModelStatus.model_validate(model.get("status") or {})
    generation = int(model["metadata"].get("generation") or 0)
    ready = status.condition(ConditionType.READY)
    if ready is None:
        text = f"{key} was never looked at; does the operator run, and does it watch this namespace?"
        return Answer(text, advice=("kubectl -n trunkline-system get pods,lease",))
    behind = status.observed_generation < generation
    headline = f"{key} is {'ready' if ready.status == 'True' else 'not ready'}: {ready.reason}"
    findings = ["the operator has not seen the last change yet"] if behind else []
    findings += [f"{c.type}: {c.message or c.reason}" for c in _in_the_way(status)]
    findings += list(_job_findings(jobs))
    findings += list(_pod_findings(pods))
    reasons = dict.fromkeys([ready.reason, *(c.reason for c in _in_the_way(status))])
    advice = tuple(_NEXT[reason] for reason in reasons if reason in _NEXT)
    return Answer(headline, tuple(dict.fromkeys(findings)), advice)


def _in_the_way(status: ModelStatus) -> list[Any]:
    """Give what is wrong; Ready only repeats what another condition says."""
    overall = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
    wrong = [c for c in status.conditions if c.type not in overall and c.status != "True"]
    return wrong or [c for c in status.conditions if c.type in overall[1:]]


def _job_findings(jobs: Iterable[Object]) -> Iterator[str]:
    for job in jobs:
        name, spec, status = job["metadata"]["name"], job.get("spec") or {}, job.get("status") or {}
        conditions = status.get("conditions") or ()
        failed = next((c for c in conditions if c["type"] == "Failed" and c["status"] == "True"), None)
        if failed is not None:
            yield f"job {name} failed: {failed.get('reason', '')} {failed.get('message', '')}".strip()
        elif spec.get("suspend"):
            queue = (job["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name")
            yield f"job {name} waits in the queue {queue}" if queue else f"job {name} is suspended"


def _pod_findings(pods: Iterable[Object]) -> Iterator[str]:
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                yield f"pod {name} has no node: {condition.get('message') or condition.get('reason')}"
        for container in status.get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                yield f"pod {name} waits: {waiting['reason']}: {waiting.get('message', 'no message')}"
            last = (container.get("lastState") or {}).get("terminated") or {}
            if last:
                words = " ".join(str(last.get("message") or "").split())[-300:]
                yield (
                    f"pod {name} ended {container.get('restartCount', 1)} times, last with exit code "
                    f"{last.get('exitCode')} ({last.get('reason', 'Error')}){': ' + words if words else ''}"
                )
