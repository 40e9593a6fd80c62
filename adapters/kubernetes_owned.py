"""Objects in a cluster that go with a ModelSpec: made, changed and deleted, and never somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.kubernetes_api import Kind, KubernetesApi, Object
from adapters.kubernetes_pods import Owner, belongs, reference, selector
from specs.modelspec import ModelKey


class OwnedObjects:
    """Writes what is asked for under the names that are asked for. Taken where one of them is somebody else's."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def live(self, kind: Kind, owner: Owner, name: str) -> Object | None:
        """Give an object as it is now; Taken where it is somebody else's."""
        found = self._api.get(kind, owner.key.namespace, name)
        return found if found is not None and belongs(found, owner) else None

    def apply(self, kind: Kind, manifest: Object, live: Object | None) -> Object:
        """Apply; over what others set only where the object is known to be ours, and is still that very object."""
        if live is None:
            return self._api.apply(kind, manifest)
        metadata = {**manifest["metadata"], "uid": live["metadata"]["uid"]}
        return self._api.apply(kind, {**manifest, "metadata": metadata}, force=True)

    def settle(self, kind: Kind, owner: Owner, name: str, component: str, wanted: Object | None) -> None:
        """Make an object what it must be, or see to it that there is none of ours."""
        if wanted is not None:
            self.apply(kind, wanted, self.live(kind, owner, name))
        else:
            self.remove(kind, owner.key, name, component)

    def remove(self, kind: Kind, key: ModelKey, name: str, component: str) -> None:
        """Delete an object, unless it is somebody else's; no-op where it is gone."""
        found = self._api.get(kind, key.namespace, name)
        if found is None or not is_ours(found, key, component):
            return
        metadata = found["metadata"]
        if not metadata.get("deletionTimestamp"):
            self._api.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])


def is_ours(found: Object, key: ModelKey, component: str, owner: Owner | None = None) -> bool:
    """Whether an object was made for this model, by its labels and its owner, if it has one."""
    metadata: Mapping[str, Any] = found["metadata"]
    labels = metadata.get("labels") or {}
    if selector(key, component).items() - labels.items():
        return False
    owners = [o for o in metadata.get("ownerReferences") or () if o.get("controller")]
    wanted = reference(owner or Owner(key, ""))
    fields = ("kind", "name", "uid") if owner else ("kind", "name")
    return all(o.get(field) == wanted[field] for o in owners for field in fields)
