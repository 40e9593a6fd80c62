"""What a release asks a host to serve, whether that serves, and why a pinned release cannot be what it claims. Pure."""

from __future__ import annotations

from reconcilers.context import Context
from specs.base import seconds
from specs.builds import build_word
from specs.modelspec import Spec
from specs.monitoring import FOR_WINDOWS
from specs.names import serving_name
from specs.placement import Placement, Shape
from specs.release import Pin
from specs.serving import ServerOptions, Serving
from specs.serving_facts import ServingState, ServingTarget


def bake_time(spec: Spec) -> float:
    """Give the seconds for which a new release is on trial in live traffic; 0 where it is not.

    Without ``serving.strategy.bakeTime``, models whose traffic is watched have as long as a signal takes to fire; but
    where a release takes over in steps, it was judged in them already.
    """
    strategy, monitoring = spec.serving.strategy if spec.serving else None, spec.monitoring
    if strategy is not None and strategy.bake_time is not None:
        return seconds(strategy.bake_time)
    if monitoring is None or spec.serving is None or (strategy is not None and strategy.canary is not None):
        return 0.0
    return seconds(monitoring.window) * (monitoring.for_windows or FOR_WINDOWS)


def options_of(spec: Spec) -> ServerOptions:
    """Give what the server does beside answering."""
    batching = spec.serving.batching if spec.serving else None
    return ServerOptions(labelling=spec.labelling, standby=bake_time(spec), batching=batching)


def target_of(name: str, release: Pin, spec: Spec, *, standby: float | None = None) -> ServingTarget:
    """Give what must serve when ``release`` is the release; ``standby`` in seconds, by default as long as its trial."""
    serving = spec.serving
    assert serving is not None  # noqa: S101 - for type checkers; nobody asks without
    placement = Placement.of(serving.resources, serving.node_selector)
    replicas = serving.replicas if serving.replicas is not None else 1
    backend = serving.backend or "Deployment"
    shape = Shape(replicas, placement, serving.autoscaling, backend, serving.gateway)
    options = options_of(spec)
    options = options if standby is None else options.model_copy(update={"standby": standby})
    file = release.exports[serving.export]
    made = next(each for each in spec.exports if each.name == serving.export)
    build = build_word(made.format, made.args) if made.build_on == "Device" else ""
    return ServingTarget(
        name, release.version, release.run, release.weights, file, shape, options, build=build
    )  # fmt: skip


def on_devices(serving: Serving) -> bool:
    """Whether devices alone serve: those of ``edge``, unless replicas are asked for beside them."""
    return serving.edge is not None and not serving.replicas


def serves(state: ServingState, target: ServingTarget) -> bool:
    """Whether exactly this serves, in the shape and with the options that are asked for."""
    same = state.ready and (state.file, state.version) == (target.file, target.version)
    same = same and state.build in (None, target.build)
    same = same and (state.shape is None or state.shape == target.shape.digest)
    return same and (state.options is None or state.options == target.options.digest)


def under_way(state: ServingState | None, target: ServingTarget) -> bool:
    """Whether the host works towards exactly this by itself."""
    if state is None or (state.asked_version, state.asked) != (target.version, target.file):
        return False
    return state.shape == target.shape.digest and state.options in (None, target.options.digest)


def fallback_of(ctx: Context, target: ServingTarget) -> tuple[ServingTarget | None, str]:
    """Give what to fall back to from the release, or why there is nothing. It needs nothing that stands by for it."""
    release, serving = ctx.spec.release, ctx.spec.serving
    previous = release.previous if release else None
    if release is None or serving is None or previous is None:
        return None, "There is no previous release to fall back to."
    if previous.exports.get(serving.export) == target.file:
        return None, f"The previous release, v{previous.version}, has the same bytes."
    if any(denied.run == previous.run for denied in release.deny or ()):
        return None, f"The previous release, v{previous.version}, is on spec.release.deny."
    fault = release_fault(ctx, previous, serving)
    if fault is not None:
        return None, f"There is nothing to fall back to: {fault}"
    return target_of(target.name, previous, ctx.spec, standby=0.0), ""


def wanted(ctx: Context) -> ServingTarget | None:
    """Give what must serve now; None where nothing must, or nothing can."""
    release, serving = ctx.spec.release, ctx.spec.serving
    if release is None or serving is None or release_fault(ctx, release, serving) is not None:
        return None
    if on_devices(serving):
        return None
    return target_of(serving_name(*ctx.key), release, ctx.spec)


def release_fault(ctx: Context, release: Pin, serving: Serving) -> str | None:
    """Say why a pinned release cannot be what it claims; a hand-edited one often is not."""
    run = ctx.observed.runs.get(release.run)
    if run is None:
        return f"spec.release.run {release.run} is not in the store; pin a run that exists, or revert the change"
    if run.weights != release.weights:
        return f"spec.release.weights {release.weights} are not what run {release.run} made ({run.weights})"
    file = release.exports.get(serving.export)
    if file is None:
        names = ", ".join(sorted(release.exports))
        return f"spec.release.exports has no {serving.export}, which spec.serving.export names; it has {names}"
    artifact = ctx.observed.artifacts.get(file)
    if artifact is None:
        return f"spec.release.exports.{serving.export} {file} is not in the store; pin one that exists"
    if artifact.weights != release.weights:
        return f"spec.release.exports.{serving.export} {file} was not made from weights {release.weights}"
    return None
