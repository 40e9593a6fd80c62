"""OpenSSF model-signing's bundles, beside our own signatures: for tools that read those. Needs the extra ``bundles``.

Made with a key (NIST curves; the format has no Ed25519), without any network. A bundle vouches for the bytes of one
file, and says nothing about what it was made from. Imported only where somebody asks for bundles.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)  # fmt: skip
from model_signing import signing, verifying

from adapters.artifact_signatures import write_private
from specs.digests import digest_bytes, short
from specs.errors import CorruptArtifact, Stalled
from specs.signatures import signatures_of

_NAME = re.compile(r"model-signing-[0-9a-f]{12}\.json")


class Store(Protocol):
    """The part of the store that bundles need."""

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once; False where one is there."""

    def list(self, prefix: str = "") -> list[str]:
        """Give the keys that begin with ``prefix``."""

    def fetch_blob(self, digest: str, destination: Path) -> None:
        """Copy a file out, verified."""


def new_key(path: Path) -> bytes:
    """Make a P-256 key in a new file that only its owner may read; give its public part in PEM."""
    key = generate_private_key(SECP256R1())
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def put(store: Store, file: str, private_key: Path) -> str:
    """Write the bundle of a file, once for each key; give its key in the store. Stalled ``SigningKeyInvalid``."""
    try:
        key = load_pem_private_key(private_key.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        msg = f"{private_key} holds no key for bundles; `trunkline keys new FILE --bundle` makes one"
        raise Stalled("SigningKeyInvalid", msg)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    place = f"{signatures_of(file)}model-signing-{short(digest_bytes(public))}.json"
    if store.read(place) is None:
        with tempfile.TemporaryDirectory() as folder:
            model, bundle = Path(folder, "model"), Path(folder, "bundle")
            store.fetch_blob(file, model)
            signing.Config().use_elliptic_key_signer(private_key=private_key).sign(model, bundle)
            store.create(place, bundle.read_bytes())
    return place


def check(store: Store, file: str, public_key: Path) -> Iterator[tuple[str, str]]:
    """Give each bundle of a file in the store, and why it does not hold; empty where it does."""
    try:
        load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise Stalled("SigningKeyInvalid", f"{public_key} holds no public key in PEM") from error
    places = [place for place in store.list(signatures_of(file)) if _NAME.fullmatch(place.rpartition("/")[2])]
    with tempfile.TemporaryDirectory() as folder:
        model, bundle = Path(folder, "model"), Path(folder, "bundle")
        flaw = ""
        try:
            if places:
                store.fetch_blob(file, model)
        except CorruptArtifact as error:
            flaw = error.message
        for place in places:
            bundle.write_bytes(store.read(place) or b"")
            yield place, flaw or _flaw(model, bundle, public_key)


def _flaw(model: Path, bundle: Path, public_key: Path) -> str:
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(model, bundle)
    except InvalidSignature:
        return "the signature does not fit what it signs"
    except Exception as error:  # noqa: BLE001  a bundle is foreign text; the package promises no kind of error for it
        return f"it does not hold: {str(error)[:200]}"
    return ""
