"""``trunkline init``: a place to work in."""

from __future__ import annotations

import json
from pathlib import Path

import click

from adapters.bare_repository import create_bare
from controller.console import console
from controller.settings import FILE_NAME
from specs.errors import Stalled

_README = b"# Models\n\nEvery ModelSpec in this repository is what runs. Change one by pull request.\n"
_TEMPLATE = """\
# Read by every `trunkline` command in this folder and below. Paths are relative to this file.
repository = {repository}
branch = "main"        # what is on this branch is what runs
store = {store}          # or an s3:// URL
state = ".trunkline"     # can be lost: mirror, logs, caches, status
"""


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--repository", help="Use this git repository instead of making one.")
@click.option("--store", default="store", show_default=True, help="Where files and records are kept: a path or URL.")
def init(folder: Path, repository: str | None, store: str) -> None:
    """Make FOLDER a place for Trunkline: settings, a bare git repository, a store.

    Nothing that exists is overwritten.
    """
    file = folder / FILE_NAME
    if file.exists():
        raise Stalled("AlreadyThere", f"{file} exists already; nothing was changed")
    folder.mkdir(parents=True, exist_ok=True)
    if repository is None:
        repository = "models.git"
        create_bare(folder / repository, branch="main", files={"README.md": _README})
    file.write_text(_TEMPLATE.format(repository=_quoted(repository), store=_quoted(store)))
    out = console()
    out.print(f"[green]✓[/] wrote {file}")
    out.print(
        "\nNext:\n"
        f"  git clone {folder / repository} work       write a ModelSpec there, push a branch\n"
        "  trunkline data add FOLDER --task classify   put pictures into the store\n"
        "  trunkline pr open BRANCH                     ask for it to be merged\n"
        "  trunkline agent                              let it happen\n",
        soft_wrap=True,
    )


def _quoted(text: str) -> str:
    """Write a string as TOML does, which is how JSON does it."""
    return json.dumps(text, ensure_ascii=False)
