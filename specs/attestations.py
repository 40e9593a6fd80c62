"""What a device says of an engine that it made for itself: of which file, with what, and how well it answers.

Layout in the store::

    attestations/<onnx file>-<made>.json     Attestation; ``made`` is the digest of all that the engine depends on

Devices that are alike and made the same bytes say the same under the same name: the first one wins.
"""

from __future__ import annotations

from specs.digests import Digest, digest_of, hex_of
from specs.records import Record


class Attestation(Record):
    """One engine that was made of a released ONNX file, and proved itself."""

    onnx: Digest
    engine: Digest
    """Of the bytes that were made."""
    format: str
    precision: str
    versions: dict[str, str]
    """Of the runtime that made it, by name."""
    device: dict[str, str]
    """Facts of the device; as in ``specs.engines`` where it has a GPU."""
    parity: dict[str, float]
    """``difference``: within which its answers agree with the recorded ones; ``tolerance``: what was allowed;
    ``tests``: how many were compared."""
    latency: dict[str, float]
    """As in an ExportRecord, of one picture at a time."""
    bytes: int


def attestation_key(attestation: Attestation) -> str:
    """Key of an Attestation."""
    facts = {name: getattr(attestation, name) for name in ("engine", "format", "precision", "versions", "device")}
    return f"attestations/{hex_of(attestation.onnx)}-{hex_of(digest_of(facts))}.json"
