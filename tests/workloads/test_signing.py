"""Jobs that sign: what they made themselves, before the record that says it is done, and nothing that they found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from adapters import artifact_signatures
from adapters.artifact_signatures import SigningKey
from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import CorruptArtifact, Stalled
from specs.records import ExportRecord, RunRecord, artifact_key, export_key, run_key
from specs.release import Pin
from specs.signatures import (
    KEY_FILE_VARIABLE,
    TRUSTED_VARIABLE,
    TrustedKey,
    WeightsClaim,
    encode_keys,
    signature_key,
    signatures_of,
)  # fmt: skip
from specs.ways import export_digest
from specs.workorders import AnyOrder, ExportOrder
from tests.support import onnx_models
from tests.support.orders import WHO, Bench, bench
from tests.support.signing import NOON, key
from tests.workloads.test_job import train_order, workloads
from workloads.signing import Signing

WEIGHTS, RUN = digest_bytes(b"weights"), digest_bytes(b"run")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give an empty store."""
    return Store(f"file://{tmp_path}/store")


@pytest.fixture
def ours(tmp_path: Path) -> SigningKey:
    """Give the key that jobs sign with; it is in ``key.pem``."""
    return key(tmp_path)


def trusting(*trusted: TrustedKey) -> dict[str, str]:
    """Give the environment of a job that believes these keys."""
    return {TRUSTED_VARIABLE: encode_keys(trusted)}


def test_a_key_that_cannot_sign_stops_the_job_at_once(store: Store, tmp_path: Path, ours: SigningKey) -> None:
    """An unreadable key, one that nobody trusts, and one whose time is over: said before any work, nothing is left."""
    order = train_order().encode().decode()
    retired = TrustedKey(key=ours.public.key, not_after=NOON - timedelta(days=9999))
    with_key = {KEY_FILE_VARIABLE: str(tmp_path / "key.pem")}
    for environment, reason in (
        ({KEY_FILE_VARIABLE: str(tmp_path / "absent.pem")}, "SigningKeyInvalid"),
        (with_key | trusting(key(tmp_path, "other").public), "SigningKeyUntrusted"),
        (with_key | trusting(retired), "SigningKeyUntrusted"),
        (with_key | {TRUSTED_VARIABLE: "nonsense"}, "TrustedKeysInvalid"),
    ):
        finished = workloads("--store", store.url, cwd=tmp_path, TRUNKLINE_WORK_ORDER=order, **environment)
        assert (finished.code, f"trunkline: {reason}: " in finished.log) == (65, True), finished.log
    assert store.list() == []


def test_nothing_is_exported_from_unsigned_weights(store: Store, tmp_path: Path, ours: SigningKey) -> None:
    """Where keys are trusted, an export would vouch for what its weights are; so they must be signed themselves."""
    order = ExportOrder(
        **WHO, weights=WEIGHTS, export_digest=export_digest("onnx", {}, 32), task="classify", format="onnx", args={},
        image_size=32,
    )  # fmt: skip
    given = {"TRUNKLINE_WORK_ORDER": order.encode().decode(), **trusting(ours.public)}
    finished = workloads("--store", store.url, cwd=tmp_path, **given)
    assert (finished.code, "trunkline: SignatureMissing: " in finished.log) == (65, True), finished.log
    artifact_signatures.put(store, ours, WeightsClaim(file=WEIGHTS, run=RUN), NOON)
    assert "SignatureMissing" not in workloads("--store", store.url, cwd=tmp_path, **given).log


def test_a_job_signs_nothing_that_it_finds(store: Store, tmp_path: Path, ours: SigningKey) -> None:
    """A record that somebody left in the store before the job began ends the job, and is not signed."""
    order = train_order()
    planted = RunRecord(
        inputs_digest=order.inputs_digest, inputs=order.inputs, status="Succeeded", model="a/b", commit="c",
        weights=store.put_blob(b"evil"),
    )  # fmt: skip
    store.create(run_key(order.inputs_digest), planted.encode())
    given = {KEY_FILE_VARIABLE: str(tmp_path / "key.pem"), **trusting(ours.public)}
    finished = workloads("--store", store.url, cwd=tmp_path, TRUNKLINE_WORK_ORDER=order.encode().decode(), **given)
    assert finished.code == 0
    assert store.list("signatures/") == []


