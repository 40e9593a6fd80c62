"""What signals say of real digits: false alarms, power, delay, and estimated against true accuracy.

    python -m benchmarks.signals [--peers] [--windows 1000] [--sequences 100] [--picture PLACE]

A YOLO26n-cls is trained once on two fifths of scikit-learn's digits without the 8 (kept below .bench/); everything else
is drawn, with replacement, from pictures that it never saw, so golden and windows without a shift are samples of one
and the same distribution. Numbers are the same on every machine, but for what training differs in. ``--peers`` lets
Evidently and NannyML look at the same windows, each in a virtual environment of its own below .bench/, made by pip.
Ends with 1 where a signal raises more false alarms than is stated, by more than chance would.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import signals_picture
from benchmarks.signals_digits import SHIFTS, Pool, chances, pools
from benchmarks.signals_peers import Said, ask
from reconcilers.observed import Judgement, Reading
from reconcilers.signals import readings
from reconcilers.statistics import tail
from specs.monitoring import FOR_WINDOWS, Method, Signal
from specs.profile_records import ProfileRecord
from specs.traffic import BY_STAGE, Traffic
from tests.support.counts import counted, profile, traffic

FOLDER = Path(__file__).resolve().parents[1] / ".bench" / "signals"
GOLDEN, WINDOW = 1000, 200
"""Pictures in golden, and in a window where nothing else is said."""
SIZES = (100, 200, 500, 2000)
LONGEST = 40
"""Windows after which nobody waits any longer."""
FEATURES = ("brightness", "contrast", "sharpness")
MANUAL = ", bound of the manual"
STEPS = [("", 0), *((shift, grade) for shift, steps in SHIFTS.items() for grade in range(1, len(steps) + 1))]
Random = np.random.Generator


def signal(name: str, **fields: Any) -> Signal:
    return Signal.model_validate({"name": name} | fields, by_alias=True, by_name=False)


METHODS: tuple[Method, ...] = ("psi", "js", "ks", "wasserstein")
WATCHED = (
    signal("confidence", type="Confidence", max=0.25),
    signal("accuracy", type="EstimatedAccuracy", min=0.9),
    signal("light", type="Input", feature="brightness", max=0.3),
    signal("contrast", type="Input", feature="contrast", max=0.3),
    signal("sharpness", type="Input", feature="sharpness", max=0.3),
    signal("mix", type="Classes", max=0.2),
)
"""With the bounds that the manual shows."""


UNBOUND = tuple(each.model_copy(update={"max": 0.0}) for each in WATCHED if each.min is None)
"""The same without any tolerance: is there a change at all, beyond chance?"""


def strictest(accuracy: float) -> tuple[Signal, ...]:
    """Give every type with a bound that traffic without a shift just keeps: what is beyond it by chance is an alarm."""
    return (
        *(signal(f"confidence-{each}", type="Confidence", method=each, max=0) for each in METHODS),
        *(signal(f"light-{each}", type="Input", feature="brightness", method=each, max=0) for each in METHODS),
        *(signal(f"mix-{each}", type="Classes", method=each, max=0) for each in METHODS[:2]),
        signal("estimated-accuracy", type="EstimatedAccuracy", min=accuracy),
        signal("accuracy", type="Accuracy", min=accuracy),
        signal("latency", type="Latency", max="75ms"),
        signal("errors", type="ErrorRate", max=0.01),
    )


def window(seen: Pool, random: Random) -> Traffic:
    """Count a window. 5 % of its requests take longer than 75 ms, 1 % are errors, and all truth is told."""
    n, right = len(seen.labels), int(seen.right.sum())
    took = 0.075 * np.exp(0.4 * (random.normal(size=n) - stats.norm.ppf(0.95)))
    failed = int(random.binomial(n, 0.01))
    return traffic(
        _pictures(seen), seen.predicted.astype(str).tolist(), seen.confidences,
        stages={"total": counted(BY_STAGE, took)}, outcomes={"ok": float(n - failed), "error": float(failed)},
        truth={"right": float(right), "wrong": float(n - right)},
    )  # fmt: skip


def golden_of(seen: Pool) -> ProfileRecord:
    """Count golden, as the job ``profile`` does."""
    return profile(_pictures(seen), seen.predicted.astype(str).tolist(), seen.confidences, seen.right)


def _pictures(seen: Pool) -> dict[str, Any]:
    return {"confidence": seen.confidences, **dict(zip(FEATURES, seen.features.T, strict=True))}


@dataclass
class Stage:
    """All pools, and what is true of them."""

    pools: Mapping[tuple[str, int], Pool]

    def draw(self, step: tuple[str, int], n: int, random: Random) -> Pool:
        """Draw n pictures as they are after a shift."""
        pool = self.pools[step]
        return pool.draw(chances(*step, pool.labels), n, random)

    def accuracy(self, step: tuple[str, int]) -> float:
        """Give the true one, of all pictures that may come."""
        pool = self.pools[step]
        return float((chances(*step, pool.labels) * pool.right).sum())


def false_alarms(stage: Stage, windows: int) -> dict[str, dict[int, int]]:
    """Count windows without a shift that fail, each held against a golden of its own: signal to n to how many."""
    random = np.random.default_rng(11)
    parts = {"": strictest(stage.accuracy(("", 0))), MANUAL: WATCHED}
    found = {f"{each.name}{which}": dict.fromkeys(SIZES, 0) for which, part in parts.items() for each in part}
    for n in SIZES:
        for _ in range(windows):
            golden = golden_of(stage.draw(("", 0), GOLDEN, random))
            live = [window(stage.draw(("", 0), n, random), random)]
            for which, part in parts.items():
                for name, (reading,) in readings(part, live, golden, task="classify").items():
                    found[f"{name}{which}"][n] += reading.judgement is Judgement.FAILING
    return found


def unlucky(stage: Stage, goldens: int = 20, windows: int = 100) -> dict[str, list[float]]:
    """Give, for each signal, the share of windows without a shift that fail, for each of several goldens."""
    random = np.random.default_rng(13)
    watched = strictest(stage.accuracy(("", 0)))
    found: dict[str, list[float]] = {each.name: [] for each in watched}
    for _ in range(goldens):
        golden = golden_of(stage.draw(("", 0), GOLDEN, random))
        live = [window(stage.draw(("", 0), SIZES[-1], random), random) for _ in range(windows)]
        for name, each in readings(watched, live, golden, task="classify").items():
            found[name].append(sum(reading.judgement is Judgement.FAILING for reading in each) / windows)
    return found


@dataclass
class Step:
    """What was seen of one shift at one grade."""

    failing: dict[str, int] = field(default_factory=lambda: dict.fromkeys((each.name for each in WATCHED), 0))
    any: int = 0
    unbound: int = 0
    """Windows in which any signal without tolerance fails."""
    estimates: list[float] = field(default_factory=list)
    held: int = 0
    """Windows whose interval holds the true accuracy."""
    delays: list[int | None] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    """Which signal fired first, and how often."""


def power(stage: Stage, rounds: int, random: Random) -> tuple[dict[tuple[str, int], Step], dict[str, Any]]:
    """Look at one window of each step in each round, each round with a golden of its own; give them for peers too."""
    found = {step: Step() for step in STEPS}
    arrays: dict[str, list[Any]] = {name: [] for name in ("golden", "golden_labels", "windows")}
    for _ in range(rounds):
        reference = stage.draw(("", 0), GOLDEN, random)
        golden = golden_of(reference)
        looked = []
        for step, each in found.items():
            seen = stage.draw(step, WINDOW, random)
            looked.append(_row(seen))
            live = [window(seen, random)]
            read = readings(WATCHED, live, golden, task="classify")
            for name in _failing(read):
                each.failing[name] += 1
            each.any += bool(_failing(read))
            each.unbound += bool(_failing(readings(UNBOUND, live, golden, task="classify")))
            (estimate,) = read["accuracy"]
            low, value, high = (float(end or 0) for end in (estimate.low, estimate.value, estimate.high))
            each.estimates.append(value)
            each.held += low <= stage.accuracy(step) <= high
        for name, values in zip(arrays, (_row(reference), reference.labels, looked), strict=True):
            arrays[name].append(values)
    return found, {name: np.array(values) for name, values in arrays.items()}


def _failing(read: Mapping[str, tuple[Reading, ...]]) -> list[str]:
    return [name for name, found in read.items() if found[-1].judgement is Judgement.FAILING]


def _row(seen: Pool) -> Any:
    """Give (n, features and scores): what peers get."""
    return np.concatenate([seen.features, seen.scores], axis=1)


def delays(stage: Stage, found: Mapping[tuple[str, int], Step], sequences: int, random: Random) -> None:
    """Watch windows after each shift until a signal has failed in so many in a row that it fires."""
    for _ in range(sequences):
        golden = golden_of(stage.draw(("", 0), GOLDEN, random))
        for step, each in found.items():
            if step[0]:
                delay, name = _until_firing(stage, step, golden, random)
                each.delays.append(delay)
                if name:
                    each.first[name] = each.first.get(name, 0) + 1


def _until_firing(stage: Stage, step: tuple[str, int], golden: ProfileRecord, random: Random) -> tuple[int | None, str]:
    in_a_row = dict.fromkeys((each.name for each in WATCHED), 0)
    for number in range(1, LONGEST + 1):
        live = [window(stage.draw(step, WINDOW, random), random)]
        for name, (reading,) in readings(WATCHED, live, golden, task="classify").items():
            in_a_row[name] = in_a_row[name] + 1 if reading.judgement is Judgement.FAILING else 0
        fired = [name for name, times in in_a_row.items() if times >= FOR_WINDOWS]
        if fired:
            return number, fired[0]
    return None, ""


# ---------------------------------------------------------------------------------------------------------- tables
def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def show_false_alarms(found: Mapping[str, Mapping[int, int]], windows: int) -> None:
    rows = [[name, *(f"{100 * count / windows:.1f} %" for count in counts.values())] for name, counts in found.items()]
    table(["signal", *(f"n = {n}" for n in SIZES)], rows)


def show_unlucky(found: Mapping[str, Sequence[float]]) -> None:
    rows = [[name, f"{100 * np.mean(each):.1f} %", f"{100 * max(each):.1f} %"] for name, each in found.items()]
    table(["signal", "mean of all goldens", "worst golden"], rows)


def show_power(found: Mapping[tuple[str, int], Step], rounds: int) -> None:
    rows = []
    for step, each in found.items():
        known = [delay for delay in each.delays if delay is not None]
        after = f"{np.mean(known):.1f}" if known else "–"
        after += f" ({len(known)} of {len(each.delays)})" if known and len(known) < len(each.delays) else ""
        first = max(each.first, key=lambda name: each.first[name]) if each.first else "–"
        failing = (_share(each.failing[signal.name], rounds) for signal in WATCHED)
        rows.append([*_about(step), *failing, after, first])
    table(["shift", "", *(each.name for each in WATCHED), "windows until one fires", "which first"], rows)


def show_peers(
    stage: Stage, found: Mapping[tuple[str, int], Step], rounds: int, said: Mapping[str, Said]
) -> None:
    head = ["shift", "", "true accuracy", "estimate", "in its interval", "any signal", "any, without tolerance"]
    for name, peer in said.items():
        head += [*(f"{name}: {what}" for what in peer.alarms), *([f"{name}: estimate"] if peer.accuracy else [])]
    rows = []
    for number, (step, each) in enumerate(found.items()):
        shares = (_share(count, rounds) for count in (each.held, each.any, each.unbound))
        rows.append([*_about(step), f"{stage.accuracy(step):.3f}", f"{np.mean(each.estimates):.3f}", *shares])
        for peer in said.values():
            rows[-1] += [*(_share(count[number], rounds) for count in peer.alarms.values())]
            rows[-1] += [f"{peer.accuracy[number]:.3f}"] if peer.accuracy else []
    table(head, rows)


def _about(step: tuple[str, int]) -> list[str]:
    return [step[0] or "none", f"{SHIFTS[step[0]][step[1] - 1]:g}" if step[0] else ""]


def _share(count: int, rounds: int) -> str:
    return f"{100 * count / rounds:.0f} %"


def main() -> int:
    """Draw, count, print; 1 where there are more false alarms than stated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000, help="without a shift, for each n (default: %(default)s)")
    parser.add_argument("--sequences", type=int, default=100, help="for each shift and grade (default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="ask Evidently and NannyML too")
    parser.add_argument("--picture", type=Path, help="where to draw")
    options = parser.parse_args()
    stage, random = Stage(pools(FOLDER)), np.random.default_rng(12)
    found = false_alarms(stage, options.windows)
    show_false_alarms(found, options.windows)
    show_unlucky(unlucky(stage))
    steps, arrays = power(stage, options.sequences, random)
    delays(stage, steps, options.sequences, random)
    said = ask(FOLDER, arrays, WINDOW) if options.peers else {}
    show_power(steps, options.sequences)
    show_peers(stage, steps, options.sequences, said)
    if options.picture:
        truth = {step: stage.accuracy(step) for step in STEPS}
        signals_picture.draw(options.picture, steps, truth, said, options.sequences)
    most = int(stats.binom.ppf(0.999, options.windows, tail()))
    worst = max(count for counts in found.values() for count in counts.values())
    print(f"\nat most {worst} of {options.windows} windows without a shift fail, for any signal and n; with the stated")
    print(f"{100 * tail():g} % up to {most} are chance: {'held' if worst <= most else 'NOT held'}")
    return int(worst > most)


if __name__ == "__main__":
    sys.exit(main())
