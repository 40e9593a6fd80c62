"""The command line as a whole: exit codes, errors for people, help, data sets and jobs."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml

from controller.cli import COMMANDS, cli
from specs.crd import crd_yaml
from specs.errors import Stalled
from tests.support import pictures
from tests.support.typed import process, said, trunkline


def _commands(group: click.Group, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[*above, name] = command
        if isinstance(command, click.Group):
            found |= _commands(command, (*above, name))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give an empty place."""
    said(tmp_path, "init")
    return tmp_path


@pytest.mark.parametrize("words", _commands(cli), ids=" ".join)
def test_help_says_what_a_command_does(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Every command explains itself, without settings, and every option says what it is for."""
    text = said(tmp_path, *words, "--help")
    command = _commands(cli)[words]
    assert command.help
    assert command.help.splitlines()[0] in " ".join(text.split())
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_eager:
            assert parameter.help or parameter.name == "task", (words, parameter.name)


def test_the_list_of_commands_is_all_of_them(tmp_path: Path) -> None:
    """`trunkline --help` names every command and the exit codes."""
    text = said(tmp_path, "--help")
    assert all(f"\n  {name} " in text for name in COMMANDS)
    codes = "Exit codes: 0 done, 1 a person must mend something, 2 wrong usage, 3 trouble that may pass."
    assert codes in " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("status",), 0, "no models yet"),
        (("--version",), 0, "version"),
        (("pr", "show", "7"), 1, "PullRequestUnknown"),
        (("logs", "train-x-0"), 1, "NoSuchJob"),
        (("retry", "train-x-0"), 1, "NoSuchJob"),
        (("logs", "../../etc/passwd"), 1, ""),
        (("history", "digits"), 1, "NoSuchModel"),
        (("plan", "--head", "nowhere"), 1, "nowhere"),
        (("pr", "open", "nowhere"), 1, "nowhere"),
        (("nonsense",), 2, "No such command"),
        (("pr", "show", "seven"), 2, "not a valid integer"),
        (("check",), 2, "FILES"),
        (("why", "0123456789ab"), 1, "DigestUnknown"),
    ],
    ids=lambda value: "-".join(value).replace("/", "_") if isinstance(value, tuple) else None,
)
def test_exit_codes(place: Path, words: tuple[str, ...], code: int, told: str) -> None:
    """0 done, 1 a person must act, 2 wrong usage; errors are one paragraph on stderr, never a traceback."""
    done = process(place, *words)
    assert done.returncode == code, done.stderr
    assert told in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr
    if code == 1:
        assert "\n\n" not in done.stderr.strip()
        assert done.stdout == ""


def test_what_a_command_finds_is_its_exit_code(place: Path) -> None:
    """A command that did its work and found something wrong ends with 1 as a process too, whatever it printed."""
    (place / "bad.yaml").write_text("kind: ModelSpec\n")
    for words in (("check", "bad.yaml"), ("verify-history", "--since", "0" * 40)):
        done = process(place, *words)
        assert (done.returncode, done.stderr) == (1, ""), words
        assert done.stdout


def test_trouble_that_may_pass_is_exit_code_3(place: Path) -> None:
    """A repository that cannot be reached now may be there later, and the exit code says so."""
    done = process(place, "history", "digits", TRUNKLINE_BRANCH="nothing-here")
    assert done.returncode in (1, 3)
    blocked = place / "blocked"
    blocked.write_text("a file where a folder should be")
    done = process(place, "down", TRUNKLINE_STATE=str(blocked / "state"))
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_without_settings_the_way_out_is_named(tmp_path: Path) -> None:
    """A command in a folder that is no place says how to make it one."""
    done = process(tmp_path, "status")
    assert done.returncode == 1
    assert done.stderr.startswith("NoSettings: ")
    assert "trunkline init" in done.stderr


def test_a_repository_elsewhere_has_no_local_forge(place: Path) -> None:
    """The local forge needs the bare repository; the error says why and names it."""
    done = process(place, "pr", "list", TRUNKLINE_REPOSITORY="https://git.example.com/m.git")
    assert done.returncode == 1
    assert "NoForge: https://git.example.com/m.git is not a folder here" in done.stderr


def test_crds_prints_what_a_cluster_applies(tmp_path: Path) -> None:
    """The CustomResourceDefinition, byte for byte, without any settings."""
    text = said(tmp_path, "crds")
    assert text == crd_yaml()
    assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"


def test_data_add_prints_what_to_write(place: Path) -> None:
    """Classes, counts and the lines for the ModelSpec; the same files again give the same digest."""
    pictures.folder(place / "shapes", "classify", 6)
    text = said(place, "data", "add", "shapes", "--task", "classify")
    assert "6 images" in text
    found = json.loads(said(place, "data", "add", "shapes", "--task", "classify", "--name", "other", "--json"))
    assert f'uri: {{url: store://shapes, digest: "{found["digest"]}"}}' in text
    assert (found["url"], found["images"], sum(found["classCounts"].values())) == ("store://other", 6, 6)


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_data_add_refuses_what_is_no_data_set(place: Path, task: str) -> None:
    """An empty or half-filled folder is refused with what it should hold, and nothing is stored."""
    (place / "empty").mkdir()
    result = trunkline(place, "data", "add", "empty", "--task", task)
    assert isinstance(result.exception, Stalled), result.output
    assert "empty is not a usable data set" in result.exception.message
    assert not list((place / "store").rglob("*.json"))


def test_data_add_refuses_a_broken_picture_label(place: Path) -> None:
    """A label that is no label is named with its file and line."""
    folder = pictures.folder(place / "shapes", "detect", 4)
    (folder / "labels/001.txt").write_text("0 0.5 0.5 0.2\n")
    result = trunkline(place, "data", "add", "shapes", "--task", "detect")
    assert isinstance(result.exception, Stalled), result.output
    assert "001.txt" in result.exception.message


def test_data_add_of_a_folder_that_is_not_there(place: Path) -> None:
    """Wrong usage, as for any misspelt path."""
    assert trunkline(place, "data", "add", "nothing", "--task", "classify").exit_code == 2
