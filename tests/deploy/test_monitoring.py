"""Alerts are about metrics that the operator has, with the labels that it gives them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from controller.metrics import Metrics
from specs.status import ConditionType
from tests.deploy.manifests import ROOT, one, written

RULES: list[dict[str, Any]] = one(written("monitoring"), "PrometheusRule")["spec"]["groups"][0]["rules"]


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
