"""Signing and checking, in a folder and on a real S3 server: what holds, and everything that must not."""

from __future__ import annotations

import json
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from adapters import artifact_signatures
from adapters.artifact_signatures import Signed, SigningKey
from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import Stalled, Transient
from specs.records import artifact_key
from specs.release import Pin
from specs.signatures import Claim, Envelope, ExportClaim, TrustedKey, WeightsClaim, public_text, signature_key
from tests.support import onnx_models
from tests.support.onnx_models import Published
from tests.support.s3 import BUCKET, s3_server
from tests.support.signing import NOON, key, sign

RUN, OTHER_RUN, WEIGHTS, FILE = (digest_bytes(word.encode()) for word in ("run", "other", "weights", "file"))
CLAIM = WeightsClaim(file=WEIGHTS, run=RUN)


class Place:
    """A store and its back door."""

    def __init__(self, url: str, folder: Path | None) -> None:
        self.store = Store(url)
        self.folder = folder
        self._top = url.partition("://")[2].partition("/")[2]

    def plant(self, place: str, data: bytes) -> None:
        """Write bytes behind the store's back."""
        if self.folder is None:
            boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{self._top}/{place}", Body=data)
        else:
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Give the address of a running S3 server."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give an empty store, once as a folder and once in a bucket."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Place(f"s3://{BUCKET}/{uuid.uuid4().hex}", None)
    return Place((tmp_path / "store").as_uri(), tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    """Give an empty store in a folder, for what does not depend on where the bytes are."""
    return Place((tmp_path / "store").as_uri(), tmp_path / "store")


@pytest.fixture
def ours(tmp_path: Path) -> SigningKey:
    """Give the key that is trusted."""
    return key(tmp_path)


def reason(call: Callable[[], object]) -> tuple[str, str]:
    """Give reason and sentence of what a call must refuse."""
    with pytest.raises(Stalled) as caught:
        call()
    return caught.value.reason, caught.value.message


def test_a_signature_holds_and_is_written_once(place: Place, ours: SigningKey) -> None:
    """Signed is signed; a second time, later, changes nothing in the store and is no error."""
    assert artifact_signatures.put(place.store, ours, CLAIM, NOON)
    before = {name: place.store.read(name) for name in place.store.list()}
    assert not artifact_signatures.put(place.store, ours, CLAIM, NOON + timedelta(days=1))
    assert {name: place.store.read(name) for name in place.store.list()} == before
    assert list(before) == [signature_key(CLAIM, ours.key_id)]
    assert artifact_signatures.check(place.store, CLAIM, [ours.public]) == Signed(CLAIM, ours.key_id, NOON)


def test_two_signers_at_once_leave_one_signature(place: Place, ours: SigningKey) -> None:
    """Of many who sign the same at once one writes, the others find it, and it holds."""
    wrote: list[bool] = []

    def work(second: int) -> None:
        wrote.append(artifact_signatures.put(place.store, ours, CLAIM, NOON + timedelta(seconds=second)))

    threads = [threading.Thread(target=work, args=(second,)) for second in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wrote) == [False] * 5 + [True]
    assert artifact_signatures.check(place.store, CLAIM, [ours.public]).claim == CLAIM


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    envelope: dict[str, Any] = json.loads(data)
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    return json.dumps(envelope).encode()


def _reworded(data: bytes) -> bytes:
    """Say another time in the payload, and leave the signature as it is."""
    payload, (signature,) = Envelope.model_validate_json(data).open()
    return Envelope.of(payload.replace(b"2026", b"2027"), "", signature).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(_cut, "no DSSE envelope", id="cut-off"),
        pytest.param(lambda data: b"", "no DSSE envelope", id="empty"),
        pytest.param(lambda data: b"\xff\xfe", "no DSSE envelope", id="noise"),
        pytest.param(lambda data: data + b" " * 70_000, "longer than", id="without-end"),
        pytest.param(_flipped, "does not fit", id="bit-flipped"),
        pytest.param(_reworded, "does not fit", id="reworded"),
    ],
)
def test_a_damaged_signature_is_invalid(
    folder: Place, ours: SigningKey, change: Callable[[bytes], bytes], said: str
) -> None:
    """Whatever was done to its text: SignatureInvalid, with what is wrong and by which key it should be."""
    artifact_signatures.put(folder.store, ours, CLAIM, NOON)
    where = signature_key(CLAIM, ours.key_id)
    folder.plant(where, change(folder.store.read(where) or b""))
    why, sentence = reason(lambda: artifact_signatures.check(folder.store, CLAIM, [ours.public]))
    assert why == "SignatureInvalid"
    assert said in sentence
    assert ours.key_id in sentence
    # Whoever signs again finds it in the way, and does not take it for their own.
    assert reason(lambda: artifact_signatures.put(folder.store, ours, CLAIM, NOON))[0] == "SignatureInvalid"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param(WeightsClaim(file=FILE, run=RUN), "for the file", id="of-another-file"),
        pytest.param(WeightsClaim(file=WEIGHTS, run=OTHER_RUN), "made from", id="of-another-run"),
        pytest.param(ExportClaim(file=WEIGHTS, weights=RUN, record=FILE), "for export, not for weights", id="kind"),
    ],
)
def test_a_signature_cannot_be_moved(folder: Place, ours: SigningKey, other: Claim, said: str) -> None:
    """A true signature of something else, put where this one belongs, is SignatureInvalid."""
    folder.plant(signature_key(CLAIM, ours.key_id), ours.sign(other, NOON))
    why, sentence = reason(lambda: artifact_signatures.check(folder.store, CLAIM, [ours.public]))
    assert why == "SignatureInvalid"
    assert said in sentence
    assert reason(lambda: artifact_signatures.put(folder.store, ours, CLAIM, NOON))[0] == "SignatureInvalid"


