"""The share of a canary in a cluster: a file that the pod mounts, so that another share restarts nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from specs.errors import TrunklineError
from workloads.serve.repository import Repository
from workloads.serve.state import Asked, Share

SHARE_VARIABLE = "TRUNKLINE_SHARE_FILE"
LOOK = 1.0
"""Seconds between two looks at the file."""
AGAIN = 30.0
"""Seconds between two tries to bring back a canary that could not come back after a restart."""
_MOST = 4096
"""Bytes of the file that are read."""

log = logging.getLogger(__name__)


class _Told(Share):
    version: Annotated[int, Field(strict=True)]


@dataclass(frozen=True)
class Beside:
    """What shall serve beside ``name``, and where its share is told; a ``file`` that is not there tells nothing."""

    name: str
    asked: Asked
    file: Path | None

    def share(self) -> Share:
        """Read the share: nothing where the file is missing, cannot be read, or is about another version."""
        try:
            if self.file is None:
                return Share()
            with self.file.open("rb") as file:
                told = _Told.model_validate_json(file.read(_MOST))
        except FileNotFoundError:
            return Share()
        except (OSError, ValidationError) as error:
            log.debug("%s tells no share: %s", self.file, error)
            return Share()
        if told.version != self.asked.version:
            return Share()
        return Share(step=told.step, weight=told.weight, mirror=told.mirror)

    async def bring(self, repository: Repository) -> None:
        """Have it take part with the share that the file tells now; raises like a load."""
        share = await asyncio.to_thread(self.share)
        await repository.load(self.name, self.asked.model_copy(update={"share": share}))

    async def follow(self, repository: Repository) -> None:
        """Do what the file tells, from now on; comes back only where the canary is gone for good."""
        tried = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            slot = repository.slots()[self.name]
            if slot.canary is not None:
                due = slot.canary.share != await asyncio.to_thread(self.share)
            elif slot.failed_file == self.asked.file:
                return
            else:
                due = time.monotonic() - tried > AGAIN
            if due:
                tried = time.monotonic()
                try:
                    await self.bring(repository)
                except TrunklineError as error:
                    words = (self.asked.version, self.name, error.message)
                    log.warning("the share of version %d of %s cannot change now: %s", *words)
