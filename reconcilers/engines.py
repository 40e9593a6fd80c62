"""Engines work on one kind of device only: for which one each export is made, and who could not load its own. Pure."""

from __future__ import annotations

from reconcilers.observed import Observed
from specs.engines import MACHINE_BOUND, binding
from specs.modelspec import Spec


def refusing(spec: Spec, observed: Observed) -> dict[str, str]:
    """Give what the device is like that cannot load the released engine, made for another kind; else nothing.

    An engine that was made for just this device failed for another reason, whatever the words.
    """
    release, serving, state = spec.release, spec.serving, observed.serving
    file = release.exports.get(serving.export) if release and serving else None
    if state is None or file is None or state.failed_file != file:
        return {}
    device, artifact = binding(state.refused_by), observed.artifacts.get(file)
    return {} if artifact is not None and artifact.made_for == device else device


def is_circle(spec: Spec, observed: Observed, device: dict[str, str]) -> bool:
    """Whether the release before, of the same weights, was made for this device: one engine cannot serve two kinds."""
    release, serving = spec.release, spec.serving
    previous = release.previous if release else None
    if release is None or serving is None or previous is None or previous.weights != release.weights:
        return False
    artifact = observed.artifacts.get(previous.exports.get(serving.export, ""))
    return artifact is not None and artifact.made_for == device


def made_for(spec: Spec, observed: Observed) -> dict[str, dict[str, str]]:
    """Give what a device must be like by the name of each export that is made for one kind: the one that serves.

    The device says so once, when it cannot load an engine. From then on the released engine remembers it, so that
    whoever asks later, and whatever is trained later, gets the same answer.
    """
    release, serving = spec.release, spec.serving
    if release is None:
        return {}
    device = refusing(spec, observed)
    found: dict[str, dict[str, str]] = {}
    for export in spec.exports:
        if export.released_format not in MACHINE_BOUND:
            continue
        artifact = observed.artifacts.get(release.exports.get(export.name, ""))
        wanted = dict(artifact.made_for) if artifact else {}
        if serving and export.name == serving.export and device and not is_circle(spec, observed, device):
            wanted = device
        if wanted:
            found[export.name] = wanted
    return found
