"""Memory that a busy time leaves behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workloads.serve import memory

BUSY = """
import asyncio, contextlib
from pathlib import Path
from workloads.serve import memory

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

async def story() -> None:
    bodies = [b"x" * 100_000 for _ in range(1000)]
    bodies[:-1] = []
    before = resident()
    task = asyncio.create_task(memory.keep_small(pause=0.01))
    while before - resident() < 80_000_000:
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

asyncio.run(asyncio.wait_for(story(), 30))
"""


@pytest.mark.skipif(not memory.trim(), reason="this C library cannot give memory back")
def test_free_memory_goes_back() -> None:
    """What lies free below one body that is still in use goes back to the system."""
    subprocess.run([sys.executable, "-c", BUSY], check=True, timeout=60)
