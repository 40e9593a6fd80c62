"""Signing artifacts and checking their signatures: Ed25519, by the ``cryptography`` package, and nothing else.

Jobs sign what they made themselves; servers, jobs and the command line check. Everybody uses these functions, so that
there is one opinion on what a valid signature is. No message here holds a private key or a part of one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)  # fmt: skip
from pydantic import ValidationError

from specs.digests import digest_bytes, short
from specs.errors import Stalled
from specs.records import artifact_key
from specs.release import Pin
from specs.signatures import (
    Claim,
    Envelope,
    ExportClaim,
    Statement,
    TrustedKey,
    WeightsClaim,
    public_text,
    signature_key,
    signatures_of,
    signed_bytes,
)  # fmt: skip

_LONGEST = 64 * 1024
"""Bytes of an envelope; ours have about 700."""
_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{16})\.json")
"""Of a signature in its folder: what the file was made from, and the key's id."""


class Readable(Protocol):
    """The part of a store that checking needs."""

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None."""


class Listed(Readable, Protocol):
    """The part of a store that looking around needs."""

    def list(self, prefix: str = "") -> list[str]:
        """Give the keys that begin with ``prefix``."""


class Writable(Readable, Protocol):
    """The part of a store that signing needs."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once; False where one is there."""


@dataclass(frozen=True)
class Signed:
    """A signature that holds."""

    claim: Claim
    key_id: str
    signed_at: datetime


@dataclass(frozen=True)
class Checked:
    """What became of checking one file of a release."""

    what: str
    """``weights``, or the name of the export."""
    file: str
    reason: str = ""
    """``SignatureMissing``, ``SignatureInvalid`` or ``ArtifactMissing``; empty where a signature holds."""
    message: str = ""
    signed: Signed | None = None


