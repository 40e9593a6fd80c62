"""A world for whoever has no store to ask: all that the target branch wants is done, and data is as it should be.

Asking the plan in it says what a change leads to, as far as the files alone can tell. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from reconcilers.actions import StartJob
from reconcilers.context import Context
from reconcilers.forecast import assume, imagined_dataset, untracked, without_expectations
from reconcilers.observed import DatasetFact, Observed
from reconcilers.plan import plan
from specs.data import Source
from specs.facts import SourcedSpec
from specs.modelspec import Spec
from specs.records import ArtifactRecord, ExportRecord, RunRecord
from specs.release import Pin
from specs.serving_facts import ServingState

_ROUNDS = 12
_IMAGINED = "imagined"


def converged(source: SourcedSpec, old: Spec | None, new: Spec, serving: ServingState | None) -> Observed:
    """Give the world in which ``old`` has converged, and what both releases pin exists, for asking about ``new``."""
    world = Observed(source=source, serving=serving)
    if old is not None:
        world = _with_release(world, old)
    if old is None or old.release != new.release:  # else its files are of the exports as they were
        world = _with_release(world, new)
    if old is not None:
        world = _done(_with_data(world, old), source, untracked(without_expectations(old)))
    return _with_data(world, new)


def _done(world: Observed, source: SourcedSpec, spec: Spec) -> Observed:
    """Let every job of a spec go well."""
    for _ in range(_ROUNDS):
        jobs = [action for action in plan(source.key, spec, world, 0.0).intended if isinstance(action, StartJob)]
        if not jobs:
            break
        for job in jobs:
            world = assume(world, job)
    return world


def _with_data(world: Observed, spec: Spec) -> Observed:
    train, golden, calibration = (
        _data(spec, source) if source else None
        for source in (spec.data.train, spec.data.golden, spec.data.calibration)
    )
    return replace(world, train=train, golden=golden, calibration=calibration)


def _data(spec: Spec, source: Source) -> DatasetFact | None:
    if source.digest is None:
        return None
    fact = imagined_dataset(spec.task, source.digest, [])
    return replace(fact, digest=source.digest) if source.in_store else fact


def _with_release(world: Observed, spec: Spec) -> Observed:
    for pin in spec.pins:
        world = _with_pin(world, spec, pin)
    return world


def _with_pin(world: Observed, spec: Spec, pin: Pin) -> Observed:
    """Believe what a release pins: a run made the weights, and the exports were made of them."""
    run = RunRecord(
        inputs_digest=pin.run, inputs={}, status="Succeeded", model=_IMAGINED, commit="", weights=pin.weights
    )
    artifacts = {
        file: ArtifactRecord(
            file=file, format="", task=spec.task, names=[], image_size=(0, 0), weights=pin.weights, self_tests=[]
        )
        for file in pin.exports.values()
    }
    digests = Context(world.source.key, spec, _with_data(world, spec), 0.0).export_digests
    exports = {}
    for export in spec.exports if pin.run == spec.inputs_digest else ():
        digest = digests[export.name]
        if export.name in pin.exports:
            exports[pin.weights, digest] = ExportRecord(
                weights=pin.weights, export_digest=digest, format=export.released_format, args=export.released_args,
                status="Succeeded",
                file=pin.exports[export.name],
            )  # fmt: skip
    return replace(
        world, runs={**world.runs, pin.run: run}, artifacts={**world.artifacts, **artifacts},
        exports={**exports, **world.exports},
    )  # fmt: skip
