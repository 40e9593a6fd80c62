"""What a training that is not over keeps in the store, so that another attempt goes on where it stood.

::

    checkpoints/<inputsDigest>/<file digest>    the trainer's state, the best weights so far, the curves so far
    checkpoints/<inputsDigest>/record.json      Checkpoint: which of these files belong together; overwritten

The files are there before a record names them, and go when a later record does not, so a kill at any moment leaves the
older state or the newer one. All of it goes when the run has its RunRecord.
"""

from __future__ import annotations

from specs.digests import Digest, hex_of
from specs.records import Record

ROOT = "checkpoints/"
LAST, BEST, CURVES = "last.pt", "best.pt", "results.csv"
"""Names of the files, as the trainer has them. The best weights may be those of the last epoch."""


class Checkpoint(Record):
    """Where a training stands."""

    inputs_digest: Digest
    epoch: int
    """Epochs that are done."""
    epochs: int
    """Epochs in all."""
    files: dict[str, Digest]
    """Name to digest."""
    trainer: str
    """Version of the trainer that wrote them; another one does not read them."""
    resumed_from: list[int] = []
    """Epochs that were done when an earlier attempt ended and another one went on, oldest first."""
    started: str = ""
    """When the first attempt began. UTC, ISO 8601."""
    seconds: float = 0
    """That all attempts worked until here."""
    when: str = ""
    """UTC, ISO 8601."""


def checkpoint_folder(inputs_digest: str) -> str:
    """Prefix of all that belongs to one training."""
    return f"{ROOT}{hex_of(inputs_digest)}/"


def checkpoint_key(inputs_digest: str) -> str:
    """Key of a Checkpoint."""
    return f"{checkpoint_folder(inputs_digest)}record.json"


def checkpoint_file_key(inputs_digest: str, file: str) -> str:
    """Key of one of its files, by digest."""
    return f"{checkpoint_folder(inputs_digest)}{hex_of(file)}"
