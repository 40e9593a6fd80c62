"""Gates: bounds on measured numbers, judged without a clock or a world, so that an auditor can judge them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specs.exports import OF_EXPORTS, Gate
from specs.records import ComparisonRecord, EvaluationRecord


@dataclass(frozen=True)
class Measured:
    """All numbers that gates may speak of, of one subject (weights or one export)."""

    evaluation: EvaluationRecord | None = None
    comparison: ComparisonRecord | None = None
    """With the champion; None while there is none."""
    extra: Mapping[str, float] | None = None
    """``latency/…``, ``artifact/…``, ``memory/…`` and ``parity/…`` of an export."""


@dataclass(frozen=True)
class GateResult:
    """One gate's verdict. ``value`` is what was compared with ``bound``."""

    name: str
    metric: str
    passed: bool
    value: float | None
    bound: float
    text: str
    """A sentence such as ``metrics/accuracy_top1 0.312 is below 0.95``."""


def judge(gate: Gate, measured: Measured, *, has_champion: bool) -> GateResult:
    """Judge one gate. A number that was not measured fails it; a regression without a champion passes."""
    if gate.max_regression is not None:
        return _judge_regression(gate, measured, gate.max_regression, has_champion=has_champion)
    low = gate.min is not None
    bound = gate.min if gate.min is not None else gate.max or 0.0  # the model's validator: exactly one is given
    value = _value(gate, measured, low=low)
    label = _label(gate)
    if value is None:
        text = f"{label} was not measured; {_why(gate, measured)}"
        return GateResult(gate.name, gate.metric, False, None, bound, text)
    passed = value >= bound if low else value <= bound
    word = (">=" if low else "<=") if passed else ("is below" if low else "is above")
    return GateResult(gate.name, gate.metric, passed, value, bound, f"{label} {shown(value, bound)} {word} {bound:g}")


def shown(value: float, bound: float) -> str:
    """Show a number with four digits, or with more where it would look like the bound and is not."""
    text = f"{value:.4g}"
    return text if value == bound or text != f"{bound:.4g}" else f"{value:.12g}"


def _label(gate: Gate) -> str:
    parts = [gate.metric]
    if gate.class_:
        parts.append(f"of class {gate.class_}")
    if gate.export:
        parts.append(f"of export {gate.export}")
    if gate.confidence:
        parts.append(f"(safe side at {gate.confidence:g})")
    return " ".join(parts)


def _why(gate: Gate, measured: Measured) -> str:
    """Say what the gate could have asked for instead."""
    if gate.export is None and gate.metric.startswith(OF_EXPORTS):
        return "only exports have it; name one (export)"
    if gate.class_ and gate.confidence:
        return "single classes have no intervals; remove class or confidence"
    evaluation = measured.evaluation
    names: set[str] = set()
    if gate.class_:
        names |= set(evaluation.per_class.get(gate.class_, {}) if evaluation else ())
    elif gate.confidence:
        names |= set(evaluation.intervals if evaluation else ())
    else:
        names |= set(evaluation.values if evaluation else ()) | set(measured.extra or ())
    known = ", ".join(sorted(names)) or "nothing"
    return f"measured with an interval: {known}" if gate.confidence else f"measured: {known}"


def _value(gate: Gate, measured: Measured, *, low: bool) -> float | None:
    """Give the number to compare: the point estimate, or the interval's end on the safe side."""
    if measured.extra and gate.metric in measured.extra:
        return None if gate.confidence or gate.class_ else measured.extra[gate.metric]
    evaluation = measured.evaluation
    if evaluation is None or (gate.class_ and gate.confidence):
        return None  # intervals are recorded over all classes only; a point is no safe side
    if gate.class_:
        return evaluation.per_class.get(gate.class_, {}).get(gate.metric)
    if gate.confidence:
        interval = evaluation.intervals.get(gate.metric, {}).get(f"{gate.confidence:g}")
        return None if interval is None else interval[0 if low else 1]
    return evaluation.values.get(gate.metric)


def _judge_regression(gate: Gate, measured: Measured, allowed: float, *, has_champion: bool) -> GateResult:
    label = _label(gate)
    if not has_champion:
        text = f"{label}: no other weights are released to compare with"
        return GateResult(gate.name, gate.metric, True, None, -allowed, text)
    comparison = measured.comparison
    table = (comparison.per_class.get(gate.class_, {}) if gate.class_ else comparison.differences) if comparison else {}
    difference = table.get(gate.metric)
    value: float | None = None
    if difference is not None:
        interval = difference.intervals.get(f"{gate.confidence:g}") if gate.confidence else None
        value = interval[0] if interval else (None if gate.confidence else difference.delta)
    if value is None:
        return GateResult(gate.name, gate.metric, False, None, -allowed, f"{label} was not compared with the champion")
    passed = value >= -allowed
    word = "no worse than" if passed else "worse than"
    text = f"{label} against the champion {_signed(value, -allowed)}, {word} {-allowed:+g}"
    return GateResult(gate.name, gate.metric, passed, value, -allowed, text)


def _signed(value: float, bound: float) -> str:
    text = shown(value, bound)
    return text if text.startswith("-") else f"+{text}"
