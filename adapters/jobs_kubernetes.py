"""Jobs in a cluster: one Job, or one TrainJob, for each attempt at a work order, named after what it does.

It is created, never overwritten: one of that name is the attempt that was wanted, whoever created it. So a lost
answer, a second operator or a restart find it and go on, and one that Kueue has admitted is never suspended again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from adapters.kubernetes_api import POD, TRAIN_JOB, WORKLOAD, WORKLOAD_BEFORE, KubernetesApi, Object, Taken
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
from adapters.kubernetes_forms import ATTEMPT, FOREVER, JOB_LABEL, MAX_ATTEMPTS, Form, JobForm, number_of
from adapters.kubernetes_pods import Owner, Owners, PodStyle, belongs, is_orphan, reference, selector
from adapters.kubernetes_queues import JOB_UID, standing
from adapters.kubernetes_trainjobs import TrainJobForm
from specs.errors import Stalled, Transient
from specs.facts import JobPhase, JobState
from specs.modelspec import ModelKey
from specs.placement import Placement
from specs.workorders import TIRELESS, AnyOrder

__all__ = ["ATTEMPT", "JOB_LABEL", "MAX_ATTEMPTS", "KubernetesJobs", "attempts", "forget", "pods_of"]

_PATIENCE = 60.0
"""Seconds in which an attempt may be without a pod before anybody wonders."""
_OLD = 86_400.0
"""Seconds after its end until a TrainJob is removed that nobody asks about any more."""
_PLAIN, _TRAINER = JobForm(), TrainJobForm()
Found = tuple[Form, Object]
"""An attempt, and what it is."""


class KubernetesJobs:
    """Runs work orders in the namespaces of their models; any number of operators may look and start at once.

    How an attempt ended is told by its status and its pods; whether the work is done, only by the record in the store.
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

        Asks once; once more where the attempt's own status does not tell all (it has no running pod, or it failed), and
        for a training where the cluster has TrainJobs. Transient ``BeingDeleted`` while attempts of an earlier
        ModelSpec of that name go, ``ModelGone`` where it is gone. An attempt that lost its owner gets it back, and a
        Job that failed for good is kept from being collected: it is the only memory of that.
        """
        owner = self._owner(order)
        newest = self._newest(order, owner)
        return None if newest is None else self._state(order, newest, owner)

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        """Start an attempt, or adopt the one that runs or waits; after the last one, give how that ended.

        Taken where somebody else has an object of that name; Transient ``ModelGone`` where there is no such ModelSpec;
        Stalled ``TrainerMissing`` where a TrainJob is wanted and the cluster knows none.
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
        form = self._form(placement)
        manifest = form.manifest(order, owner, self._style, placement, number)
        if form is _TRAINER:
            self._clear_away(owner, order)
        if not self._api.create(form.kind, manifest):
            return self._state(order, self._adopted(order, owner, form, manifest["metadata"]["name"]), owner)
        waits = suspension(manifest)
        return JobState(order.job, JobPhase.QUEUED if waits else JobPhase.RUNNING, number, message=waits)

    def _owner(self, order: AnyOrder) -> Owner:
        key = ModelKey(*order.model.split("/", 1))
        owner = self._owners(key)
        if owner is None:
            raise Transient("ModelGone", f"there is no ModelSpec {key} in the cluster any more; nothing is started")
        return owner

    def _form(self, placement: Placement) -> Form:
        if placement.train_job is None:
            return _PLAIN
        if not self._api.offers(TRAIN_JOB):
            text = (
                "spec.training.backend is TrainJob, but this cluster knows no TrainJobs: install Kubeflow Trainer "
                f"({TRAIN_JOB.api_version}) and its runtimes, or choose the backend Job"
            )
            raise Stalled("TrainerMissing", text)
        return _TRAINER

    def _newest(self, order: AnyOrder, owner: Owner) -> Found | None:
        found = attempts(self._api, owner.key.namespace, order.job, owner.key)
        newest = max(found, key=lambda one: number_of(one[1]), default=None)
        return newest if newest is not None and belongs(newest[1], owner) else None

    def _adopted(self, order: AnyOrder, owner: Owner, form: Form, name: str) -> Found:
        """Give the attempt whose name was taken just now, if it is the one that was to be created."""
        what = f"{form.kind.name} {owner.key.namespace}/{name}"
        found = self._api.get(form.kind, owner.key.namespace, name)
        if found is None or not belongs(found, owner):
            raise Transient("KubernetesConflict", f"{what} came and went; look again")
        if (found["metadata"].get("labels") or {}).get(JOB_LABEL) != order.job:
            raise Taken(f"{what} is not for {order.job} (its labels say so): rename or delete it")
        return form, found

    def _state(self, order: AnyOrder, found: Found, owner: Owner) -> JobState:
        condition = conclusion(found[1])
        state = self._unfinished(order, found) if condition is None else self._ended(order, found, condition)
        self._tend(found, owner, state, order.kind)
        return state

    def _unfinished(self, order: AnyOrder, found: Found) -> JobState:
        form, attempt = found
        waits = suspension(attempt)
        if waits:
            return JobState(order.job, JobPhase.QUEUED, number_of(attempt), message=self._in_line(attempt) or waits)
        started = form.started(attempt)
        if form.works(attempt):
            return JobState(order.job, JobPhase.RUNNING, number_of(attempt), started=started)
        age = self._clock() - unix(attempt["metadata"].get("creationTimestamp"))
        reason, message = hindrance(attempt, self._pods(found), patient=age < _PATIENCE, kind=form.kind.name)
        phase = JobPhase.QUEUED if reason == "Unschedulable" else JobPhase.RUNNING
        return JobState(order.job, phase, number_of(attempt), reason=reason, message=message, started=started)

    def _in_line(self, attempt: Object) -> str:
        """Say what Kueue says about an attempt that waits; empty where it says nothing."""
        metadata = attempt["metadata"]
        queue = (metadata.get("labels") or {}).get(QUEUE)
        kind = next((kind for kind in (WORKLOAD, WORKLOAD_BEFORE) if queue and self._api.offers(kind)), None)
        if kind is None or not queue:
            return ""
        found = self._api.list(kind, metadata["namespace"], labels={JOB_UID: metadata["uid"]})
        return standing(queue, found)

    def _ended(self, order: AnyOrder, found: Found, condition: Object) -> JobState:
        form, attempt = found
        number, started, ended = number_of(attempt), form.started(attempt), form.ended(attempt, condition)
        if ended_well(condition):
            return JobState(order.job, JobPhase.ENDED, number, 0, started=started, ended=ended)
        how = ending(attempt, condition, self._pods(found))
        return JobState(order.job, JobPhase.ENDED, number, how.code, how.reason, how.message, started, ended)

    def _pods(self, found: Found) -> Sequence[Object]:
        return pods_of(self._api, found)

    def _tend(self, found: Found, owner: Owner, state: JobState, kind: str) -> None:
        """Give an attempt its owner back, and keep the memory of one that failed for good; else do nothing."""
        form, attempt = found
        lifetime = attempt["spec"].get("ttlSecondsAfterFinished")
        forgets = state.exit_code == PERMANENT_EXIT and lifetime not in (None, FOREVER) and kind != TIRELESS
        if not forgets and not is_orphan(attempt):
            return
        metadata = {name: attempt["metadata"][name] for name in ("name", "namespace", "uid")}
        wanted: Object = {"metadata": {**metadata, "ownerReferences": [reference(owner)]}}
        if state.exit_code == PERMANENT_EXIT and lifetime is not None and kind != TIRELESS:
            wanted["spec"] = {"ttlSecondsAfterFinished": FOREVER}
        # By force, but over our own number only; the uid says that it is still this attempt.
        self._api.apply(form.kind, wanted, force=True)

    def _clear_away(self, owner: Owner, order: AnyOrder) -> None:
        """Remove TrainJobs of the model's earlier trainings that ended a day ago: Trainer itself removes none.

        Those that failed for the last time stay: they are the only memory of that.
        """
        for attempt in self._api.list(TRAIN_JOB, owner.key.namespace, labels=selector(owner.key)):
            condition = conclusion(attempt)
            if condition is None or attempt["metadata"]["labels"].get(JOB_LABEL) == order.job:
                continue
            remembered = not ended_well(condition) and number_of(attempt) >= MAX_ATTEMPTS
            if not remembered and self._clock() - _TRAINER.ended(attempt, condition) > _OLD:
                metadata = attempt["metadata"]
                self._api.delete(TRAIN_JOB, metadata["namespace"], metadata["name"], uid=metadata["uid"])


