"""Kubernetes Events: one for each condition that changed, so that ``kubectl describe`` tells the story."""

from __future__ import annotations

import logging

from adapters.kubernetes_api import EVENT, KubernetesApi
from controller.informer import Informer
from controller.passes import stamp
from specs.digests import digest_of
from specs.errors import TrunklineError
from specs.modelspec import API_VERSION, KIND, ModelKey
from specs.status import Condition, ConditionType, ModelStatus

log = logging.getLogger("trunkline.events")

COMPONENT = "trunkline-operator"
_MESSAGE_LIMIT = 1000
_TOLD_ELSEWHERE = (ConditionType.READY, ConditionType.RECONCILING)
"""What they say, another condition says too, and longer."""
_EXPECTED = tuple(
    type_ for type_ in ConditionType if type_ not in (*_TOLD_ELSEWHERE, ConditionType.STALLED, ConditionType.SERVING)
)
"""That these are so from the beginning is no news; that they become so, or are not, is."""


class Events:
    """Tells about transitions. Best effort: an event that is lost changes nothing."""

    def __init__(self, api: KubernetesApi, informer: Informer) -> None:
        self._api = api
        self._informer = informer

    def tell(self, key: ModelKey, before: ModelStatus, now: ModelStatus) -> None:
        """Post what changed between two statuses. The same transition told twice is one event."""
        live = self._informer.model(key)
        if live is None:
            return
        for condition in changed(before, now):
            try:
                self._api.create(EVENT, _event(key, live.uid, before, condition))
            except TrunklineError as error:
                log.warning("an event about %s was not posted: %s", key, error.message)
                return


def changed(before: ModelStatus, now: ModelStatus) -> list[Condition]:
    """Give the conditions that became something else; those that went away say nothing."""
    found = []
    for condition in now.conditions:
        old = before.condition(condition.type)
        same = old is not None and (old.status, old.reason) == (condition.status, condition.reason)
        dull = old is None and condition.status == "True" and condition.type in _EXPECTED
        if not same and not dull and condition.type not in _TOLD_ELSEWHERE:
            found.append(condition)
    return found


def _event(key: ModelKey, uid: str, before: ModelStatus, condition: Condition) -> dict[str, object]:
    old = before.condition(condition.type)
    # Named after the transition: the time of the state before tells it from the same one an hour ago.
    identity = [uid, condition.type, condition.status, condition.reason, old.model_dump(mode="json") if old else None]
    moment = stamp()
    text = condition.message or f"{condition.type} is {condition.status}"
    warning = condition.type is ConditionType.STALLED
    return {
        "metadata": {"namespace": key.namespace, "name": f"{key.name}.{digest_of(identity)[7:23]}"},
        "involvedObject": {
            "apiVersion": API_VERSION, "kind": KIND, "namespace": key.namespace, "name": key.name, "uid": uid,
        },
        "type": "Warning" if warning else "Normal", "reason": condition.reason, "message": text[:_MESSAGE_LIMIT],
        "action": str(condition.type), "source": {"component": COMPONENT}, "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT, "count": 1, "firstTimestamp": moment, "lastTimestamp": moment,
    }  # fmt: skip
