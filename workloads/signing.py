"""A job's part in signing: it signs what it made itself, in this very attempt, and believes only what others signed.

Never what it finds in the store: whoever may write there could have their own file signed by leaving it before the
job begins. A record that is there without a signature is for a person to sign (``trunkline sign``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from adapters.artifact_signatures import SigningKey, check_weights, export_claim, put
from adapters.store import Store
from specs.errors import CorruptArtifact, Stalled
from specs.records import ArtifactRecord, artifact_key
from specs.signatures import KEY_FILE_VARIABLE, TRUSTED_VARIABLE, TrustedKey, WeightsClaim, decode_keys


@dataclass(frozen=True)
class Signing:
    """What this job signs with, and whom it believes; without either nothing is signed, or all is believed."""

    key: SigningKey | None = None
    trusted: tuple[TrustedKey, ...] = ()

    @classmethod
    def here(cls) -> Signing:
        """Read the environment, before hours of work: Stalled where the key could not sign in the end.

        ``SigningKeyInvalid``; ``SigningKeyUntrusted`` where what it would sign now, nobody would believe.
        """
        file, text = os.environ.get(KEY_FILE_VARIABLE), os.environ.get(TRUSTED_VARIABLE, "")
        key = SigningKey.read(Path(file)) if file else None
        try:
            trusted = decode_keys(text)
        except ValueError as error:
            raise Stalled("TrustedKeysInvalid", f"{TRUSTED_VARIABLE} is no list of public keys: {error}") from error
        mine = [found for found in trusted if key is not None and found.key == key.public.key]
        if key is not None and trusted and not any(found.covers(_now()) for found in mine):
            msg = (
                f"this job signs with key {key.key_id}, but no server would believe it now: add {key.public.key} to "
                "`trusted` of [signing], or give jobs another key"
            )
            raise Stalled("SigningKeyUntrusted", msg)
        return cls(key, trusted)

    def weights(self, store: Store, weights: str, run: str) -> None:
        """Sign that a run made these weights. Comes before the record: where that is, nobody trains again."""
        if self.key is not None:
            put(store, self.key, WeightsClaim(file=weights, run=run), _now())

    def export(self, store: Store, made: ArtifactRecord) -> None:
        """Sign that a file was exported from its weights, and what a server must know about it.

        What is signed is the record as the store has it: where an earlier attempt wrote it, that one stays. Stalled
        ``CorruptArtifact`` where it says something else than what was made here.
        """
        if self.key is None:
            return
        try:
            found = ArtifactRecord.decode(store.read(artifact_key(made.file)) or b"")
        except ValidationError:
            found = None
        # Recorded answers may differ in the last bits between machines.
        if found is None or found.model_copy(update={"self_tests": made.self_tests}) != made:
            msg = f"{artifact_key(made.file)} says something else than the export that was made; remove it"
            raise CorruptArtifact(msg)
        put(store, self.key, export_claim(store, made.file, made.weights), _now())

    def demand_weights(self, store: Store, weights: str) -> None:
        """Make sure that weights are what a trusted key says: what is made from others must not be signed.

        Stalled ``SignatureMissing`` or ``SignatureInvalid``; nothing is asked where no key is trusted.
        """
        if self.trusted:
            check_weights(store, weights, self.trusted)


def _now() -> datetime:
    return datetime.now(UTC)
