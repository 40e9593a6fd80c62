"""Pictures of a search, for the pull request that asks to use what it found."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from specs.experiment_records import TrialRecord
from specs.training import Parameter, Tuning
from workloads.space import Dimension

_INK, _SOFT, _BEST, _PRUNED, _FAILED = "#1f2933", "#9aa5b1", "#0b7a75", "#d9a441", "#c0392b"
_MOST = 12
"""Parameters that have a panel of their own."""
_COLUMNS = 3


def draw(tuning: Tuning, over: Sequence[TrialRecord], best: TrialRecord | None) -> dict[str, bytes]:
    """Give file name to PNG; nothing where no trial has a value. The same trials give the same picture."""
    if not any(trial.value is not None for trial in over):
        return {}
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({
        "font.size": 9, "axes.edgecolor": _SOFT, "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK,
        "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#e4e7eb", "grid.linewidth": 0.6, "axes.axisbelow": True, "svg.hashsalt": "trunkline",
    })  # fmt: skip
    return {"history.png": _history(tuning, over, best), "parameters.png": _parameters(tuning, over, best)}


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None}, bbox_inches="tight")
    return buffer.getvalue()


def _history(tuning: Tuning, over: Sequence[TrialRecord], best: TrialRecord | None) -> bytes:
    """Each trial's objective by its number, and the best so far."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.5, 3.6))
    axes = figure.subplots()
    first = next((trial for trial in over if trial.number == 0 and trial.status == "Succeeded"), None)
    if first is not None and first.value is not None:
        axes.axhline(first.value, color=_SOFT, linestyle="--", linewidth=1, label="arguments as they were")
    numbers, values = zip(*_best_so_far(tuning, over), strict=True) if best is not None else ((), ())
    axes.step(numbers, values, where="post", color=_BEST, linewidth=1.6, label="best so far")
    _dots(axes, [(trial.number, trial) for trial in over], best)
    failed = [trial.number for trial in over if trial.status == "Failed"]
    if failed:
        low = axes.get_ylim()[0]
        axes.scatter(failed, [low] * len(failed), marker="x", color=_FAILED, s=28, label="failed", clip_on=False)
    axes.set_xlabel("trial")
    axes.set_ylabel(tuning.objective.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    direction = "higher" if tuning.objective.type == "maximize" else "lower"
    axes.set_title(f"{len(over)} trials, {direction} is better", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _png(figure)


def _best_so_far(tuning: Tuning, over: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for trial in over:
        if trial.status == "Succeeded" and trial.value is not None:
            better = not found or tuning.better(trial.value, found[-1][1])
            found.append((trial.number, trial.value if better else found[-1][1]))
    return found


def _dots(axes: Any, placed: Sequence[tuple[Any, TrialRecord]], best: TrialRecord | None) -> None:
    """Draw trials that have a value: whole ones, those cut short, and the best with a ring."""
    for status, colour, label in (("Succeeded", _INK, "trial"), ("Pruned", _PRUNED, "cut short")):
        mine = [(x, trial.value) for x, trial in placed if trial.status == status and trial.value is not None]
        if mine:
            axes.scatter([x for x, _ in mine], [y for _, y in mine], s=22, color=colour, label=label, zorder=3)
    for x, trial in placed:
        if best is not None and trial.number == best.number:
            ring = {"facecolors": "none", "edgecolors": _BEST, "linewidths": 2, "zorder": 4}
            axes.scatter([x], [trial.value], s=110, label="best", **ring)


def _parameters(tuning: Tuning, over: Sequence[TrialRecord], best: TrialRecord | None) -> bytes:
    """A panel for each parameter: what was tried, and what came of it."""
    from matplotlib.figure import Figure

    shown = tuning.parameters[:_MOST]
    columns = 2 if len(shown) == 4 else min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.8, 2.5 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for axes, parameter in zip(panels, shown, strict=False):
        _panel(axes, parameter, over, best)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for at in range(0, len(shown), columns):
        panels[at].set_ylabel(tuning.objective.metric)
    return _png(figure)


def _panel(axes: Any, parameter: Parameter, over: Sequence[TrialRecord], best: TrialRecord | None) -> None:
    axes.set_title(parameter.name, loc="left", fontsize=10)
    tried = [(trial.args.get(parameter.name), trial) for trial in over if parameter.name in trial.args]
    words = Dimension(parameter).choices
    if words:
        names = [str(word) for word in words]
        _dots(axes, [(names.index(str(x)), trial) for x, trial in tried if str(x) in names], best)
        axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    numbers = [(x, trial) for x, trial in tried if isinstance(x, int | float) and not isinstance(x, bool)]
    if parameter.scale == "log" and all(x > 0 for x, _ in numbers):
        axes.set_xscale("log")
    _dots(axes, numbers, best)
