"""The real agent, with every effect counted, and killed at the ones it is told to be killed at.

Run as a process: ``python -m tests.support.crashing_agent FOLDER WHEN [SPARED…]`` where WHEN is ``never``, ``before``,
``after`` or ``around``, which is both, and effects of ports that are spared kill nobody. Each life is a process of its
own, forked from one that has done nothing but import. The ports are wrapped here, from outside: the product knows
nothing of it. An effect is a call that may change the world, named by its method and what it is about; each one kills
the agent once (SIGKILL), just before it or just after it, which is also what a lost answer looks like. What was killed
is noted on disk.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller import wiring
from controller.agent import Agent, OnlyOne
from controller.passes import Passes
from controller.settings import load
from controller.statuses import Statuses
from reconcilers.loop import Reconciler
from tests.support.living import live_on

EFFECTS = {
    "repository": ("commit_files", "push", "delete_branch"),
    "forge": ("open", "update", "close"),
    "jobs": ("start",),
    "servers": ("roll_out", "withdraw"),
}


class Crashing:
    """A port whose effects kill the process."""

    def __init__(self, port: Any, name: str, log: Path, when: str) -> None:
        self._port, self._name, self._log, self._when = port, name, log, when

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        return self._wrapped(found, method) if method in EFFECTS.get(self._name, ("write",)) else found

    def _wrapped(self, call: Callable[..., Any], method: str) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            if method == "write" and self._port.read(args[0]) == args[1]:
                return call(*args)  # says nothing new, so nothing is written
            effect = f"{self._name}.{method} {_about(method, args, named)}"
            if self._when in ("before", "around"):
                self._die_once(effect)
            answer = call(*args, **named)
            if self._when in ("after", "around"):
                self._die_once(effect if self._when == "after" else f"after {effect}")
            self._note("effects", effect)
            return answer

        return counted

    def _die_once(self, effect: str) -> None:
        killed = self._log / "killed"
        if killed.exists() and effect in killed.read_text().splitlines():
            return
        self._note("killed", effect)
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, name: str, effect: str) -> None:
        with (self._log / name).open("a") as file:
            file.write(effect + "\n")
            file.flush()
            os.fsync(file.fileno())


def _about(method: str, args: tuple[Any, ...], named: dict[str, Any]) -> str:
    """Name what a call is about, without what may differ from try to try."""
    match method:
        case "start":
            return str(args[0].job)
        case "roll_out":
            return f"v{args[0].version} {args[0].file[:19]}"
        case "commit_files":
            return str(args[2]).splitlines()[0]
        case "push":
            return f"{args[0]} {'anew' if args[2] else ''}"
        case "open":
            return str(named["branch"])
        case "write":
            return " ".join(f"{c.type}={c.status}/{c.reason}" for c in args[1].conditions)
        case _:
            return str(args[0])


def main(folder: Path, when: str, spared: Sequence[str] = ()) -> None:
    """Run the agent until killed."""
    log = folder / "log"
    settings = load(folder)
    lock = OnlyOne(settings.state)
    app = wiring.build(settings)
    whens = {name: "never" if name in spared else when for name in (*EFFECTS, "statuses")}
    wrapped = {name: Crashing(getattr(app, name), name, log, whens[name]) for name in EFFECTS}
    reconciler = Reconciler(replace(app.ports, **wrapped), time.time)
    statuses: Any = Crashing(Statuses(settings.state / "status"), "statuses", log, whens["statuses"])
    agent = Agent(Passes(reconciler, statuses), app.source, wrapped["servers"], statuses)  # type: ignore[arg-type]
    while True:
        agent.once()
        with (log / "passes").open("a") as passes:
            passes.write(".")
        time.sleep(0.1)
    del lock


if __name__ == "__main__":
    sys.exit(live_on(lambda: main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
