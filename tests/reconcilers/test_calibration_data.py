"""INT8: which pictures ranges are found on is an input with a digest, fetched and looked at like any other data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from reconcilers import jobs, orders
from reconcilers.actions import Propose, StartJob
from reconcilers.context import Step, Verdict
from reconcilers.observed import DatasetFact
from specs.coverage import not_acted_on
from specs.data_records import Alike, SetReport
from specs.digests import digest_of
from specs.exports import Export
from specs.records import dataset_key
from specs.status import ConditionType, Reason
from specs.ways import export_digest
from specs.workorders import ExportOrder, ImportOrder, ValidateOrder, train_order
from tests.support.builders import (
    GOLDEN,
    KEY,
    TRAIN,
    VALIDATED,
    Lab,
    Stage,
    candidate_ready,
    context,
    digest,
    manifest,
    observed,
    proposed,
    settled,
    spec,
)  # fmt: skip
from tests.support.data_stages import BARE, dvc, imported, pinned
from tests.support.world import TEXT, World

PICTURES = manifest("calibration", 12)
NAMED = {"uri": {"url": "store://calibration", "digest": PICTURES.digest()}}
FACT = DatasetFact(PICTURES.digest(), PICTURES)
LOOKED_AT = VALIDATED.model_copy(update={"train_digest": PICTURES.digest(), "train": SetReport(images=12)})
INT8 = [{"name": "onnx", "format": "onnx"}, {"name": "small", "format": "openvino", "args": {"quantize": 8}}]


def trained(*, exports: list[dict[str, Any]] = INT8, named: dict[str, Any] | None = NAMED, **world: Any) -> Stage:
    """Give a model that is trained and not exported, with calibration data in the store that nobody looked at."""
    given = spec(exports=exports, data__calibration=named)
    lab = Lab()
    lab.do(train_order(KEY, given, "c" * 40, TRAIN.digest()))
    return Stage(given, observed(lab, **({"calibration": FACT} if named else {}) | world), lab)


def exported(stage: Stage) -> dict[str, ExportOrder]:
    """Give the export orders that could start, by format."""
    every = orders.exports(context(stage.spec, stage.world))
    return {order.format: order for order in every if isinstance(order, ExportOrder)}


def said(stage: Stage, type_: ConditionType = ConditionType.DATA_READY) -> Step:
    """Give a step's answer."""
    step = stage.plan.step(type_)
    assert step is not None
    return step


def test_digests_of_before_stay() -> None:
    """What was exported before there was calibration data, and every export without it, is found again."""
    assert export_digest("onnx", {"dynamic": True}, 32) == (
        "sha256:af543be0d78c55361bc64fffe75c4eb170038dd48f0e00073674cc9fb3674914"
    )
    assert export_digest("engine", {"quantize": 16}, 640) == (
        "sha256:02bae30ec2095cf868b5a23fa44a19c89ac23c5852bc19b2f93995d71a31ad91"
    )
    for calibration in (None, digest("pictures")):
        same = export_digest("openvino", {}, None, calibration=calibration, runtime={})
        assert same == digest_of({"v": 1, "format": "openvino", "args": {}, "imgsz": None})
    three = (None, digest("a"), digest("b"))
    assert len({export_digest("openvino", {"quantize": 8}, 32, calibration=each) for each in three}) == 3


def test_training_data_is_the_default() -> None:
    """Without calibration data of its own, an INT8 export takes what the run was trained on; others take none."""
    stage = trained(named=None)
    found = exported(stage)
    assert (found["openvino"].calibration, found["onnx"].calibration) == (TRAIN.digest(), None)
    assert all(order.way == order.export_digest for order in found.values())


def test_named_pictures_are_looked_at_first() -> None:
    """Every picture is looked at, against golden, before anything is exported; then they are in the order."""
    stage = trained()
    (start,) = stage.plan.actions
    assert isinstance(start, StartJob)
    assert start.order == ValidateOrder(
        model="retail/shelf", commit="c" * 40, task="classify", train=PICTURES.digest(), golden=GOLDEN.digest()
    )
    assert said(stage).reason is Reason.VALIDATING
    after = stage.but(calibration_validation=LOOKED_AT)
    assert said(after).verdict is Verdict.DONE
    assert exported(after)["openvino"].calibration == PICTURES.digest()


def test_nobody_looks_where_nothing_is_calibrated() -> None:
    """Without an INT8 export the set may lie there: no job, and a sentence says that nothing looks at it."""
    stage = trained(exports=INT8[:1])
    assert not [a for a in stage.plan.actions if isinstance(a, StartJob) and isinstance(a.order, ValidateOrder)]
    assert not_acted_on(stage.spec) == ["spec.data.calibration: no export asks for INT8, so nothing looks at it"]
    assert not_acted_on(trained().spec) == []


