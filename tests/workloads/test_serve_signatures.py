"""A server with trusted keys, as a process: it loads what one of them signed, and nothing else."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters import artifact_signatures
from adapters.artifact_signatures import SigningKey
from adapters.store import Store
from specs.digests import digest_of, hex_of
from specs.records import artifact_key
from specs.signatures import Claim, TrustedKey, WeightsClaim, encode_keys, signature_key
from tests.support import onnx_models
from tests.support.inference_server import ServerProcess, running, serving
from tests.support.onnx_models import Published
from tests.support.signing import NOON, key, sign, signed_model

Damage = Callable[[Path, Store, Published, SigningKey, SigningKey], None]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """Give the key that the server trusts."""
    return key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """Give a key that the server has never heard of."""
    return key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ours: SigningKey) -> Iterator[ServerProcess]:
    """Give a running server that trusts one key and serves a signed model."""
    with running(tmp_path_factory.mktemp("server"), "--trusted-keys", encode_keys([ours.public])) as found:
        good = signed_model(found.store, 1, ours)
        assert found.load("digits", good.target(1)).status_code == 200
        yield found


def export_of(store: Store, published: Published) -> Claim:
    """Give what is to be signed about a published file."""
    return artifact_signatures.export_claim(store, published.file, published.weights)


def weights_of(published: Published) -> Claim:
    """Give what is to be signed about its weights."""
    return WeightsClaim(file=published.weights, run=published.run)


def overwrite(root: Path, place: str, data: bytes) -> None:
    """Change a record behind the store's back."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def unsigned(_root: Path, _store: Store, _new: Published, _ours: SigningKey, _stranger: SigningKey) -> None:
    """Nobody signed anything."""


def by_a_stranger(_root: Path, store: Store, new: Published, _ours: SigningKey, stranger: SigningKey) -> None:
    """Signed whole, by a key that is not trusted."""
    sign(store, new, stranger)


def export_alone(_root: Path, store: Store, new: Published, ours: SigningKey, _stranger: SigningKey) -> None:
    """Nobody vouches for the weights."""
    artifact_signatures.put(store, ours, export_of(store, new), NOON)


def of_another_run(_root: Path, store: Store, new: Published, ours: SigningKey, _stranger: SigningKey) -> None:
    """The weights are signed, as those of a run that the release does not name."""
    artifact_signatures.put(store, ours, export_of(store, new), NOON)
    artifact_signatures.put(store, ours, WeightsClaim(file=new.weights, run=digest_of("another")), NOON)


def cut_off(root: Path, store: Store, new: Published, ours: SigningKey, _stranger: SigningKey) -> None:
    """The export's signature ends in the middle."""
    sign(store, new, ours)
    where = signature_key(export_of(store, new), ours.key_id)
    overwrite(root, where, (store.read(where) or b"")[:99])


def swapped(root: Path, store: Store, new: Published, ours: SigningKey, _stranger: SigningKey) -> None:
    """The signature of a file that serves well is put where this one's belongs."""
    sign(store, new, ours)
    other = signed_model(store, 1, ours)
    text = store.read(signature_key(export_of(store, other), ours.key_id)) or b""
    overwrite(root, signature_key(export_of(store, new), ours.key_id), text)


def of_another_kind(root: Path, store: Store, new: Published, ours: SigningKey, _stranger: SigningKey) -> None:
    """The file was signed as weights, not as an export."""
    sign(store, new, ours)
    text = ours.sign(WeightsClaim(file=new.file, run=new.weights), NOON)
    overwrite(root, signature_key(export_of(store, new), ours.key_id), text)


def renamed_classes(root: Path, store: Store, new: Published, ours: SigningKey, _stranger: SigningKey) -> None:
    """The record was changed after it was signed: the file is right, but a seven would be called a one."""
    sign(store, new, ours)
    changed = new.artifact.model_copy(update={"names": new.artifact.names[::-1]})
    overwrite(root, artifact_key(new.file), changed.encode())


