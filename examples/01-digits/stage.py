"""How an example is run: its options, its end, and that nothing stays behind."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from screen import say


class Story(Protocol):
    """What an example tells."""

    def tell(self) -> None:
        """Run all chapters; what is claimed and does not hold is an error."""

    def stop(self) -> None:
        """End every process that was started."""


def perform(
    make: Callable[..., Story], about: str, *, folder: str, short: str, trained: bool = False, sequel: str = ""
) -> int:
    """Tell the story that ``make(folder, short=…)`` gives, as the command line asks; give the exit code.

    With ``trained`` it is also told ``trained=``: the folder of another story with the same model, or None; where there
    is a ``sequel``, ``sequel=``: whether to tell that too.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--short", action="store_true", help=short)
    parser.add_argument("--folder", type=Path, default=Path(folder), help="where to work; emptied first")
    parser.add_argument("--keep-running", action="store_true", help="leave agent and server running at the end")
    if trained:
        words = "another story's folder: what was trained there is not trained again"
        parser.add_argument("--trained", type=Path, metavar="FOLDER", help=words)
    if sequel:
        parser.add_argument("--no-sequel", action="store_true", help=f"leave out {sequel}")
    options = parser.parse_args()
    more = {"trained": options.trained} if trained else {}
    more |= {"sequel": not options.no_sequel} if sequel else {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    story = make(options.folder.resolve(), short=options.short, **more)
    try:
        story.tell()
    except KeyboardInterrupt:
        say("\nstopped; nothing is left running")
        return 130
    else:
        say(f"\n[bold green]done.[/] Everything is in {options.folder}: go there and try `trunkline --help`.")
        return 0
    finally:
        if not options.keep_running:
            story.stop()
