"""``python -m tests.support.killed_training URL COUNT``: a training that is killed at a certain moment.

It dies by SIGKILL when its COUNTth checkpoint is in the store. The work order comes as jobs get theirs.
"""

from __future__ import annotations

import os
import signal
import sys

from adapters.store import Store
from specs.checkpoint_records import ROOT
from specs.workorders import decode
from workloads.job import run


class Fatal(Store):
    """A store that kills its process right after so many checkpoints."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(url)
        self._left = count

    def replace(self, key: str, data: bytes) -> None:
        """Write over what is there."""
        super().replace(key, data)
        if key.startswith(ROOT):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run(decode(os.environ["TRUNKLINE_WORK_ORDER"].encode()), Fatal(sys.argv[1], int(sys.argv[2]))))
