"""Dashboards ask only for what there is: every query is run by a Prometheus that scraped a real server and host."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client as kube_client

from adapters.kubernetes_api import MODEL_SPEC, KubernetesApi
from controller import cluster
from controller.metrics import Metrics
from controller.settings import load
from reconcilers.observed import Judgement, Reading
from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus, Reason, SignalStatus
from tests.deploy.manifests import ROOT
from tests.support import builders, onnx_models
from tests.support.gitrepo import Hub
from tests.support.inference_server import ServerProcess, infer_request, running, wait_until
from tests.support.prometheus_server import Past, prometheus

FILES = sorted((ROOT / "deploy/dashboards").glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}
PANELS = [
    pytest.param(board, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
VARIABLES = {
    "$__rate_interval": "2m", "$__range": "4m", "$__interval": "30s", "$datasource": "none",
    "$model": "digits", "$version": ".*", "$job": ".*", "$repository": ".*",
}  # fmt: skip
KEY = ModelKey("default", "digits")
NOW = time.time() // 60 * 60 - 600


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Give a way to ask a Prometheus that scraped a server and an operator, before and after something happened."""
    folder = tmp_path_factory.mktemp("dashboards")
    past = Past()
    (folder / "server").mkdir()
    with running(folder / "server") as server:
        host = _operator(folder)
        _serve(server)
        _remember(past, NOW, server, host)
        _use(server)
        host.metrics.pass_done("acted", 0.2)
        _remember(past, NOW + 120, server, host)
        host.stop()
    past.write(folder / "prometheus")
    with prometheus(folder / "prometheus") as url, httpx.Client(base_url=f"{url}/api/v1") as found:
        yield found


def _remember(past: Past, start: float, server: ServerProcess, host: cluster.Host) -> None:
    said, own = server.http.get("/metrics").content, host.metrics.text()
    for number in range(4):
        past.scrape(start + 30 * number, said, job="servers", instance="a")
        past.scrape(start + 30 * number, own, job="trunkline-operator", instance="b")


def _serve(server: ServerProcess) -> None:
    options = {"options": {"labelling": {"randomPercent": 100.0, "maxPerDay": 3}}}
    answer = server.load("digits", onnx_models.publish(server.store, onnx_models.classifier(1)).target(7) | options)
    assert answer.status_code == 200, answer.text
    _use(server)


def _use(server: ServerProcess) -> None:
    for seed in range(20):  # three may be kept: of so many, one at least comes too late for a sample
        answer = server.http.post(
            "/models/digits/predict", content=onnx_models.picture(seed), headers={"Content-Type": "image/png"}
        ).json()
        server.http.post("/models/digits/truth", json={"request": answer["request"], "label": onnx_models.NAMES[0]})
    server.http.post("/v2/models/digits/infer", json=infer_request([0.0], [1]))
    wanted = ("trunkline_kept_total{", "trunkline_kept_dropped_total{")
    wait_until(lambda: all(name in server.http.get("/metrics").text for name in wanted))


def _operator(folder: Path) -> cluster.Host:
    """Give an operator as it is built, that has seen a model and counted all that it counts; it talks to nobody."""
    Hub(folder)
    (folder / "trunkline.toml").write_text(
        'repository = "hub.git"\nstore = "store"\nstate = "state"\n'
        '[kubernetes]\nimage = "none"\nserve_image = "none"\nport = 0\n'
    )
    settings, metrics = load(folder, {}), Metrics()
    assert settings.kubernetes is not None
    api = KubernetesApi(kube_client.ApiClient(kube_client.Configuration(host="http://127.0.0.1:1")))
    host = cluster.build(settings, settings.kubernetes, api, metrics, lambda parts: parts)
    conditions = [
        builders.condition(ConditionType.STALLED, "True", Reason.LIVE_GATE_FAILED),
        builders.condition(ConditionType.GIT_BEHIND, "True", Reason.LIVE_GATE_FAILED),
        builders.condition(ConditionType.READY, "False", Reason.LIVE_GATE_FAILED),
    ]
    status = ModelStatus(signals=[SignalStatus(name="light", state="Firing")], conditions=conditions)
    host.desk.informer.saw(MODEL_SPEC, "ADDED", {
        "metadata": {"namespace": KEY.namespace, "name": KEY.name, "uid": "u", "resourceVersion": "1"}, "spec": {},
        "status": status.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    })  # fmt: skip
    site = host.desk.bindings.sites[0]
    reading = Reading(NOW, Judgement.FAILING, 500, 0.5, 0.4, 0.6)
    site.passes.saw(KEY, builders.observed(readings={"light": (reading,)}))
    metrics.requested("patch", "jobs", 409)
    metrics.looked(site.trunk.name, "ok")
    metrics.webhook("ok")
    metrics.pass_done("ok", 0.1)
    host.listen()
    return host


def _asked(panel: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    found = []
    for target in panel["targets"]:
        text = target["expr"]
        for name, value in VARIABLES.items():
            text = text.replace(name, value)
        found.append((target, text))
    return found


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_query_finds_something(client: httpx.Client, board: dict[str, Any], panel: dict[str, Any]) -> None:
    """It parses, and finds series by the names and labels that they have, with those that its legend shows."""
    for target, text in _asked(panel):
        assert "$" not in text, text
        given: dict[str, Any] = {"query": text}
        if target["instant"]:
            path, given["time"] = "query", NOW + 240
        else:
            path, given = "query_range", given | {"start": NOW + 120, "end": NOW + 240, "step": 30}
        answer = client.get(path, params=given).json()
        assert answer["status"] == "success", (text, answer)
        series = answer["data"]["result"]
        assert series, f"nothing answers {text}"
        wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert all(wanted <= each["metric"].keys() for each in series), (wanted, series[0]["metric"])


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_variables_list_what_there_is(client: httpx.Client, board: dict[str, Any]) -> None:
    """Every variable of a dashboard offers something to choose; every one that a panel uses is there."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert match is not None
        series = match[1].replace("$model", "digits")
        given = {"match[]": series, "start": str(NOW), "end": str(NOW + 240)}
        values = client.get(f"label/{match[2]}/values", params=given).json()["data"]
        assert values, variable["definition"]
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(?!__)(\w+)", json.dumps(board["panels"])))
    assert used <= names


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_dashboard_is_one_that_grafana_imports(board: dict[str, Any]) -> None:
    """Names are unique, panels lie in the grid and on nobody else, and the data source is chosen by whoever imports."""
    assert board["id"] is None
    assert re.fullmatch(r"[a-z-]{1,40}", board["uid"])
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
            references = [target["refId"] for target in panel["targets"]]
            assert len(references) == len(set(references))
    titles = [panel["title"] for panel in board["panels"] if panel["type"] != "row"]
    assert len(titles) == len(set(titles))