def test_a_strangers_signature_counts_for_nothing(folder: Place, ours: SigningKey, tmp_path: Path) -> None:
    """By an unknown key a file is not signed; put where ours belongs, or with our key's id in it, it is invalid."""
    stranger = key(tmp_path, "stranger")
    artifact_signatures.put(folder.store, stranger, CLAIM, NOON)
    assert reason(lambda: artifact_signatures.check(folder.store, CLAIM, [ours.public]))[0] == "SignatureMissing"
    payload, (signature,) = Envelope.model_validate_json(stranger.sign(CLAIM, NOON)).open()
    folder.plant(signature_key(CLAIM, ours.key_id), Envelope.of(payload, ours.key_id, signature).encode())
    assert reason(lambda: artifact_signatures.check(folder.store, CLAIM, [ours.public]))[0] == "SignatureInvalid"


def test_a_key_that_is_no_point_holds_nothing(folder: Place, ours: SigningKey) -> None:
    """A trusted key that no private key can have had is an invalid signature, never an error without a name."""
    weird = TrustedKey(key=public_text(b"\xff" * 32))
    folder.plant(signature_key(CLAIM, weird.key_id), ours.sign(CLAIM, NOON))
    assert reason(lambda: artifact_signatures.check(folder.store, CLAIM, [weird]))[0] == "SignatureInvalid"


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [(None, None, True), (None, NOON, True), (NOON, None, True), (None, NOON - timedelta(seconds=1), False),
     (NOON + timedelta(seconds=1), None, False)],
    ids=["always", "retired-since", "since", "expired-before", "not-yet"],
)  # fmt: skip
def test_a_key_counts_at_the_time_of_signing(
    folder: Place, ours: SigningKey, before: datetime | None, after: datetime | None, *, holds: bool
) -> None:
    """What a key signed in its time goes on counting; what it signed outside is SignatureInvalid."""
    artifact_signatures.put(folder.store, ours, CLAIM, NOON)
    trusted = TrustedKey(key=ours.public.key, not_before=before, not_after=after)
    if holds:
        assert artifact_signatures.check(folder.store, CLAIM, [trusted]).signed_at == NOON
    else:
        why, sentence = reason(lambda: artifact_signatures.check(folder.store, CLAIM, [trusted]))
        assert (why, "2026-11-26 12:00 UTC" in sentence) == ("SignatureInvalid", True)


