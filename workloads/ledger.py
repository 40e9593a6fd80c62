"""What the store knows of a search: all that there is to know, so that any process can go on with it.

Every key is written once, by whoever comes first. What a trial shall try is written before it begins, and how it went
when it is over: no trial that is over is ever begun again, and one that was cut off begins again as it was.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from adapters.store import Store
from specs.base import Args
from specs.errors import Stalled
from specs.experiment_records import (
    TrialAsked,
    TrialBegun,
    TrialRecord,
    TuningBase,
    asked_key,
    begun_key,
    trial_key,
    tuning_base_key,
    tuning_key,
)
from specs.records import Record
from specs.workorders import TuneOrder

R = TypeVar("R", bound=Record)


class Ledger:
    """The records of one search."""

    def __init__(self, store: Store, digest: str) -> None:
        self._store = store
        self._digest = digest
        self.asked: dict[int, Args] = {}
        self.over: dict[int, TrialRecord] = {}
        """By number, sorted."""

    def base(self, order: TuneOrder, now: float) -> TuningBase:
        """Give what the search began with: what ``order`` says, unless it began before."""
        key = tuning_base_key(self._digest)
        record = TuningBase(
            tuning_digest=self._digest, inputs=order.inputs, dataset=order.manifest, model=order.model,
            commit=order.commit, started=round(now, 3),
        )  # fmt: skip
        self._store.create(key, record.encode())
        return self._get(key, TuningBase) or record

    def look(self) -> None:
        """Read what is new; another process may work on the same search."""
        prefix = tuning_key(self._digest).removesuffix("tuning.json")
        keys = self._store.list(prefix)
        for name, known in (("asked", self.asked), ("trials", self.over)):
            found = sorted(int(key.rpartition("/")[2].removesuffix(".json")) for key in keys if f"/{name}/" in key)
            for number in found:
                if number not in known:
                    self._read(name, number)
        self.over = dict(sorted(self.over.items()))

    def _read(self, name: str, number: int) -> None:
        if name == "asked":
            asked = self._get(asked_key(self._digest, number), TrialAsked)
            if asked is not None:
                self.asked[number] = asked.args
        else:
            over = self._get(trial_key(self._digest, number), TrialRecord)
            if over is not None:
                self.over[number] = over

    def ask(self, number: int, args: Args) -> Args:
        """Write what a trial shall try; give what it is, which somebody else may have written first."""
        key = asked_key(self._digest, number)
        self._store.create(key, TrialAsked(number=number, args=args).encode())
        asked = self._get(key, TrialAsked)
        self.asked[number] = asked.args if asked is not None else args
        return self.asked[number]

    def begin(self, number: int, most: int) -> bool:
        """Write that a trial begins; False where it began ``most`` times already."""
        return any(
            self._store.create(
                begun_key(self._digest, number, beginning), TrialBegun(number=number, beginning=beginning).encode()
            )
            for beginning in range(1, most + 1)
        )

    def end(self, record: TrialRecord) -> TrialRecord:
        """Write how a trial went; give how it went, which somebody else may have written first."""
        key = trial_key(self._digest, record.number)
        self._store.create(key, record.encode())
        self.over[record.number] = self._get(key, TrialRecord) or record
        self.over = dict(sorted(self.over.items()))
        return self.over[record.number]

    def _get(self, key: str, kind: type[R]) -> R | None:
        text = self._store.read(key)
        try:
            return None if text is None else kind.decode(text)
        except ValidationError as error:
            message = f"{key} in the store is not a {kind.__name__}; remove it, or change spec.tuning.nonce"
            raise Stalled("CorruptRecord", message) from error
