"""``spec.serving``: where and how the released export answers requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specs.base import Duration, Name, Section
from specs.training import Resources


class CanaryStep(Section):
    """Send this share of the traffic to the new version, then look for this long."""

    weight: Annotated[int, Field(ge=0, le=100)]
    pause: Duration | None = None


class Canary(Section):
    """A rollout in steps."""

    steps: Annotated[list[CanaryStep], Field(min_length=1)]


class Strategy(Section):
    """How one version replaces another; the default is rolling."""

    canary: Canary | None = None


class Serving(Section):
    """Serve one of the exports."""

    export: Name
    replicas: Annotated[int, Field(ge=0)] | None = None
    backend: Literal["Deployment", "KServe", "Triton"] | None = None
    strategy: Strategy | None = None
    resources: Resources | None = None
    node_selector: dict[str, str] | None = None
