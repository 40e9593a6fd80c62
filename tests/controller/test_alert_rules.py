"""``trunkline alerts rules``: judged by promtool, and by what rings when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controller.test_check import GOOD
from tests.support.place import Place
from tests.support.prometheus_server import promtool
from tests.support.typed import said, trunkline

WATCHED = GOOD + """\
  monitoring:
    window: 4m
    minSamples: 20
    forWindows: 2
    signals:
      - {name: errors, type: ErrorRate, max: 0.05}
      - {name: slow, type: Latency, quantile: 0.9, max: 80ms}
      - {name: truth, type: Accuracy, min: 0.9}
      - {name: light, type: Input, feature: brightness, max: 0.3}
"""
ROOT = Path(__file__).parents[2]
RULES = "rules.yaml"
MINUTES = "0m", "4m", "8m", "12m"


def _rules(folder: Path, *more: str) -> Any:
    (folder / "m.yaml").write_text(WATCHED)
    text = said(folder, "alerts", "rules", "m.yaml", *more)
    (folder / RULES).write_text(text)
    return yaml.safe_load(text)


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    """Promtool finds nothing to say about them; each has a severity, says whose it is, and what to do."""
    (group,) = _rules(tmp_path)["groups"]
    checked = promtool("check", "rules", "--lint-fatal", RULES, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    names = [rule["alert"] for rule in group["rules"]]
    assert names == [
        "TrunklineErrorRate", "TrunklineLatency", "TrunklineAccuracy", "TrunklineInput", "TrunklineNoTraffic",
        "TrunklineGitBehind",
    ]  # fmt: skip
    for rule in group["rules"]:
        assert (rule["labels"]["namespace"], rule["labels"]["model"]) == ("default", "digits")
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert all(rule["annotations"][key].endswith(".") for key in ("summary", "description"))
        page, _, section = rule["annotations"]["runbook"].partition("#")
        title = section.replace("-", " ").capitalize()
        assert f"\n## {title}\n" in (ROOT / page).read_text()


def test_the_same_specs_give_the_same_text(tmp_path: Path) -> None:
    """What is made in a pull request can be compared with what is there."""
    (tmp_path / "m.yaml").write_text(WATCHED)
    assert said(tmp_path, "alerts", "rules", "m.yaml") == said(tmp_path, "alerts", "rules", str(tmp_path))


def test_without_files_it_is_the_tracked_branch(tmp_path: Path) -> None:
    """What is on trunk is what rings."""
    place = Place(tmp_path / "place")
    place.write(place.spec() + WATCHED.removeprefix(GOOD))
    (tmp_path / "m.yaml").write_text(WATCHED)
    assert said(place.folder, "alerts", "rules") == said(tmp_path, "alerts", "rules", "m.yaml")


def _ring(
    folder: Path, series: Mapping[str, str], alerts: Mapping[str, Sequence[str]], said: Mapping[str, str] | None = None
) -> None:
    """Play series to the rules; say which alert must ring at which of ``MINUTES``, all others must be silent."""
    rules = _rules(folder)["groups"][0]["rules"]
    expected = []
    for rule in rules:
        for minute in MINUTES:
            told = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
            if said and rule["alert"] in said:
                told["exp_annotations"] = rule["annotations"] | {"summary": said[rule["alert"]]}
            rings = minute in alerts.get(rule["alert"], ())
            expected.append({"eval_time": minute, "alertname": rule["alert"], "exp_alerts": [told] if rings else []})
    case = {
        "interval": "15s", "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }  # fmt: skip
    played = {"rule_files": [RULES], "evaluation_interval": "15s", "tests": [case]}
    (folder / "case.yaml").write_text(yaml.safe_dump(played))
    done = promtool("test", "rules", "case.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def _requests(ok: str, error: str) -> dict[str, str]:
    name = 'trunkline_requests_total{{model="digits",version="7",outcome="{}",instance="a"}}'
    return {name.format("ok"): ok, name.format("error"): error}


def test_errors_ring_once_they_were_too_many_for_as_many_windows_as_the_spec_says(tmp_path: Path) -> None:
    """One in ten is more than one in twenty; it rings once the second window is full of them."""
    _ring(tmp_path, _requests("0+9x60", "0+1x60"), {"TrunklineErrorRate": ["8m", "12m"]},
          {"TrunklineErrorRate": "default/digits: 10% of requests fail."})  # fmt: skip


def test_few_requests_say_nothing_about_errors(tmp_path: Path) -> None:
    """Below minSamples nothing rings, however bad the few are."""
    slow = " ".join(str(sample // 4) for sample in range(60))
    _ring(tmp_path, _requests("0x60", slow), {})


def test_silence_rings(tmp_path: Path) -> None:
    """Nobody asks, or nobody scrapes: both are told, as a notice."""
    _ring(tmp_path, _requests("7x60", "0x60"), {"TrunklineNoTraffic": ["4m", "8m", "12m"]})
    _ring(tmp_path, {}, {"TrunklineNoTraffic": ["4m", "8m", "12m"]})


def test_latency_is_the_quantile_that_the_spec_says(tmp_path: Path) -> None:
    """One in five above 80 ms is too many for the 0.9 quantile; those of other stages do not count."""
    name = 'trunkline_request_seconds_{}{{model="digits",version="7",stage="{}"{}}}'

    def stage(stage: str, low: str, all_: str) -> dict[str, str]:
        edges = {"0.075": low, "0.1": all_, "+Inf": all_}
        buckets = {name.format("bucket", stage, f',le="{edge}"'): values for edge, values in edges.items()}
        return {**buckets, name.format("count", stage, ""): all_}

    quick = {**_requests("0+10x60", "0x60"), **stage("queue", "0+0x60", "0+10x60")}
    _ring(tmp_path, {**quick, **stage("total", "0+10x60", "0+10x60")}, {})
    _ring(tmp_path, {**quick, **stage("total", "0+8x60", "0+10x60")}, {"TrunklineLatency": ["8m", "12m"]},
          {"TrunklineLatency": "default/digits: 10 % of requests take longer than 87.5ms."})  # fmt: skip


def test_truth_rings_where_too_few_were_right(tmp_path: Path) -> None:
    """Right among all whose truth is known; objects that were missed are not predictions."""
    name = 'trunkline_truth_total{{model="digits",version="7",verdict="{}"}}'
    truth = {name.format("right"): "0+8x60", name.format("wrong"): "0+2x60", name.format("missed"): "0+9x60"}
    _ring(tmp_path, {**_requests("0+10x60", "0x60"), **truth}, {"TrunklineAccuracy": ["8m", "12m"]},
          {"TrunklineAccuracy": "default/digits: 80% of predictions turned out to be right."})  # fmt: skip


def test_what_only_the_controller_knows_rings_when_it_says_so(tmp_path: Path) -> None:
    """A firing signal and git left behind ring at once: the controller has waited already. Whoever scrapes it, once."""
    who = 'model="digits",namespace="default",name="digits"'
    firing = f'trunkline_signal_firing{{{who},signal="light",instance="%s"}}'
    behind = f'trunkline_model_condition{{{who},type="GitBehind",reason="LiveGateFailed"}}'
    series = {
        **_requests("0+10x60", "0x60"), firing % "a": "0x16 1x16 0x60", firing % "b": "0x60", behind: "_x40 1x60"
    }  # fmt: skip
    _ring(tmp_path, series, {"TrunklineInput": ["8m"], "TrunklineGitBehind": ["12m"]})


@pytest.mark.parametrize("text", [GOOD, ""], ids=["nothing-watched", "no-model"])
def test_nothing_to_watch_is_said(tmp_path: Path, text: str) -> None:
    """An empty rule file would look like all is well."""
    (tmp_path / "m.yaml").write_text(text)
    result = trunkline(tmp_path, "alerts", "rules", "m.yaml")
    assert result.exit_code == 1
    assert "spec.monitoring" in str(result.exception)


def test_a_broken_file_makes_no_rules(tmp_path: Path) -> None:
    """Rules without one of the models would be silent about it for ever."""
    (tmp_path / "m.yaml").write_text(WATCHED.replace("ErrorRate", "ErorRate"))
    result = trunkline(tmp_path, "alerts", "rules", "m.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "m.yaml" in str(result.exception)