def test_keys_rotate(folder: Place, ours: SigningKey, tmp_path: Path) -> None:
    """Trusted beside each other either is enough; a garbled one does no harm to the other; a removed one is gone."""
    new = key(tmp_path, "new")
    artifact_signatures.put(folder.store, ours, CLAIM, NOON)
    both = [new.public, ours.public]
    assert artifact_signatures.check(folder.store, CLAIM, both).key_id == ours.key_id
    artifact_signatures.put(folder.store, new, CLAIM, NOON)
    assert artifact_signatures.check(folder.store, CLAIM, both).key_id == new.key_id
    folder.plant(signature_key(CLAIM, ours.key_id), b"{")
    assert artifact_signatures.check(folder.store, CLAIM, both[::-1]).key_id == new.key_id
    assert reason(lambda: artifact_signatures.check(folder.store, CLAIM, [ours.public]))[0] == "SignatureInvalid"


def _pin(published: Published) -> Pin:
    return Pin(version=3, run=published.run, weights=published.weights, exports={"onnx": published.file})


def test_a_release_is_checked_file_by_file(place: Place, ours: SigningKey) -> None:
    """Weights and every export have an answer of their own; without keys there is none, and nothing is asked."""
    published = onnx_models.publish(place.store, onnx_models.classifier(1))
    pin = _pin(published)
    assert [(c.what, c.reason) for c in artifact_signatures.check_release(place.store, pin, [ours.public])] == [
        ("weights", "SignatureMissing"), ("onnx", "SignatureMissing"),
    ]  # fmt: skip
    sign(place.store, published, ours)
    checked = artifact_signatures.check_release(place.store, pin, [ours.public])
    assert [(c.reason, c.message) for c in checked] == [("", ""), ("", "")]
    assert [c.signed.key_id for c in checked if c.signed] == [ours.key_id] * 2
    assert artifact_signatures.check_release(place.store, pin, []) == ()


def test_a_release_of_other_parts_is_not_signed(folder: Place, ours: SigningKey) -> None:
    """Weights of another run and exports of other weights are not what was signed, each in itself as it may be."""
    first, second = (onnx_models.publish(folder.store, onnx_models.classifier(seed)) for seed in (1, 2))
    for published in (first, second):
        sign(folder.store, published, ours)
    mixed = Pin(version=3, run=second.run, weights=first.weights, exports={"a": second.file, "b": FILE})
    assert [c.reason for c in artifact_signatures.check_release(folder.store, mixed, [ours.public])] == [
        "SignatureMissing", "SignatureMissing", "ArtifactMissing",
    ]  # fmt: skip


def test_an_export_named_weights_is_an_export(folder: Place, ours: SigningKey) -> None:
    """The name of an export decides nothing about how it is checked."""
    published = onnx_models.publish(folder.store, onnx_models.classifier(1))
    sign(folder.store, published, ours)
    pin = Pin(version=1, run=published.run, weights=published.weights, exports={"weights": published.file})
    assert [c.reason for c in artifact_signatures.check_release(folder.store, pin, [ours.public])] == ["", ""]


def test_what_a_file_means_is_signed_too(place: Place, ours: SigningKey) -> None:
    """Class names that were exchanged in the artifact record after signing make the signature invalid."""
    published = onnx_models.publish(place.store, onnx_models.classifier(1))
    sign(place.store, published, ours)
    names = published.artifact.names[::-1]
    place.plant(artifact_key(published.file), published.artifact.model_copy(update={"names": names}).encode())
    (_, export) = artifact_signatures.check_release(place.store, _pin(published), [ours.public])
    assert export.reason == "SignatureInvalid"
    assert "changed after it was signed" in export.message


