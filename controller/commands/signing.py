"""``trunkline keys``, ``sign`` and ``verify``: who vouches for the files in the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click
from pydantic import ValidationError

from adapters import artifact_signatures
from adapters.artifact_signatures import Signed, SigningKey
from adapters.source_git import GitSource
from adapters.store import Store
from controller import wiring
from controller.console import as_json, console, pick, print_json, settings, table
from controller.settings import Settings
from controller.signable import of_file, of_model
from specs.digests import short
from specs.errors import Stalled
from specs.manifest import parse
from specs.modelspec import Spec
from specs.release import Pin
from specs.signatures import Claim, TrustedKey

Row = tuple[str, str, str, str]
"""Model or digest, what the file is, its digest, and why its signature does not count; empty where one does."""


@click.group()
def keys() -> None:
    """Keys that sign what enters the store."""


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--bundle", is_flag=True, help="A P-256 key for bundles, which know no Ed25519.")
@as_json
def new(file: Path, bundle: bool, json_: bool) -> None:
    """Make a private key in FILE, readable by you alone, and print its public part.

    \b
    trunkline keys new signing.pem
    kubectl -n retail create secret generic trunkline-signing --from-file=key.pem=signing.pem

    The agent's jobs get it by `key_file` in [signing]; jobs in a cluster by the Secret that `secret` names. Never put
    it into the Secret with the store's credentials: that one reaches servers too.
    """
    if bundle:
        public = _bundles().new_key(file).decode()
        print_json({"public": public}) if json_ else click.echo(public, nl=False)
        return
    _show(SigningKey.new(file), json_)


@keys.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def show(file: Path, json_: bool) -> None:
    """Print the id and the public part of the private key in FILE, as settings name it."""
    _show(SigningKey.read(file), json_)


def _show(key: SigningKey, json_: bool) -> None:
    if json_:
        print_json({"id": key.key_id, "public": key.public.key})
        return
    click.echo(f'key {key.key_id}\n\nFor trunkline.toml:\n\n[signing]\ntrusted = ["{key.public.key}"]')


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="MODEL|DIGEST…")
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Private key. Default: key_file of [signing].")  # fmt: skip
@click.option("--bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="KEY",
              help="Also write OpenSSF model-signing bundles, with this P-256 key.")  # fmt: skip
@as_json
def sign(targets: tuple[str, ...], key: Path | None, bundle: Path | None, json_: bool) -> None:
    """Vouch for files that are in the store already, made before there was a key.

    A MODEL means its release, the one before, and what is ready to be released; a DIGEST means that file. What is
    signed is what the store's records say that the file is, so look before you sign. Jobs that have the key sign what
    they make by themselves; signing twice changes nothing.

    \b
    trunkline sign digits --key signing.pem
    trunkline verify digits
    """
    found = settings()
    path = key or found.signing.key_file
    if path is None:
        raise Stalled("NoSigningKey", "no key to sign with: give --key FILE, or set key_file in [signing]")
    signer, store, bundles = SigningKey.read(path), wiring.store(found), _bundles() if bundle else None
    rows = []
    for claim in _claims(found, store, targets):
        _demand_bytes(store, claim.file)
        fresh = artifact_signatures.put(store, signer, claim, datetime.now(UTC))
        place = bundles.put(store, claim.file, bundle) if bundles else ""
        rows.append((claim, "signed" if fresh else "was signed before", place))
    if json_:
        print_json([{**claim.model_dump(), "key": signer.key_id, "done": done, "bundle": place}
                    for claim, done, place in rows])  # fmt: skip
        return
    cells = [(claim.kind, short(claim.file), short(claim.parent), done) for claim, done, _ in rows]
    console().print(table(f"by key {signer.key_id}", ("what", "file", "made from", ""), cells))


@click.command()
@click.argument("targets", nargs=-1, metavar="[MODEL|DIGEST]…")
@click.option("--trust", multiple=True, metavar="KEY", help="Public key to trust instead of those in [signing].")
@click.option("--bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="KEY",
              help="Also demand an OpenSSF model-signing bundle by this public key.")  # fmt: skip
@as_json
def verify(targets: tuple[str, ...], trust: tuple[str, ...], bundle: Path | None, json_: bool) -> None:
    """Say whether servers would load what is released: whether a trusted key signed it.

    A MODEL means its release and the one before, checked as a server checks them; a DIGEST means the file and every
    signature of it. Without either, all models on the tracked branch: do that before you put a key into `trusted`.
    Exits with 1 where something is not signed.

    \b
    trunkline verify --trust ed25519:…
    trunkline verify digits sha256:4f1c… --json
    """
    found = settings()
    trusted, store = _trusted(found, trust), wiring.store(found)
    rows = [row for name in targets if _is_digest(name) for row in _of_digest(store, name, trusted)]
    names = [name for name in targets if not _is_digest(name)]
    if names or not targets:
        rows += _of_models(found, store, names, trusted)
    rows += _of_bundles(store, [row[2] for row in rows], bundle) if bundle else []
    if json_:
        print_json([dict(zip(("target", "what", "file", "problem"), row, strict=True)) for row in rows])
    else:
        cells = [(name, what, short(file), why or "signed") for name, what, file, why in rows]
        console().print(table(None, ("", "what", "file", ""), cells))
    if any(row[3] for row in rows):
        raise click.exceptions.Exit(1)


def _trusted(found: Settings, given: Sequence[str]) -> Sequence[TrustedKey]:
    try:
        trusted = [TrustedKey(key=key) for key in given] or found.signing.trusted
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"], param_hint="--trust") from error
    if not trusted:
        msg = "[signing] trusts no key, so servers load what is unsigned; name one with --trust to see what it signed"
        raise Stalled("NoTrustedKeys", msg)
    return trusted


def _is_digest(text: str) -> bool:
    return text.startswith("sha256:")


def _specs(found: Settings, names: Sequence[str]) -> Iterator[tuple[str, Spec]]:
    """Give the models of these names, or all, as the tracked branch has them now."""
    source = GitSource(wiring.repository(found), prefix=found.prefix)
    source.refresh()
    for key in [pick(source.keys(), name) for name in names] or source.keys():
        sourced = source.get(key)
        if sourced is not None:
            yield str(key), parse(sourced.text, sourced.path, key).model.spec


def _claims(found: Settings, store: Store, targets: Sequence[str]) -> list[Claim]:
    claims = [claim for name in targets if _is_digest(name) for claim in of_file(store, name)]
    names = [name for name in targets if not _is_digest(name)]
    claims += [claim for _, spec in _specs(found, names) for claim in of_model(store, spec)] if names else []
    return list(dict.fromkeys(claims))


def _demand_bytes(store: Store, file: str) -> None:
    """Read a file through, so that nobody vouches for what is damaged; errors as of ``fetch_blob``."""
    with tempfile.TemporaryDirectory() as folder:
        store.fetch_blob(file, Path(folder, "file"))


def _of_digest(store: Store, digest: str, trusted: Sequence[TrustedKey]) -> Iterator[Row]:
    _demand_bytes(store, digest)
    judged = list(artifact_signatures.found(store, digest, trusted))
    good = [signed for _, signed in judged if isinstance(signed, Signed)]
    for signed in good:
        what = f"{signed.claim.kind} of {short(signed.claim.parent)}, key {signed.key_id}, {signed.signed_at:%Y-%m-%d}"
        yield digest, what, digest, ""
    if not good:
        flaws = "; ".join(f"{place}: {why}" for place, why in judged)
        yield digest, "file", digest, f"SignatureInvalid: {flaws}" if flaws else "SignatureMissing"


def _of_models(found: Settings, store: Store, names: Sequence[str], trusted: Sequence[TrustedKey]) -> Iterator[Row]:
    for name, spec in _specs(found, names):
        release = spec.release
        pins: list[Pin] = [pin for pin in (release, release.previous if release else None) if pin is not None]
        for pin in pins:
            for checked in artifact_signatures.check_release(store, pin, trusted):
                problem = f"{checked.reason}: {checked.message}" if checked.reason else ""
                yield f"{name} v{pin.version}", checked.what, checked.file, problem


def _of_bundles(store: Store, files: Sequence[str], public_key: Path) -> Iterator[Row]:
    for file in dict.fromkeys(files):
        judged = list(_bundles().check(store, file, public_key))
        flaws = [why for _, why in judged if why]
        problem = "" if len(flaws) < len(judged) else "; ".join(flaws) or "SignatureMissing: there is no bundle of it"
        yield file, "bundle", file, problem


def _bundles() -> ModuleType:
    try:
        return import_module("adapters.model_signing_bundles")
    except ImportError as error:
        raise Stalled("BundlesUnsupported", "bundles need the extra: pip install 'trunkline[bundles]'") from error
