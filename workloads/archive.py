"""Exports that are folders, as one file: a tar that is the same bytes for the same content."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from specs.errors import CorruptArtifact
from specs.exports import FORMATS


def is_folder(format_: str) -> bool:
    """Whether Ultralytics writes a folder for this format."""
    suffix = FORMATS[format_]
    return format_ in ("coreml", "coreai") or (suffix.startswith("_") and "." not in suffix)


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


def read(packed: bytes) -> dict[str, bytes]:
    """Give what ``pack`` packed, by name; CorruptArtifact where it is no such thing. Nothing touches the disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            if not all(member.isfile() for member in tar):
                raise CorruptArtifact("the packed export holds more than plain files")
            streams = {member.name: tar.extractfile(member) for member in tar}
            return {name: stream.read() for name, stream in streams.items() if stream is not None}
    except (tarfile.TarError, EOFError) as error:
        raise CorruptArtifact(f"the file is not a packed export: {error}") from error


def unpack(source: Path, folder: Path) -> None:
    """Unpack what ``pack`` wrote; CorruptArtifact for anything that leads outside or is no plain file."""
    try:
        with tarfile.open(source) as tar:
            if not all(member.isfile() for member in tar):
                raise CorruptArtifact(f"{source.name}: holds more than plain files")
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise CorruptArtifact(f"{source.name}: is not a packed export: {error}") from error
