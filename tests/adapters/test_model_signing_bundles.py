"""Bundles of OpenSSF model-signing beside our signatures: its own verifier takes them, and ours takes its own."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import Stalled
from specs.records import RunRecord, run_key
from specs.signatures import signatures_of
from tests.support.signing import key
from tests.support.typed import said, trunkline

pytest.importorskip("model_signing", reason="needs the extra `bundles`")

from adapters import model_signing_bundles as bundles

DATA = b"weights of a model"
RUN = digest_bytes(b"run")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give a store that holds one file."""
    store = Store((tmp_path / "store").as_uri())
    store.put_blob(DATA)
    return store


@pytest.fixture
def file() -> str:
    """Give the file's digest."""
    return digest_bytes(DATA)


def pair(folder: Path, name: str = "bundle") -> tuple[Path, Path]:
    """Give the files of a private key and of its public part."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    public.write_bytes(bundles.new_key(private))
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    return private, public


def test_a_bundle_is_what_the_package_itself_verifies(store: Store, file: str, tmp_path: Path) -> None:
    """Written once for each key; model-signing verifies it for the file under any name, and not for another one."""
    from model_signing import verifying

    private, public = pair(tmp_path)
    place = bundles.put(store, file, private)
    text = store.read(place)
    assert bundles.put(store, file, private) == place
    assert store.list(signatures_of(file)) == [place]
    assert store.read(place) == text
    assert list(bundles.check(store, file, public)) == [(place, "")]
    (tmp_path / "model.pt").write_bytes(DATA)
    (tmp_path / "model.sig").write_bytes(text or b"")
    config = verifying.Config().use_elliptic_key_verifier(public_key=public)  # type: ignore[no-untyped-call]
    config.verify(tmp_path / "model.pt", tmp_path / "model.sig")
    (tmp_path / "model.pt").write_bytes(DATA + b"!")
    with pytest.raises(ValueError, match="mismatch"):
        config.verify(tmp_path / "model.pt", tmp_path / "model.sig")


@pytest.mark.parametrize("what", ["cut", "other-file", "other-key", "nothing"])
def test_what_is_no_bundle_of_it_is_said(store: Store, file: str, tmp_path: Path, what: str) -> None:
    """A bundle that is cut off, of another file, or by another key does not hold; none at all is none."""
    private, public = pair(tmp_path)
    if what == "nothing":
        assert list(bundles.check(store, file, public)) == []
        return
    signer = pair(tmp_path, "stranger")[0] if what == "other-key" else private
    place = bundles.put(store, file, signer)
    path = tmp_path / "store" / place
    if what == "cut":
        path.write_bytes(path.read_bytes()[:200])
    if what == "other-file":
        other = bundles.put(store, store.put_blob(b"another"), private)
        path.write_bytes(store.read(other) or b"")
    ((found, flaw),) = bundles.check(store, file, public)
    assert found == place
    assert flaw


def test_keys_of_other_kinds_are_refused(store: Store, file: str, tmp_path: Path) -> None:
    """An Ed25519 key, which bundles do not know, and a file that is no key are said before anything is written."""
    key(tmp_path, "ed25519")
    (tmp_path / "noise").write_bytes(b"noise")
    for name in ("ed25519.pem", "noise", "absent"):
        with pytest.raises(Stalled, match="keys new FILE --bundle"):
            bundles.put(store, file, tmp_path / name)
        with pytest.raises(Stalled):
            list(bundles.check(store, file, tmp_path / name))
    assert store.list("signatures/") == []


def test_the_commands_write_and_demand_bundles(store: Store, file: str, tmp_path: Path) -> None:
    """`sign --bundle` writes one next to our signature; `verify --bundle` demands it."""
    ours = key(tmp_path)
    (tmp_path / "trunkline.toml").write_text(
        f'repository = "hub.git"\nstore = "store"\n[signing]\nkey_file = "key.pem"\ntrusted = ["{ours.public.key}"]\n'
    )
    record = RunRecord(inputs_digest=RUN, inputs={}, status="Succeeded", model="a/b", commit="c", weights=file)
    store.create(run_key(RUN), record.encode())
    (tmp_path / "bundle.pub").write_text(said(tmp_path, "keys", "new", "bundle.pem", "--bundle"))
    said(tmp_path, "sign", file)
    missing = trunkline(tmp_path, "verify", file, "--bundle", "bundle.pub", "--json")
    assert (missing.exit_code, [row["what"] for row in json.loads(missing.stdout) if row["problem"]]) == (1, ["bundle"])
    (row,) = json.loads(said(tmp_path, "sign", file, "--bundle", "bundle.pem", "--json"))
    assert store.read(row["bundle"])
    rows = json.loads(said(tmp_path, "verify", file, "--bundle", "bundle.pub", "--json"))
    assert [row["problem"] for row in rows] == ["", ""]
    assert len(store.list(signatures_of(file))) == 2