@pytest.mark.parametrize(
    ("seed", "damage", "reason"),
    [
        (2, unsigned, "SignatureMissing"), (3, by_a_stranger, "SignatureMissing"),
        (4, export_alone, "SignatureMissing"), (5, of_another_run, "SignatureMissing"),
        (6, cut_off, "SignatureInvalid"), (7, swapped, "SignatureInvalid"), (8, of_another_kind, "SignatureInvalid"),
        (9, renamed_classes, "SignatureInvalid"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_what_is_not_signed_is_not_loaded(
    server: ServerProcess, ours: SigningKey, stranger: SigningKey, seed: int, damage: Damage, reason: str
) -> None:
    """The load is refused with the reason, the file is noted as failed, and the version before it keeps serving."""
    before = serving(server)
    new = onnx_models.publish(server.store, onnx_models.classifier(seed))
    damage(server.store_path, server.store, new, ours, stranger)
    answer = server.load("digits", new.target(2))
    assert (answer.status_code, answer.json()["reason"]) == (422, reason), answer.text
    entry = server.models()["digits"]
    assert (entry["ready"], entry["version"], entry["failed_file"]) == (True, 1, new.file)
    assert serving(server) == before


def test_signing_heals(server: ServerProcess, ours: SigningKey) -> None:
    """Once a person has signed what was refused, the same request loads it."""
    new = onnx_models.publish(server.store, onnx_models.classifier(20))
    assert server.load("healed", new.target()).json()["reason"] == "SignatureMissing"
    sign(server.store, new, ours)
    assert server.load("healed", new.target()).status_code == 200
    assert server.models()["healed"]["failed_file"] is None


def test_a_new_number_needs_the_signature_of_its_run(server: ServerProcess, ours: SigningKey) -> None:
    """The same file under another run is refused until its weights are signed as that run's, although it serves."""
    new = signed_model(server.store, 21, ours)
    assert server.load("again", new.target(1)).status_code == 200
    other = {**new.target(2), "run": digest_of("the same inputs, another nonce")}
    assert server.load("again", other).json()["reason"] == "SignatureMissing"
    assert server.models()["again"]["version"] == 1
    artifact_signatures.put(server.store, ours, WeightsClaim(file=new.weights, run=other["run"]), NOON)
    assert server.load("again", other).status_code == 200
    assert server.models()["again"]["version"] == 2


def restart(server: ServerProcess, *trusted: TrustedKey) -> None:
    """Kill the server and start it again with other keys."""
    server.end(signal.SIGKILL)
    server.options = ("--trusted-keys", encode_keys(trusted)) if trusted else ()
    server.start()


def test_a_restart_proves_again_without_the_store(tmp_path: Path, ours: SigningKey, stranger: SigningKey) -> None:
    """What was proved comes back without the store, also beside a new key; without its key it does not come back."""
    with running(tmp_path, "--trusted-keys", encode_keys([ours.public])) as server:
        model = signed_model(server.store, 1, ours)
        assert server.load("digits", model.target()).status_code == 200
        aside = shutil.move(server.store_path, tmp_path / "aside")
        restart(server, stranger.public, ours.public)
        assert serving(server) == hex_of(model.file)[:12]
        shutil.move(aside, server.store_path)
        restart(server, stranger.public)
        entry = server.models()["digits"]
        assert (entry["ready"], entry["failed_file"]) == (False, model.file)
        assert "trunkline sign" in entry["failure"]
        # A person signs with the key that is trusted now; nothing else has to happen.
        sign(server.store, model, stranger)
        restart(server, stranger.public)
        assert serving(server) == hex_of(model.file)[:12]


def test_what_came_from_times_without_keys_must_be_signed(tmp_path: Path, ours: SigningKey) -> None:
    """A server that learns of a key does not serve again what it loaded unsigned, until that is signed."""
    with running(tmp_path) as server:
        model = onnx_models.publish(server.store, onnx_models.classifier(1))
        assert server.load("digits", model.target()).status_code == 200
        restart(server, ours.public)
        assert server.models()["digits"]["ready"] is False
        sign(server.store, model, ours)
        restart(server, ours.public)
        assert serving(server) == hex_of(model.file)[:12]


@pytest.mark.parametrize(("signs", "reason"), [(False, "SignatureMissing"), (True, "SignatureInvalid")])
def test_a_server_that_was_told_ends_with_the_reason(
    tmp_path: Path, ours: SigningKey, reason: str, *, signs: bool
) -> None:
    """In a cluster an unsigned target is hopeless: exit code 10, and the reason on the last line."""
    store = Store((tmp_path / "store").as_uri())
    model = onnx_models.publish(store, onnx_models.classifier(1))
    if signs:
        cut_off(tmp_path / "store", store, model, ours, ours)
    target = json.dumps({"name": "digits", **model.target()})
    server = ServerProcess(tmp_path, "--target", target, "--trusted-keys", encode_keys([ours.public]))
    try:
        server.spawn()
        assert server.process is not None
        assert server.process.wait(timeout=60) == 10
        last = (tmp_path / "log.txt").read_text().splitlines()[-1]
        assert last.startswith(f"trunkline: {reason}: ")
    finally:
        server.close()


def test_keys_that_are_none_stop_the_start(tmp_path: Path) -> None:
    """A list of keys that cannot be read is wrong usage, never a server that trusts everybody."""
    server = ServerProcess(tmp_path, "--trusted-keys", '["ed25519:short"]')
    try:
        server.spawn()
        assert server.process is not None
        assert server.process.wait(timeout=60) == 2
        assert "--trusted-keys" in (tmp_path / "log.txt").read_text()
    finally:
        server.close()
