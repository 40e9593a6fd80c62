"""Looking at data: what the store has of it, and what its sources say now. Decides nothing.

A source that does not answer is a fact like any other: serving, promoting and rolling back go on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from reconcilers import orders
from reconcilers.context import Context
from reconcilers.observed import FOLLOWED, DatasetFact, NewerData, Observed, SourceTrouble
from reconcilers.ports import DataSources
from reconcilers.records import Records
from specs.data import Source
from specs.data_records import (
    DifferenceRecord,
    ImportRecord,
    ValidationRecord,
    difference_key,
    import_key,
    validation_key,
)
from specs.errors import Stalled, Transient
from specs.modelspec import Spec
from specs.status import Reason


class DataObserver:
    """Adds what is known about a model's data to a snapshot."""

    def __init__(self, records: Records, sources: DataSources | None) -> None:
        self._records = records
        self._sources = sources

    def look(self, spec: Spec, observed: Observed) -> Observed:
        """Give the snapshot with all about data in it; ``observed`` knows the origin and the runs."""
        ctx = Context(observed.source.key, spec, observed, 0.0)
        train = self._train(ctx)
        golden, calibration = (
            self._dataset(ctx, source) if source else None for source in (spec.data.golden, spec.data.calibration)
        )
        observed = replace(
            observed, train=train, golden=golden, calibration=calibration,
            shared_pictures=self._records.shared_pictures(train, golden),
            shared_with_calibration=self._records.shared_pictures(calibration, golden),
        )  # fmt: skip
        for field, source in spec.unpinned:
            observed = self._resolved(ctx, field, source, observed)
        ctx = replace(ctx, observed=observed)
        seen = self._newer(ctx)
        apart = self._validation(ctx, ctx.calibration) if spec.data.calibration else None
        return replace(seen, validation=self._validation(ctx, ctx.dataset), calibration_validation=apart)

    def _train(self, ctx: Context) -> DatasetFact | None:
        """Look up the training data; where only its import is not recorded, the run still tells what it was."""
        fact, run = self._dataset(ctx, ctx.spec.data.train), ctx.run
        if fact is None or fact.manifest is not None or fact.reason or run is None or run.dataset is None:
            return fact
        told = self._records.dataset(run.dataset)
        return told if told.manifest is not None else fact

    def _dataset(self, ctx: Context, source: Source) -> DatasetFact | None:
        """Look up a pinned data set, the manifest itself or by way of its import."""
        if source.digest is None:
            return None
        if source.in_store:
            return self._records.dataset(source.digest)
        return self._imported(orders.import_of(ctx, source).import_digest, source.digest)

    def _imported(self, import_digest: str, named: str) -> DatasetFact:
        record = self._records.get(import_key(import_digest), ImportRecord)
        if record is None:
            return DatasetFact(named)
        if record.manifest is None:
            text = f"{record.reason}: {record.message}"
            return DatasetFact(named, reason=Reason.IMPORT_FAILED, message=text, imported=record)
        fact = self._records.dataset(record.manifest)
        if fact.reason:  # adding it by hand would help nobody
            text = f"{named} was fetched, but its manifest {record.manifest} is not in the store, or has other bytes; "
            fact = replace(fact, message=f"{text}remove {import_key(import_digest)} there, and it is fetched again")
        return replace(fact, imported=record)

    def _resolved(self, ctx: Context, field: str, source: Source, observed: Observed) -> Observed:
        """Add what a bare reference stands for now, or why nobody knows."""
        if source.kind == "uri":
            return self._fetched(ctx, field, source, observed)
        if self._sources is None:
            return observed
        found = _asked(partial(self._sources.resolve, source))
        if isinstance(found, SourceTrouble):
            return replace(observed, troubles={**observed.troubles, field: found})
        return observed if found is None else replace(observed, resolved={**observed.resolved, field: found})

    def _fetched(self, ctx: Context, field: str, source: Source, observed: Observed) -> Observed:
        """Add the digest that fetching a bare address found."""
        record = self._records.get(import_key(orders.import_of(ctx, source).import_digest), ImportRecord)
        if record is None or source.uri is None:
            return observed
        if record.status == "Failed" or not record.digest:
            trouble = SourceTrouble(Reason.IMPORT_FAILED, f"{record.reason}: {record.message}", passing=False)
            return replace(observed, troubles={**observed.troubles, field: trouble})
        pinned = source.model_copy(update={"uri": source.uri.model_copy(update={"digest": record.digest})})
        return replace(observed, resolved={**observed.resolved, field: pinned})

    def _validation(self, ctx: Context, train: str | None) -> ValidationRecord | None:
        if train is None or (ctx.golden is None and ctx.spec.data.golden is not None):
            return None
        return self._records.get(validation_key(train, ctx.golden), ValidationRecord)

    def _newer(self, ctx: Context) -> Observed:
        """Add the newest version of the training data, where it is another one than git names."""
        observed, follow = ctx.observed, ctx.spec.newer_from
        if follow is None or self._sources is None:
            return observed
        source = ctx.spec.data.train
        found = _asked(partial(self._sources.newest, source, follow))
        if found is None or (isinstance(found, Source) and found.digest in (None, source.digest)):
            return observed
        if isinstance(found, SourceTrouble):
            return replace(observed, troubles={**observed.troubles, FOLLOWED: found})
        try:
            return replace(observed, newer=self._compared(ctx, found))
        except Stalled as error:  # a record about a version that nobody asked for yet
            fact = DatasetFact(found.digest or "", reason=Reason.IMPORT_FAILED, message=error.message)
            return replace(observed, newer=NewerData(found, fact))

    def _compared(self, ctx: Context, source: Source) -> NewerData:
        fact = self._dataset(ctx, source) or DatasetFact("")
        if fact.manifest is None:
            return NewerData(source, fact)
        difference = None
        if ctx.dataset is not None:
            difference = self._records.get(difference_key(ctx.dataset, fact.digest), DifferenceRecord)
        shared = self._records.shared_pictures(fact, ctx.observed.golden)
        return NewerData(source, fact, shared, difference, self._validation(ctx, fact.digest))


def _asked(ask: Callable[[], Source | None]) -> Source | SourceTrouble | None:
    try:
        return ask()
    except Transient as error:
        return SourceTrouble(Reason.DATA_UNREACHABLE, error.message, passing=True)
    except Stalled as error:
        reason = Reason.DATA_MISSING if error.reason == Reason.DATA_MISSING else Reason.DATA_UNSUPPORTED
        return SourceTrouble(reason, error.message, passing=False)