def attempts(api: KubernetesApi, namespace: str, job: str, key: ModelKey | None = None) -> list[Found]:
    """Give all attempts at a job, in a namespace or in all where that is empty; TrainJobs where it is a training."""
    labels = selector(key, labels={JOB_LABEL: job})
    found: list[Found] = [(_PLAIN, attempt) for attempt in api.list(_PLAIN.kind, namespace, labels=labels)]
    if job.startswith("train-") and api.offers(TRAIN_JOB):
        found += [(_TRAINER, attempt) for attempt in api.list(TRAIN_JOB, namespace, labels=labels)]
    return found


def pods_of(api: KubernetesApi, found: Found) -> list[Object]:
    """Give the pods of an attempt."""
    form, attempt = found
    return form.own(attempt, api.list(POD, attempt["metadata"]["namespace"], labels=form.pod_labels(attempt)))


def forget(api: KubernetesApi, namespace: str, job: str) -> None:
    """Delete all attempts at a job, so that it is tried anew; no-op where there is none.

    Transient ``JobRunning``, and nothing done, where one is not over.
    """
    found = sorted(attempts(api, namespace, job), key=lambda one: number_of(one[1]))
    for form, attempt in found:
        if conclusion(attempt) is None:
            what = f"{form.kind.name.lower()} {attempt['metadata']['name']}"
            text = f"job {job} runs or waits; end it first with `kubectl -n {namespace} delete {what}`"
            raise Transient("JobRunning", text)
    # The newest goes last: cut off in between, the job is still as lost as it was.
    for form, attempt in found:
        api.delete(form.kind, namespace, attempt["metadata"]["name"], uid=attempt["metadata"]["uid"])
