"""A new version beside what serves: which requests it answers, and which it gets a copy of."""

from __future__ import annotations

from workloads.serve.lot import Lot
from workloads.serve.mirroring import Mirror
from workloads.serve.served import Served
from workloads.serve.state import Share


class Canary:
    """One version that takes part in the traffic of another. Belongs to the event loop's thread."""

    def __init__(self, served: Served, mirror: Mirror, share: Share, since: float) -> None:
        """``since``: Unix time since which the share is in force."""
        self.served = served
        self.share = share
        self.since = since
        self._mirror = mirror
        self._answers = Lot()
        self.take(share, since)

    def take(self, share: Share, since: float) -> None:
        """Take another share from here on."""
        self.share, self.since = share, since
        self._mirror.take(share.mirror)

    def answers(self) -> bool:
        """Whether the next request is its own."""
        return self._answers.drawn(self.share.weight)

    def end(self) -> None:
        """Get nothing any more; what it is answering already it answers."""
        self._mirror.take(0)

    def describe(self) -> dict[str, object]:
        """Give the form that ``/trunkline/models`` shows."""
        return {
            **self.served.target.model_dump(), "share": self.share.model_dump(), "ready": True, "since": self.since,
            "self_test": self.served.flaw,
        }  # fmt: skip
