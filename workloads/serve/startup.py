"""A server that is told at its start what to serve: ready once that serves, at an end where it never can.

In a cluster the Deployment decides what serves, so a server that was told takes no orders from its clients.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator

from specs.errors import Stalled, TrunklineError
from workloads.serve.repository import Repository
from workloads.serve.state import Asked, ModelName, State

TARGET_VARIABLE = "TRUNKLINE_SERVING_TARGET"
HOPELESS_EXIT = 10
"""Exit code of a server whose target can never serve; its last line says why."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two tries."""

_HOPELESS = frozenset({
    "ArtifactMissing", "CorruptArtifact", "LoadFailed", "SelfTestFailed", "SignatureInvalid", "SignatureMissing",
})  # fmt: skip
"""Verdicts on the file itself; everything else is trouble around it, which may pass."""

log = logging.getLogger(__name__)


class Wanted(Asked):
    """What to serve, and the model's name at this server."""

    name: ModelName


class Hopeless(Stalled):
    """The target can never serve; a new server would find the same."""


async def serve_only(wanted: Wanted, state: State, repository: Repository, told: Callable[[str], None]) -> None:
    """Serve ``wanted`` and nothing else; comes back once it does. Hopeless where it never can.

    Trouble that may pass is waited out with growing pauses; ``told`` gets to know what is being waited for.
    """
    title = f"version {wanted.version} of {wanted.name}"
    told(f"{title} is being loaded")
    for pause in _pauses():
        try:
            await _attempt(wanted, state, repository)
        except TrunklineError as error:
            if error.reason in _HOPELESS:
                raise Hopeless(error.reason, error.message) from error
            log.warning("%s cannot be loaded now, next try in %.0f s: %s", title, pause, error.message)
            told(f"{title} cannot be loaded now: {error.message}")
            await asyncio.sleep(pause)
        else:
            return


async def _attempt(wanted: Wanted, state: State, repository: Repository) -> None:
    """Load once. What this very target left on disk is enough: a server that died needs no store to come back."""
    for saved in state.load():
        if (saved.name, saved.target) != (wanted.name, wanted.target):
            state.forget(saved.name)
    if wanted.name not in repository.slots():
        await repository.restore()
    await repository.load(wanted.name, wanted)  # no more than its options where it serves by now


def _pauses() -> Iterator[float]:
    """Give pauses in seconds, without end: longer and longer, and never the same for all servers."""
    longest = FIRST_PAUSE
    while True:
        yield longest * random.uniform(0.5, 1)  # noqa: S311  jitter, not a secret
        longest = min(longest * 2, LONGEST_PAUSE)
