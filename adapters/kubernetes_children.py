"""Objects that go with ModelSpecs, together with who owns them now."""

from __future__ import annotations

from adapters.kubernetes_api import KubernetesApi, Object
from adapters.kubernetes_owned import OwnedObjects, is_ours
from adapters.kubernetes_pods import Owner, Owners
from specs.errors import Transient
from specs.modelspec import ModelKey


class Children(OwnedObjects):
    """What belongs to models in one cluster."""

    def __init__(self, api: KubernetesApi, owners: Owners) -> None:
        super().__init__(api)
        self._owners = owners

    def owner(self, key: ModelKey) -> Owner:
        """Give the ModelSpec as it lives now; Transient ``ModelGone`` where there is none."""
        owner = self._owners(key)
        if owner is None:
            raise Transient("ModelGone", f"there is no ModelSpec {key} in the cluster any more; nothing is rolled out")
        return owner

    def mine(self, found: Object | None, key: ModelKey, component: str) -> bool:
        """Whether there is such an object, and it was made for the model as it lives now."""
        return found is not None and is_ours(found, key, component, self._owners(key))