class SigningKey:
    """A private key in memory."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = TrustedKey(key=public_text(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)))
        self.key_id = self.public.key_id

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Read a PEM file; Stalled ``SigningKeyInvalid`` where it holds no Ed25519 key that we can use."""
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            msg = f"the signing key {path} cannot be read: {error.strerror or error}"
            raise Stalled("SigningKeyInvalid", msg) from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            msg = f"{path} holds no Ed25519 key in PEM without a password; `trunkline keys new FILE` makes one"
            raise Stalled("SigningKeyInvalid", msg)
        return cls(key)

    @classmethod
    def new(cls, path: Path) -> SigningKey:
        """Make a key and keep it in a new file that only its owner may read; Stalled ``AlreadyThere``."""
        key = Ed25519PrivateKey.generate()
        write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls(key)

    def sign(self, claim: Claim, now: datetime) -> bytes:
        """Give the envelope for a claim, signed ``now``."""
        payload = Statement(claim=claim, signed_at=now).encode()
        return Envelope.of(payload, self.key_id, self._key.sign(signed_bytes(payload))).encode()


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read; Stalled ``AlreadyThere`` or ``SigningKeyInvalid``."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Stalled("AlreadyThere", f"{path} exists already; nothing was changed") from error
    except OSError as error:
        raise Stalled("SigningKeyInvalid", f"{path} cannot be written: {error.strerror or error}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def put(store: Writable, key: SigningKey, claim: Claim, now: datetime) -> bool:
    """Sign a claim and store the signature; False where this key's signature of it was there before.

    Doing it twice, or two at once, leaves the first one. Stalled ``SignatureInvalid`` where something else is in its
    place. Store errors pass through.
    """
    place = signature_key(claim, key.key_id)
    if store.create(place, key.sign(claim, now)):
        return True
    found = _statement(store.read(place) or b"", key.public)
    if isinstance(found, str) or found.claim != claim:
        why = found if isinstance(found, str) else "it says something else about the file"
        msg = f"{place} in the store is in the way of signing {claim.file}: {why}. Look who wrote it, and remove it"
        raise Stalled("SignatureInvalid", msg)
    return False


def check(store: Readable, claim: Claim, trusted: Sequence[TrustedKey]) -> Signed:
    """Give a signature of exactly this claim by a trusted key; one that holds is enough.

    Stalled ``SignatureMissing`` where none of the keys has signed it, ``SignatureInvalid`` where those that did do not
    hold. Store errors pass through.
    """
    flaws: list[str] = []
    for key in trusted:
        data = store.read(signature_key(claim, key.key_id))
        found = None if data is None else _judge(data, claim, key)
        if isinstance(found, Signed):
            return found
        flaws += [] if found is None else [f"by key {key.key_id}: {found}"]
    what = f"{claim.kind} {claim.file}"
    if flaws:
        raise Stalled("SignatureInvalid", f"no signature of the {what} holds ({'; '.join(flaws)})")
    keys = ", ".join(key.key_id for key in trusted)
    origin = f"as made from {'run' if claim.kind == 'weights' else 'weights'} {short(claim.parent)}"
    msg = f"the {what} is not signed {origin} by any trusted key ({keys}); `trunkline sign` signs what you vouch for"
    raise Stalled("SignatureMissing", msg)


def check_weights(store: Listed, weights: str, trusted: Sequence[TrustedKey]) -> Signed:
    """Give a signature by a trusted key that says which run these weights are from; errors as in ``check``."""
    names = [_NAME.fullmatch(key.rpartition("/")[2]) for key in store.list(signatures_of(weights))]
    claims = [WeightsClaim(file=weights, run=f"sha256:{run}") for run in sorted({name[1] for name in names if name})]
    trouble = Stalled("SignatureMissing", f"the weights {weights} are not signed; `trunkline sign` signs them")
    for claim in claims:
        try:
            return check(store, claim, trusted)
        except Stalled as error:
            trouble = error
    raise trouble


def export_claim(store: Readable, file: str, weights: str) -> ExportClaim:
    """Give what must be signed about an export; Stalled ``ArtifactMissing`` where the store has no record of it."""
    record = store.read(artifact_key(file))
    if record is None:
        raise Stalled("ArtifactMissing", f"the store has no artifact record of {file}; has its export ended well?")
    return ExportClaim(file=file, weights=weights, record=digest_bytes(record))


def check_release(store: Readable, pin: Pin, trusted: Sequence[TrustedKey]) -> tuple[Checked, ...]:
    """Check all files of a release, as a server would: the weights as of its run, each export as of its weights.

    Empty where no key is trusted. Raises only what the store raises when it is in trouble.
    """
    if not trusted:
        return ()

    def weights() -> Claim:
        return WeightsClaim(file=pin.weights, run=pin.run)

    def checked(what: str, file: str, claim: Callable[[], Claim]) -> Checked:
        try:
            return Checked(what, file, signed=check(store, claim(), trusted))
        except Stalled as error:
            return Checked(what, file, error.reason, error.message)

    exports = sorted(pin.exports.items())
    return (
        checked("weights", pin.weights, weights),
        *(checked(name, file, partial(export_claim, store, file, pin.weights)) for name, file in exports),
    )


def found(store: Listed, file: str, trusted: Sequence[TrustedKey]) -> Iterator[tuple[str, Signed | str]]:
    """Give every signature of a file in the store: its key there, and what it says or why it does not count."""
    known = {key.key_id: key for key in trusted}
    for place in store.list(signatures_of(file)):
        name = _NAME.fullmatch(place.rpartition("/")[2])
        if name is None:
            continue  # a bundle of another tool
        key_id = name[2]
        if key_id not in known:
            yield place, f"key {key_id} is not trusted"
            continue
        statement = _statement(store.read(place) or b"", known[key_id])
        if isinstance(statement, str):
            yield place, statement
        elif signature_key(statement.claim, key_id) != place:
            yield place, "it was made for another place"
        elif not known[key_id].covers(statement.signed_at):
            yield place, _outside(statement)
        else:
            yield place, Signed(statement.claim, key_id, statement.signed_at)


def _judge(data: bytes, claim: Claim, key: TrustedKey) -> Signed | str:
    """Give a signature of a claim, or why it is none."""
    statement = _statement(data, key)
    if isinstance(statement, str):
        return statement
    if statement.claim != claim:
        return _difference(statement.claim, claim)
    if not key.covers(statement.signed_at):
        return _outside(statement)
    return Signed(claim, key.key_id, statement.signed_at)


def _statement(data: bytes, key: TrustedKey) -> Statement | str:
    """Give what was signed with a key, or why that cannot be told. Nothing is read before the signature holds."""
    if len(data) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes"
    try:
        payload, signatures = Envelope.model_validate_json(data).open()
    except ValidationError as error:
        return f"it is no DSSE envelope ({error.error_count()} fields are wrong)"
    except ValueError as error:
        return str(error)
    if not any(_holds(signature, payload, key) for signature in signatures):
        return "it does not fit what it signs, or was made with another key"
    try:
        return Statement.decode(payload)
    except ValueError:
        return "what it signs is no statement that this version understands"


def _holds(signature: bytes, payload: bytes, key: TrustedKey) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, signed_bytes(payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def _difference(said: Claim, asked: Claim) -> str:
    if said.kind != asked.kind:
        return f"it is for {said.kind}, not for {asked.kind}"
    if said.file != asked.file:
        return f"it is for the file {short(said.file)}"
    if said.parent != asked.parent:
        return f"it says that the file was made from {short(said.parent)}"
    return "the record of what the file is was changed after it was signed"


def _outside(statement: Statement) -> str:
    return f"the key does not count at the time of signing, {statement.signed_at:%Y-%m-%d %H:%M} UTC"
