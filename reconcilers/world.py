"""The world, as thinking knows it: every port in one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconcilers.ports import (
    Calendar,
    DataSources,
    Fleet,
    Forge,
    Jobs,
    ModelRegistry,
    Repository,
    Servers,
    Store,
    TrafficSource,
)
from reconcilers.vetting import Vetting


@dataclass(frozen=True)
class Ports:
    """What looking and acting go through."""

    store: Store
    repository: Repository
    forge: Forge
    jobs: Jobs
    servers: Servers
    vetting: Vetting = field(default_factory=Vetting)
    """What is required of commits, and who is asked about them."""
    data: DataSources | None = None
    """Where data sets outside the store are named; None where nobody can be asked."""
    registry: ModelRegistry | None = None
    """Where releases are mirrored to; None where nobody is told."""
    traffic: TrafficSource | None = None
    """Where live traffic is counted; None where nobody looks."""
    calendar: Calendar | None = None
    """Who knows when a schedule is due; None where nobody does."""
    fleet: Fleet | None = None
    """Who knows devices; None where nobody looks after any."""
