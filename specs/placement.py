"""Where work runs and how much of it there is: asked for by the spec, honoured by a cluster, ignored by the agent.

Nothing here decides what comes out, so none of it is an input: moving a training to another GPU does not train again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.digests import digest_of
from specs.serving import Autoscaling, Gateway
from specs.training import Resources, TrainJob, gpus


@dataclass(frozen=True)
class Placement:
    """Resources and nodes for one pod, in Kubernetes' own words and amounts (``cpu: 500m``)."""

    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    queue: str = ""
    """Name of the Kueue LocalQueue that admits the job; empty where none does."""
    train_job: TrainJob | None = None
    """How Kubeflow Trainer runs it; None where it is a plain Job."""

    @property
    def gpus(self) -> int:
        """How many whole GPUs one pod gets."""
        return gpus(self.limits)

    @classmethod
    def of(cls, resources: Resources | None, nodes: Mapping[str, str] | None, queue: str | None = None) -> Placement:
        """Put together what the sections of a spec say."""
        asked = resources or Resources()
        return cls(asked.requests or {}, asked.limits or {}, nodes or {}, queue or "")


@dataclass(frozen=True)
class Shape:
    """How a release serves: how many copies, where, and with what."""

    replicas: int = 1
    placement: Placement = field(default_factory=Placement)
    autoscaling: Autoscaling | None = None
    backend: str = "Deployment"
    """``serving.backend``."""
    gateway: Gateway | None = None
    """Who splits the traffic of a canary; None where the servers do so themselves."""

    @property
    def digest(self) -> str:
        """Name the shape, so that a difference shows without comparing what a cluster made of it."""
        return digest_of(self.content())

    def content(self) -> dict[str, Any]:
        """Give it as plain JSON values."""
        # What is as ever is left out: new words must not roll out anew what was written before there were any.
        more = {"backend": self.backend} if self.backend != "Deployment" else {}
        gateway = {"gateway": self.gateway.model_dump(mode="json", by_alias=True)} if self.gateway else {}
        return more | gateway | {
            "replicas": self.replicas, "requests": dict(self.placement.requests),
            "limits": dict(self.placement.limits), "nodeSelector": dict(self.placement.node_selector),
            "autoscaling": self.autoscaling.model_dump(mode="json", by_alias=True) if self.autoscaling else None,
        }  # fmt: skip
