"""``trunkline bom``: a release as CycloneDX, valid by the published schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from reconcilers.bom import bom
from reconcilers.chronicle import Event, Proof
from reconcilers.said import Moment, Said
from specs.evidence import Evidence
from specs.facts import Commit
from specs.past import Step
from tests.support import builders
from tests.support.released import EVIDENCE, Repo
from tests.support.typed import said


def document(repo: Repo, target: str) -> dict[str, Any]:
    """Give the document, valid."""
    text = said(repo.folder, "bom", target)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_every_release_gives_a_valid_document(story: Repo, version: int) -> None:
    """Promoted, reverted, rolled back: each is valid, and about that version."""
    found = document(story, f"digits@v{version}")
    component = found["metadata"]["component"]
    assert (component["type"], component["version"]) == ("machine-learning-model", str(version))


def test_the_model_card_tells_what_was_measured(story: Repo) -> None:
    """Task, architecture, data sets, and metrics with their intervals, of the weights and of the export."""
    card = document(story, "digits")["metadata"]["component"]["modelCard"]
    evidence = json.loads(story.read(EVIDENCE.format(6)))
    parameters = card["modelParameters"]
    assert (parameters["task"], parameters["modelArchitecture"]) == ("classify", "yolo26n-cls.yaml")
    digests = [each["ref"].partition("@")[2] for each in parameters["datasets"]]
    assert digests == [evidence["data"][name]["digest"] for name in ("train", "golden")]
    first, *others = card["quantitativeAnalysis"]["performanceMetrics"]
    assert first == {
        "type": "metrics/accuracy_top1", "value": "0.911",
        "confidenceInterval": {"lowerBound": "0.901", "upperBound": "0.921"},
    }  # fmt: skip
    assert {"type": "latency/p95_ms", "value": "1", "slice": "export onnx"} in others


def test_hashes_parts_and_where_it_comes_from(story: Repo) -> None:
    """Weights, exports and data by digest; the commit as pedigree; the evidence as reference."""
    found, evidence = document(story, "digits"), json.loads(story.read(EVIDENCE.format(6)))
    component = found["metadata"]["component"]
    assert f"sha256:{component['hashes'][0]['content']}" == evidence["release"]["weights"]
    parts = {part["name"]: part["hashes"][0]["content"] for part in found["components"]}
    assert f"sha256:{parts['export onnx']}" == evidence["release"]["exports"]["onnx"]
    assert f"sha256:{parts['train data']}" == evidence["data"]["train"]["digest"]
    assert component["pedigree"]["commits"][0]["uid"] == story.head(f"{story.head()}~1")
    urls = {each["type"]: each["url"] for each in component["externalReferences"]}
    assert urls["evidence"] == EVIDENCE.format(6)
    refs = {part["bom-ref"] for part in found["components"]} | {component["bom-ref"]}
    assert all({each["ref"], *each["dependsOn"]} <= refs for each in found["dependencies"])


def test_the_same_release_gives_the_same_document(story: Repo, tmp_path: Path) -> None:
    """Anywhere, at any time, also after it was superseded; another release gives another serial number."""
    once = said(story.folder, "bom", "digits@v6")
    copy = story.copied(tmp_path / "place")
    text = copy.read()
    copy.commit({"digits.yaml": text[: text.index("  release:")]}, "Serve nothing")
    assert said(copy.folder, "bom", "digits@v6") == once
    assert document(story, "digits@v5")["serialNumber"] != json.loads(once)["serialNumber"]


def test_odd_names_and_addresses_stay_valid() -> None:
    """Per-class metrics, a base model by digest, an scp-like address and an author without an address."""
    stage = builders.candidate_ready()
    files = builders.proposed(stage.spec, stage.world).files
    data = json.loads(files["evidence/retail.shelf/v1/evidence.json"])
    data["run"]["base_model"] = builders.digest("base")
    data["source"]["repository"] = "git@example.com:team/my models"
    evidence = Evidence.model_validate(data)
    commit = Commit("a" * 40, "Ann <ann at work>", 1_700_000_000, "Merge\u202e it")
    step = Step(commit, ("b" * 40,), "Ann <>", "")
    after = Said("x.yaml", "", builders.released(stage.spec, {"version": 1, **data["release"]}), {})
    proof = Proof("verified", "e.json", "", builders.digest("evidence"), evidence=evidence)
    event = Event(Moment(builders.KEY, step, None, after), "promoted", proof)
    made = bom(event, pull_url="https://example.com/pulls/1?a=b c")
    text = json.dumps(made)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "ssh://git@example.com/team/my%20models" in text
    analysis = made["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
    slices = {metric.get("slice") for metric in analysis["performanceMetrics"]}
    assert {"class milk", "export onnx, class milk"} <= slices
