"""Which repository, and which folder of it, a namespace's models come from, and where their proposals go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.provenance_git import GitProvenance
from controller.binding_rules import ALL
from controller.passes import Passes
from controller.trunk import Trunk
from specs.facts import Origin
from specs.modelspec import ModelKey


@dataclass(frozen=True)
class Site:
    """One repository and tracked branch: looked at once for all that are bound to it, whatever their folders."""

    trunk: Trunk
    provenance: GitProvenance
    passes: Passes
    """Over a loop whose repository and forge are this one's."""


@dataclass(frozen=True)
class Binding:
    """A folder of a site."""

    site: Site
    folder: str
    """Files elsewhere have no say; empty means all of the repository."""
    place: str
    """In words."""

    def origin(self, key: ModelKey, digest: str) -> Origin:
        """Say how a live spec, by its ``desired_digest``, stands to what this folder says and said."""
        return self.site.provenance.origin(key, digest, self.folder)

    def blob(self, path: str) -> str:
        """Give the git name of a file's content now; empty where there is none, or where it has no say."""
        return self.site.provenance.blob(path) if not self.folder or path.startswith(f"{self.folder}/") else ""


class Bindings:
    """Answers for all namespaces. ``by_namespace`` may have ``*``, for those that it does not name."""

    def __init__(self, by_namespace: Mapping[str, Binding]) -> None:
        self._by_namespace = dict(by_namespace)
        self.sites = tuple({id(each.site): each.site for each in by_namespace.values()}.values())
        """Each once."""

    def of(self, namespace: str) -> Binding | None:
        """Give a namespace's binding; None where nothing is bound to it, so that nothing is done there."""
        return self._by_namespace.get(namespace) or self._by_namespace.get(ALL)
