"""Exports that are folders, as one file: a tar that is the same bytes for the same content."""

from __future__ import annotations

import tarfile
from pathlib import Path

from specs.errors import CorruptArtifact
from specs.exports import FORMATS


def is_folder(format_: str) -> bool:
    """Whether Ultralytics writes a folder for this format."""
    return FORMATS[format_].startswith("_") or format_ == "coreml"


def pack(folder: Path, target: Path) -> Path:
    """Write the files of a folder to a tar: sorted, without owners, times or modes."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            info.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(info, content)
    return target


def unpack(source: Path, folder: Path) -> None:
    """Unpack what ``pack`` wrote; CorruptArtifact for anything that leads outside or is no plain file."""
    try:
        with tarfile.open(source) as tar:
            if not all(member.isfile() for member in tar):
                raise CorruptArtifact(f"{source.name}: holds more than plain files")
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise CorruptArtifact(f"{source.name}: is not a packed export: {error}") from error
