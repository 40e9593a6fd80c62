"""Looks at every picture and label before anything is spent on them. Says what is there; others judge it."""

from __future__ import annotations

import time
from pathlib import Path

from adapters.store import Store
from specs.data_records import ValidationRecord, validation_key
from specs.workorders import ValidateOrder
from workloads import alike
from workloads.dataset import load_manifest
from workloads.progress import Reporter, now
from workloads.sheets import Row, sheet
from workloads.survey import Survey, known_leaks, leaks, shortened
from workloads.tiles import tile

_HEADINGS = {"train": "Training data", "golden": "Golden set"}


def run(order: ValidateOrder, store: Store, scratch: Path) -> None:
    """Write the ValidationRecord, after the pictures that it names. What is wrong with the data is in it, no error.

    Stalled where the store's material is not what the order names; Hopeless where it was made for another task.
    """
    started = now()
    train = Survey(store, load_manifest(store, order.train, order.task))
    golden = Survey(store, load_manifest(store, order.golden, order.task)) if order.golden else None
    surveys = {"train": train, **({"golden": golden} if golden else {})}
    with Reporter(store, order.job) as reporter:
        own, leaked = _examine(list(surveys.values()), known_leaks(train, golden), scratch, reporter)
        found = leaks(train, golden, leaked) if golden else []
        record = ValidationRecord(
            train_digest=order.train, golden_digest=order.golden, task=order.task, train=train.report(own, 0),
            golden=golden.report(own, len(train.firsts)) if golden else None,
            leak_count=len(found), near_leak_count=sum(not pair.exact for pair in found), leaks=shortened(found),
            files={f"{name}.jpg": store.put_blob(page) for name, survey in surveys.items()
                   if (page := _page(store, name, survey))},
            started=started, finished=now(),
        )  # fmt: skip
        store.create(validation_key(order.train, order.golden), record.encode())


def _examine(
    surveys: list[Survey], known: alike.Numbers, scratch: Path, reporter: Reporter
) -> tuple[alike.Numbers, alike.Numbers]:
    """Look at everything, then compare; give twins as ``alike.find`` does. ``known`` has a number for each place."""
    looks = alike.Looks.on_disk(scratch, len(known))
    tell = _Steps(reporter, sum(survey.steps for survey in surveys))
    offset = 0
    for survey in surveys:
        survey.look(looks, offset, tell)
        survey.read(tell)
        offset += len(survey.firsts)
    reporter.report("looking for copies", epoch=tell.steps, epochs=tell.steps)
    return alike.find(looks, len(surveys[0].firsts), known)


class _Steps:
    """Counts steps, and reports where they are."""

    def __init__(self, reporter: Reporter, steps: int) -> None:
        self.steps = steps
        self._reporter, self._done, self._begun = reporter, 0, time.monotonic()

    def __call__(self) -> None:
        self._done += 1
        if self._done % 50 == 0 or self._done == self.steps:
            left = (time.monotonic() - self._begun) / self._done * (self.steps - self._done)
            self._reporter.report("looking at pictures", epoch=self._done, epochs=self.steps, eta=left)


def _page(store: Store, name: str, survey: Survey) -> bytes:
    """Draw the contact sheet; empty where there is no picture to show."""
    chosen, manifest = survey.choice.chosen(), survey.manifest
    if not chosen:
        return b""
    words = f"{_HEADINGS[name]}: {_count(manifest.images, 'picture')}, {_count(len(manifest.names), 'class')}"
    tiles = [tile(store, manifest, picture, manifest.names) for picture in chosen]
    return sheet(words, [Row("", tiles)], manifest.names)


def _count(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count:,} {what}{'' if count == 1 else plural}"
