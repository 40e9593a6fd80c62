"""The picture of the manual: how often who sees which shift, and how accurate the model is taken for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from benchmarks.signals_digits import SHIFTS
from benchmarks.signals_peers import Said

if TYPE_CHECKING:
    from benchmarks.signals import Step

OURS, PALE = ("#1d6fb8", "#12924b"), "#8fc1ec"
THEIRS = {"Evidently": ("#d9822b",), "NannyML": ("#8e4ec6", "#c2417c")}


def draw(
    place: Path, steps: Mapping[tuple[str, int], Step], truth: Mapping[tuple[str, int], float],
    said: Mapping[str, Said], rounds: int,
) -> None:
    """Write the picture: a column for each shift; above who alarms, below accuracies."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after its backend is chosen

    order = list(steps)
    figure, axes = plt.subplots(2, len(SHIFTS), figsize=(17, 6), sharey="row", constrained_layout=True)
    for column, (shift, grades) in enumerate(SHIFTS.items()):
        shown = [("", 0), *((shift, grade) for grade in range(1, len(grades) + 1))]
        places = [order.index(step) for step in shown]
        above, below = axes[:, column]
        above.set_title(shift)
        _line(above, [100 * steps[step].any / rounds for step in shown], "Trunkline: any signal", OURS[0])
        _line(above, [100 * steps[step].unbound / rounds for step in shown], "Trunkline: any, without tolerance", PALE)
        alarms = [100 * steps[step].failing["accuracy"] / rounds for step in shown]
        _line(above, alarms, "Trunkline: estimated accuracy", OURS[1])
        for name, peer in said.items():
            for (what, counts), colour in zip(peer.alarms.items(), THEIRS[name], strict=False):
                _line(above, [100 * counts[number] / rounds for number in places], f"{name}: {what}", colour, "--")
        _line(below, [truth[step] for step in shown], "true accuracy", "black")
        estimates = [np.array(steps[step].estimates) for step in shown]
        _line(below, [float(each.mean()) for each in estimates], "Trunkline's estimate", OURS[1])
        ends = [np.percentile(each, [5, 95]) for each in estimates]
        below.fill_between(range(len(shown)), *zip(*ends, strict=True), color=OURS[1], alpha=0.15)
        if "NannyML" in said:
            values = [said["NannyML"].accuracy[number] for number in places]
            _line(below, values, "NannyML's estimate (CBPE)", THEIRS["NannyML"][1], "--")
        for axis in (above, below):
            axis.set_xticks(range(len(shown)), ["none", *(f"{grade:g}" for grade in grades)])
            axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel("windows that alarm, %")
    axes[1, 0].set_ylabel("accuracy")
    for axis in axes[:, -1]:
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.savefig(place, dpi=80)


def _line(axis: Any, values: list[float], label: str, colour: str, style: str = "-") -> None:
    axis.plot(range(len(values)), values, style, marker="o", markersize=3, color=colour, label=label)
