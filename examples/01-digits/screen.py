"""What the demo shows: short plain words, the commands as a person would type them, bars for long work."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from reconcilers.progress import shown
from specs.records import Progress as JobProgress

console = Console(highlight=False)
_STARTED = time.monotonic()


def chapter(number: int, title: str) -> None:
    """Begin a part of the story."""
    passed = time.monotonic() - _STARTED
    console.print()
    head = Text(f"{number}. {title}", "bold")
    console.print(Panel(head, subtitle=f"{passed:.0f} s", subtitle_align="right", expand=True))


def say(text: str) -> None:
    """Tell what happens and why."""
    console.print(text)


def command(words: list[str], output: str) -> None:
    """Show a command and what it printed."""
    console.print(Text("$ " + " ".join(words), "bold cyan"))
    if output.strip():
        console.print(Text.from_ansi(output.rstrip()))


def proved(text: str) -> None:
    """Show a fact that was checked just now."""
    console.print(f"[green]✓[/] {text}")


def wait(
    what: str,
    done: Callable[[], bool],
    jobs: Callable[[], list[JobProgress]],
    alive: Callable[[], None],
    seconds: float,
) -> None:
    """Wait until ``done``, showing a bar for every job on the way; TimeoutError after ``seconds``."""
    words, info = TextColumn("  {task.description}"), TextColumn("{task.fields[info]}")
    columns = (words, BarColumn(bar_width=30), info, TimeElapsedColumn())
    deadline = time.monotonic() + seconds
    with Progress(*columns, console=console, transient=False) as bars:
        overall = bars.add_task(what, total=None, info="")
        tasks = {}
        while not done():
            alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:.0f} s for: {what}")
            running = jobs()
            for job in running:
                if job.job not in tasks:
                    tasks[job.job] = bars.add_task(job.job.rpartition("-")[0], total=max(job.epochs, 1), info="")
                bars.update(tasks[job.job], completed=job.epoch, total=max(job.epochs, 1), info=_info(job))
            for name in tasks.keys() - {job.job for job in running}:
                bars.update(tasks[name], completed=bars.tasks[tasks[name]].total)
            time.sleep(0.2)
        for task in tasks.values():
            bars.update(task, completed=bars.tasks[task].total)
        bars.update(overall, total=1, completed=1)


def _info(job: JobProgress) -> str:
    """Say what `trunkline status` says: phase, epoch, time left, and the metric that matters."""
    said = shown(job.job, job, "classify")
    numbers = [f"{name.rpartition('/')[2]} {value:.3f}" for name, value in list(said.metrics.items())[:1]]
    return "  ".join([said.text, *numbers])
