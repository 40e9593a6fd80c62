"""Plays Argo CD: what the tracked branch says of ModelSpecs, the API server says too.

As Argo CD with server-side apply, automatic sync and pruning does it: one field manager, a tracking annotation,
foreground deletion of what left git, and no sync at all while a manifest cannot be read. It looks at heads of branches,
not at the cluster, so it heals no drift.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.support.apiserver import ApiServer
from tests.support.gitrepo import git

MANAGER = "argocd-controller"
TRACKING = "argocd.argoproj.io/tracking-id"
MODELS = "/apis/trunkline.dev/v1alpha1/{}modelspecs"
Object = dict[str, Any]


class Sync:
    """Syncs ModelSpecs below ``prefix`` of a branch of the bare repository ``hub``, as the user viewer.

    Models without a namespace go to ``namespace``. ``once`` syncs; between ``start`` and ``stop`` that happens by
    itself within a quarter of a second of a push.
    """

    def __init__(
        self, server: ApiServer, hub: Path, *, branch: str = "main", prefix: str = "", namespace: str = "default",
        app: str = "models",
    ) -> None:  # fmt: skip
        self._api = server.as_user("viewer")
        self._hub, self._ref, self._prefix = hub, f"refs/heads/{branch}", prefix.strip("/")
        self._namespace, self._app = namespace, app
        self.refused: dict[str, str] = {}
        """What the last sync could not apply: name (or file) to the reason, in the server's words."""
        self.synced = ""
        """The commit that was synced last, whole."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="sync", daemon=True)

    def once(self) -> None:
        """Sync the branch as it is now. httpx.HTTPError while the API server is away."""
        head = self._head()
        self.refused = {}
        wanted = self._wanted(head) if head else {}
        if not self.refused:
            for name, manifest in wanted.items():
                answer = self._api.apply(_path(*name), manifest, MANAGER)
                if answer.status_code in (400, 403, 409, 413, 422):
                    self.refused["/".join(name)] = answer.json()["message"]
                else:
                    answer.raise_for_status()
            self._prune(wanted.keys())
        if not self.refused:
            self.synced = head

    def start(self) -> Self:
        """Go on syncing by itself."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Sync no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(60)
        self._api.client.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _follow(self) -> None:
        tried = ""
        while not self._stopped.wait(0.2):
            try:
                head = self._head()
                if head not in (self.synced, tried):
                    self.once()
                    tried = head  # what the server refused, it refuses until the branch moves on
            except (httpx.HTTPError, AssertionError) as error:
                self.refused["sync"] = str(error)

    def _head(self) -> str:
        return git(self._hub, "for-each-ref", "--format=%(objectname)", self._ref)

    def _wanted(self, head: str) -> dict[tuple[str, str], Object]:
        """Read all ModelSpecs of a commit, marked as ours; by namespace and name."""
        found = {}
        names = git(self._hub, "ls-tree", "-r", "-z", "--name-only", head, "--", self._prefix or ".").split("\0")
        for path in (name for name in names if name.endswith((".yaml", ".yml"))):
            try:
                documents = list(yaml.safe_load_all(git(self._hub, "show", f"{head}:{path}")))
            except yaml.YAMLError as error:
                self.refused[path] = str(error)
                continue
            for manifest in documents:
                if isinstance(manifest, dict) and manifest.get("kind") == "ModelSpec":
                    metadata = manifest["metadata"]
                    metadata.setdefault("namespace", self._namespace)
                    name = (metadata["namespace"], metadata["name"])
                    metadata.setdefault("annotations", {})[TRACKING] = self._mark(*name)
                    found[name] = manifest
        return found

    def _prune(self, wanted: Any) -> None:
        """Delete what is marked as ours and is not wanted."""
        for model in self._api.items(MODELS.format("")):
            metadata = model["metadata"]
            name = (metadata["namespace"], metadata["name"])
            ours = metadata.get("annotations", {}).get(TRACKING) == self._mark(*name)
            if ours and name not in wanted and "deletionTimestamp" not in metadata:
                self._api.delete(_path(*name), "Foreground")

    def _mark(self, namespace: str, name: str) -> str:
        return f"{self._app}:trunkline.dev/ModelSpec:{namespace}/{name}"


def _path(namespace: str, name: str) -> str:
    return MODELS.format(f"namespaces/{namespace}/") + f"/{name}"
