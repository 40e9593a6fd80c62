"""One model at the server: what serves, what takes part in its traffic beside it, and what stands by."""

from __future__ import annotations

from dataclasses import dataclass, field

from specs.engines import refused_by
from workloads.serve.canary import Canary
from workloads.serve.served import Served, Standby
from workloads.serve.state import Saved, Share, Target


@dataclass
class Slot:
    """All that is known under one model name."""

    served: Served | None = None
    saved: Saved | None = None
    failed_file: str | None = None
    failed_build: str | None = None
    """What was to be made of it."""
    failure: str = ""
    incoming: Saved | None = None
    """What is being loaded."""
    incoming_share: Share | None = None
    """What is being loaded is to be the canary, with this share."""
    standby: Standby = field(default_factory=Standby)
    canary: Canary | None = None
    """There is one only where there is something that it is beside of."""

    @property
    def flaw(self) -> str:
        """Why self-tests of what serves failed when they were repeated; empty where they did not."""
        return self.served.flaw if self.served else ""

    def describe(self) -> dict[str, object]:
        """Give the form that ``/trunkline/models`` shows."""
        target = self.served.target.model_dump() if self.served else dict.fromkeys(Target.model_fields)
        return {
            **target, "ready": self.served is not None, "parked": self.served is not None and self.served.parked,
            "loading": self.incoming is not None,
            "since": self.saved.since if self.saved and self.served else None,
            "self_test": self.flaw, "runtime": self.served.engine.runtime if self.served else "",
            "engine": self.served.attestation if self.served else None,
            "failed_file": self.failed_file, "failed_build": self.failed_build if self.failed_file else None,
            "failure": self.failure, "device": refused_by(self.failure),
            "options": self.saved.options_digest if self.saved else None, "standby": self.standby.version,
            "canary": self._canary(),
        }  # fmt: skip

    def _canary(self) -> dict[str, object] | None:
        if self.canary is not None:
            return self.canary.describe()
        if self.incoming is None or self.incoming_share is None:
            return None
        return {
            **self.incoming.target.model_dump(), "share": self.incoming_share.model_dump(), "ready": False,
            "since": 0.0, "self_test": "",
        }  # fmt: skip
