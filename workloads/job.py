"""One work order from beginning to end: what is done already is not done again, and every end has its exit code."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from adapters.store import Store
from specs.data_records import difference_key, import_key, validation_key
from specs.errors import Stalled, Transient
from specs.experiment_records import track_key, tuning_key
from specs.profile_records import profile_key
from specs.records import comparison_key, evaluation_key, export_key, run_key
from specs.workorders import (
    AnyOrder,
    CompareOrder,
    DiffOrder,
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    ProfileOrder,
    TrackOrder,
    TrainOrder,
    TuneOrder,
    ValidateOrder,
)
from workloads import distributed, environment
from workloads.errors import BAD_MATERIAL, DONE, HOPELESS, OUT_OF_MEMORY, RETRY, Hopeless

_FULL = (errno.ENOSPC, errno.EDQUOT)


def record_of(order: AnyOrder) -> str:
    """Give the key of the record whose existence means that the order is done."""
    match order:
        case TrainOrder():
            return run_key(order.inputs_digest)
        case EvaluateOrder():
            return evaluation_key(order.subject, order.golden)
        case CompareOrder():
            return comparison_key(order.subject, order.baseline, order.golden)
        case ExportOrder():
            return export_key(order.weights, order.export_digest)
        case ImportOrder():
            return import_key(order.import_digest)
        case ValidateOrder():
            return validation_key(order.train, order.golden)
        case DiffOrder():
            return difference_key(order.before, order.after)
        case TrackOrder():
            return track_key(order.track_digest)
        case TuneOrder():
            return tuning_key(order.tuning_digest)
        case ProfileOrder():
            return profile_key(order.file, order.golden)


def run(order: AnyOrder, store: Store) -> int:
    """Do what the order says unless its record exists; give the exit code. What is raised nevertheless is a bug."""
    try:
        if store.read(record_of(order)) is not None:
            return _say(DONE, "this was done before")
        try:
            with environment.scratch(order.job) as scratch:
                _perform(order, store, scratch)
        except Hopeless as failure:
            _record_failure(order, store, failure)
            return _say(HOPELESS, f"{failure.reason}: {failure.message}")
    except Stalled as trouble:
        return _say(BAD_MATERIAL, f"{trouble.reason}: {trouble.message}")
    except Transient as trouble:
        return _say(RETRY, f"{trouble.reason}: {trouble.message}")
    except MemoryError:
        return _say(OUT_OF_MEMORY, "OutOfMemory: give the job more memory, or make batch or imgsz smaller")
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return _say(OUT_OF_MEMORY, f"OutOfMemory: {error}; give the job more memory, or make batch or imgsz smaller")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return _say(RETRY, f"DiskFull: {error}; make room below {environment.SCRATCH} or the temporary folder")
    return DONE


def _perform(order: AnyOrder, store: Store, scratch: Path) -> None:
    """Only what the kind of job needs is imported: torch takes seconds."""
    match order:
        case CompareOrder():
            from workloads import compare

            compare.run(order, store)
        case TrainOrder():
            from workloads import train

            environment.isolate(scratch)
            train.run(order, store, scratch)
        case EvaluateOrder():
            from workloads import evaluate

            environment.isolate(scratch)
            evaluate.run(order, store, scratch)
        case ExportOrder():
            from workloads import export

            environment.isolate(scratch)
            export.run(order, store, scratch)
        case ImportOrder():
            from workloads import importing

            importing.run(order, store, scratch)
        case ValidateOrder():
            from workloads import validation

            validation.run(order, store, scratch)
        case DiffOrder():
            from workloads import difference

            difference.run(order, store, scratch)
        case TrackOrder():
            from workloads import tracking

            tracking.run(order, store, scratch)
        case TuneOrder():
            from workloads import tuning

            environment.isolate(scratch)
            tuning.run(order, store, scratch)
        case ProfileOrder():
            from workloads import profiling

            profiling.run(order, store, scratch)


def _record_failure(order: AnyOrder, store: Store, failure: Hopeless) -> None:
    match order:
        case TrainOrder():
            from workloads import train

            train.record_failure(order, store, failure)
        case ExportOrder():
            from workloads import export

            export.record_failure(order, store, failure)
        case ImportOrder():
            from workloads import importing

            importing.record_failure(order, store, failure)
        case TuneOrder():
            from workloads import tuning

            tuning.record_failure(order, store, failure)
        case ProfileOrder():
            from workloads import profiling

            profiling.record_failure(order, store, failure)
        case EvaluateOrder() | CompareOrder() | ValidateOrder() | DiffOrder() | TrackOrder():
            pass  # their records have no place for failures; the log says why


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that memory was too small."""
    text = str(error).lower()
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "cannot allocate memory"))


def _say(code: int, message: str) -> int:
    distributed.say_ending(code, message)
    sys.stderr.write(f"trunkline: {message}\n")
    return code
