"""What a person may sign: what the store's records say about the files of a model, or about one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from pydantic import ValidationError

from adapters.artifact_signatures import export_claim
from specs.digests import hex_of
from specs.errors import Stalled
from specs.modelspec import Spec
from specs.records import ArtifactRecord, ExportRecord, Record, RunRecord, artifact_key, run_key
from specs.release import Pin
from specs.signatures import Claim, WeightsClaim
from specs.ways import way_of

R = TypeVar("R", bound=Record)


class Store(Protocol):
    """The part of the store that is looked at."""

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None."""

    def list(self, prefix: str = "") -> list[str]:
        """Give the keys that begin with ``prefix``."""


def of_model(store: Store, spec: Spec) -> list[Claim]:
    """Give what there is to sign of a model: release, the one before it, and the candidate as far as it exists.

    Stalled ``NothingToSign`` where there is nothing, ``CorruptRecord`` or ``ReleaseUnknown`` where a pin says something
    else than the store: nobody should sign that.
    """
    pins = [pin for pin in (spec.release, spec.release.previous if spec.release else None) if pin is not None]
    found = [claim for pin in pins for claim in _pinned(store, pin)]
    claims = list(dict.fromkeys([*found, *_candidate(store, spec)]))
    if not claims:
        raise Stalled("NothingToSign", "the model has no release, and nothing was trained for what it asks now")
    return claims


def of_file(store: Store, digest: str) -> list[Claim]:
    """Give what the store's records say that a file is; Stalled ``NothingToSign`` where no record names it."""
    artifact = _read(store, artifact_key(digest), ArtifactRecord)
    if artifact is not None:
        return [export_claim(store, digest, artifact.weights)]
    claims: list[Claim] = []
    for key in store.list("runs/"):
        run = _read(store, key, RunRecord)
        if run is not None and run.weights == digest:
            claims.append(WeightsClaim(file=digest, run=run.inputs_digest))
    if not claims:
        msg = f"no record in the store says what {digest} is: it is neither weights of a run nor an export"
        raise Stalled("NothingToSign", msg)
    return claims


def _pinned(store: Store, pin: Pin) -> Iterator[Claim]:
    run = _read(store, run_key(pin.run), RunRecord)
    if run is None or run.weights != pin.weights:
        msg = f"v{pin.version} pins weights {pin.weights}, which run {pin.run} in the store did not make; sign nothing"
        raise Stalled("ReleaseUnknown", msg)
    yield WeightsClaim(file=pin.weights, run=pin.run)
    for name, file in sorted(pin.exports.items()):
        artifact = _read(store, artifact_key(file), ArtifactRecord)
        if artifact is None or artifact.weights != pin.weights:
            msg = f"v{pin.version} pins the export {name} {file}, which was not made from its weights; sign nothing"
            raise Stalled("ReleaseUnknown", msg)
        yield export_claim(store, file, pin.weights)


def _candidate(store: Store, spec: Spec) -> Iterator[Claim]:
    run = _read(store, run_key(spec.inputs_digest), RunRecord)
    if run is None or run.weights is None:
        return
    yield WeightsClaim(file=run.weights, run=run.inputs_digest)
    ways = [(export.released_format, export.released_args) for export in spec.exports]
    for key in store.list(f"exports/{hex_of(run.weights)}-"):  # calibration data and devices are a part of their names
        made = _read(store, key, ExportRecord)
        if made is None or made.file is None or (made.format, made.args) not in ways:
            continue
        if made.weights == run.weights and way_of(made, spec.image_size) == made.export_digest:
            yield export_claim(store, made.file, run.weights)


def _read(store: Store, key: str, kind: type[R]) -> R | None:
    data = store.read(key)
    try:
        return None if data is None else kind.decode(data)
    except ValidationError as error:
        msg = f"{key} in the store is not a {kind.__name__}: {error.error_count()} fields are wrong"
        raise Stalled("CorruptRecord", msg) from error
