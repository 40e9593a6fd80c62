"""``trunkline tuning``: the trials of a search, also while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import click

from adapters.source_git import GitSource
from adapters.store import Store
from controller import wiring
from controller.console import as_json, console, pick, print_json, settings, table
from reconcilers.estimate import duration
from reconcilers.records import Records
from specs.base import Args
from specs.digests import short
from specs.errors import Stalled
from specs.experiment_records import (
    TrialAsked,
    TrialRecord,
    TuningRecord,
    asked_key,
    trial_key,
    tuning_key,
)
from specs.manifest import parse
from specs.modelspec import ModelKey
from specs.training import Tuning
from specs.workorders import tuning_digest


@dataclass(frozen=True)
class Board:
    """A search as the store has it."""

    key: ModelKey
    digest: str
    tuning: Tuning
    record: TuningRecord | None
    asked: dict[int, Args]
    over: dict[int, TrialRecord]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial so far."""
        found: TrialRecord | None = None
        for trial in self.over.values():
            if trial.status == "Succeeded" and trial.value is not None:
                better = found is None or found.value is None or self.tuning.better(trial.value, found.value)
                found = trial if better else found
        return found

    @property
    def state(self) -> str:
        """What becomes of it, in a word."""
        if self.record is not None:
            return self.record.status
        return "Running" if self.asked else "NotBegun"


@click.command()
@click.argument("model")
@as_json
def tuning(model: str, json_: bool) -> None:
    """Show the trials of the search that spec.tuning of MODEL asks for, also while it runs.

    The first trial has the arguments as they are; what has no result yet runs, or was cut off and runs again.
    """
    found = settings()
    board = read(wiring.store(found), GitSource(wiring.repository(found), prefix=found.prefix), model)
    if json_:
        print_json(_plain(board))
    else:
        _print(board)


def read(store: Store, source: GitSource, model: str) -> Board:
    """Gather what is known; Stalled ``NoTuning`` where the spec asks for no search."""
    source.refresh()
    key = pick(source.keys(), model)
    sourced = source.get(key)
    if sourced is None:
        raise Stalled("NoSuchModel", f"{key} left the tracked branch")
    spec = parse(sourced.text, sourced.path, key).model.spec
    digest = tuning_digest(key, spec)
    if spec.tuning is None or digest is None:
        raise Stalled("NoTuning", f"{key} has no spec.tuning; docs/tuning.md shows how to ask for a search")
    records = Records(store)
    asked: dict[int, Args] = {}
    over: dict[int, TrialRecord] = {}
    for stored in store.list(tuning_key(digest).removesuffix("tuning.json")):
        name = stored.rpartition("/")[2].removesuffix(".json")
        if not name.isdecimal():
            continue
        number = int(name)
        began = records.get(asked_key(digest, number), TrialAsked)
        ended = records.get(trial_key(digest, number), TrialRecord)
        asked |= {number: began.args} if began else {}
        over |= {number: ended} if ended else {}
    return Board(key, digest, spec.tuning, records.get(tuning_key(digest), TuningRecord), asked, over)


def _plain(board: Board) -> dict[str, object]:
    """Give it as plain JSON values."""
    best, record = board.best, board.record
    rows: dict[int, object] = {n: {"number": n, "args": args, "status": "Running"} for n, args in board.asked.items()}
    for number, trial in board.over.items():
        rows[number] = trial.model_dump(mode="json", exclude={"epochs"}, exclude_none=True)
    return {
        "model": str(board.key), "tuning": board.digest, "status": board.state,
        "reason": (record.reason or record.stopped_by) if record else "", "message": record.message if record else "",
        "metric": board.tuning.objective.metric, "best": best.number if best else None,
        "trials": [row for _, row in sorted(rows.items())],
    }  # fmt: skip


def _print(board: Board) -> None:
    out, best, record = console(), board.best, board.record
    names = [parameter.name for parameter in board.tuning.parameters]
    out.print(f"[bold]{board.key}[/]: search {short(board.digest)}, {_said(board)}")
    if record is not None and record.message:
        out.print(f"{record.reason}: {record.message}", markup=False)
    rows = []
    for number, args in sorted(board.asked.items()):
        trial = board.over.get(number)
        values = trial.args if trial else args
        told = [str(number), "–" if trial is None or trial.value is None else f"{trial.value:.4g}"]
        told += [str(values[name]) if name in values else "–" for name in names]
        told += [duration(trial.seconds) if trial and trial.seconds else "", _mark(trial, best)]
        rows.append(told)
    if rows:
        out.print(table(None, ("trial", board.tuning.objective.metric, *names, "took", ""), rows))


def _said(board: Board) -> str:
    done = f"{len(board.over)} of {board.tuning.max_trial_count} trials"
    words = {"NotBegun": "not begun", "Running": f"{done} are over", "Succeeded": f"done after {done}"}
    return words.get(board.state, f"failed after {done}")


def _mark(trial: TrialRecord | None, best: TrialRecord | None) -> str:
    if trial is None:
        return "running"
    first = " (as it was)" if trial.number == 0 else ""
    if best is not None and trial.number == best.number:
        return f"best{first}"
    return {"Pruned": "cut short", "Failed": trial.message}.get(trial.status, first.strip(" ()"))
