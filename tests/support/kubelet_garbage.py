"""The garbage collector of the process kubelet: what lost its owner goes, or is let go."""

from __future__ import annotations

from typing import Any

from tests.support.kubelet_mirror import ROOTS, Mirror, Trouble

Object = dict[str, Any]
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


class Garbage:
    """Follows owner references between the kinds that are watched."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def collect(self) -> None:
        """Look at everything that has an owner, once; and at owners that wait for it."""
        live = {obj["metadata"]["uid"]: (kind, obj) for kind in ROOTS for obj in self._mirror.all(kind)}
        waiting = {uid: found for uid, found in live.items() if found[1]["metadata"].get("deletionTimestamp")}
        for kind, obj in list(self._mirror.owned()):
            metadata = obj["metadata"]
            owners = metadata["ownerReferences"]
            orphaned = [o for o in owners if o["uid"] in waiting and _waits(waiting[o["uid"]][1], _ORPHAN)]
            leaving = [o for o in owners if o["uid"] in waiting and _waits(waiting[o["uid"]][1], _FOREGROUND)]
            if orphaned:
                kept = [owner for owner in owners if owner not in orphaned]
                await self._mirror.merge(kind, obj, {"metadata": {"ownerReferences": kept or None}})
            elif not metadata.get("deletionTimestamp"):
                gone = [await self._is_gone(metadata["namespace"], owner, live) for owner in owners]
                if all(gone) or len(leaving) == len(owners):
                    await self._mirror.delete(kind, obj)
        for uid, (kind, obj) in waiting.items():
            await self._release(uid, kind, obj)

    async def _release(self, uid: str, kind: str, obj: Object) -> None:
        """Let an owner go that waited until nothing is left that is its own."""
        finalizers = obj["metadata"].get("finalizers", [])
        left = [name for name in finalizers if name not in (_FOREGROUND, _ORPHAN)]
        blocking = _ORPHAN in finalizers
        children = [owner for _, child in self._mirror.owned() for owner in child["metadata"]["ownerReferences"]]
        waits = any(o["uid"] == uid and (blocking or o.get("blockOwnerDeletion")) for o in children)
        if left != finalizers and not waits:
            await self._mirror.finalizers(kind, obj, left)

    async def _is_gone(self, namespace: str, owner: Object, live: dict[str, Any]) -> bool:
        """Whether an owner is gone for sure: the watches do not know it, and neither does the server."""
        if owner["uid"] in live or owner["kind"] not in ROOTS:
            return False
        root, _, plural = ROOTS[owner["kind"]].rpartition("/")
        try:
            found = await self._mirror.ask("GET", f"{root}/namespaces/{namespace}/{plural}/{owner['name']}")
        except Trouble as trouble:
            return '"reason":"NotFound"' in str(trouble).replace(" ", "")
        return bool(found["metadata"]["uid"] != owner["uid"])


def _waits(obj: Object, finalizer: str) -> bool:
    return finalizer in obj["metadata"].get("finalizers", ())
