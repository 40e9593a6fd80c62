"""The CRD says what the models say, as far as an API server can be told; a real one judges it here."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from specs.crd import crd, crd_yaml
from specs.errors import InvalidManifest
from specs.manifest import load
from tests.support.apiserver import ApiServer, api_server

__all__ = ["api_server"]

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "crds" / "modelspec.yaml"
FULL = yaml.safe_load((HERE / "full.yaml").read_text())
SMALLEST = yaml.safe_load((HERE / "smallest.yaml").read_text())
MODELS = "/apis/trunkline.dev/v1alpha1/namespaces/default/modelspecs"
SIZE_LIMIT = 256 * 1024


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every schema in a schema with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from schemas(schema[word], f"{path}[]")


ROOT_SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SCHEMAS = dict(schemas(ROOT_SCHEMA))


def test_the_file_is_what_the_models_generate() -> None:
    """crds/modelspec.yaml is made with `trunkline crds` after every change of a model."""
    assert GENERATED.read_text() == crd_yaml()


def test_the_file_is_small_and_has_no_anchors() -> None:
    """The CRD fits into an annotation of kubectl apply, and is YAML that this project would read itself."""
    text = crd_yaml()
    assert len(text.encode()) < SIZE_LIMIT
    assert not any(line.lstrip().partition(" ")[2].startswith(("&", "*")) for line in text.splitlines())
    assert yaml.safe_load(text) == crd()


def test_spec_has_no_defaults() -> None:
    """A default that the API server writes into spec would be a difference to git for ever."""
    assert [path for path, schema in SCHEMAS.items() if "default" in schema] == [
        ".status",
        ".status.observedGeneration",
    ]


def test_status_begins_unobserved() -> None:
    """An object that nobody has looked at has observedGeneration -1, so that tools wait for it."""
    assert SCHEMAS[".status"]["default"] == {"observedGeneration": -1}
    assert SCHEMAS[".status.observedGeneration"]["default"] == -1


def test_every_field_has_one_form() -> None:
    """The schema is structural: each place has a type, or keeps what it gets."""
    open_ = "x-kubernetes-preserve-unknown-fields"
    assert [path for path, schema in SCHEMAS.items() if "type" not in schema and not schema.get(open_)] == []
    assert not any(word in json.dumps(crd()) for word in ('"$ref"', '"anyOf"', '"$defs"', '"const"', '"title"'))


@pytest.mark.parametrize("path", [".spec.training.args", ".spec.exports[].args", ".spec.tuning.trialArgs"])
def test_arguments_of_other_programs_are_open(path: str) -> None:
    """Argument names of Ultralytics change between versions, so the schema does not know them."""
    assert SCHEMAS[path]["x-kubernetes-preserve-unknown-fields"] is True


def test_docstrings_become_descriptions() -> None:
    """What the code says about a field is what `kubectl explain` says."""
    assert SCHEMAS[".spec.training.nonce"]["description"].startswith("Change it by pull request")
    assert SCHEMAS[".spec"]["description"] == "What a team asks for."


@pytest.fixture(scope="module")
def api(api_server: ApiServer) -> ApiServer:
    """Give the server with the CRD that is in the repository."""
    api_server.install(GENERATED.read_text(), "modelspecs.trunkline.dev", MODELS)
    return api_server


def model(base: dict[str, Any], name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Give a manifest with some dotted paths set; ``...`` removes."""
    result = copy.deepcopy(base)
    result["metadata"] = {"name": name, "namespace": "default"}
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = result
        for part in parents:
            section = section.setdefault(part, {})
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return result


def accepted_here(manifest: dict[str, Any]) -> bool:
    """Whether this program's own reader takes a manifest."""
    try:
        load(yaml.safe_dump(manifest), "m.yaml")
    except InvalidManifest:
        return False
    return True


