"""A server that is told at its start what to serve: ready once that serves, at an end where it never can.

In a cluster the Deployment decides what serves, so a server that was told takes no orders from its clients.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

from specs.errors import Stalled, TrunklineError
from workloads.serve.repository import Repository
from workloads.serve.sharing import Beside
from workloads.serve.state import Asked, ModelName, Saved, State, Target

TARGET_VARIABLE = "TRUNKLINE_SERVING_TARGET"
HOPELESS_EXIT = 10
"""Exit code of a server whose target can never serve; its last line says why."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two tries."""

HOPELESS = frozenset({
    "ArtifactMissing", "BuildFailed", "CorruptArtifact", "EngineMismatch", "LoadFailed", "OverBudget", "SelfTestFailed",
    "SignatureInvalid", "SignatureMissing",
})  # fmt: skip
"""Verdicts on the file itself; everything else is trouble around it, which may pass."""

log = logging.getLogger(__name__)


class Wanted(Asked):
    """What to serve, and the model's name at this server."""

    name: ModelName
    canary: Target | None = None
    """What takes part in its traffic."""

    def beside(self, share_file: Path | None) -> Beside | None:
        """Give what shall serve beside it, if anything; the same file is no canary of itself."""
        if self.canary is None or self.canary.file == self.file:
            return None
        return Beside(self.name, Asked(**self.canary.model_dump(), options=self.options), share_file)


class Hopeless(Stalled):
    """The target can never serve; a new server would find the same."""


async def serve_only(
    wanted: Wanted, beside: Beside | None, state: State, repository: Repository, told: Callable[[str], None]
) -> None:
    """Serve ``wanted`` and what is to be ``beside`` it, and nothing else; comes back once they do.

    Hopeless where one of them never can; a canary that could before, on this disk, is no reason not to serve. Trouble
    that may pass is waited out with growing pauses; ``told`` gets to know what is being waited for.
    """
    known = beside is not None and any(_is_known(saved, wanted, beside) for saved in state.load())
    title = f"version {wanted.version} of {wanted.name}"
    await _until_done(title, partial(_attempt, wanted, state, repository), told)
    if beside is None:
        return
    if known and repository.slots()[wanted.name].canary is None:
        log.warning("version %d of %s did not come back; %s serves alone", beside.asked.version, wanted.name, title)
        return
    title = f"version {beside.asked.version} of {wanted.name}, beside version {wanted.version},"
    try:
        await _until_done(title, partial(beside.bring, repository), told)
    except Hopeless as error:
        raise Hopeless("CanaryFailed", f"{beside.asked.file}: {error.message}") from error


async def _until_done(title: str, attempt: Callable[[], Awaitable[None]], told: Callable[[str], None]) -> None:
    """Try until it is done; Hopeless where it never will be."""
    told(f"{title} is being loaded")
    for pause in pauses():
        try:
            await attempt()
        except TrunklineError as error:
            if error.reason in HOPELESS:
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
        elif saved.canary is not None and saved.canary.saved.target != wanted.canary:
            state.save(saved.model_copy(update={"canary": None}))
    if wanted.name not in repository.slots():
        await repository.restore()
    slot = repository.slots().get(wanted.name)
    if slot is None or slot.saved is None or slot.saved.canary is None:
        await repository.load(wanted.name, wanted)  # no more than its options where it serves by now


def _is_known(saved: Saved, wanted: Wanted, beside: Beside) -> bool:
    canary = saved.canary.saved.target if saved.canary is not None else None
    return (saved.target, canary) == (wanted.target, beside.asked.target)


def pauses() -> Iterator[float]:
    """Give pauses in seconds, without end: longer and longer, and never the same for all servers."""
    longest = FIRST_PAUSE
    while True:
        yield longest * random.uniform(0.5, 1)  # noqa: S311  jitter, not a secret
        longest = min(longest * 2, LONGEST_PAUSE)
