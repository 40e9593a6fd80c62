"""What a signature says, byte for byte, and what is refused when it is read."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specs.digests import digest_bytes
from specs.signatures import (
    Claim,
    Envelope,
    ExportClaim,
    Statement,
    TrustedKey,
    WeightsClaim,
    decode_keys,
    encode_keys,
    key_id,
    public_text,
    signature_key,
    signed_bytes,
)  # fmt: skip

FILE, RUN, WEIGHTS, RECORD = (digest_bytes(word.encode()) for word in ("file", "run", "weights", "record"))
NOON = datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)
RAW = bytes(range(32))
PUBLIC = public_text(RAW)


def test_a_statement_is_in_toto_to_the_byte() -> None:
    """The signed text is an in-toto statement about the file's digest, canonical, with the time in UTC."""
    local = NOON.astimezone(timezone(timedelta(hours=2)))
    said = Statement(claim=ExportClaim(file=FILE, weights=WEIGHTS, record=RECORD), signed_at=local).encode()
    assert json.loads(said) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "export", "digest": {"sha256": FILE.removeprefix("sha256:")}}],
        "predicateType": "https://trunkline.dev/artifact/v1",
        "predicate": {"kind": "export", "weights": WEIGHTS, "record": RECORD, "signedAt": "2026-11-26T12:00:05Z"},
    }
    assert said == json.dumps(json.loads(said), sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "claim", [WeightsClaim(file=FILE, run=RUN), ExportClaim(file=FILE, weights=WEIGHTS, record=RECORD)]
)
def test_a_statement_comes_back(claim: Claim) -> None:
    """What was written is read as the same claim and time."""
    statement = Statement(claim=claim, signed_at=NOON)
    assert Statement.decode(statement.encode()) == statement


def _changed(**changes: Any) -> dict[str, Any]:
    text = Statement(claim=WeightsClaim(file=FILE, run=RUN), signed_at=NOON).encode()
    found: dict[str, Any] = json.loads(text)
    predicate = {**found["predicate"], **changes.pop("predicate", {})}
    return {**found, "predicate": {k: v for k, v in predicate.items() if v is not None}, **changes}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_changed(_type="https://in-toto.io/Statement/v0.1"), id="another-statement"),
        pytest.param(_changed(predicateType="https://slsa.dev/provenance/v1"), id="another-predicate"),
        pytest.param(_changed(subject=[]), id="about-nothing"),
        pytest.param(_changed(subject=_changed()["subject"] * 2), id="about-two"),
        pytest.param(_changed(subject=[{"name": "x", "digest": {"sha1": "0" * 40}}]), id="without-sha256"),
        pytest.param(_changed(subject=[{"name": "x", "digest": {"sha256": "../" + "0" * 61}}]), id="no-digest"),
        pytest.param(_changed(predicate={"kind": "dance"}), id="unknown-kind"),
        pytest.param(_changed(predicate={"kind": "export"}), id="kind-swapped"),
        pytest.param(_changed(predicate={"run": None}), id="without-run"),
        pytest.param(_changed(predicate={"signedAt": None}), id="without-time"),
        pytest.param(_changed(predicate={"signedAt": "2026-11-26T12:00:05"}), id="time-without-zone"),
        pytest.param(_changed(predicate={"onlyFor": "staging"}), id="says-more-than-we-know"),
        pytest.param(_changed(more=1), id="unknown-field"),
    ],
)
def test_another_statement_is_refused(text: dict[str, Any]) -> None:
    """What is no statement of ours, or says more than this version understands, is a ValueError and no claim."""
    with pytest.raises(ValueError, match=r"."):
        Statement.decode(json.dumps(text).encode())


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=5).map(
    lambda value: json.dumps(value).encode()
))  # fmt: skip
def test_no_bytes_surprise_the_reader(data: bytes) -> None:
    """Whatever the bytes, reading them as envelope or statement ends in a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        Statement.decode(data)
    with pytest.raises(ValueError, match=r"."):
        Envelope.model_validate_json(data).open()


def test_the_payloads_type_is_signed_too() -> None:
    """What the key signs is DSSE's encoding, as its specification writes it."""
    assert signed_bytes(b"hello") == b"DSSEv1 28 application/vnd.in-toto+json 5 hello"


@pytest.mark.parametrize(
    ("field", "value"), [("payloadType", "text/plain"), ("payload", "%%%"), ("signatures", [{"sig": "%"}])]
)
def test_a_broken_envelope_is_said(field: str, value: object) -> None:
    """Another payload type and broken base64 are ValueErrors that say so."""
    good = json.loads(Envelope.of(b"x", "k", b"s").encode())
    assert Envelope.model_validate(good).open() == (b"x", [b"s"])
    with pytest.raises(ValueError, match=r"payload|base64"):
        Envelope.model_validate(good | {field: value}).open()


def test_a_signature_has_one_place_for_file_origin_and_key() -> None:
    """The same bytes made from two runs, or signed by two keys, have places of their own."""
    places = {
        signature_key(claim, key)
        for claim in (WeightsClaim(file=FILE, run=RUN), WeightsClaim(file=FILE, run=WEIGHTS))
        for key in ("a" * 16, "b" * 16)
    }
    assert len(places) == 4
    assert all(place.startswith(f"signatures/{FILE.removeprefix('sha256:')}/") for place in places)


def test_a_key_is_named_by_its_der_form() -> None:
    """Its id is what `openssl pkey -pubin -outform DER | sha256sum` begins with."""
    key = Ed25519PublicKey.from_public_bytes(RAW)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key_id(RAW) == hashlib.sha256(der).hexdigest()[:16]
    assert TrustedKey(key=PUBLIC).key_id == key_id(RAW)


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:AAAA", PUBLIC[:-4], PUBLIC.upper(), "rsa:" + PUBLIC[8:]])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    """Cut, bent or foreign keys are errors that say what to write."""
    with pytest.raises(ValidationError, match="trunkline keys show"):
        TrustedKey(key=text)


def test_keys_travel_as_one_line() -> None:
    """Keys with and without times come back as they were; a bare list is read too, and no text means no key."""
    keys = (TrustedKey(key=PUBLIC, not_after=NOON), TrustedKey(key=PUBLIC))
    assert decode_keys(encode_keys(keys)) == keys
    assert "\n" not in encode_keys(keys)
    assert decode_keys(json.dumps([PUBLIC])) == keys[1:]
    assert decode_keys("") == ()


@pytest.mark.parametrize(
    ("begin", "end", "covered"),
    [(None, None, True), (0, 0, True), (1, None, False), (None, -1, False), (-5, 5, True)],
)
def test_a_key_counts_between_its_times(begin: int | None, end: int | None, covered: bool) -> None:  # noqa: FBT001
    """Both ends belong to the time in which signatures count; without one it has no end there."""
    times = [None if offset is None else NOON + timedelta(seconds=offset) for offset in (begin, end)]
    assert TrustedKey(key=PUBLIC, not_before=times[0], not_after=times[1]).covers(NOON) is covered
