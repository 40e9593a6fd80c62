"""What a canary cannot answer, what serves answers: clients never pay for a version that is being tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from workloads.serve.answers import Refusal
from workloads.serve.engine import EngineFailure
from workloads.serve.exposition import Tally
from workloads.serve.repository import Repository
from workloads.serve.served import Served

T = TypeVar("T")
_BUSY = 429


async def answered_instead(
    repository: Repository, name: str, failed: Served, trouble: EngineFailure | Refusal, tally: Tally,
    answer: Callable[[Served], Awaitable[T]],
) -> tuple[Served, T]:  # fmt: skip
    """Give who answered a request that ``failed`` could not, and the answer.

    The trouble is counted as the canary's, unless what serves refuses the same: then it is the client's. Where it was
    what serves that failed, the client is told; and so it is where that cannot answer either.
    """
    served = await repository.instead(name, failed)
    if served is None:
        raise refused(trouble)
    tally.series = served.observer.series
    ours = True
    try:
        return served, await answer(served)
    except EngineFailure as error:
        raise refused(error) from error
    except Refusal as error:
        ours = not isinstance(trouble, Refusal) or trouble.status != error.status
        raise
    finally:
        if ours:
            failed.observer.series.outcomes["overloaded" if refused(trouble).status == _BUSY else "error"] += 1


def refused(trouble: EngineFailure | Refusal) -> Refusal:
    """Give what a client is told."""
    if isinstance(trouble, Refusal):
        return trouble
    refusal = Refusal(500, f"the model failed: {trouble}")
    refusal.__cause__ = trouble
    return refusal
