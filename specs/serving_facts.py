"""What must serve and what does, as frozen values: targets that plans ask hosts for, and states that hosts tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specs.engines import refused_by
from specs.placement import Shape
from specs.serving import ServerOptions


@dataclass(frozen=True)
class Share:
    """How a new version takes part in live traffic beside what serves, and which step of its strategy that is."""

    step: int
    """From 1; 0: it is loaded, and gets no requests yet."""
    weight: int = 0
    """Per cent of the requests that it answers."""
    mirror: int = 0
    """Per cent of the requests that it gets a copy of."""


@dataclass(frozen=True)
class CanaryState:
    """A new version beside what serves."""

    version: int
    file: str
    share: Share
    """As it was asked for last."""
    ready: bool = False
    """Whether it can answer, wherever what serves can."""
    since: float = 0.0
    """Unix time since which the share is in force; 0 while it is not."""
    self_test: str = ""
    """As in ``ServingState``."""


@dataclass(frozen=True)
class ServingTarget:
    """What must serve: one export of one release."""

    name: str
    """Model name at the server."""
    version: int
    run: str
    weights: str
    file: str
    """Digest of the export."""
    shape: Shape = field(default_factory=Shape)
    options: ServerOptions = field(default_factory=ServerOptions)
    share: Share | None = None
    """It serves beside what serves now, with this share; None: it is all that serves."""
    build: str = ""
    """Format that the host makes of the file, which is ONNX, for itself; empty where it serves the file."""


@dataclass(frozen=True)
class Rejected:
    """A file that serves and must not: what live traffic said about it. The host remembers it with the fall back."""

    file: str
    """Digest of the export."""
    failure: str
    """One sentence."""


@dataclass(frozen=True)
class ServingState:
    """What does serve."""

    name: str
    ready: bool
    version: int | None = None
    file: str | None = None
    url: str = ""
    failed_file: str | None = None
    """Digest of the last export that could not be loaded, until another one is asked for."""
    failure: str = ""
    build: str | None = None
    """What the host made of the file that serves, as in ``ServingTarget``; None where nobody knows."""
    failed_build: str | None = None
    """What it was to make of ``failed_file``; None where nobody knows."""
    asked: str | None = None
    """Digest of the export that the host works towards, where it goes on trying by itself; None where it does not."""
    asked_version: int | None = None
    shape: str | None = None
    """Digest of the ``Shape`` it has; None where the host knows no shapes."""
    options: str | None = None
    """Digest of the ``ServerOptions`` in force; None where nobody knows."""
    rejected: Rejected | None = None
    """What was given up for what live traffic said about it, until another release is asked for."""
    self_test: str = ""
    """Why what serves gave another answer when its self-tests were repeated; empty where it did not."""
    replicas: tuple[int, int] | None = None
    """How many answer, and how many should; None where the host knows no replicas."""
    canary: CanaryState | None = None
    """What serves beside it; None where nothing does."""

    def has_failed(self, target: ServingTarget) -> bool:
        """Whether this very target could not be loaded."""
        return self.failed_file == target.file and self.failed_build in (None, target.build)

    @property
    def refused_by(self) -> Mapping[str, str]:
        """What the device is like for which ``failed_file`` is the wrong engine; empty where that is not why."""
        return refused_by(self.failure) if self.failed_file else {}
