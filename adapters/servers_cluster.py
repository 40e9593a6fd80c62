"""All serving in a cluster behind one port: the spec says which backend serves a model, and may say another one later.

Another backend first brings up what serves now, or what is to serve; only once that answers in full, the one before is
withdrawn. Nothing of this is remembered: while two have something of a model, both are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from adapters.kubernetes_api import Kind
from specs.errors import Stalled
from specs.serving_facts import Rejected, ServingState, ServingTarget


class Backend(Protocol):
    """One way to serve."""

    def state(self, name: str) -> ServingState | None:
        """Give what serves under that name, None where nothing of this backend is there."""

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask for a target."""

    def withdraw(self, name: str, *, but: Collection[Kind] = ()) -> None:
        """Let go of all of a model, except objects of these kinds."""

    def names(self) -> Sequence[str]:
        """Give the models that this backend has something of."""


class ClusterServers:
    """Serves each model by the backend that its shape names."""

    def __init__(self, backends: Mapping[str, Backend], shared: Mapping[str, Collection[Kind]]) -> None:
        """``shared``: the kinds of objects that backends use together, by the backend that takes over."""
        self._backends = dict(backends)
        self._shared = dict(shared)

    def state(self, name: str) -> ServingState | None:
        """Give what answers, and what is asked for; of two backends, what the one before answers until it is gone."""
        states = self._states(name)
        if len(states) < 2:
            return next(iter(states.values()), None)
        first = next((state for state in states.values() if state.ready), next(iter(states.values())))
        failures = [f"{backend}: {state.failure}" for backend, state in states.items() if state.failure]
        # No shape is that of two backends, so the one that is asked for is asked again, and sees to the other's end.
        # That one of them cannot serve a file is no verdict on a file that another one serves.
        return replace(first, shape="", failed_file=None, failure="; ".join(failures), canary=None)

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask the backend that the target's shape names; what another one serves goes on until that answers in full.

        Stalled ``BackendFailed`` where it can never serve what another one serves: that goes on then.
        """
        chosen = target.shape.backend
        others = {name: state for name, state in self._states(target.name).items() if name != chosen}
        # Between two backends no live traffic can be split.
        alone = replace(target, share=None) if others else target
        state = self._backends[chosen].roll_out(alone, rejected)
        if not others:
            return state
        if not _answers(state, target):
            _tell_failure(chosen, state, target, others)
            return self.state(target.name) or state
        for name in others:
            self._backends[name].withdraw(target.name, but=self._shared.get(chosen, ()))
        return state

    def withdraw(self, name: str) -> None:
        """Delete all that serves a model, whichever backend made it; no-op where it is gone."""
        for backend in self._backends.values():
            backend.withdraw(name)

    def names(self) -> Sequence[str]:
        """Give the models that any backend has something of, sorted."""
        return sorted({name for backend in self._backends.values() for name in backend.names()})

    def _states(self, name: str) -> dict[str, ServingState]:
        found = {backend: servers.state(name) for backend, servers in self._backends.items()}
        return {backend: state for backend, state in found.items() if state is not None}


def _answers(state: ServingState, target: ServingTarget) -> bool:
    """Whether a backend answers with exactly a target, and as often as it shall."""
    same = state.ready and (state.version, state.file) == (target.version, target.file)
    return same and (state.replicas is None or state.replicas[0] >= state.replicas[1])


def _tell_failure(chosen: str, state: ServingState, target: ServingTarget, others: Mapping[str, ServingState]) -> None:
    """Raise where the backend that is asked for gave the target up, and another one answers."""
    answering = [f"v{other.version} by {name}" for name, other in others.items() if other.ready]
    if state.failed_file != target.file or not answering:
        return
    why = state.failure.rstrip(" .") or "no reason was given"
    text = f"{chosen} cannot serve v{target.version}: {why}. {' and '.join(answering)} goes on answering"
    raise Stalled("BackendFailed", f"{text}; set spec.serving.backend back, or release another file")
