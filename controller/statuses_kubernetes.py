"""Status of ModelSpecs in a cluster: read from what the watch told, written as one server-side apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import ValidationError

from adapters.kubernetes_api import MODEL_SPEC, KubernetesApi
from controller.informer import Change, Informer
from specs.errors import Transient
from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus


class ClusterStatuses:
    """Keeps status in the ModelSpec's ``status``, which this controller owns as a whole."""

    def __init__(self, api: KubernetesApi, informer: Informer, tell: Callable[[Change], None]) -> None:
        """``tell`` is told where the answer to a write shows a spec that no watch has told of yet."""
        self._api = api
        self._informer = informer
        self._tell = tell

    def read(self, key: ModelKey) -> ModelStatus:
        """Give the last status, marked with the generation that is being looked at now."""
        live = self._informer.model(key)
        if live is None:
            return ModelStatus()
        return _parsed(live.status).model_copy(update={"observed_generation": live.generation})

    def write(self, key: ModelKey, status: ModelStatus) -> bool:
        """Apply a status if it says something new; True if it did. No-op where the model is gone."""
        live = self._informer.model(key)
        if live is None or status == _parsed(live.status):
            return False
        metadata = {"namespace": key.namespace, "name": key.name, "uid": live.uid}
        content = status.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        try:
            written = self._api.apply(MODEL_SPEC, {"metadata": metadata, "status": content}, force=True, status=True)
        except Transient as error:
            if error.reason == "KubernetesConflict":  # deleted meanwhile; the watch will say so
                raise Transient("ModelGone", f"{key} was deleted, or is another object now") from error
            raise
        # Our own change is taken in at once, so that it is no news when the watch tells of it. A spec that somebody
        # changed meanwhile comes with it: then the watch will bring nothing newer, and nobody else would tell.
        change = self._informer.saw(MODEL_SPEC, "MODIFIED", written)
        if change is not None and change.desired:
            self._tell(change)
        return True


def troubled(informer: Informer) -> Iterator[tuple[ModelKey, ModelStatus]]:
    """Give the models about which people may have to be told; the texts of all others are not even read."""
    for key in informer.models():
        live = informer.model(key)
        if live is not None and (_BAD.intersection(live.conditions) or b'"Firing"' in live.status):
            yield key, _parsed(live.status)


def told(informer: Informer) -> Iterator[tuple[ModelKey, ModelStatus]]:
    """Give the models that have signals, or conditions that are worth telling; likewise."""
    for key in informer.models():
        live = informer.model(key)
        if live is not None and (_BAD.intersection(live.conditions) or b'"signals":[{' in live.status):
            yield key, _parsed(live.status)


_BAD = frozenset({
    (str(ConditionType.STALLED), "True"), (str(ConditionType.GIT_BEHIND), "True"),
    (str(ConditionType.LIVE_GATE), "False"),
})  # fmt: skip
"""Conditions of which some are worth telling."""


def _parsed(text: bytes) -> ModelStatus:
    """Read a status; an empty one where it is none that this version understands."""
    try:
        return ModelStatus.model_validate_json(text)
    except ValidationError:
        return ModelStatus()
