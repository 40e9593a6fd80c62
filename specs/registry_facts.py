"""Facts about the registries of tracking servers, as frozen values that adapters give and plans read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Registration:
    """A release as a tracking server's registry shall have it."""

    tracking_uri: str
    experiment: str
    name: str
    """Of the registered model."""
    model: str
    """``namespace/name`` of the ModelSpec."""
    release: int
    run: str
    weights: str
    tags: tuple[tuple[str, str], ...] = ()
    """More to say about it; told once, when it is registered."""


@dataclass(frozen=True)
class Registered:
    """What a tracking server's registry has under a registration's name. Empty strings stand for nothing there."""

    owner: str | None = None
    """``namespace/name`` of the ModelSpec that it mirrors; empty where somebody else made it, None where nobody did."""
    version: str = ""
    """The registry's own number of the version that stands for the release."""
    source: str = ""
    """The tracking server's run that mirrors the release's run; without it nothing can be registered."""
    champion: str = ""
    """The version that the alias points at."""
    ours: str = ""
    """The version that we pointed it at last."""
    reached: bool = True
    """False where the server does not answer now: the rest is what it said before, if it ever said anything."""
    old: bool = False
    """Whether it is being looked at anew."""
