"""``spec.release`` and ``spec.policy``: the digests that must serve, and what Trunkline may propose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specs.base import Name, Section
from specs.digests import Digest, PlainText


class Pin(Section):
    """One deployable thing, digest for digest."""

    version: Annotated[int, Field(ge=1)]
    run: Digest
    """The inputsDigest of the run."""
    weights: Digest
    exports: Annotated[dict[Name, Digest], Field(min_length=1, max_length=32)]

    def content(self) -> dict[str, object]:
        """What is released, without the bookkeeping: two pins with equal content are the same release."""
        return {"run": self.run, "weights": self.weights, "exports": dict(sorted(self.exports.items()))}


class Denied(Section):
    """A run that must not be proposed again."""

    run: Digest
    reason: PlainText
    at: PlainText | None = None


class Hold(Section):
    """No promotions until a pull request removes this."""

    reason: PlainText


class Release(Pin):
    """The pin that serves now, its proof, and what to fall back to."""

    evidence: Digest | None = None
    """Digest of ``evidence/<namespace>.<name>/v<version>/evidence.json``, which came in the same pull request."""
    previous: Pin | None = None
    deny: list[Denied] | None = None
    hold: Hold | None = None


class Policy(Section):
    """What Trunkline may do with its pull requests."""

    max_open_proposals: Annotated[int, Field(ge=1)] | None = None
    auto_merge: Literal["Never", "RollbackOnly", "WhenGatesPass"] | None = None