FLAWS: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "not there": (
        {"calibration": DatasetFact(PICTURES.digest(), reason=Reason.DATA_MISSING, message="gone")},
        Reason.DATA_MISSING, "spec.data.calibration: gone",
    ),
    "another task": (
        {"calibration": replace(FACT, manifest=PICTURES.model_copy(update={"task": "detect"}))},
        Reason.DATA_UNEXPECTED, "spec.data.calibration is a data set for detect",
    ),
    "golden pictures in it": (
        {"shared_with_calibration": ("milk/1.png",)}, Reason.DATA_LEAKAGE, "also in the calibration data",
    ),
    "unreadable pictures": (
        {"calibration_validation": LOOKED_AT.model_copy(update={
            "train": SetReport(images=12, unreadable_count=1, unreadable=["a.png: empty"])})},
        Reason.DATA_INVALID, "spec.data.calibration, looked at like training data: 1 training picture cannot be used",
    ),
    "nearly golden pictures": (
        {"calibration_validation": LOOKED_AT.model_copy(update={
            "leak_count": 1, "leaks": [Alike(first="milk/1.png", second="milk/7.png", exact=True)]})},
        Reason.DATA_LEAKAGE, "spec.data.calibration, looked at like training data: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("world", "reason", "words"), FLAWS.values(), ids=FLAWS.keys())
def test_bad_pictures_stop_the_line(world: dict[str, Any], reason: Reason, words: str) -> None:
    """What is wrong with calibration data is said before anything is exported with it."""
    step = said(trained(**world))
    assert (step.verdict, step.reason) == (Verdict.STOP, reason)
    assert words in step.message


def test_pictures_elsewhere_are_fetched_and_pinned() -> None:
    """A reference is resolved and proposed like that of golden; what is pinned is fetched, also after the training."""
    fetching = trained(named=dvc(1), calibration=DatasetFact("x"))
    (start,) = fetching.plan.actions
    assert isinstance(start, StartJob)
    assert isinstance(start.order, ImportOrder)
    assert exported(fetching).keys() == {"onnx"}
    there = trained(named=dvc(1), calibration=imported(1, PICTURES), calibration_validation=LOOKED_AT)
    assert exported(there)["openvino"].calibration == PICTURES.digest()
    bare = trained(named=BARE, calibration=None).but(resolved={"spec.data.calibration": pinned(2)})
    (asked,) = bare.plan.actions
    assert isinstance(asked, Propose)
    assert asked.proposal.title == "retail/shelf: pin calibration data"
    assert all(field.startswith("spec.data.calibration.dvc.") for field, _ in asked.proposal.edits)


def test_evidence_and_report_name_the_pictures() -> None:
    """An auditor finds which pictures ranges were found on, in the record and in the text."""
    stage = candidate_ready(exports=INT8, data__calibration=NAMED).but(calibration=FACT)
    proposal = proposed(stage.spec, stage.world)
    assert f"`small` is INT8, by the pictures of `{PICTURES.digest()[7:19]}`" in proposal.body
    assert "| calibration | " in proposal.body
    text = next(data for path, data in proposal.files.items() if path.endswith("evidence.json")).decode()
    assert f'"calibration": "{PICTURES.digest()}"' in text


def test_other_pictures_export_again_and_train_nothing() -> None:
    """From the merge of other calibration data to a release with it: one more validation and export."""
    world = World(TEXT.replace("epochs: 2", "epochs: 5").replace("{dynamic: false}", "{quantize: 8}"))
    world.converge()
    assert world.merge()
    world.converge()
    first = world.release["exports"]["onnx"]
    world.store.put(dataset_key(PICTURES.digest()), PICTURES)
    line = f'    calibration: {{uri: {{url: "store://calibration", digest: "{PICTURES.digest()}"}}}}\n\n  training:'
    world.change(r"\n  training:", line)
    world.converge()
    assert world.merge()
    world.converge()
    assert world.release["exports"]["onnx"] != first
    assert world.serving[0] == 2
    assert world.quiet()
    kinds = [entry.split()[1].split("-")[0] for entry in world.wire.log if entry.startswith("start ")]
    assert {kind: kinds.count(kind) for kind in ("train", "export", "validate")} == {
        "train": 1, "export": 2, "validate": 2,
    }  # fmt: skip


DEVICE = {"name": "trt", "format": "engine", "buildOn": "Device", "args": {"quantize": 16, "workspace": 4, "nms": True}}


def test_device_makes_its_engine_of_the_onnx_that_is_pinned() -> None:
    """The cluster exports ONNX, with what shapes its graph; what is about the engine stays with the device."""
    stage = settled(exports=[DEVICE], serving={"export": "trt"})
    (record,) = stage.world.exports.values()
    assert (record.format, record.args) == ("onnx", {"nms": True})
    assert stage.spec.release is not None
    assert stage.spec.release.exports == {"trt": record.file}
    assert stage.plan.actions == ()
    rollout = stage.but(serving=None).plan.actions[0]
    assert (rollout.target.file, rollout.target.build) == (record.file, "engine:fp16")  # type: ignore[union-attr]
    assert not_acted_on(stage.spec) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"format": "ncnn"}, "a device makes engine or openvino"), ({"args": {"quantize": "int8"}}, "use quantize: 16")],
)
def test_device_makes_no_more_than_it_can(changes: dict[str, Any], said: str) -> None:
    """Formats that no server makes, and INT8, for which a device has no pictures, are refused."""
    with pytest.raises(ValidationError, match=said):
        Export.model_validate(DEVICE | changes, by_alias=True, by_name=False)


def test_export_runs_where_its_section_says() -> None:
    """Whatever calibration data and device are part of its digest, an export has its own place."""
    exports = [INT8[0], INT8[1] | {"nodeSelector": {"cpu": "amx"}}]
    stage = trained(exports=exports, named=None)
    placed = {name: jobs.placement_of(stage.spec, order).node_selector for name, order in exported(stage).items()}
    assert placed == {"onnx": {}, "openvino": {"cpu": "amx"}}
