"""Requests come all the time while releases come and go and a server is killed: the small form of a benchmark."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.rollouts import Phase, stage

pytestmark = pytest.mark.ml


def test_no_request_fails(tmp_path: Path) -> None:
    """Two rollouts, one of them through a canary, a fall back, and a node that is killed with all it has."""

    async def story() -> list[Phase]:
        async with stage(tmp_path, rate=40, gap=0.05) as ours:
            await ours.roll_out(canary=False, back=False)
            await ours.roll_out(canary=True, back=False)
            ours.balancer.begin("a fall back")
            await ours.roll_out(canary=False, back=True)
            ours.balancer.begin("a kill")
            await ours.kill(0, node=True)
            assert ours.serving.version == 3
        return ours.balancer.phases

    rollouts, back, kill = asyncio.run(story())
    assert [phase.failed for phase in (rollouts, back, kill)] == [[], [], []]
    assert rollouts.sent > 0
    assert kill.sent > 0
    assert len(rollouts.answered_by) == 2
