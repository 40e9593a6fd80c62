from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from specs.errors import CorruptArtifact
from workloads.archive import is_folder, pack, unpack


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """Times, modes and the order of writing do not enter, so the digest of an export means its content."""
    for name, files in (("one", ("a", "b")), ("two", ("b", "a"))):
        (tmp_path / name / "sub").mkdir(parents=True)
        for file in files:
            (tmp_path / name / "sub" / file).write_text(file)
    os.utime(tmp_path / "two" / "sub" / "a", (1, 1))
    (tmp_path / "two" / "sub" / "b").chmod(0o600)
    first, second = (pack(tmp_path / name, tmp_path / f"{name}.tar") for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    unpack(first, tmp_path / "out")
    assert {p.name: p.read_text() for p in (tmp_path / "out" / "sub").iterdir()} == {"a": "a", "b": "b"}


@pytest.mark.parametrize("kind", ["outside", "absolute", "link", "no tar"])
def test_nothing_is_unpacked_outside(tmp_path: Path, kind: str) -> None:
    """An export from the store is untrusted; a hostile one leaves no file anywhere."""
    source = tmp_path / "hostile.tar"
    with tarfile.open(source, "w") as tar:
        info = tarfile.TarInfo({"outside": "../../evil", "absolute": "../evil"}.get(kind, "evil"))
        info.type = tarfile.SYMTYPE if kind == "link" else tarfile.REGTYPE
        info.linkname = "/etc/passwd"
        tar.addfile(info, io.BytesIO())
    if kind == "no tar":
        source.write_bytes(b"not a tar")
    with pytest.raises(CorruptArtifact):
        unpack(source, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(("format_", "folder"), [("onnx", False), ("openvino", True), ("engine", False)])
def test_formats_that_are_folders(format_: str, *, folder: bool) -> None:
    """Which exports must be packed follows from what Ultralytics calls them."""
    assert is_folder(format_) is folder
