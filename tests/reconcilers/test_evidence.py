"""Evidence: enough for an auditor who has only the repository, and the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from specs.digests import digest_bytes, digest_of
from specs.exports import Gate
from tests.support.builders import (
    GOLDEN,
    TOP1,
    TRAIN,
    VALIDATED,
    Stage,
    candidate_ready,
    decide,
    first,
    moved_on,
    proposed,
    settled,
)  # fmt: skip

FOLDER = "evidence/retail.shelf"


def evidence(stage: Stage, version: int = 1) -> dict[str, Any]:
    """Give the evidence of what a stage proposes."""
    loaded: dict[str, Any] = json.loads(proposed(stage.spec, stage.world).files[f"{FOLDER}/v{version}/evidence.json"])
    return loaded


def test_same_world_same_bytes() -> None:
    """Asked twice, in worlds that were put together in another order, the evidence is the same to the byte."""
    stage = candidate_ready(exports=[{"name": name, "format": name} for name in ("onnx", "mnn", "ncnn")])
    again = replace(
        stage.world,
        exports=dict(reversed(list(stage.world.exports.items()))),
        evaluations=dict(reversed(list(stage.world.evaluations.items()))),
        runs=dict(reversed(list(stage.world.runs.items()))),
    )
    one, other = proposed(stage.spec, stage.world), proposed(stage.spec, again)
    assert one == other
    assert first(decide(stage.spec, stage.world, now=1.0).actions).proposal == one


def test_its_digest_is_in_the_release() -> None:
    """What the release calls its evidence is the file that came with it."""
    stage = candidate_ready()
    made = proposed(stage.spec, stage.world)
    assert isinstance(made.value, dict)
    assert made.value["evidence"] == digest_bytes(made.files[f"{FOLDER}/v1/evidence.json"])
    assert f"Trunkline-Evidence: {made.value['evidence']}" in made.message


def test_an_auditor_can_follow_every_link() -> None:
    """From the release to its inputs, run, data, measurements and exports, digest by digest."""
    stage = candidate_ready()
    found = evidence(stage)
    assert found["model"] == "retail/shelf"
    assert digest_of(found["inputs"]) == found["release"]["run"] == found["run"]["inputs_digest"]
    assert found["release"]["weights"] == found["run"]["weights"] == found["evaluation"]["subject"]
    assert found["inputs"]["data"] == found["data"]["train"]["digest"] == TRAIN.digest()
    assert found["evaluation"]["golden"] == found["data"]["golden"]["digest"] == GOLDEN.digest()
    (export,) = found["exports"]
    assert found["release"]["exports"] == {"onnx": export["record"]["file"]}
    assert export["parity"] == {"metric": TOP1, "drop": 0.0, "maxDrop": None}
    assert found["source"]["commit"] == "c" * 40


def test_an_auditor_can_judge_the_gates_again() -> None:
    """Each gate comes with its bound, the number it was judged by and the verdict."""
    stage = candidate_ready(gates=[{"name": "floor", "metric": TOP1, "min": 0.9, "confidence": 0.95}])
    (judged,) = evidence(stage)["gates"]
    gate = Gate.model_validate(judged["gate"], by_alias=True)
    interval = evidence(stage)["evaluation"]["intervals"][TOP1]["0.95"]
    assert judged["value"] == interval[0]
    assert judged["passed"] is (judged["value"] >= gate.min)
    assert judged["bound"] == gate.min


def test_champion_and_comparison_are_part_of_it() -> None:
    """A second release shows what it was compared with; the first says that there was nothing."""
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))
    champion = evidence(stage, 2)["champion"]
    assert champion["version"] == 1
    assert champion["evaluation"]["subject"] == champion["weights"] == champion["comparison"]["baseline"]
    assert evidence(candidate_ready())["champion"] == {
        "weights": None, "version": None, "evaluation": None, "comparison": None,
    }  # fmt: skip


def test_pictures_come_from_the_store_by_digest() -> None:
    """Pictures of data, training and golden travel with the commit; other files of the run do not."""
    stage = candidate_ready()
    blobs = proposed(stage.spec, stage.world).blobs
    shown = ("data-train.jpg", "golden-confusion.png", "training-results.png")
    assert sorted(blobs) == [f"{FOLDER}/v1/{name}" for name in shown]
    records = (VALIDATED, *stage.world.runs.values(), *stage.world.evaluations.values())
    assert set(blobs.values()) <= {digest for record in records for digest in record.files.values()}


def test_it_is_one_line_of_text_for_each_value() -> None:
    """The file reads well in a diff: indented, sorted, and it ends with a line break."""
    stage = candidate_ready()
    data = proposed(stage.spec, stage.world).files[f"{FOLDER}/v1/evidence.json"]
    keys = [line.split('"')[1] for line in data.decode().splitlines() if line.startswith(' "')]
    assert keys == sorted(keys)
    assert data.endswith(b"}\n")
