"""One release as one row: everything that git alone can tell about it. Pure. What git cannot tell is None."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reconcilers.chronicle import Event, Proof
from specs.evidence import Evidence
from specs.modelspec import MAIN_METRIC
from specs.moments import iso
from specs.past import APPROVED_BY, merged_by, proposed_by, pull_claim

LEVEL = "0.95"
"""Of the intervals that are told."""


@dataclass(frozen=True)
class Measured:
    """One number of the golden set, with its 95 % interval where one was recorded."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        bounds = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.value:.4g}{bounds}"


@dataclass(frozen=True)
class Row:
    """A release, or the moment at which there was none any more (``version`` None)."""

    model: str
    version: int | None
    how: str
    when: str
    """UTC, ISO 8601, of the commit that released."""
    commit: dict[str, Any]
    proposed_by: str | None
    merged_by: str | None
    approved_by: list[str] | None
    pull_request: int | None
    pull_request_from: str
    """Where the number stands: ``trailer``, ``subject`` or ``body``; ``merge`` and empty where it stands nowhere."""
    replaced: int | None
    ended: str | None
    """None while it is the release."""
    ended_at: str | None
    ended_by: str | None
    """Full name of the commit."""
    run: str | None = None
    weights: str | None = None
    exports: dict[str, str] = field(default_factory=dict)
    evidence: str | None = None
    """``verified``, ``missing``, ``altered`` or ``unreadable``."""
    evidence_of: int | None = None
    """The earlier version with the same bytes whose evidence it is, for a rollback."""
    evidence_digest: str | None = None
    source: str | None = None
    """Commit that asked for the run."""
    data: str | None = None
    golden: str | None = None
    base: str | None = None
    """Name or digest of what training began with."""
    args: dict[str, Any] | None = None
    metric: str | None = None
    """The main one of the task."""
    value: float | None = None
    n: int | None = None
    """Golden images measured on."""
    metrics: dict[str, Measured] = field(default_factory=dict)


def row(event: Event) -> Row:
    """Tell one event."""
    step, claim, release = event.step, pull_claim(event.step), event.release
    end = event.ended_by
    told: dict[str, Any] = {
        "model": str(event.key), "version": release.version if release else None, "how": event.how,
        "when": stamp(step.commit.when),
        "commit": {name: getattr(step.commit, name) for name in ("sha", "author", "when", "subject")},
        "proposed_by": proposed_by(step) or None, "merged_by": merged_by(step) or None,
        "approved_by": sorted(set(step.said(APPROVED_BY))) or None,
        "pull_request": claim.number, "pull_request_from": claim.where, "replaced": event.replaced,
        "ended": event.ended or None, "ended_at": stamp(end.commit.when) if end else None,
        "ended_by": end.sha if end else None,
    }  # fmt: skip
    if release is not None:
        told |= {"run": release.run, "weights": release.weights, "exports": dict(release.exports)}
        proof = event.proof or Proof("missing", "")
        told |= {"evidence": proof.state, "evidence_of": proof.of, "evidence_digest": release.evidence}
        evidence = proof.evidence
        if evidence is not None and event.moment.after is not None:
            told |= _measured(evidence, MAIN_METRIC[event.moment.after.spec.task])
    return Row(**told)


def _measured(evidence: Evidence, metric: str) -> dict[str, Any]:
    inputs, found, data = evidence.inputs, evidence.evaluation, evidence.data
    model = inputs.get("model") if isinstance(inputs.get("model"), dict) else {}
    told: dict[str, Any] = {
        "source": evidence.source.commit, "data": data.train.digest if data.train else None,
        "golden": data.golden.digest if data.golden else None,
        "base": (model.get("name") or model.get("digest")) if model else None,
        "args": inputs.get("args") if isinstance(inputs.get("args"), dict) else None, "metric": metric,
    }  # fmt: skip
    if found is not None:
        bounds = {name: found.intervals.get(name, {}).get(LEVEL, (None, None)) for name in found.values}
        metrics = {name: Measured(value, *bounds[name]) for name, value in sorted(found.values.items())}
        told |= {"value": found.values.get(metric), "n": found.n, "metrics": metrics}
    return told


def stamp(when: int) -> str:
    """Give a Unix time as ISO 8601, UTC."""
    return iso(when)
