"""Rules for Prometheus, made from what ModelSpecs watch. Pure.

What Prometheus can say by itself (errors, latency, accuracy that was told, silence) it says from the servers' own
counts, so that it rings also while no controller works. Of the rest only the controller knows how golden looks: there a
rule rings when the controller says that the signal fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from specs.base import seconds
from specs.modelspec import ModelKey, Spec
from specs.monitoring import FOR_WINDOWS, MIN_SAMPLES, QUANTILE, Monitoring, Signal
from specs.names import serving_name
from specs.traffic import BY_STAGE, OURS, REQUESTS, TRUTH

FIRING = "trunkline_signal_firing"
"""Gauge of agent and operator: 1 while a signal fires.

Labels ``model`` (its name at the server), ``namespace``, ``name``, ``signal``.
"""
CONDITION = "trunkline_model_condition"
"""Gauge of agent and operator: a condition that somebody should know of; there only while it is so.

Labels ``model``, ``namespace``, ``name``, ``type``, ``reason``.
"""

Rule = dict[str, Any]
Group = dict[str, Any]


def group_of(key: ModelKey, spec: Spec) -> Group | None:
    """Give the rules of one model; None where it watches nothing."""
    watched = spec.monitoring
    if watched is None:
        return None
    rules = [_of_signal(key, signal, watched) for signal in watched.signals]
    if spec.serving is not None:
        rules += [_silence(key, watched), _behind(key)]
    return {"name": f"trunkline/{key}", "rules": rules}


def as_file(groups: Iterable[Group]) -> str:
    """Give a rule file, as ``rule_files`` of Prometheus' own configuration names it."""
    return _text({"groups": list(groups)})


def as_manifest(groups: Iterable[Group], namespace: str, name: str, labels: Mapping[str, str]) -> str:
    """Give a PrometheusRule, as the Prometheus operator takes it; ``labels`` are those that it selects by."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "trunkline", **labels}}
    return _text({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata,
        "spec": {"groups": list(groups)},
    })  # fmt: skip


def _of_signal(key: ModelKey, signal: Signal, watched: Monitoring) -> Rule:
    least = signal.min_samples or watched.min_samples or MIN_SAMPLES
    window, model = watched.window, f'model="{serving_name(*key)}"'
    if signal.type == "ErrorRate":
        ours = _grown(REQUESTS, model, window, f'outcome=~"{"|".join(OURS)}"')
        every = _grown(REQUESTS, model, window)
        says = "{{ $value | humanizePercentage }} of requests fail"
        return _rule(key, signal, watched, f"{ours} / {every} > {signal.max:g} and {every} >= {least}", says)
    if signal.type == "Accuracy":
        right = _grown(TRUTH, model, window, 'verdict="right"')
        known = _grown(TRUTH, model, window, 'verdict=~"right|wrong"')
        says = "{{ $value | humanizePercentage }} of predictions turned out to be right"
        return _rule(key, signal, watched, f"{right} / {known} < {signal.min:g} and {known} >= {least}", says)
    if signal.type == "Latency":
        share, total = signal.quantile or QUANTILE, f'{model},stage="total"'
        buckets = f"sum by (le) (increase({BY_STAGE.metric}_bucket{{{total}}}[{window}]))"
        number = f"sum(increase({BY_STAGE.metric}_count{{{total}}}[{window}]))"
        says = f"{100 * (1 - share):.3g} % of requests take longer than {{{{ $value | humanizeDuration }}}}"
        expression = f"histogram_quantile({share:g}, {buckets}) > {signal.ceiling:g} and on() {number} >= {least}"
        return _rule(key, signal, watched, expression, says)
    expression = f'max({FIRING}{{{model},signal="{signal.name}"}}) == 1'
    says = f"live traffic is not what the release was measured on ({signal.type})"
    return _rule(key, signal, watched, expression, says, held=True)


def _rule(
    key: ModelKey, signal: Signal, watched: Monitoring, expression: str, says: str, *, held: bool = False
) -> Rule:
    """Make a rule about a signal; ``held`` is one that the controller has held for its windows already."""
    bound = f"at least {signal.min:g}" if signal.min is not None else f"at most {signal.max}"
    what = f"The signal {signal.name} ({signal.type}) of {key} must be {bound} in windows of {watched.window}."
    return _alert(
        key, f"Trunkline{signal.type}", signal.name, expression, held="" if held else _held(watched),
        severity="warning", says=says, description=f"{what} `trunkline signals` tells more.",
    )  # fmt: skip


def _silence(key: ModelKey, watched: Monitoring) -> Rule:
    grown = _grown(REQUESTS, f'model="{serving_name(*key)}"', watched.window)
    what = f"Nobody has asked {key} anything for several windows of {watched.window}, or nobody scrapes its servers."
    return _alert(
        key, "TrunklineNoTraffic", "traffic", f"({grown} or on() vector(0)) == 0", held=_held(watched),
        severity="info", says="no live traffic", description=f"{what} Its signals say nothing meanwhile.",
    )  # fmt: skip


def _behind(key: ModelKey) -> Rule:
    return _alert(
        key, "TrunklineGitBehind", "release",
        f'max({CONDITION}{{model="{serving_name(*key)}",type="GitBehind"}}) == 1',
        held="", severity="critical", says="another release serves than git says",
        description="The release in git failed in live traffic or could not be loaded; the one before serves. Merge "
        "the rollback that was proposed, or fix the release.",
    )  # fmt: skip


def _alert(
    key: ModelKey, name: str, subject: str, expression: str, *, held: str, severity: str, says: str, description: str
) -> Rule:
    """Make a rule; an Alertmanager that the controller tells as well gets the same labels from it."""
    return {
        "alert": name, "expr": expression, **({"for": held} if held else {}),
        "labels": {"severity": severity, "namespace": key.namespace, "model": key.name, "subject": subject},
        "annotations": {
            "summary": f"{key}: {says}.", "description": description,
            "runbook": "docs/monitoring.md#when-an-alert-rings",
        },
    }  # fmt: skip


def _grown(metric: str, model: str, window: str, *more: str) -> str:
    return f"sum(increase({metric}{{{','.join((model, *more))}}}[{window}]))"


def _held(watched: Monitoring) -> str:
    """Give for how long an expression must be true, so that as many windows were bad as the spec says."""
    length = seconds(watched.window) * ((watched.for_windows or FOR_WINDOWS) - 1)
    return f"{round(length * 1000)}ms" if length % 1 else f"{length:.0f}s" if length else ""


def _text(plain: object) -> str:
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    return "# Made by `trunkline alerts rules`; do not edit.\n" + text
