"""``trunkline device``: this machine as one of many that serve what git says."""

from __future__ import annotations

import logging
import signal
import time
from threading import Event

import click

from controller import wiring
from controller.agent import OnlyOne
from controller.console import console, settings

_PATIENCE = 3600.0


@click.command()
@click.option("--once", is_flag=True, help="Look until nothing is left to do now, then exit.")
@click.option("--interval", type=float, help="Seconds between two looks. Default: from the settings.")
def device(once: bool, interval: float | None) -> None:
    """Serve on this machine what the tracked branch says, as one device of many.

    Serves every model with `serving.edge` whose labels this device has, as soon as a wave of its release reaches it.
    It only pulls: from git and from the store. Without a network it goes on with what it has. It trains nothing and
    proposes nothing; that is what an agent or operator is for, which also opens the waves. `trunkline fleet` shows
    how far they are; `trunkline down` stops the server here.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    found = settings()
    lock = OnlyOne(found.state)
    made = wiring.device(found)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pace = interval or found.device.interval
    if once:
        deadline = time.monotonic() + _PATIENCE
        while made.once() and not stop.wait(min(pace, 1.0)) and time.monotonic() < deadline:
            pass
    else:
        place = f"{found.repository} ({found.branch})"
        console().print(f"device {found.device.name} follows {place}; its server outlives it", soft_wrap=True)
        made.forever(pace, stop)
    del lock