GOLDEN = {"uri": {"url": "store://golden"}}
BIG = [{"name": f"gate-{i}", "metric": "latency/p95_ms", "max": 1, "export": "onnx"} for i in range(128)]
VALID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the whole example": (FULL, {}),
    "the smallest": (SMALLEST, {}),
    "a source that says null": (SMALLEST, {"spec.data.train.dvc": None, "spec.data.golden": None}),
    "nulls where nothing is": (
        SMALLEST,
        {
            "spec.release": None,
            "spec.serving": None,
            "spec.training.backend": None,
            "spec.gates": [{"name": "a", "metric": "latency/p95_ms", "max": 3, "confidence": None}],
        },
    ),
    "a null bound": (
        SMALLEST,
        {"spec.gates": [{"name": "a", "metric": "latency/p95_ms", "min": None, "max": 3, "export": None}]},
    ),
    "a level of confidence": (
        SMALLEST,
        {
            "spec.data.golden": GOLDEN,
            "spec.gates": [{"name": "a", "metric": "metrics/x", "min": 0, "confidence": 0.95}],
        },
    ),
    "base weights of one's own": (
        SMALLEST,
        {"spec.training.model": {"uri": {"url": "s3://a/b.pt", "digest": "sha256:" + "a" * 64}}},
    ),
    "arguments of any shape": (
        SMALLEST,
        {"spec.training.args": {"imgsz": [32, 64], "lr0": 1e-5, "amp": False, "x": "z"}},
    ),
    "as many exports and gates as there may be": (
        SMALLEST,
        {
            "spec.gates": BIG,
            "spec.exports": [{"name": "onnx" if i == 31 else f"e{i}", "format": "onnx"} for i in range(32)],
        },
    ),
}


@pytest.mark.parametrize(("base", "changes"), VALID.values(), ids=VALID.keys())
def test_the_api_server_accepts_what_this_program_accepts(
    api: ApiServer,
    base: dict[str, Any],
    changes: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    """A valid manifest is stored as it was written: no field more, no field less, status unobserved."""
    manifest = model(base, "valid-" + request.node.callspec.id.replace(" ", "-").replace("'", ""), changes)
    assert accepted_here(manifest)
    answer = api.apply(f"{MODELS}/{manifest['metadata']['name']}", manifest)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"] == manifest["spec"]
    assert answer.json()["status"] == {"observedGeneration": -1}


GATE = {"name": "a", "metric": "latency/p95_ms"}
PIN = {
    "version": 1,
    "run": "sha256:" + "a" * 64,
    "weights": "sha256:" + "b" * 64,
    "exports": {"onnx": "sha256:" + "c" * 64},
}


def watched(**signal: Any) -> dict[str, Any]:
    """Give a change that watches one signal."""
    return {"spec.monitoring": {"window": "1h", "signals": [{"name": "a"} | signal]}}


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"spec.trainnig": {}}, "field not declared in schema"),
    "unknown field deep inside": ({"spec.data.train.uri.urll": "x"}, "field not declared in schema"),
    "unknown task": ({"spec.task": "guess"}, "Unsupported value"),
    "no exports": ({"spec.exports": []}, "should have at least 1 items"),
    "no task": ({"spec.task": ...}, "spec.task: Required value"),
    "two sources": (
        {"spec.data.train.platform": {"uri": "ul://a/datasets/b"}},
        "give exactly one of uri, dvc, platform",
    ),
    "no source": ({"spec.data.train.uri": ...}, "give exactly one of uri, dvc, platform"),
    "null source": ({"spec.data.train.uri": None}, "give exactly one of uri, dvc, platform"),
    "no source of golden": ({"spec.data.golden": {}}, "give exactly one of uri, dvc, platform"),
    "short digest": ({"spec.data.train.uri.digest": "sha256:abc"}, "spec.data.train.uri.digest in body should match"),
    "upper-case digest": ({"spec.data.train.uri.digest": "sha256:" + "A" * 64}, "should match"),
    "digest of a release": ({"spec.release": PIN | {"run": "latest"}}, "spec.release.run in body should match"),
    "digest of an export": ({"spec.release": PIN | {"exports": {"onnx": "x"}}}, "should match"),
    "name of a released export": ({"spec.release": PIN | {"exports": {"A B": PIN["run"]}}}, "lower-case letters"),
    "version 0": ({"spec.release": PIN | {"version": 0}}, "greater than or equal to 1"),
    "previous without weights": ({"spec.release": PIN | {"previous": {**PIN, "weights": None}}}, "weights"),
    "no bound": ({"spec.gates": [GATE]}, "give exactly one of min, max, maxRegression"),
    "two bounds": (
        {"spec.gates": [GATE | {"min": 0, "maxRegression": 1}]},
        "give exactly one of min, max, maxRegression",
    ),
    "gate of no export": (
        {"spec.gates": [GATE | {"max": 1, "export": "trt"}]},
        "export of a gate must be the name of one",
    ),
    "quality without golden": ({"spec.gates": [{"name": "a", "metric": "metrics/x", "min": 0}]}, "need data.golden"),
    "two gates of one name": ({"spec.gates": [GATE | {"max": 1}, GATE | {"max": 2}]}, "duplicate"),
    "two exports of one name": ({"spec.exports": [{"name": "onnx", "format": "onnx"}] * 2}, "duplicate"),
    "serving of no export": ({"spec.serving.export": "trt"}, "serving.export must be the name of one of exports"),
    "level of confidence": (
        {"spec.gates": [GATE | {"max": 1, "confidence": 0.94}]},
        "must be one of 0.8, 0.9, 0.95, 0.99",
    ),
    "unknown backend": ({"spec.training.backend": "Pod"}, "must be one of Job, TrainJob"),
    "nothing as a nonce": ({"spec.training.nonce": None}, "spec.training.nonce in body must be of type string"),
    "a text for a number": ({"spec.serving.replicas": "3"}, "expected numeric (int or float), got string"),
    "negative replicas": ({"spec.serving.replicas": -1}, "greater than or equal to 0"),
    "duration": (
        {"spec.monitoring": {"window": "1 hour", "signals": [{"name": "a", "type": "Latency"}]}},
        "should match",
    ),
    "method of a rate": (watched(type="ErrorRate", max=0.1, method="psi"), "method means something for Confidence"),
    "feature of latencies": (watched(type="Latency", max="1s", feature="size"), "feature means something for Input"),
    "quantile of a share": (watched(type="Accuracy", min=0.9, quantile=0.5), "quantile means something for Latency"),
    "class of the input": (
        watched(type="Input", feature="size", max=1, **{"class": "milk"}), "class means something for Confidence",
    ),
    "floor of a distance": (watched(type="Classes", min=0.1, max=1), "min means something for EstimatedAccuracy"),
    "input of no feature": (watched(type="Input", max=0.1), "Input needs a feature"),
    "accuracy without a floor": (watched(type="Accuracy"), "EstimatedAccuracy and Accuracy need min"),
    "too many gates": ({"spec.gates": [GATE | {"name": f"g{i}", "max": 1} for i in range(129)]}, "at most 128 items"),
    "name with a dot": ({"metadata.name": "a.b"}, "metadata.name"),
}


