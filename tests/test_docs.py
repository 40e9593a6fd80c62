"""The manual says what the program does: every word of it that can be checked is checked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from controller.cli import cli
from controller.setting_tables import AlertSettings
from controller.settings import (
    BindingSettings,
    ClusterSettings,
    DataSettings,
    ForgeSettings,
    LabellingSettings,
    MonitoringSettings,
    ProvenanceSettings,
    Settings,
    SigningSettings,
    TrackingSettings,
)  # fmt: skip
from specs.manifest import load
from specs.status import ConditionType, Reason

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def _pages() -> list[Path]:
    """Give the manual: markdown files that git has or would have."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() or [str(p.relative_to(ROOT)) for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/*"))]
    return [ROOT / name for name in names if (ROOT / name).exists()]


def _first_cells(page: str, header: str) -> set[str]:
    """Give the words in code type in the first column of the table with that header."""
    text = (ROOT / page).read_text()
    rows = text.partition(f"| {header} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


@pytest.mark.parametrize(
    ("header", "words"), [("condition", ConditionType), ("reason", Reason)], ids=["conditions", "reasons"]
)
def test_every_word_of_status_is_documented(header: str, words: type[ConditionType | Reason]) -> None:
    """docs/conditions.md has a row for each condition and reason, and for no other."""
    documented = _first_cells("docs/conditions.md", header)
    assert documented == {str(word) for word in words}


def test_every_setting_is_documented() -> None:
    """docs/settings.md has a row for each field of trunkline.toml, with its default where that is plain."""
    assert _first_cells("docs/settings.md", "field") == set(Settings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[kubernetes]`") == set(ClusterSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[forge]`") == set(ForgeSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[[bindings]]`") == set(BindingSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[provenance]`") == set(ProvenanceSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[signing]`") == set(SigningSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[data]`") == set(DataSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[labelling]`") == set(LabellingSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[tracking]`") == set(TrackingSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[monitoring]`") == set(MonitoringSettings.model_fields)
    assert _first_cells("docs/settings.md", "field of `[alerts]`") == set(AlertSettings.model_fields)
    text = (ROOT / "docs/settings.md").read_text()
    for name in ("branch", "host", "port", "interval", "parallel_jobs", "author_name", "author_email"):
        assert f"| `{name}` | `{Settings.model_fields[name].default}` |" in text


def _commands(group: click.Group, above: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{above}{name}"] = command
        if isinstance(command, click.Group):
            found |= _commands(command, f"{above}{name} ")
    return found


def test_commands_in_the_readme_exist() -> None:
    """Each ``trunkline …`` that the README and the manual tell people to type is a command, its options too."""
    known = _commands(cli)
    told = set()
    for page in _pages():
        typed = r"trunkline ((?:pr |data |labels |keys |kube )?[a-z-]+)((?: [^\n`#|]*)?)"
        told |= set(re.findall(typed, page.read_text()))
    names = {name for name, _ in told if name.split()[0] in known or name in known}
    assert {"init", "check", "plan", "agent", "status", "history", "pr merge", "data add", "logs"} <= names
    readme = (ROOT / "README.md").read_text()
    typed = r"(?:^\| `|^\$ )trunkline ((?:pr |data |labels |kube )?[a-z-]+)([^\n`#]*)"
    for name, rest in re.findall(typed, readme, re.MULTILINE):
        assert name in known, name
        options = {word for parameter in known[name].params for word in parameter.opts}
        assert set(re.findall(r"--[a-z]+", rest.partition("&&")[0])) <= options, (name, rest)


def test_every_command_is_in_the_readme() -> None:
    """A command that the README does not name is one that nobody finds."""
    readme = (ROOT / "README.md").read_text()
    for name in _commands(cli):
        assert name.split()[-1] in re.findall(r"[a-z-]+", readme), name


def test_the_example_is_a_modelspec() -> None:
    """The file that the demo starts from is right, once its digests are filled in."""
    text = (ROOT / "examples/01-digits/digits.yaml").read_text()
    for name in ("TRAIN_DIGEST", "GOLDEN_DIGEST"):
        assert name in text
        text = text.replace(name, f"sha256:{'0' * 64}")
    (found,) = load(text, "digits.yaml")
    assert str(found.model.key) == "default/digits"


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file that is there."""
    for groups in _LINK.findall(page.read_text()):
        target = next(filter(None, groups)).partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target
