"""Keys, and models in a store that are signed with them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from adapters.artifact_signatures import SigningKey, export_claim, put
from adapters.store import Store
from specs.signatures import WeightsClaim
from tests.support import onnx_models
from tests.support.onnx_models import Published

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def key(folder: Path, name: str = "key") -> SigningKey:
    """Make a key, or read the one of that name that was made before."""
    path = folder / f"{name}.pem"
    return SigningKey.read(path) if path.exists() else SigningKey.new(path)


def sign(store: Store, published: Published, signer: SigningKey, when: datetime = NOON) -> None:
    """Sign a published model as its jobs would: the weights as of its run, the export as of its weights."""
    put(store, signer, WeightsClaim(file=published.weights, run=published.run), when)
    put(store, signer, export_claim(store, published.file, published.weights), when)


def signed_model(store: Store, seed: int, signer: SigningKey) -> Published:
    """Put a small classifier into a store and sign it."""
    published = onnx_models.publish(store, onnx_models.classifier(seed))
    sign(store, published, signer)
    return published
