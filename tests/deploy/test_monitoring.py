"""Alerts are about metrics that the operator has, with the labels that it gives them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.kubernetes_pods import Owner, PodStyle
from adapters.kubernetes_serving import BESIDE, deployment
from controller.metrics import Metrics
from specs.modelspec import ModelKey
from specs.serving_facts import ServingTarget
from specs.status import ConditionType
from tests.deploy.manifests import ROOT, one, written
from tests.support.prometheus_server import program, promtool

RULE_GROUPS: list[dict[str, Any]] = one(written("monitoring"), "PrometheusRule")["spec"]["groups"]
RULES: list[dict[str, Any]] = RULE_GROUPS[0]["rules"]


def metrics() -> set[str]:
    """Give the names of all series: those that are counted, and the gauges that the operator reads at every scrape."""
    made = Metrics()
    made.pass_done("error", 0.1)
    made.requested("get", "jobs", 200)
    counted = {
        line.split("{")[0].split(" ")[0] for line in made.text().decode().splitlines() if not line.startswith("#")
    }
    gauges = re.findall(r'yield "(trunkline_\w+)"', (ROOT / "controller" / "host.py").read_text())
    return counted | set(gauges)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_is_about_a_metric_that_exists(rule: dict[str, Any]) -> None:
    """No alert waits for a series that nobody writes."""
    named = set(re.findall(r"\btrunkline_\w+", rule["expr"]))
    assert named
    assert named <= metrics()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_tells_a_person_what_to_do(rule: dict[str, Any]) -> None:
    """Severity, a sentence, and what to look at; braces are balanced."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert all(rule["annotations"][key].endswith(".") for key in ("summary", "description"))
    for opening, closing in ("()", "{}", "[]"):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)


def test_label_values_are_the_product_s() -> None:
    """Condition types, outcomes and labels in the expressions are those of the code."""
    expressions = " ".join(rule["expr"] for rule in RULES)
    assert set(re.findall(r'type="(\w+)"', expressions)) <= set(ConditionType)
    desk = (ROOT / "controller" / "desk.py").read_text()
    for outcome in re.findall(r'outcome="(\w+)"', expressions):
        assert f'"{outcome}"' in desk


def _labels(owner: Owner) -> dict[str, str]:
    style = PodStyle(image="i", command=("c",), service_account="s", store_url="s3://bucket")
    digest = "sha256:" + "1" * 64
    target = ServingTarget("digits", 1, digest, digest, digest)
    template = deployment(owner, style, target, failure=None, live=None)["spec"]["template"]
    assert [port["name"] for port in template["spec"]["containers"][0]["ports"]] == ["http"]
    return dict(template["metadata"]["labels"])


def test_the_monitor_of_servers_finds_them_and_keeps_their_labels() -> None:
    """It selects the pods that serve, in all namespaces, by the labels and the port that they are given."""
    spec = one(written("monitoring"), "PodMonitor", "trunkline-servers")["spec"]
    labels = _labels(Owner(ModelKey("retail", "digits"), "u"))
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    (either,) = spec["selector"]["matchExpressions"]
    assert (either["operator"], either["values"]) == ("In", [labels[either["key"]], BESIDE])
    assert spec["namespaceSelector"] == {"any": True}
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["honorLabels"]) == ("http", "/metrics", True)


def test_the_example_for_a_plain_prometheus_is_right(tmp_path: Path) -> None:
    """Prometheus takes it, it keeps the same pods, and labels stay theirs."""
    config = yaml.safe_load((ROOT / "deploy/monitoring/scrape.yml").read_text())
    for job in config["scrape_configs"]:  # Debian's Prometheus is built without Kubernetes
        assert job.pop("kubernetes_sd_configs", [{"role": "pod"}]) == [{"role": "pod"}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "trunkline-models.rules.yaml").write_text(yaml.safe_dump({"groups": RULE_GROUPS}))
    checked = promtool("check", "config", "--lint-fatal", "prometheus.yml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(job["honor_labels"] for job in config["scrape_configs"])
    labels = _labels(Owner(ModelKey("retail", "digits"), "u"))
    keep = config["scrape_configs"][0]["relabel_configs"][0]
    found = {f"__meta_kubernetes_pod_label_{re.sub(r'[^a-z0-9]', '_', name)}": value for name, value in labels.items()}
    for component in (labels["app.kubernetes.io/component"], BESIDE):
        found["__meta_kubernetes_pod_label_app_kubernetes_io_component"] = component
        assert re.fullmatch(keep["regex"], ";".join(found[name] for name in keep["source_labels"]))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=TrunklineGitBehind", "severity=critical"), "on-call"),
        (("alertname=TrunklineInput", "severity=warning"), "models"),
        (("alertname=TrunklineNoTraffic", "severity=info"), "nobody"),
        (("alertname=DiskFull", "severity=critical"), "nobody"),
    ],
    ids=["critical", "warning", "info", "others"],
)
def test_an_alertmanager_routes_by_severity(labels: tuple[str, ...], receiver: str) -> None:
    """The example is one that an Alertmanager takes, and alerts go where it says."""
    file = str(ROOT / "deploy/monitoring/alertmanager.yml")
    for words in (("check-config", file), ("config", "routes", "test", f"--config.file={file}", *labels)):
        done = subprocess.run([program("amtool"), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == receiver