@pytest.mark.parametrize(("changes", "words"), INVALID.values(), ids=INVALID.keys())
def test_the_api_server_refuses_what_this_program_refuses(api: ApiServer, changes: dict[str, Any], words: str) -> None:
    """A wrong manifest is refused by both, and the API server says why."""
    manifest = model(SMALLEST, "invalid", changes)
    assert not accepted_here(manifest)
    answer = api.apply(f"{MODELS}/{manifest['metadata']['name']}", manifest)
    assert answer.status_code in (400, 422, 500), answer.text
    assert words in answer.json()["message"]


def test_people_see_what_serves(api: ApiServer) -> None:
    """The list of kubectl shows readiness, the release, what serves, and a sentence."""
    api.apply(f"{MODELS}/shown", model(FULL, "shown", {}))
    table = api.get(f"{MODELS}/shown", accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    names = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert names == ["Name", "Ready", "Reason", "Release", "Serving", "Replicas", "Progress", "Age", "Status"]
    assert table["rows"][0]["cells"][3] == 7


def test_the_resource_has_its_short_name_and_category(api: ApiServer) -> None:
    """`kubectl get mspec` and `kubectl get trunkline` find models."""
    (resource,) = (r for r in api.get("/apis/trunkline.dev/v1alpha1")["resources"] if r["name"] == "modelspecs")
    assert (resource["shortNames"], resource["categories"], resource["kind"]) == (["mspec"], ["trunkline"], "ModelSpec")


def test_status_is_written_apart_from_spec(api: ApiServer) -> None:
    """Writing status leaves the generation alone, and cannot change spec."""
    written = api.apply(f"{MODELS}/apart", model(SMALLEST, "apart", {})).json()
    status = {
        "observedGeneration": 1,
        "summary": "serves v1",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "AsDesired",
                "message": "",
                "lastTransitionTime": "",
                "observedGeneration": 1,
            }
        ],
    }
    body = {k: written[k] for k in ("apiVersion", "kind")} | {"metadata": {"name": "apart"}, "status": status}
    answer = api.apply(f"{MODELS}/apart/status", body, manager="trunkline")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == status
    assert answer.json()["metadata"]["generation"] == 1