def test_without_keys_nothing_is_signed(store: Store) -> None:
    """Unsigned mode is as it always was: no signature is written, none is asked for."""
    published = onnx_models.publish(store, onnx_models.classifier(1))
    Signing().weights(store, published.weights, published.run)
    Signing().export(store, published.artifact)
    Signing().demand_weights(store, published.weights)
    assert store.list("signatures/") == []


def test_the_record_in_the_store_is_what_gets_signed(store: Store, ours: SigningKey) -> None:
    """Where an earlier attempt's record stayed, whose recorded answers differ a little, that one is signed."""
    published = onnx_models.publish(store, onnx_models.classifier(1))
    made_now = published.artifact.model_copy(update={"self_tests": []})
    Signing(ours).export(store, made_now)
    claim = artifact_signatures.export_claim(store, published.file, published.weights)
    assert artifact_signatures.check(store, claim, [ours.public])


@pytest.mark.parametrize("planted", [b"{", None], ids=["garbage", "other-names"])
def test_a_record_that_says_something_else_is_not_signed(
    store: Store, ours: SigningKey, tmp_path: Path, planted: bytes | None
) -> None:
    """Another's record under the name of our file would change what the file means: it is refused, not vouched for."""
    published = onnx_models.publish(store, onnx_models.classifier(1))
    renamed = published.artifact.model_copy(update={"names": published.artifact.names[::-1]})
    path = tmp_path / "store" / artifact_key(published.file)
    path.unlink()
    path.write_bytes(planted or renamed.encode())
    with pytest.raises(CorruptArtifact, match="something else"):
        Signing(ours).export(store, published.artifact)
    assert store.list("signatures/") == []


class Killed(BaseException):
    """What no code expects, as little as a kill."""


class Dying(Store):
    """A store whose process is killed right after it wrote a record that begins with ``last``."""

    def __init__(self, url: str, last: str) -> None:
        super().__init__(url)
        self._last = last

    def create(self, key: str, data: bytes) -> bool:
        """Write, then die."""
        wrote = super().create(key, data)
        if key.startswith(self._last):
            raise Killed(key)
        return wrote

    def put_blob(self, source: Path | bytes) -> str:
        """Write, then die."""
        digest = super().put_blob(source)
        if self._last == "blobs/" and isinstance(source, Path):
            raise Killed(digest)
        return digest


def outlive(workplace: Bench, order: AnyOrder, record: str, *deaths: str) -> None:
    """Do an order with a kill at each of these effects, then to its end."""
    for last in deaths:
        with pytest.raises(Killed):
            replace(workplace, store=Dying(workplace.url, last)).run_here(order)
        assert workplace.store.read(record) is None, last
    finished = workplace.run_here(order)
    assert finished.code == 0, finished.log[-3000:]


@pytest.mark.ml
def test_a_kill_at_any_effect_leaves_no_record_without_signature(
    tmp_path: Path, ours: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and export, killed after file, record and signature: the next attempt signs, and servers believe it."""
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key.pem"))
    monkeypatch.setenv(TRUSTED_VARIABLE, encode_keys([ours.public]))
    workplace = bench(tmp_path / "bench", "classify")
    train = workplace.train()
    outlive(workplace, train, run_key(train.inputs_digest), "blobs/", "signatures/")
    run = RunRecord.decode(workplace.store.read(run_key(train.inputs_digest)) or b"")
    assert run.weights is not None
    export = workplace.export(run.weights)
    done = export_key(run.weights, export.export_digest)
    outlive(workplace, export, done, "blobs/", "artifacts/", "signatures/", "evaluations/")
    made = ExportRecord.decode(workplace.store.read(done) or b"")
    assert made.file is not None
    pin = Pin(version=1, run=train.inputs_digest, weights=run.weights, exports={"onnx": made.file})
    assert [c.reason for c in artifact_signatures.check_release(workplace.store, pin, [ours.public])] == ["", ""]
    claim = artifact_signatures.export_claim(workplace.store, made.file, run.weights)
    assert workplace.store.list(signatures_of(made.file)) == [signature_key(claim, ours.key_id)]


def test_a_signature_in_the_way_is_said(store: Store, ours: SigningKey, tmp_path: Path) -> None:
    """Where something else lies in the place of a signature, the job does not go on as if it had signed."""
    place = tmp_path / "store" / signature_key(WeightsClaim(file=WEIGHTS, run=RUN), ours.key_id)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"{}")
    with pytest.raises(Stalled, match="in the way") as caught:
        Signing(ours).weights(store, WEIGHTS, RUN)
    assert caught.value.reason == "SignatureInvalid"
