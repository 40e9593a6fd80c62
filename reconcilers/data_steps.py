"""The first step of the line: data is pinned, there, intact, as expected, apart from golden, and looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconcilers import jobs, orders
from reconcilers.context import Context, Step, Verdict
from reconcilers.data_report import faults
from reconcilers.observed import DatasetFact
from reconcilers.pinning import plan_pins, settled_pins
from specs.data import Expectations
from specs.data_records import ValidationRecord
from specs.records import DatasetManifest
from specs.status import ConditionType as Type
from specs.status import Reason


@dataclass(frozen=True)
class Flaw:
    """Why a data set cannot be trained on."""

    reason: Reason
    message: str


def plan_data(ctx: Context) -> Step:
    """Answer for training data and golden set; a run that is there needs neither fetching nor validation."""
    return (
        _not_named(ctx)
        or plan_pins(ctx)
        or _unusable(ctx)
        or jobs.work(ctx, Type.DATA_READY, Reason.IMPORTING, orders.imports(ctx))
        or _flawed(ctx)
        or jobs.work(ctx, Type.DATA_READY, Reason.VALIDATING, orders.validation(ctx))
        or _invalid(ctx)
        or Step(Type.DATA_READY, Verdict.DONE, Reason.DATA_VERIFIED, _told(ctx), settled_pins(ctx))
    )


def _stop(flaw: Flaw | None) -> Step | None:
    return Step(Type.DATA_READY, Verdict.STOP, flaw.reason, flaw.message) if flaw else None


def _not_named(ctx: Context) -> Step | None:
    """Refuse what no job can find: a data set in the store without its digest."""
    for field, source in ctx.spec.data.named:
        if source.in_store and source.digest is None:
            return _stop(Flaw(
                Reason.DATA_NOT_PINNED,
                f"{field}.uri.digest is missing; a reference without digest is never trained on. "
                "`trunkline data add` prints the digest",
            ))  # fmt: skip
    return None


def _unusable(ctx: Context) -> Step | None:
    for field, _ in ctx.spec.data.named:
        fact = ctx.observed.fact(field)
        if fact is not None and fact.reason:
            return _stop(Flaw(Reason(fact.reason), f"{field}: {fact.message}"))
    return None


def _flawed(ctx: Context) -> Step | None:
    world = ctx.observed
    return _stop(
        flaw_of(ctx, world.train, world.shared_pictures)
        or _other_task(ctx, "spec.data.golden", world.golden)
        or _other_task(ctx, "spec.data.calibration", world.calibration)
        or _leakage(world.shared_with_calibration, "calibration")
    )


def _invalid(ctx: Context) -> Step | None:
    record, apart, expect = validation(ctx), ctx.observed.calibration_validation, ctx.spec.data.expect
    flaw = invalid(record, expect) if record is not None else None
    if flaw is None and apart is not None and orders.is_about(apart, ctx.calibration, ctx.golden):
        found = invalid(apart, Expectations(max_near_leaks=expect.max_near_leaks if expect else None))
        begin = "spec.data.calibration, looked at like training data"
        flaw = Flaw(found.reason, f"{begin}: {found.message}") if found else None
    return _stop(flaw)


def validation(ctx: Context) -> ValidationRecord | None:
    """Give what looking at the model's data found; None where nobody looked."""
    record, train = ctx.observed.validation, ctx.dataset
    return record if train is not None and orders.is_about(record, train, ctx.golden) else None


def _told(ctx: Context) -> str:
    """Say in a few words what there is."""
    train, golden = _manifest(ctx.observed.train), _manifest(ctx.observed.golden)
    parts = [f"{train.images} images"] if train else []
    return ", ".join(parts + ([f"{golden.images} golden"] if golden else []))


def flaw_of(ctx: Context, train: DatasetFact | None, shared: tuple[str, ...]) -> Flaw | None:
    """Say what the files alone tell against training on a data set; ``shared``: golden pictures that are in it too."""
    return (
        _other_task(ctx, "spec.data.train", train)
        or _unexpected(ctx, train)
        or _leakage(shared, "training")
        or _foreign_classes(train, ctx.observed.golden)
    )


def invalid(record: ValidationRecord, expect: Expectations | None) -> Flaw | None:
    """Say what looking at every picture and label found against training on them."""
    found = faults(record, expect)
    if not found:
        return None
    apart = record.model_copy(update={"leak_count": 0, "near_leak_count": 0, "leaks": []})
    reason = Reason.DATA_INVALID if faults(apart, expect) else Reason.DATA_LEAKAGE
    return Flaw(reason, "; ".join(found))


def _other_task(ctx: Context, field: str, fact: DatasetFact | None) -> Flaw | None:
    manifest = _manifest(fact)
    if manifest is None or manifest.task == ctx.spec.task:
        return None
    text = f"{field} is a data set for {manifest.task}, but spec.task is {ctx.spec.task}; correct one of them"
    return Flaw(Reason.DATA_UNEXPECTED, text)


def _unexpected(ctx: Context, fact: DatasetFact | None) -> Flaw | None:
    expect, manifest = ctx.spec.data.expect, _manifest(fact)
    if expect is None or manifest is None:
        return None
    counts = [manifest.class_counts.get(name, 0) for name in manifest.names]
    found: list[str] = []
    if expect.min_images is not None and manifest.images < expect.min_images:
        found.append(f"{manifest.images} images, at least {expect.min_images} expected")
    if expect.classes is not None and set(expect.classes) != set(manifest.names):
        more, less = set(manifest.names) - set(expect.classes), set(expect.classes) - set(manifest.names)
        found.append(f"classes differ: unexpected {sorted(more) or 'none'}, missing {sorted(less) or 'none'}")
    smallest, largest = min(counts, default=0), max(counts, default=0)
    if expect.max_class_imbalance is not None and largest > expect.max_class_imbalance * smallest:
        found.append(f"largest class {largest}, smallest {smallest}: over {expect.max_class_imbalance:g} to 1")
    return Flaw(Reason.DATA_UNEXPECTED, "spec.data.expect: " + "; ".join(found)) if found else None


def _leakage(shared: tuple[str, ...], kind: str) -> Flaw | None:
    """A picture that is in both sets would make every measurement too good."""
    if not shared:
        return None
    text = f"{len(shared)} golden images are also in the {kind} data, for instance {', '.join(shared[:3])}"
    return Flaw(Reason.DATA_LEAKAGE, f"{text}; remove them from one of the two")


def _foreign_classes(train_fact: DatasetFact | None, golden_fact: DatasetFact | None) -> Flaw | None:
    train, golden = _manifest(train_fact), _manifest(golden_fact)
    if train is None or golden is None or train.names == golden.names:
        return None
    text = f"golden has classes {golden.names}, training data {train.names}; they must be the same, in order"
    return Flaw(Reason.DATA_UNEXPECTED, text)


def _manifest(fact: DatasetFact | None) -> DatasetManifest | None:
    return fact.manifest if fact else None
