"""How long one ``plan()`` takes, in microseconds, for models of a realistic size.

    python -m benchmarks.plan [--repeat 12]

The fastest of many rounds counts: the machine's other work makes a round slower, never faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from reconcilers.actions import StartJob
from specs.facts import JobPhase, JobState, PullState
from specs.records import Epoch, RunRecord, run_key
from tests.support.builders import (
    KEY,
    TOP1,
    Lab,
    Stage,
    candidate_ready,
    decide,
    moved_on,
    observed,
    proposed,
    pull,
    settled,
    spec,
)  # fmt: skip

GOAL = 200.0
"""Microseconds, for a model where nothing is to be proposed."""
ROUND = 50


def grown(stage: Stage) -> Stage:
    """Give the stage with runs as long as real ones: 100 epochs of 8 metrics, an environment of 150 packages."""
    epochs = [Epoch(epoch=i, metrics={f"metrics/m{j}": 0.5 + j / (i + 9) for j in range(8)}) for i in range(100)]
    packages = {f"package-{i}": f"1.{i}.0" for i in range(150)}
    lab = Lab(dict(stage.lab.records))
    for digest, run in stage.world.runs.items():
        assert run.environment is not None
        environment = run.environment.model_copy(update={"packages": packages})
        lab.records[run_key(digest)] = run.model_copy(update={"epochs": epochs, "environment": environment})
    runs = {digest: lab.records[run_key(digest)] for digest in stage.world.runs}
    return stage.but(runs={digest: run for digest, run in runs.items() if isinstance(run, RunRecord)})


def training() -> Stage:
    """Give a released model whose next candidate trains."""
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9), work=False)
    orders = [action.order for action in stage.plan.actions if isinstance(action, StartJob)]
    return stage.but(jobs={order.job: JobState(order.job, JobPhase.RUNNING) for order in orders})


def gates_failed() -> Stage:
    """Give a released model whose next candidate does not pass."""

    def change(data: dict[str, object]) -> None:
        data["training"] = {**data["training"], "args": {"epochs": 9, "imgsz": 32}}  # type: ignore[dict-item]
        data["gates"] = [{"name": "floor", "metric": TOP1, "min": 0.999}]

    return moved_on(settled(), change)


def waiting() -> Stage:
    """Give a released model whose next candidate is proposed and waits for a person."""
    stage = grown(moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9)))
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world)),))


def rejected() -> Stage:
    """Give a candidate that a person turned down."""
    stage = grown(candidate_ready())
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), PullState.CLOSED),))


CASES: dict[str, tuple[Callable[[], Stage], float | None]] = {
    "new, about to train": (lambda: Stage(spec(), observed(), Lab()), GOAL),
    "released and settled": (lambda: grown(settled()), GOAL),
    "released, next one trains": (lambda: grown(training()), GOAL),
    "released, gates of next one failed": (lambda: grown(gates_failed()), GOAL),
    "proposal waits for a person": (waiting, None),
    "proposal rejected": (rejected, None),
    "about to propose, with evidence": (lambda: grown(candidate_ready()), None),
}
"""What the goal is for, and what is told beside it: texts for people take longer, and are rare."""


def measure(stage: Stage, repeat: int) -> float:
    """Give microseconds per plan."""
    best = float("inf")
    for _ in range(repeat):
        begun = time.perf_counter()
        for _ in range(ROUND):
            decide(stage.spec, stage.world)
        best = min(best, (time.perf_counter() - begun) / ROUND)
    return best * 1e6


def main() -> int:
    """Print one line for each case; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=12, help="rounds of 50 plans; the fastest counts")
    options = parser.parse_args()
    print(f"plan() of {KEY}, microseconds; goal {GOAL:g}")
    missed = 0
    for name, (build, goal) in CASES.items():
        took = measure(build(), options.repeat)
        verdict = "" if goal is None else "ok" if took <= goal else "MISSED"
        missed += verdict == "MISSED"
        print(f"  {name:<36} {took:8.1f}  {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