def test_weights_are_believed_by_digest_alone_where_the_run_is_not_known(folder: Place, ours: SigningKey) -> None:
    """Whoever has only the weights' digest gets to know of which run they are signed; strange names are passed over."""

    def refusal() -> str:
        return reason(lambda: artifact_signatures.check_weights(folder.store, WEIGHTS, [ours.public]))[0]

    assert refusal() == "SignatureMissing"
    home = signature_key(CLAIM, ours.key_id).rpartition("/")[0]
    folder.plant(f"{home}/README.json", b"{}")
    folder.plant(signature_key(WeightsClaim(file=WEIGHTS, run=OTHER_RUN), ours.key_id), b"{}")
    assert refusal() == "SignatureInvalid"
    artifact_signatures.put(folder.store, ours, CLAIM, NOON)
    assert artifact_signatures.check_weights(folder.store, WEIGHTS, [ours.public]).claim == CLAIM


def test_all_signatures_of_a_file_are_found(place: Place, ours: SigningKey, tmp_path: Path) -> None:
    """Each is listed with what it says, or with why it does not count."""
    artifact_signatures.put(place.store, ours, CLAIM, NOON)
    artifact_signatures.put(place.store, key(tmp_path, "stranger"), CLAIM, NOON)
    moved = signature_key(WeightsClaim(file=WEIGHTS, run=OTHER_RUN), ours.key_id)
    place.plant(moved, ours.sign(CLAIM, NOON))
    told = dict(artifact_signatures.found(place.store, WEIGHTS, [ours.public]))
    assert told[signature_key(CLAIM, ours.key_id)] == Signed(CLAIM, ours.key_id, NOON)
    assert told[moved] == "it was made for another place"
    (stranger,) = (why for why in told.values() if "trusted" in str(why))
    assert stranger == f"key {key(tmp_path, 'stranger').key_id} is not trusted"


def test_trouble_with_the_store_is_no_verdict(tmp_path: Path, ours: SigningKey) -> None:
    """A store that cannot be read is Transient, never a missing signature."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/signatures").symlink_to(tmp_path / "store/signatures")  # a loop
    store = Store((tmp_path / "store").as_uri())
    with pytest.raises(Transient):
        artifact_signatures.check(store, CLAIM, [ours.public])


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    """The file is private from its first byte, is never overwritten, and reads back as the same key."""
    made = SigningKey.new(tmp_path / "a.pem")
    assert stat.S_IMODE((tmp_path / "a.pem").stat().st_mode) == 0o600
    assert SigningKey.read(tmp_path / "a.pem").public == made.public
    assert reason(lambda: SigningKey.new(tmp_path / "a.pem"))[0] == "AlreadyThere"
    assert SigningKey.read(tmp_path / "a.pem").public == made.public
    assert reason(lambda: SigningKey.new(tmp_path / "no/such/folder/a.pem"))[0] == "SigningKeyInvalid"


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\x00"])
def test_what_is_no_key_is_said_without_its_text(tmp_path: Path, text: bytes) -> None:
    """A file without a usable key is SigningKeyInvalid; what is in it is not repeated."""
    (tmp_path / "key.pem").write_bytes(text)
    why, sentence = reason(lambda: SigningKey.read(tmp_path / "key.pem"))
    assert why == "SigningKeyInvalid"
    assert "AAAA" not in sentence
    assert reason(lambda: SigningKey.read(tmp_path / "absent.pem"))[0] == "SigningKeyInvalid"


def test_other_tools_read_it(folder: Place, ours: SigningKey) -> None:
    """The reference implementation of DSSE verifies our envelope with the same public key."""
    dsse = pytest.importorskip("securesystemslib.dsse", reason="comes with the extra `bundles`")
    from securesystemslib.signer import SSlibKey

    artifact_signatures.put(folder.store, ours, CLAIM, NOON)
    envelope = json.loads(folder.store.read(signature_key(CLAIM, ours.key_id)) or b"")
    public = SSlibKey(ours.key_id, "ed25519", "ed25519", {"public": ours.public.raw.hex()})
    parsed = dsse.Envelope.from_dict(envelope)
    assert list(parsed.verify([public], 1)) == [ours.key_id]
    assert json.loads(parsed.payload)["_type"] == "https://in-toto.io/Statement/v1"
    assert NOON.tzinfo is UTC
