"""Was a release trained again the same? Records of then and now in, a verdict with its reasons out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from specs.exports import Gate
from specs.modelspec import MAIN_METRIC, Task
from specs.records import Environment, EvaluationRecord, ExportRecord, RunRecord

LEVEL = "0.95"
"""The recorded interval that counts."""
_TRAINS = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python", "opencv-python-headless", "pillow")
"""Packages that are named first where versions differ: they decide weights."""


class Verdict(StrEnum):
    """What came of it."""

    IDENTICAL = "identical"
    """The same bytes."""
    WITHIN = "within"
    """Other bytes, and every metric that counts lies in the interval recorded then."""
    OUTSIDE = "outside"
    """Other bytes, and a metric that counts lies outside."""
    UNKNOWN = "unknown"
    """Other bytes, and nothing was measured that could be compared."""


@dataclass(frozen=True)
class Difference:
    """Something about the environment that is not as it was."""

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class MetricAgain:
    """One metric of the weights on golden, then and now."""

    name: str
    then: float
    interval: tuple[float, float] | None
    """At 95 %; None where none was recorded."""
    now: float | None
    counts: bool
    """Whether it decides: the task's main metric, and all that gates judge."""

    @property
    def inside(self) -> bool:
        """Whether the value of now lies in the interval of then; rounding in the last digit does not count."""
        if self.now is None:
            return False
        low, high = self.interval or (self.then, self.then)
        return low - 1e-9 <= self.now <= high + 1e-9


@dataclass(frozen=True)
class ExportAgain:
    """One export, then and now. ``now`` is None where it was not made again."""

    name: str
    then: str
    now: str | None
    trouble: str = ""


@dataclass(frozen=True)
class Reproduction:
    """The answer."""

    verdict: Verdict
    sentence: str
    weights: tuple[str, str]
    """Digests, then and now."""
    environment: tuple[Difference, ...]
    """Empty where it was the same, as far as it is recorded."""
    metrics: tuple[MetricAgain, ...] = ()
    exports: tuple[ExportAgain, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the release was reproduced: bit for bit, or within what was measured then."""
        exported = all(export.now in (export.then, None) for export in self.exports)
        return (self.verdict is Verdict.IDENTICAL and exported) or self.verdict is Verdict.WITHIN


def compare(
    then: RunRecord, now: RunRecord, measured: tuple[EvaluationRecord | None, EvaluationRecord | None],
    task: Task, gates: tuple[Gate, ...], exports: tuple[ExportAgain, ...] = (),
) -> Reproduction:  # fmt: skip
    """Compare two trainings of the same inputs; ``measured`` are the evaluations of their weights on golden."""
    weights = (then.weights or "", now.weights or "")
    where = differences(then, now)
    known = _known(then, where)
    if weights[0] == weights[1]:
        bad = [e.name for e in exports if e.now not in (e.then, None)]
        more = f", but export {', '.join(bad)} has other bytes" if bad else ""
        return Reproduction(Verdict.IDENTICAL, f"bit for bit the same weights{more}; {known}", weights, where,
                            exports=exports)  # fmt: skip
    metrics = _metrics(measured, task, gates)
    verdict = _verdict(metrics)
    outside = ", ".join(metric.name for metric in metrics if metric.counts and not metric.inside)
    sentence = {
        Verdict.WITHIN: "other weights, and every metric that counts lies in its recorded 95 % interval",
        Verdict.OUTSIDE: f"other weights, and outside of what was recorded: {outside}",
        Verdict.UNKNOWN: "other weights, and no recorded measurement on golden to compare them by",
    }[verdict]
    unsteady = "" if where else "; training these inputs is not deterministic on this platform, or the record is wrong"
    if then.course != now.course or then.resumed_from:
        unsteady = f"; it was trained {then.course or 'in one go'}, and now {now.course or 'in one go'}"
    return Reproduction(verdict, f"{sentence}; {known}{unsteady}", weights, where, metrics)


def _known(then: RunRecord, where: tuple[Difference, ...]) -> str:
    if where:
        return f"the environment differs in {len(where)} thing{'s'[: len(where) != 1]}"
    return "the environment is the same" if then.environment else "nothing is recorded about the environment"


def _metrics(
    measured: tuple[EvaluationRecord | None, EvaluationRecord | None], task: Task, gates: tuple[Gate, ...]
) -> tuple[MetricAgain, ...]:
    old, new = measured
    if old is None or new is None:
        return ()
    wanted = {MAIN_METRIC[task], *(gate.metric for gate in gates if gate.needs_golden)}
    return tuple(
        MetricAgain(name, value, old.intervals.get(name, {}).get(LEVEL), new.values.get(name), name in wanted)
        for name, value in sorted(old.values.items())
    )


def _verdict(metrics: tuple[MetricAgain, ...]) -> Verdict:
    counted = [metric for metric in metrics if metric.counts]
    if not counted:
        return Verdict.UNKNOWN
    return Verdict.WITHIN if all(metric.inside for metric in counted) else Verdict.OUTSIDE


def differences(then: RunRecord, now: RunRecord) -> tuple[Difference, ...]:
    """Give what is not as it was: machine, interpreter, packages (those that train first), base model."""
    found = []
    if then.base_model != now.base_model:
        found.append(Difference("base model", then.base_model or "–", now.base_model or "–"))
    if then.environment is None or now.environment is None:
        words = ["recorded" if record.environment else "not recorded" for record in (then, now)]
        return (*found, Difference("environment", *words)) if words[0] != words[1] else tuple(found)
    for name in ("python", "platform", "device", "cpu", "cores"):
        old, new = (str(getattr(record.environment, name)) for record in (then, now))
        if old != new:
            found.append(Difference(name, old or "–", new or "–"))
    return (*found, *_packages(then.environment, now.environment))


def _packages(then: Environment, now: Environment) -> list[Difference]:
    old, new = _versions(then.packages), _versions(now.packages)
    names = [name for name in {*old, *new} if old.get(name) != new.get(name)]
    names.sort(key=lambda name: (name not in _TRAINS, name))
    return [Difference(name, old.get(name, "–"), new.get(name, "–")) for name in names]


def _versions(packages: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in packages.items()}


def export_again(name: str, then: ExportRecord, now: ExportRecord | None) -> ExportAgain:
    """Compare one export; why it could not be made again is told where it could not."""
    trouble = "" if now is None or now.status == "Succeeded" else f"{now.reason}: {now.message}"
    return ExportAgain(name, then.file or "", now.file if now else None, trouble)
