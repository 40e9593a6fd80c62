"""What a signature of an artifact says, and how it is written down. Pure: no keys are used here.

A signature is a DSSE envelope around an in-toto statement, which other tools read too. What is signed says *what the
file is*: weights of a run, or an export of weights. So it cannot be moved to another file, nor to another meaning.
Layout in the store::

    signatures/<file>/<what it was made from>-<key id>.json     Envelope; write-once, one for each key
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from specs.digests import Digest, canonical, hex_of

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://trunkline.dev/artifact/v1"

KEY_FILE_VARIABLE = "TRUNKLINE_SIGNING_KEY_FILE"
"""Tells a job where the private key is; never the key itself."""
TRUSTED_VARIABLE = "TRUNKLINE_TRUSTED_KEYS"
"""Tells jobs and servers whom to believe: what ``encode_keys`` gives. Nothing in it is secret."""

_PREFIX = "ed25519:"
_SPKI = bytes.fromhex("302a300506032b6570032100")
"""What comes before the 32 bytes of an Ed25519 key in its DER form (RFC 8410)."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightsClaim(_Said):
    """These weights came out of that run."""

    kind: Literal["weights"] = "weights"
    file: Digest
    run: Digest
    """The inputsDigest."""

    @property
    def parent(self) -> str:
        """What the file was made from."""
        return self.run


class ExportClaim(_Said):
    """The file was exported from those weights, and that is what a server must know about it."""

    kind: Literal["export"] = "export"
    file: Digest
    weights: Digest
    record: Digest
    """Of the bytes of its ArtifactRecord: task, class names, size, self-tests."""

    @property
    def parent(self) -> str:
        """What the file was made from."""
        return self.weights


Claim = WeightsClaim | ExportClaim
_CLAIMS: TypeAdapter[Claim] = TypeAdapter(Annotated[Claim, Field(discriminator="kind")])


class Statement(_Said):
    """A claim and when it was signed, by the signer's own clock."""

    claim: Claim
    signed_at: AwareDatetime

    def encode(self) -> bytes:
        """Give the in-toto statement: what gets signed."""
        claim = self.claim.model_dump(mode="json")
        when = self.signed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        subject = {"name": claim["kind"], "digest": {"sha256": hex_of(claim.pop("file"))}}
        return canonical({
            "_type": STATEMENT_TYPE, "subject": [subject], "predicateType": PREDICATE_TYPE,
            "predicate": {**claim, "signedAt": when},
        })  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Statement:
        """Read one; ValueError where the text is no statement of ours, or says more than we understand."""
        try:
            found = _Intoto.model_validate_json(data)
            said = dict(found.predicate)
            signed_at = said.pop("signedAt")
            claim = _CLAIMS.validate_python({**said, "file": f"sha256:{found.subject[0].digest['sha256']}"})
            return cls(claim=claim, signed_at=signed_at)
        except (LookupError, TypeError) as error:
            msg = f"it lacks {error}"
            raise ValueError(msg) from error


class _Subject(_Said):
    name: str
    digest: dict[str, str]


class _Intoto(_Said):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://trunkline.dev/artifact/v1"] = Field(alias="predicateType")
    predicate: dict[str, Any]


class EnvelopeSignature(BaseModel):
    """Who signed, and the signature in base64."""

    model_config = ConfigDict(frozen=True)
    keyid: str = ""
    sig: str


class Envelope(BaseModel):
    """DSSE: a payload in base64 with its type, and signatures over both."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)
    payload_type: str = Field(alias="payloadType")
    payload: str
    signatures: Annotated[list[EnvelopeSignature], Field(min_length=1)]

    @classmethod
    def of(cls, payload: bytes, key_id: str, signature: bytes) -> Envelope:
        """Put a signed payload into an envelope."""
        signed = EnvelopeSignature(keyid=key_id, sig=base64.b64encode(signature).decode())
        return cls(payload_type=PAYLOAD_TYPE, payload=base64.b64encode(payload).decode(), signatures=[signed])

    def encode(self) -> bytes:
        """Give its JSON text."""
        return json.dumps(self.model_dump(by_alias=True), sort_keys=True).encode() + b"\n"

    def open(self) -> tuple[bytes, list[bytes]]:
        """Give payload and signatures; ValueError where they are not in base64, or the payload is of another type."""
        if self.payload_type != PAYLOAD_TYPE:
            msg = f"its payload is {self.payload_type[:60]!r}, not {PAYLOAD_TYPE}"
            raise ValueError(msg)
        return _decoded(self.payload), [_decoded(entry.sig) for entry in self.signatures]


def signed_bytes(payload: bytes) -> bytes:
    """Give what the key signs: DSSE's pre-authentication encoding, which binds the payload's type too."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def signature_key(claim: Claim, key_id: str) -> str:
    """Give where in the store the signature of a claim by a key is."""
    return f"{signatures_of(claim.file)}{hex_of(claim.parent)}-{key_id}.json"


def signatures_of(file: str) -> str:
    """Give the folder of the store that holds all signatures of a file."""
    return f"signatures/{hex_of(file)}/"


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        msg = "its base64 is broken"
        raise ValueError(msg) from error


def _public(text: str) -> str:
    try:
        fits = text.startswith(_PREFIX) and len(_decoded(text.removeprefix(_PREFIX))) == 32
    except ValueError:
        fits = False
    if not fits:
        msg = "must be ed25519: and 44 characters of base64, as `trunkline keys show` prints it"
        raise ValueError(msg)
    return text


class TrustedKey(_Said):
    """A public key that is believed: written alone, or with times between which its signatures count."""

    key: Annotated[str, AfterValidator(_public)]
    """``ed25519:`` and base64 of its 32 bytes."""
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    """Compared with when a signature says that it was made: a retired key's old signatures go on counting."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, given: Any) -> Any:
        return {"key": given} if isinstance(given, str) else given

    @property
    def raw(self) -> bytes:
        """The 32 bytes."""
        return _decoded(self.key.removeprefix(_PREFIX))

    @property
    def key_id(self) -> str:
        """Its name: 16 hexadecimal digits."""
        return key_id(self.raw)

    def covers(self, when: datetime) -> bool:
        """Whether signatures of that time count."""
        return (self.not_before is None or self.not_before <= when) and (
            self.not_after is None or when <= self.not_after
        )


def public_text(raw: bytes) -> str:
    """Write the 32 bytes of a public key as settings name it."""
    return _PREFIX + base64.b64encode(raw).decode()


def key_id(raw: bytes) -> str:
    """Name a public key by the first 16 hexadecimal digits of the sha256 of its DER form."""
    return hashlib.sha256(_SPKI + raw).hexdigest()[:16]


_KEYS: TypeAdapter[list[TrustedKey]] = TypeAdapter(list[TrustedKey])


def encode_keys(keys: Sequence[TrustedKey]) -> str:
    """Write trusted keys as one line of JSON."""
    return _KEYS.dump_json(list(keys), exclude_none=True).decode()


def decode_keys(text: str) -> tuple[TrustedKey, ...]:
    """Read what ``encode_keys`` wrote, or a bare list of keys; ValueError where it is neither. No text means no key."""
    return tuple(_KEYS.validate_json(text)) if text.strip() else ()
