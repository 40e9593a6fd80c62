"""A version beside what serves, in the same pods: written down as manifests, and read again. Touches no API.

Both are in the pod template, so that a pod is ready once it has loaded both. The share is not: it travels in a
ConfigMap that servers watch, and another one restarts no pod. Step and moment are notes on the Deployment, the last of
all to be written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

from adapters.kubernetes_api import Object
from specs.digests import canonical
from specs.placement import Shape
from specs.serving import ServerOptions
from specs.serving_facts import CanaryState, ServingTarget, Share

CANARY_VERSION = "trunkline.dev/canary-version"
CANARY_FILE = "trunkline.dev/canary-file"
"""Of the version beside what serves; absent where nothing is."""
CANARY_SHARE = "trunkline.dev/canary-share"
"""Its share, as JSON; on the Deployment alone."""
CANARY_SINCE = "trunkline.dev/canary-since"
"""Unix time since which that is so; likewise."""

TARGET = "TRUNKLINE_SERVING_TARGET"
"""Variable that tells a server what to serve, as JSON; ``canary`` in it is what it has beside that."""
SHARE_FILE = "TRUNKLINE_SHARE_FILE"
"""Variable that tells it where the share is."""
SHARE_KEY = "share.json"
"""Key of the ConfigMap that holds it."""
_FOLDER = "/etc/trunkline/share"
_VOLUME = "share"
_IDENTITY = ("version", "run", "weights", "file")


def told(target: ServingTarget) -> Object:
    """Give what a server must know about one version, as JSON values."""
    built = {"build": target.build} if target.build else {}
    return {field: getattr(target, field) for field in _IDENTITY} | built


def identity(canary: ServingTarget | None) -> dict[str, str]:
    """Give the notes by which pods with it are told from pods without."""
    return {CANARY_VERSION: str(canary.version), CANARY_FILE: canary.file} if canary is not None else {}


def standing(canary: ServingTarget, known: CanaryState | None, now: float) -> dict[str, str]:
    """Give the notes about its share; one that is in force already keeps its moment."""
    share = canary.share or Share(0)
    same = known is not None and (known.version, known.file, known.share) == (canary.version, canary.file, share)
    since = known.since if known is not None and same and known.since else now
    return {CANARY_SHARE: canonical(asdict(share)).decode(), CANARY_SINCE: repr(since)}


def read(deployment: Object) -> CanaryState | None:
    """Give what is beside what serves in the pods of a Deployment, as if it were not ready; None where nothing is."""
    return standing_of(deployment, CANARY_VERSION, CANARY_FILE)


def standing_of(deployment: Object, version_note: str, file_note: str) -> CanaryState | None:
    """Give likewise what the notes of these names on its pods are about."""
    pods = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    notes = deployment["metadata"].get("annotations") or {}
    version, file = str(pods.get(version_note, "")), str(pods.get(file_note) or "")
    if not version.isdecimal() or not file:
        return None
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        given = json.loads(notes[CANARY_SHARE])
        share = Share(int(given["step"]), int(given["weight"]), int(given["mirror"]))
        return CanaryState(int(version), file, share, since=float(notes[CANARY_SINCE]))
    return CanaryState(int(version), file, Share(0))


def share_data(version: int, share: Share) -> Object:
    """Give the data of the ConfigMap, which says whose share it is: no other version ever takes it for its own."""
    return {"data": {SHARE_KEY: canonical({"version": version, **asdict(share)}).decode()}}


def put_into(template: Object, config_map: str) -> None:
    """Let the pods of a template find the share. One that is not there blocks no pod, and sends nothing."""
    container = template["spec"]["containers"][0]
    source = {"name": config_map, "optional": True}
    template["spec"]["volumes"].append({"name": _VOLUME, "configMap": source})
    # A whole folder: a single file would be mounted as it was when the pod began.
    container["volumeMounts"].append({"name": _VOLUME, "mountPath": _FOLDER, "readOnly": True})
    variables = [*container["env"], {"name": SHARE_FILE, "value": f"{_FOLDER}/{SHARE_KEY}"}]
    container["env"] = sorted(variables, key=lambda variable: str(variable["name"]))


def stable_of(deployment: Object, shape: Shape, options: ServerOptions) -> ServingTarget | None:
    """Give what a Deployment serves, as its pods are told, in another shape and with other options; None where unknown.

    That is what a new version is put beside; the plan knows it by version and file alone.
    """
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        known: Mapping[str, object] = json.loads(next(v["value"] for v in variables if v["name"] == TARGET))
        return ServingTarget(
            str(known["name"]), int(str(known["version"])), str(known["run"]), str(known["weights"]),
            str(known["file"]), shape, options, build=str(known.get("build") or ""),
        )  # fmt: skip
    return None
