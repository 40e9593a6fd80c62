"""Curves over windows of time, as a PNG file and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from camera import Pixels
from rich.text import Text

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"
ROWS = 11
"""Of a panel in the terminal."""
PICTURES = 9
"""So many find room above a plot."""


@dataclass
class Point:
    """One window."""

    truth: float | None = None
    """Share of right answers, which only the example knows."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """What Trunkline says, and its interval."""


@dataclass
class Panel:
    """Curves over the same windows."""

    title: str
    points: Sequence[Point]
    bound: float | None
    """Of the signal, where the panel shows one."""
    top: float = 1.0
    bottom: float = 0.0
    said: str = ""
    """What ``value`` is."""
    told: str = ""
    """What ``truth`` is."""


@dataclass
class Plot:
    """Panels above each other, with marks at windows and a few pictures as the camera saw them."""

    title: str
    panels: Sequence[Panel]
    marks: dict[int, str] = field(default_factory=dict)
    """Window, from 0, to what happened in it."""
    pictures: dict[int, Pixels] = field(default_factory=dict)
    """Window to a picture from it."""
    axis: str = "day"

    def save(self, file: Path) -> None:
        """Draw it as a PNG file."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to load

        heights = [0.9, *(3.2 for _ in self.panels)]
        figure = Figure(figsize=(9, sum(heights) + 0.6), dpi=110, layout="constrained")
        figure.suptitle(self.title, fontsize=11)
        strip, *axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        half = 0.45 * len(self.panels[0].points) / 8.3  # of a picture's width in windows, so that it looks square
        for window, pixels in self.pictures.items():
            strip.imshow(pixels, extent=(window - half, window + half, 0, 1), aspect="auto", zorder=2)
        strip.set(ylim=(0, 1), yticks=[])
        strip.set_ylabel("seen", fontsize=8)
        strip.spines[:].set_visible(False)
        for number, (axis, panel) in enumerate(zip(axes, self.panels, strict=True)):
            self._panel(axis, panel, words=number == 0)
        axes[-1].set_xlabel(self.axis)
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        axes[-1].set_xlim(-0.6, len(self.panels[0].points) - 0.4)
        figure.savefig(file)

    def _panel(self, ax: Any, panel: Panel, *, words: bool) -> None:
        said = [(at, p) for at, p in enumerate(panel.points) if p.value is not None]
        true = [(at, p.truth) for at, p in enumerate(panel.points) if p.truth is not None]
        if said:
            at = [each for each, _ in said]
            ax.fill_between(at, [p.low for _, p in said], [p.high for _, p in said], color=BLUE, alpha=0.2, lw=0)
            ax.plot(at, [p.value for _, p in said], color=BLUE, marker="o", ms=4, label=panel.said)
        if true:
            ax.plot(*zip(*true, strict=True), color=ORANGE, marker="s", ms=4, ls="--", label=panel.told)
        if panel.bound is not None:
            ax.axhline(panel.bound, color=GREY, lw=1, ls=":")
        ax.set(ylim=(panel.bottom, panel.top * 1.02))
        ax.set_title(panel.title, fontsize=9, loc="left")
        for window, text in self.marks.items():
            ax.axvline(window, color=GREY, lw=0.8)
            if words:
                ax.text(window + 0.08, panel.bottom, f" {text}", rotation=90, va="bottom", fontsize=8, color=GREY)
        ax.legend(loc="lower left", fontsize=8)

    def sketch(self, panel: Panel, columns: int = 72) -> Text:
        """Draw one panel with letters: ``●`` what Trunkline says, ``░`` its interval, ``○`` the truth, ``◉`` both."""
        text, width = Text(), max(1, min(3, columns // max(len(panel.points), 1)))
        for row in reversed(range(ROWS)):
            text.append(f"{self._value(panel, row):5.2f} ┤" if row % 2 == 0 else "      │", "dim")
            for window, point in enumerate(panel.points):
                text.append_text(self._cell(panel, row, point, window in self.marks, width))
            text.append("\n")
        text.append("      └" + "─" * (width * len(panel.points)) + f" {self.axis}\n", "dim")
        for window, what in self.marks.items():
            place = 7 + width * window + (width - 1) // 2
            words = f"{what}╵".rjust(place + 1) if place + len(what) > columns + 6 else " " * place + f"╵{what}"
            text.append(f"{words}\n", "bold")
        text.append(f"{panel.title}\n")
        if panel.said:
            text.append(f"● {panel.said}, ░ its interval   ", "cyan")
        if panel.told:
            text.append(f"○ {panel.told}   ", "yellow")
        if panel.bound is not None:
            text.append(f"┄ {panel.bound:g}", "dim")
        return text

    def _cell(self, panel: Panel, row: int, point: Point, marked: bool, width: int) -> Text:  # noqa: FBT001
        def near(value: float | None) -> bool:
            return value is not None and self._row(panel, value) == row

        inside = point.low is not None and point.high is not None and (
            self._row(panel, point.low) <= row <= self._row(panel, point.high)
        )  # fmt: skip
        says, is_true = near(point.value), near(point.truth)
        blank = "┄" if near(panel.bound) else " "
        sign, style = (
            ("◉", "bold green") if says and is_true else ("●", "bold cyan") if says else ("○", "bold yellow") if is_true
            else ("░", "cyan") if inside else ("╷", "dim") if marked and row == 0 else (blank, "dim")
        )  # fmt: skip
        side = "░" if inside else blank
        before = (width - 1) // 2
        fill = "cyan" if inside else "dim"
        return Text.assemble((side * before, fill), (sign, style), (side * (width - 1 - before), fill))

    @staticmethod
    def _row(panel: Panel, value: float) -> int:
        share = (value - panel.bottom) / (panel.top - panel.bottom)
        return round(min(max(share, 0.0), 1.0) * (ROWS - 1))

    @staticmethod
    def _value(panel: Panel, row: int) -> float:
        return panel.bottom + (panel.top - panel.bottom) * row / (ROWS - 1)
