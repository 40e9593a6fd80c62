"""``trunkline keys``, ``sign`` and ``verify``, and the whole loop with a key that must stay where it is."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from adapters.artifact_signatures import SigningKey
from controller.cluster import styles
from controller.settings import load
from specs.errors import CorruptArtifact, Stalled
from specs.records import ArtifactRecord, RunRecord, run_key
from tests.support import onnx_models
from tests.support.place import Place
from tests.support.signing import key
from tests.support.typed import process, said, trunkline

pytestmark = pytest.mark.xdist_group("agent")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place of the test's own, where nothing is signed yet."""
    made = Place(tmp_path / "place")
    try:
        yield made
    finally:
        made.stop()


def configure(place: Place, **fields: object) -> None:
    """Write the table [signing], and let a new agent read it."""
    file = place.folder / "trunkline.toml"
    text = file.read_text().partition("[signing]")[0]
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
    file.write_text(f"{text}[signing]\n{lines}")
    place.restart()


def verified(place: Place, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """Give exit code and rows of ``verify``."""
    result = trunkline(place.folder, "verify", *words, "--json")
    return result.exit_code, json.loads(result.stdout)


def problems(place: Place, *words: str) -> list[str]:
    """Give the reason of each file that ``verify`` lists, empty where it is signed."""
    code, rows = verified(place, *words)
    found = [row["problem"].partition(":")[0] for row in rows]
    assert code == (1 if any(found) else 0)
    return found


def test_keys_are_made_and_shown(tmp_path: Path) -> None:
    """`keys new` writes a private file, prints what belongs into the settings, and never the key itself."""
    words = said(tmp_path, "keys", "new", "signing.pem")
    made = SigningKey.read(tmp_path / "signing.pem")
    assert stat.S_IMODE((tmp_path / "signing.pem").stat().st_mode) == 0o600
    assert f'[signing]\ntrusted = ["{made.public.key}"]' in words
    assert made.key_id in words
    told = json.loads(said(tmp_path, "keys", "show", "signing.pem", "--json"))
    assert told == {"id": made.key_id, "public": made.public.key}
    again = process(tmp_path, "keys", "new", "signing.pem")
    assert (again.returncode, "AlreadyThere" in again.stderr) == (1, True)
    assert SigningKey.read(tmp_path / "signing.pem").key_id == made.key_id


def secrets_of(path: Path) -> list[bytes]:
    """Give every form in which a private key could have got out."""
    key = load_pem_private_key(path.read_bytes(), None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    body = path.read_bytes().splitlines()[1]
    return [raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw)[:40], body]


def test_the_whole_loop_signs_and_the_key_stays_where_it_is(place: Place) -> None:
    """Trained, exported, released and served with a key: servers believe it, and no trace of it is anywhere else."""
    ours = key(place.folder)
    configure(place, key_file="key.pem", trusted=[ours.public.key])
    place.write(place.spec())
    assert place.released() == 1
    assert problems(place) == ["", ""]
    assert problems(place, "digits") == ["", ""]
    secrets = secrets_of(place.folder / "key.pem")
    for path in place.folder.rglob("*"):
        if path.is_file() and path.name != "key.pem":
            data = path.read_bytes()
            assert not any(secret in data for secret in secrets), path
    server = json.loads((place.folder / "state/server/address.json").read_text())["pid"]
    for what in ("environ", "cmdline"):
        about = Path(f"/proc/{server}/{what}").read_bytes()
        assert b"key.pem" not in about
        assert b"SIGNING_KEY" not in about
        assert not any(secret in about for secret in secrets)
    assert b"TRUNKLINE_TRUSTED_KEYS" in Path(f"/proc/{server}/environ").read_bytes()
    for order in place.folder.glob("state/jobs/*/order.json"):
        assert "key" not in order.read_text()


def test_what_was_made_before_there_was_a_key(place: Place) -> None:
    """A model from unsigned times serves until a key is trusted; a person signs it, and it serves again."""
    place.write(place.spec())
    place.released()
    release = load_release(place)
    ours = key(place.folder)
    assert problems(place, "--trust", ours.public.key) == ["SignatureMissing", "SignatureMissing"]
    jobs = place.jobs()

    configure(place, trusted=[ours.public.key])
    place.app.servers.stop(grace=1)
    place.until("the server refuses it", lambda: place.reason("Serving") == "RolloutFailed")
    assert "not signed" in place.condition("Serving").message

    result = json.loads(said(place.folder, "sign", "digits", "--key", "key.pem", "--json"))
    assert [(row["kind"], row["done"]) for row in result] == [("weights", "signed"), ("export", "signed")]
    before = {name: place.store.read(name) for name in place.store.list()}
    assert "was signed before" in said(place.folder, "sign", "digits", release["file"], "--key", "key.pem")
    assert {name: place.store.read(name) for name in place.store.list()} == before
    assert problems(place) == ["", ""]

    place.app.servers.stop(grace=1)
    place.until("it serves again", lambda: place.reason("Serving") == "ReleaseServing")
    assert place.jobs() == jobs, "nothing was made again"


def load_release(place: Place) -> dict[str, str]:
    """Give file and weights of what is released."""
    (record,) = place.store.list("artifacts/")
    artifact = ArtifactRecord.decode(place.store.read(record) or b"")
    return {"file": artifact.file, "weights": artifact.weights}


def test_one_file_is_signed_by_its_digest(place: Place) -> None:
    """A digest is signed as what the records say that it is; what no record names, or is damaged, is not signed.

    A model that has no release yet means its candidate: merging that must not fail.
    """
    place.write(place.spec())
    place.proposed()
    ours, release = key(place.folder), load_release(place)
    configure(place, key_file="key.pem", trusted=[ours.public.key])
    assert problems(place, release["file"]) == ["SignatureMissing"]
    for digest, kind in ((release["file"], "export"), (release["weights"], "weights")):
        (row,) = json.loads(said(place.folder, "sign", digest, "--json"))
        assert (row["kind"], row["file"], row["done"]) == (kind, digest, "signed")
        (row,) = verified(place, digest)[1]
        assert row["what"].startswith(f"{kind} of ")
        assert row["problem"] == ""
    (name,) = place.store.list(f"signatures/{release['file'].removeprefix('sha256:')}/")
    (place.folder / "store" / name).write_bytes(b"{")
    assert problems(place, release["file"]) == ["SignatureInvalid"]
    unknown = trunkline(place.folder, "sign", place.store.put_blob(b"of no record"))
    assert isinstance(unknown.exception, Stalled)
    assert unknown.exception.reason == "NothingToSign"
    said(place.folder, "keys", "new", "another.pem")
    rows = json.loads(said(place.folder, "sign", "digits", "--key", "another.pem", "--json"))
    assert {row["file"] for row in rows} == set(release.values())
    place.tamper(release["weights"])
    for command in ("sign", "verify"):
        assert isinstance(trunkline(place.folder, command, release["weights"]).exception, CorruptArtifact)


def test_a_pin_that_does_not_fit_is_not_signed(place: Place) -> None:
    """Nobody is talked into signing a hand-edited release whose parts do not belong together."""
    key(place.folder)
    good, other = (onnx_models.publish(place.store, onnx_models.classifier(seed)) for seed in (1, 2))
    for published in (good, other):
        record = RunRecord(
            inputs_digest=published.run, inputs={}, status="Succeeded", model="default/digits", commit="c",
            weights=published.weights,
        )  # fmt: skip
        place.store.create(run_key(published.run), record.encode())
    for run, weights, file in (
        (other.run, good.weights, good.file), (good.run, other.weights, good.file),
        (good.run, good.weights, other.file), (good.run, good.weights, good.run),
    ):  # fmt: skip
        pinned = f'{{version: 1, run: "{run}", weights: "{weights}", exports: {{onnx: "{file}"}}}}'
        place.write(place.spec() + f"  release: {pinned}\n")
        refused = trunkline(place.folder, "sign", "digits", "--key", "key.pem")
        assert isinstance(refused.exception, Stalled)
        assert refused.exception.reason == "ReleaseUnknown"
    assert place.store.list("signatures/") == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [(("sign", "digits"), "NoSigningKey"), (("verify",), "NoTrustedKeys")],
)
def test_without_keys_the_way_is_shown(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    """Where no key is configured, both commands say how to name one."""
    (tmp_path / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\n')
    refused = trunkline(tmp_path, *words)
    assert isinstance(refused.exception, Stalled)
    assert refused.exception.reason == reason
    assert "--" in refused.exception.message


def test_settings_name_keys_alone_or_with_times(tmp_path: Path) -> None:
    """Keys may stand alone or with times, the private key's file is relative to the settings; wrong ones are told."""
    ours = key(tmp_path)
    file = tmp_path / "trunkline.toml"
    begin = 'repository = "hub.git"\nstore = "store"\n[signing]\nkey_file = "key.pem"\nsecret = "s"\n'
    timed = f'{{key = "{ours.public.key}", not_before = 2026-01-01T00:00:00Z}}'
    file.write_text(f'{begin}trusted = ["{ours.public.key}", {timed}]\n')
    found = load(tmp_path, {}).signing
    assert found.key_file == tmp_path / "key.pem"
    assert [entry.key for entry in found.trusted] == [ours.public.key] * 2
    assert found.for_jobs.keys() == {"TRUNKLINE_SIGNING_KEY_FILE", "TRUNKLINE_TRUSTED_KEYS"}
    assert found.for_servers.keys() == {"TRUNKLINE_TRUSTED_KEYS"}
    for wrong in ('["ed25519:AAAA"]', f'[{{key = "{ours.public.key}", not_after = 2026-01-01}}]'):
        file.write_text(f"{begin}trusted = {wrong}\n")
        with pytest.raises(Stalled, match=r"signing\.trusted"):
            load(tmp_path, {})
    file.write_text('repository = "hub.git"\nstore = "store"\n')
    assert load(tmp_path, {}).signing.for_jobs == {}


def test_in_a_cluster_servers_never_hear_of_the_private_key(tmp_path: Path) -> None:
    """Jobs get the Secret's name and the public keys, servers the public keys alone; a local key's file nobody."""
    ours = key(tmp_path)
    (tmp_path / "trunkline.toml").write_text(
        'repository = "hub.git"\nstore = "s3://store"\n[kubernetes]\nimage = "i"\nserve_image = "s"\n'
        f'[signing]\nkey_file = "key.pem"\nsecret = "signing-secret"\ntrusted = ["{ours.public.key}"]\n'
    )
    found = load(tmp_path, {})
    assert found.kubernetes is not None
    jobs, servers = styles(found, found.kubernetes)
    assert [(secret.about, secret.name) for secret in jobs.job_secrets] == [("signing", "signing-secret")]
    assert jobs.environment == servers.environment == (("TRUNKLINE_TRUSTED_KEYS", f'[{{"key":"{ours.public.key}"}}]'),)
    assert "signing-secret" not in repr(servers)
    assert str(tmp_path / "key.pem") not in repr((jobs, servers))
