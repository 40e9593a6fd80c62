"""Pods, owners and conditions as controllers write them."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def reference(owner: Object) -> Object:
    """Give the entry that makes an object the owner of another."""
    metadata = owner["metadata"]
    return {"apiVersion": owner.get("apiVersion", "apps/v1"), "kind": owner.get("kind", "Deployment"),
            "name": metadata["name"], "uid": metadata["uid"], "controller": True}  # fmt: skip


def condition(kind: str, true: bool, reason: str, message: str = "") -> Object:  # noqa: FBT001  as it is written
    """Give a condition; what is empty is left out."""
    found = {"type": kind, "status": "True" if true else "False", "reason": reason, "message": message}
    return {key: value for key, value in found.items() if value}


def end(pod: Object) -> Object:
    """Give how the container of a pod ended; empty where it did not."""
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if "terminated" in (status.get("lastState") or {}):
            return dict(status["lastState"]["terminated"])
    return {}


def is_ready(pod: Object) -> bool:
    """Whether a pod says that it is ready."""
    told = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in told)
