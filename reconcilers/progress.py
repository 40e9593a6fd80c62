"""How far running jobs are: what they report, and as much of it as a status should say.

A job reports every second. A status is written for everybody who watches, ten thousand models at a time: it says a new
epoch once a fiftieth of the way is gone, or the phase is another, and nothing at all about jobs that do not run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from reconcilers.ports import Store
from specs.facts import JobPhase, JobState
from specs.modelspec import MAIN_METRIC, Task
from specs.records import Progress, progress_key
from specs.status import JobProgress

STEP = 0.02
"""Part of the way after which a status says how far it is now."""
_METRICS = 3
_MOST = 10**15
_LONGEST = 80
_WITHIN = {"validating": "training"}
"""Phases that come and go with every epoch."""
_ROUNDED = ((120, 10), (3600, 60), (36_000, 600))
"""Up to so many seconds left, they are rounded to so many."""


def progress_of(store: Store, job: str) -> Progress | None:
    """Read what a job last said; None where it said nothing that can be shown."""
    text = store.read(progress_key(job))
    return _decoded(text) if text is not None else None


def reported(store: Store, jobs: Iterable[JobState]) -> dict[str, Progress]:
    """Read what the running ones of ``jobs`` last said, by name; what an earlier attempt said is none of it."""
    found = {}
    for state in jobs:
        progress = progress_of(store, state.name) if state.phase is JobPhase.RUNNING else None
        if progress is not None and not _is_older(progress, state.started):
            found[state.name] = progress
    return found


def told(found: Mapping[str, Progress], task: Task, before: Sequence[JobProgress]) -> list[JobProgress]:
    """Give what a status says of each job, sorted by name: what it said ``before`` while that is near enough."""
    known = {each.job: each for each in before}
    fresh = (shown(name, found[name], task) for name in sorted(found))
    return [old if (old := known.get(new.job)) is not None and _is_near(old, new) else new for new in fresh]


def shown(job: str, progress: Progress, task: Task | None = None) -> JobProgress:
    """Give how far a job is, for people: rounded, with the metrics that matter most for ``task`` first."""
    phase = _WITHIN.get(progress.phase, progress.phase)
    first = MAIN_METRIC[task] if task is not None else ""
    names = sorted(progress.metrics, key=lambda name: (name != first, not name.startswith("metrics/"), name))
    left = _rounded(progress.eta_seconds)
    return JobProgress(
        job=job, phase=phase, epoch=progress.epoch, epochs=progress.epochs, eta_seconds=left,
        metrics={name: float(f"{progress.metrics[name]:.4g}") for name in names[:_METRICS]},
        text=_sentence(phase, progress, left),
    )  # fmt: skip


def _decoded(text: bytes) -> Progress | None:
    """Read what a job said; None where it says nothing: it is of another version, or spoilt, and will be written over.

    Whoever may write to the store may write this, and it goes to the cluster and to terminals: only what is short,
    printable and a sound number passes.
    """
    try:
        said = Progress.decode(text)
    except ValidationError:
        return None
    counts, left = (said.epoch, said.epochs, said.done, said.total), said.eta_seconds or 0.0
    if not all(0 <= count <= _MOST for count in counts) or not 0 <= left <= _MOST:
        return None
    metrics = {name: value for name, value in said.metrics.items() if _is_short(name) and math.isfinite(value)}
    return said.model_copy(update={"metrics": metrics, "phase": said.phase if _is_short(said.phase) else ""})


def _is_short(text: str) -> bool:
    return len(text) <= _LONGEST and text.isprintable()


def _is_older(progress: Progress, started: float) -> bool:
    try:
        return datetime.fromisoformat(progress.updated).timestamp() < int(started)
    except ValueError:
        return False


def _is_near(old: JobProgress, new: JobProgress) -> bool:
    if (old.phase, old.epochs) != (new.phase, new.epochs):
        return False
    if new.epochs:
        return abs(new.epoch - old.epoch) < max(1.0, STEP * new.epochs)
    return old.text == new.text


def _rounded(left: float | None) -> int | None:
    if left is None:
        return None
    grain = next((grain for limit, grain in _ROUNDED if left < limit), 3600)
    return max(round(left / grain), 1) * grain


def _sentence(phase: str, progress: Progress, left: int | None) -> str:
    parts = [phase] if phase else []
    if progress.epochs:
        parts = [f"{phase} {progress.epoch}/{progress.epochs} epochs".strip()]
    elif progress.total:
        percent = 100 * progress.done // progress.total
        parts = [f"{phase} {percent - percent % 5} %".strip()]
    if left is not None and progress.epoch < progress.epochs:
        parts.append(f"{_time(left)} left")
    return ", ".join(parts)


def _time(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
