"""Searches for better training arguments: trials, each a process, until the budget is spent or the goal is reached.

The search itself is in the store (``workloads.ledger``), so it may be killed anywhere: what is over stays over, and the
next attempt goes on.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.store import Store
from specs.base import Args
from specs.errors import Stalled, Transient
from specs.experiment_records import TrialRecord, TuningBase, TuningRecord, tuning_key
from specs.records import Environment, Epoch
from specs.workorders import TuneOrder
from workloads.environment import describe
from workloads.errors import BAD_MATERIAL, OUT_OF_MEMORY, RETRY, Hopeless
from workloads.ledger import Ledger
from workloads.progress import Reporter, now
from workloads.suggestions import cut_short, suggest
from workloads.trial_process import COMMAND, GRACE, News, TrialProcess
from workloads.trial_wire import TrialTask
from workloads.tuning_pictures import draw

BEGINNINGS = 5
"""How often a trial may begin without ever ending."""
_LOOK = 2.0
"""Seconds after which the clock is looked at, whatever the trials say."""


def run(order: TuneOrder, store: Store, scratch: Path, *, command: Sequence[str] = COMMAND) -> None:
    """Search, and write the TuningRecord.

    Hopeless where no trial can ever work; Transient or Stalled where a trial met such trouble in the store.
    """
    with Reporter(store, order.job) as reporter:
        search = Search(order, store, scratch, reporter, command=command)
        stopped_by = search.go_on()
        store.create(tuning_key(order.tuning_digest), search.result(stopped_by).encode())


def record_failure(order: TuneOrder, store: Store, failure: Hopeless) -> None:
    """Write why it can never work."""
    record = TuningRecord(
        tuning_digest=order.tuning_digest, status="Failed", reason=failure.reason, message=failure.message,
        inputs=order.inputs, metric=order.tuning.objective.metric, finished=now(),
    )  # fmt: skip
    store.create(tuning_key(order.tuning_digest), record.encode())


class Search:
    """One attempt at a search."""

    def __init__(
        self, order: TuneOrder, store: Store, scratch: Path, reporter: Reporter, *,
        command: Sequence[str] = COMMAND, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """``clock`` gives Unix seconds; ``command`` is what a trial runs, see ``workloads.trials``."""
        self._order = order
        self._tuning = order.tuning
        self._store = store
        self._scratch = scratch
        self._reporter = reporter
        self._command = command
        self._clock = clock
        self._ledger = Ledger(store, order.tuning_digest)
        self._base: TuningBase = self._ledger.base(order, clock())
        self._running: dict[int, TrialProcess] = {}
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._environment: Environment | None = None
        self._exhausted = False

    def go_on(self) -> str:
        """Run trials until one of the reasons to end is there; give it. No trial outlives this call."""
        try:
            self._ledger.look()
            while True:
                reason = self._reason_to_end() or self._fill()
                if reason:
                    return reason
                self._report()
                self._hear()
        finally:
            self._end_all()

    def _reason_to_end(self) -> str:
        over, best = self._ledger.over.values(), self._best()
        goal, seconds = self._tuning.objective.goal, self._tuning.active_deadline_seconds
        if sum(trial.status == "Failed" for trial in over) > self._tuning.failures_allowed:
            return "FailedTrials"
        reached = best.value if best is not None else None
        if goal is not None and reached is not None and not self._tuning.better(goal, reached):
            return "Goal"
        if seconds is not None and self._clock() >= self._base.started + seconds:
            return "Deadline"
        return "TrialCount" if len(over) >= self._tuning.max_trial_count else ""

    def _fill(self) -> str:
        """Begin trials while there is room; those first that were cut off. Give a reason to end where none is left."""
        while len(self._running) < self._tuning.parallel:
            number = self._next()
            if number is None:
                break
            args = self._ledger.asked.get(number)
            if args is None:
                args = self._suggested(number)
            if args is None:
                self._exhausted = True
            elif self._ledger.begin(number, BEGINNINGS):
                self._start(number, args)
            else:
                message = f"it began {BEGINNINGS} times and never came to an end"
                self._ledger.end(TrialRecord(number=number, args=args, status="Failed", message=message))
                return self._reason_to_end()
        if self._running:
            return ""
        return "Exhausted" if self._exhausted else self._reason_to_end()

    def _next(self) -> int | None:
        """Give the number of the trial that begins next, None where all are over or running."""
        busy = self._running.keys() | self._ledger.over.keys()
        cut_off = [number for number in sorted(self._ledger.asked) if number not in busy]
        if cut_off:
            return cut_off[0]
        number = max((*self._ledger.asked, *self._ledger.over), default=-1) + 1
        return number if number < self._tuning.max_trial_count and not self._exhausted else None

    def _suggested(self, number: int) -> Args | None:
        """Choose what a new trial tries, and write it down. The first one has the arguments as they are."""
        args: Args | None = {}
        if number > 0:
            running = {each.number: each.args for each in self._running.values()}
            over = list(self._ledger.over.values())
            args = suggest(self._tuning, self._order.tuning_digest, over, running, number)
        return None if args is None else self._ledger.ask(number, args)

    def _start(self, number: int, args: Args) -> None:
        taken = {each.task.slot for each in self._running.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        given = {**self._base.inputs["args"], **(self._tuning.trial_args or {}), **args}
        task = TrialTask(
            number=number, slot=slot, inputs={**self._base.inputs, "args": given}, dataset=self._base.dataset,
            tuning=self._tuning,
        )  # fmt: skip
        folder = self._scratch / f"trial-{number}"
        self._running[number] = TrialProcess(task, args, self._command, self._store.url, folder, self._news)

    def _hear(self) -> None:
        """Wait for one piece of news and act on it, or a moment, after which the clock is looked at."""
        try:
            news = self._news.get(timeout=_LOOK)
        except queue.Empty:
            return
        trial = self._running.get(news.number)
        if trial is None:
            return
        if news.event is None:
            self._over(trial)
            return
        event, told = news.event, trial.told
        match event.kind:
            case "began":
                told.searched, self._environment = event.searched, event.environment
            case "epoch":
                told.epochs.append(Epoch(epoch=event.epoch, metrics=event.metrics))
            case _:
                told.last = event
        trial.answer(stop=event.kind == "epoch" and self._not_worth_it(trial))

    def _not_worth_it(self, trial: TrialProcess) -> bool:
        """Whether to cut a trial short; never the first, which the others are compared with."""
        over = list(self._ledger.over.values())
        return trial.number > 0 and cut_short(self._tuning, over, trial.told.epochs)

    def _over(self, trial: TrialProcess) -> None:
        """Write how a trial ended; raise where that says something about all of them."""
        words, seconds = trial.last_words(), trial.seconds
        code = trial.ended()
        del self._running[trial.number]
        told = trial.told
        succeeded = any(each.status == "Succeeded" for each in self._ledger.over.values())
        if told.last is not None and told.last.hopeless and not succeeded:
            raise Hopeless(told.last.reason, told.last.message)
        if told.last is None and code in (RETRY, BAD_MATERIAL):
            reason, _, message = words.removeprefix("trunkline: ").partition(": ")
            raise Transient(reason, message) if code == RETRY else Stalled(reason, message)
        status, value, message = _outcome(trial, self._tuning.objective.metric, code, words)
        self._ledger.end(TrialRecord.model_validate({
            "number": trial.number, "args": {**told.searched, **trial.args}, "status": status, "value": value,
            "message": message, "epochs": told.epochs, "seconds": seconds,
        }))  # fmt: skip
        self._ledger.look()

    def _end_all(self) -> None:
        for trial in self._running.values():
            trial.end()
        deadline = time.monotonic() + GRACE
        for trial in self._running.values():
            trial.kill(deadline)
        self._running.clear()

    def _best(self) -> TrialRecord | None:
        best: TrialRecord | None = None
        for trial in self._ledger.over.values():
            if trial.status == "Succeeded" and trial.value is not None:
                known = best.value if best is not None else None
                best = trial if known is None or self._tuning.better(trial.value, known) else best
        return best

    def _report(self) -> None:
        over, most, best = list(self._ledger.over.values()), self._tuning.max_trial_count, self._best()
        spent = [trial.seconds for trial in over if trial.seconds > 0]
        left = (most - len(over)) * sum(spent) / len(spent) / self._tuning.parallel if spent else None
        seconds = self._tuning.active_deadline_seconds
        if seconds is not None:
            left = min(self._base.started + seconds - self._clock(), left if left is not None else float(seconds))
        shown = {"best": best.value} if best is not None and best.value is not None else {}
        numbers = ", ".join(map(str, sorted(self._running)))
        phase = f"trial {numbers}; {len(over)} of {most} are over"
        self._reporter.report(phase, epoch=len(over), epochs=most, eta=left, metrics=shown)

    def result(self, stopped_by: str) -> TuningRecord:
        """Give the answer: the best that was tried, or why there is none."""
        over, best = list(self._ledger.over.values()), self._best()
        failure = None
        if stopped_by == "FailedTrials":
            failed = [trial for trial in over if trial.status == "Failed"]
            failure = f"{len(failed)} trials failed, the last one: {failed[-1].message}"
        elif best is None:
            failure = "no trial came to a good end" + (" before the deadline" if stopped_by == "Deadline" else "")
        pictures = draw(self._tuning, over, best)
        return TuningRecord(
            tuning_digest=self._order.tuning_digest, status="Failed" if failure else "Succeeded",
            reason=stopped_by if failure else "", message=failure or "", inputs=self._base.inputs,
            dataset=self._base.dataset, metric=self._tuning.objective.metric, best=_short(best) if best else None,
            trials=[_short(trial) for trial in over], stopped_by=stopped_by,
            files={name: self._store.put_blob(data) for name, data in pictures.items()},
            environment=self._environment or describe(), finished=now(),
        )  # fmt: skip


def _outcome(trial: TrialProcess, metric: str, code: int, words: str) -> tuple[str, float | None, str]:
    """Give status, objective and message of a trial that is over."""
    told = trial.told
    seen = [epoch.metrics[metric] for epoch in told.epochs if metric in epoch.metrics]
    if told.last is not None and told.last.kind == "failed":
        return "Failed", None, f"{told.last.reason}: {told.last.message}"
    if told.last is not None and metric in told.last.metrics:
        return "Succeeded", told.last.metrics[metric], ""
    if told.stopped:
        return "Pruned", seen[-1] if seen else None, f"cut short after epoch {told.epochs[-1].epoch}"
    if code in (-9, OUT_OF_MEMORY):
        return "Failed", None, f"Killed: its process was killed, as it happens when memory is short; {words}"
    return "Failed", None, f"Crashed: its process ended with {code}; {words}"


def _short(trial: TrialRecord) -> TrialRecord:
    """Leave out the epochs, which are in the trial's own record."""
    return trial.model_copy(update={"epochs": []})
