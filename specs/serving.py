"""``spec.serving``: where and how the released export answers requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from specs.base import Duration, Name, Section
from specs.digests import PlainText, digest_of
from specs.monitoring import Labelling
from specs.training import Resources


class CanaryStep(Section):
    """Let the new version take part in live traffic, then look for this long."""

    weight: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per cent of the requests that it answers."""
    mirror: Annotated[int, Field(ge=1, le=100)] | None = None
    """Per cent of the requests that it gets a copy of; clients never see its answers."""
    pause: Duration | None = None
    """``PAUSE`` where it is not given."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.weight is None) == (self.mirror is None):
            msg = "give exactly one of weight and mirror"
            raise ValueError(msg)
        return self


PAUSE = "5m"


class Canary(Section):
    """A rollout in steps: both versions serve, until the last step is over and the new one serves alone."""

    steps: Annotated[list[CanaryStep], Field(min_length=1, max_length=32)]


class Strategy(Section):
    """How one version replaces another; the default is rolling."""

    canary: Canary | None = None
    bake_time: Duration | None = None
    """How long a new release is on trial in live traffic, with the one before it ready to take over again."""


class Autoscaling(Section):
    """As many replicas as the load needs, by a HorizontalPodAutoscaler; ``serving.replicas`` then has no effect."""

    min_replicas: Annotated[int, Field(ge=1)]
    max_replicas: Annotated[int, Field(ge=1)]
    target_cpu_utilization_percentage: Annotated[int, Field(ge=1, le=100)] = 80

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            msg = f"minReplicas {self.min_replicas} is above maxReplicas {self.max_replicas}"
            raise ValueError(msg)
        return self


class Batching(Section):
    """How requests that wait for the same model go through it together."""

    max_rows: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rows of several requests in one inference; by default as many as the server allows, and gain anything."""
    latency_budget: Duration | None = None
    """From a request's arrival at the model to its answer; who cannot be answered in time gets 429 at once."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max_rows is None and self.latency_budget is None:
            msg = "give maxRows, latencyBudget or both"
            raise ValueError(msg)
        return self


class ParentRef(Section):
    """A Gateway, in the words of the Gateway API."""

    name: Name
    namespace: Name | None = None
    """The model's own where it is not given."""
    section_name: Name | None = None
    """Of a listener."""


class Gateway(Section):
    """Let a Gateway split the traffic of a canary, by the weights of an HTTPRoute, between two Deployments."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)]
    hostnames: Annotated[list[PlainText], Field(min_length=1, max_length=16)] | None = None


class Wave(Section):
    """So many of the devices get a release together."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """Of all devices, those of earlier waves included."""
    soak: Duration | None = None
    """How long all of them must have served it before the next wave begins."""


class Edge(Section):
    """Serve on devices that pull: which ones, and in what order they get a release."""

    waves: Annotated[list[Wave], Field(min_length=1, max_length=16)]
    devices: dict[str, str] | None = None
    """Labels that a device must have; every device where none are given."""
    max_failures: Annotated[int, Field(ge=0)] | None = None
    """More devices of the waves so far that failed halt the rollout; 0 where it is not given."""
    max_silent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per cent of a wave's devices that hold nobody up although they do not serve it yet; 10 where it is not given."""

    @model_validator(mode="after")
    def _growing(self) -> Self:
        shares = [wave.percent for wave in self.waves]
        if shares != sorted(set(shares)) or shares[-1] != 100:
            msg = f"waves must grow, and the last one must be of 100 percent; found {', '.join(map(str, shares))}"
            raise ValueError(msg)
        return self


class Serving(Section):
    """Serve one of the exports."""

    export: Name
    replicas: Annotated[int, Field(ge=0)] | None = None
    backend: Literal["Deployment", "KServe", "Triton"] | None = None
    strategy: Strategy | None = None
    autoscaling: Autoscaling | None = None
    batching: Batching | None = None
    resources: Resources | None = None
    node_selector: dict[str, str] | None = None
    gateway: Gateway | None = None
    edge: Edge | None = None

    @model_validator(mode="after")
    def _can_scale(self) -> Self:
        asked = self.resources or Resources()
        if self.autoscaling and not any("cpu" in (amounts or {}) for amounts in (asked.requests, asked.limits)):
            msg = "autoscaling goes by the share of requested cpu that is used: give resources.requests.cpu"
            raise ValueError(msg)
        return self


class ServerOptions(BaseModel):
    """What a server does beside answering. Another one is told to the server that runs; nothing is loaded anew."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    labelling: Labelling | None = None
    """Which pictures are kept for people."""
    standby: float = 0.0
    """Seconds for which the version before stays loaded, so that going back to it takes no time."""
    batching: Batching | None = None

    def plain(self) -> dict[str, Any]:
        """Give them as plain JSON values, as a server is told."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def digest(self) -> str:
        """Name the options; the defaults have a name too. A server names what it was told, word for word."""
        return digest_of(self.plain())
