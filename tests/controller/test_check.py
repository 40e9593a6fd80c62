"""``trunkline check``: every problem with file, line and field, and what will not be acted on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.place import SPEC
from tests.support.typed import said, trunkline

DIGEST = "sha256:" + "1" * 64
GOOD = SPEC.replace("TRAIN", DIGEST).replace("GOLDEN", DIGEST.replace("1", "2"))

IGNORED = "spec.serving.backend: acted on in a cluster only; `trunkline agent` ignores it"

def _write(folder: Path, text: str, name: str = "m.yaml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_good_file_is_good(tmp_path: Path) -> None:
    """One line says so; nothing else is needed, neither settings nor a repository."""
    _write(tmp_path, GOOD)
    assert said(tmp_path, "check", "m.yaml") == "✓ 1 ModelSpec, no problems\n"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("  task: classify", "  task: [classify, /x]", "m.yaml:6:9: spec.task"),
        ("  task: classify", "  task: classify\n  taks: x", "m.yaml:7:3: spec.taks"),
        ("  task: classify", "  task: classify\n  task: pose", "m.yaml:7:3"),
        ("  task: classify", "  task: &a classify", "m.yaml:6:9"),
        ("{export: onnx}", "{export: onnx", "m.yaml:"),
        ("{export: onnx}", "{export: [bold]}", "m.yaml:17:21: spec.serving.export"),
    ],
    ids=["wrong-type", "unknown-field", "duplicate-key", "anchor", "broken-yaml", "brackets"],
)
def test_a_problem_has_file_line_column_and_field(tmp_path: Path, old: str, new: str, place: str) -> None:
    """Exit code 1, and a line that an editor can jump to; words in brackets are not swallowed by the terminal."""
    assert GOOD.count(old) == 1
    _write(tmp_path, GOOD.replace(old, new))
    result = trunkline(tmp_path, "check", "m.yaml")
    assert result.exit_code == 1
    assert f"✗ {place}" in result.stdout, result.stdout
    assert "no problems" not in result.stdout


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Several mistakes in several files make one list."""
    _write(tmp_path, GOOD.replace("epochs: 8", "epochs: 8").replace("task: classify", "task: dance\n  nonsense: 1"))
    _write(tmp_path, "kind: ModelSpec\napiVersion: trunkline.dev/v1alpha1\n", "n.yaml")
    result = trunkline(tmp_path, "check", "m.yaml", "n.yaml")
    for word in ("m.yaml:6:", "spec.nonsense", "n.yaml"):
        assert word in result.stdout


def test_a_name_in_two_files_is_a_problem(tmp_path: Path) -> None:
    """Both places are named; folders are searched for YAML."""
    _write(tmp_path, GOOD, "models/a.yaml")
    _write(tmp_path, GOOD, "models/sub/b.yml")
    _write(tmp_path, "not: yaml: at all", "models/notes.txt")
    result = trunkline(tmp_path, "check", "models")
    assert result.exit_code == 1
    assert "models/sub/b.yml:2:1: metadata.name: default/digits is also in models/a.yaml:2" in result.stdout


def test_other_yaml_is_nobodys_business(tmp_path: Path) -> None:
    """Files in a folder that hold no ModelSpec are not judged."""
    _write(tmp_path, GOOD, "models/a.yaml")
    _write(tmp_path, "resources: [a.yaml]\n", "models/kustomization.yaml")
    assert "✓ 1 ModelSpec" in said(tmp_path, "check", "models")


def test_what_is_not_acted_on_is_said(tmp_path: Path) -> None:
    """A field that this version understands but ignores is no problem, but no secret either."""
    _write(tmp_path, GOOD.replace("{export: onnx}", "{export: onnx, backend: Triton}"))
    text = said(tmp_path, "check", "m.yaml")
    assert f"! default/digits (m.yaml:2): {IGNORED}" in text
    assert "✓ 1 ModelSpec" in text


def test_json_says_the_same(tmp_path: Path) -> None:
    """Programs get problems as fields, and the same exit code."""
    _write(tmp_path, GOOD.replace("{export: onnx}", "{export: onnx, backend: Triton}"))
    assert json.loads(said(tmp_path, "check", "--json", "m.yaml")) == {
        "models": 1, "problems": [],
        "notActedOn": {"default/digits (m.yaml:2)": [IGNORED]},
    }  # fmt: skip
    _write(tmp_path, GOOD.replace("classify", "dance"))
    result = trunkline(tmp_path, "check", "--json", "m.yaml")
    (problem,) = json.loads(result.stdout)["problems"]
    assert result.exit_code == 1
    assert (problem["path"], problem["line"], problem["column"], problem["field"]) == ("m.yaml", 6, 9, "spec.task")


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    """Exit code 2, as for any misspelt argument."""
    result = trunkline(tmp_path, "check", "nothing.yaml")
    assert result.exit_code == 2
    assert "nothing.yaml" in result.output


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A binary file that was named is a problem with that file, not a traceback."""
    (tmp_path / "m.yaml").write_bytes(b"kind: ModelSpec\n\xff\xfe")
    result = trunkline(tmp_path, "check", "m.yaml")
    assert result.exit_code == 1
    assert "m.yaml" in result.stdout


def test_a_schedule_that_is_no_cron_line_is_a_problem(tmp_path: Path) -> None:
    """The field and what is wrong with it, before anything stalls on it."""
    _write(tmp_path, GOOD + '  triggers: {schedule: "61 3 * * *"}\n')
    text = trunkline(tmp_path, "check", "m.yaml").output
    assert 'spec.triggers.schedule: "61 3 * * *" is no cron line: Bad minute' in text
    _write(tmp_path, GOOD + '  triggers: {schedule: "1 3 * * *"}\n')
    assert said(tmp_path, "check", "m.yaml") == "✓ 1 ModelSpec, no problems\n"
