"""Whom the server believes: with trusted keys it loads nothing that none of them has signed, from file to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from specs.errors import Stalled
from specs.signatures import TrustedKey, WeightsClaim
from workloads.serve.state import Target


class Records(Protocol):
    """The part of a store that holds records."""

    def read(self, key: str) -> bytes | None:
        """Give a record's text, or None."""


class Noted:
    """Reads records, each one once, and keeps what it read: what was checked is what is used, and used again."""

    def __init__(self, store: Records, texts: dict[str, str] | None = None) -> None:
        self._store = store
        self.texts = dict(texts or {})

    def read(self, key: str) -> bytes | None:
        """Give a record's text, or None."""
        if key not in self.texts:
            found = self._store.read(key)
            if found is None:
                return None
            self.texts[key] = found.decode(errors="replace")
        return self.texts[key].encode()


class _Nothing:
    def read(self, key: str) -> None:
        del key


@dataclass(frozen=True)
class Trust:
    """Trusted keys; with none of them digests alone are believed."""

    keys: tuple[TrustedKey, ...] = ()

    def demand(self, records: Records, target: Target) -> None:
        """Make sure that the target's file was exported from its weights, and these came out of its run.

        Stalled ``SignatureMissing``, ``SignatureInvalid``, ``ArtifactMissing``; Transient of the store.
        """
        if self.keys:
            # Takes seven megabytes, which servers without keys need not have.
            from adapters import artifact_signatures

            claim = artifact_signatures.export_claim(records, target.file, target.weights)
            artifact_signatures.check(records, claim, self.keys)
            artifact_signatures.check(records, WeightsClaim(file=target.weights, run=target.run), self.keys)

    def demand_again(self, store: Records, target: Target, texts: dict[str, str]) -> None:
        """Check what was checked before, from what was kept of it; the store is asked where that is not enough.

        So a server comes back without the store, but not with a key that is no longer trusted.
        """
        try:
            self.demand(Noted(_Nothing(), texts), target)
        except Stalled:
            self.demand(store, target)
