"""Archives from strangers: what is unpacked, and everything that is not."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import Hopeless
from workloads.sources.archives import Limits, unpack
from workloads.sources.names import Names

FILES = {"set/images/a.png": b"picture", "set/labels/a.txt": b"0 0.5 0.5 1 1\n", "set/empty.txt": b""}
TARS = {"d.tar": "w", "d.tar.gz": "w:gz", "d.tgz": "w:gz", "d.tar.bz2": "w:bz2", "d.tar.xz": "w:xz"}
Entry = tuple[str, bytes]


def zipped(path: Path, *entries: Entry | zipfile.ZipInfo, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a ZIP archive of (name, content); an info alone has no content."""
    with zipfile.ZipFile(path, "w", method) as file:
        for entry in entries:
            if isinstance(entry, zipfile.ZipInfo):
                file.writestr(entry, b"target")
            else:
                file.writestr(*entry)
    return path


def tarred(path: Path, *entries: Entry | tarfile.TarInfo, mode: str = "w") -> Path:
    """Write a tar archive of (name, content), or of infos without content."""
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                file.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                file.addfile(info, io.BytesIO(entry[1]))
    return path


def found(folder: Path) -> dict[str, bytes]:
    """Give the files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, limits: Limits | None = None) -> str:
    """Give what is said about an archive that is refused."""
    folder = archive.with_name("out")
    folder.mkdir()
    with pytest.raises(Hopeless) as caught:
        unpack(archive, folder, name=f"https://h/{archive.name}", limits=limits)
    assert caught.value.reason == "InvalidArchive"
    assert caught.value.message.startswith(f"https://h/{archive.name} ")
    assert all(path.resolve().is_relative_to(folder) for path in folder.rglob("*"))
    return caught.value.message


@pytest.mark.parametrize("name", ["d.zip", *TARS])
def test_plain_archives_are_unpacked(tmp_path: Path, name: str) -> None:
    """All kinds give the files, byte for byte, with modes of our own, and say how many."""
    make = zipped(tmp_path / name, *FILES.items()) if name == "d.zip" else None
    archive = make or tarred(tmp_path / name, *FILES.items(), mode=TARS[name])
    (tmp_path / "out").mkdir()
    seen: list[int] = []
    assert unpack(archive, tmp_path / "out", name=name, told=seen.append) == 3
    assert found(tmp_path / "out") == FILES
    assert seen == [1, 2, 3]
    assert not any(path.stat().st_mode & 0o111 for path in (tmp_path / "out").rglob("*") if path.is_file())


def _link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def _zip_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


NAMES = {
    "up": ("../a.png", "leads outside"), "up inside": ("a/../../a.png", "leads outside"),
    "absolute": ("/etc/a.png", "leads outside"), "backslash": ("a\\..\\a.png", "leads outside"),
    "control": ("a\x1b[31m.png", "cannot be printed"), "direction": ("a\u202egnp.exe", "cannot be printed"),
    "newline": ("a\nb.png", "cannot be printed"), "dots": ("a/./b.png", "no plain path"),
    "long": ("x" * 256, "too long or too deep"), "deep": ("/".join("abcdefghij" * 4), "too long or too deep"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["d.zip", "d.tar"])
@pytest.mark.parametrize(("name", "said"), NAMES.values(), ids=NAMES)
def test_names_that_lead_elsewhere_or_lie_are_refused(tmp_path: Path, kind: str, name: str, said: str) -> None:
    """Paths that leave the folder, cannot be printed, or are no plain paths end the import; nothing lands outside."""
    pack: Callable[..., Path] = zipped if kind == "d.zip" else tarred
    assert said in refusal(pack(tmp_path / kind, (name, b"x")))
    assert {path.name for path in tmp_path.iterdir()} == {kind, "out"}


@pytest.mark.parametrize("kind", ["d.zip", "d.tar"])
@pytest.mark.parametrize(
    "names",
    [("a.png", "a.png"), ("a.png", "A.png"), ("x/a.png", "X/b.png"), ("a", "a/b.png"), ("a/b.png", "a"),
     ("\u00e9.png", "e\u0301.png")],
    ids=["twice", "case", "case of a folder", "file, then folder", "folder, then file", "composed"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide_are_refused(tmp_path: Path, kind: str, names: tuple[str, str]) -> None:
    """Two entries that are one file on some disk are refused, whichever of them would win."""
    pack: Callable[..., Path] = zipped if kind == "d.zip" else tarred
    said = refusal(pack(tmp_path / kind, *((name, b"x") for name in names)))
    assert "twice" in said or "one on many disks" in said


ODD_TARS = {
    "symbolic link": _link("a.png"), "hard link": _link("a.png", tarfile.LNKTYPE),
    "device": _link("a.png", tarfile.CHRTYPE), "pipe": _link("a.png", tarfile.FIFOTYPE),
    "sparse": _link("a.png", tarfile.GNUTYPE_SPARSE),
}  # fmt: skip


@pytest.mark.parametrize("entry", ODD_TARS.values(), ids=ODD_TARS)
def test_links_and_devices_in_tars_are_refused(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    """Only plain files and folders are unpacked."""
    said = refusal(tarred(tmp_path / "d.tar", entry))
    assert "is a link, a device or sparse" in said or "cannot be unpacked" in said


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666, stat.S_IFIFO | 0o666])
def test_links_and_devices_in_zips_are_refused(tmp_path: Path, mode: int) -> None:
    """A ZIP says in its entries' modes that they are links or devices."""
    assert "is a link or a device" in refusal(zipped(tmp_path / "d.zip", _zip_mode("a.png", mode)))


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    """An encrypted entry is said to be one, whatever it is encrypted with."""
    archive = zipped(tmp_path / "d.zip", ("a.png", b"x"))
    data = bytearray(archive.read_bytes())
    for at in (data.index(b"PK\3\4") + 6, data.index(b"PK\1\2") + 8):
        data[at] |= 1
    archive.write_bytes(data)
    assert "encrypted" in refusal(archive)


SMALL = Limits(entries=3, total=1000, one=500, ratio=1000, free=100)


@pytest.mark.parametrize("kind", ["d.zip", "d.tar", "d.tar.gz"])
@pytest.mark.parametrize(
    ("sizes", "limits", "said"),
    [((1, 1, 1, 1), SMALL, "more than 3 entries"), ((501,), SMALL, "more than 500 bytes"),
     ((400, 400, 400), SMALL, "more than 1000 bytes")],
    ids=["entries", "one file", "all files"],
)  # fmt: skip
def test_limits_hold(tmp_path: Path, kind: str, sizes: tuple[int, ...], limits: Limits, said: str) -> None:
    """Too many entries, a file too large and too much together each end it with the limit in the sentence."""
    entries = [(f"{number}.png", os.urandom(size)) for number, size in enumerate(sizes)]
    mode = TARS.get(kind, "w")
    archive = zipped(tmp_path / kind, *entries) if kind == "d.zip" else tarred(tmp_path / kind, *entries, mode=mode)
    assert said in refusal(archive, limits)


@pytest.mark.parametrize("kind", ["d.zip", "d.tar.gz", "d.tar.bz2", "d.tar.xz"])
def test_bombs_stop_early(tmp_path: Path, kind: str) -> None:
    """What unpacks to a hundred times its size is stopped at the limit, not when the disk is full."""
    entries = [(f"{number}.png", bytes(2**20)) for number in range(24)]
    archive = (
        zipped(tmp_path / kind, *entries) if kind == "d.zip" else tarred(tmp_path / kind, *entries, mode=TARS[kind])
    )
    limits = Limits(free=2**20, ratio=20)
    assert "20 times its size" in refusal(archive, limits)
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written <= limits.free + limits.ratio * archive.stat().st_size + 2**20


def test_sizes_that_lie_change_nothing(tmp_path: Path) -> None:
    """What an entry says about its size is not believed: bytes are counted as they come."""
    archive = zipped(tmp_path / "d.zip", ("a.png", bytes(100_000)))
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", 5)
    archive.write_bytes(data)
    assert "cannot be unpacked" in refusal(archive)


def test_headers_that_unpack_endlessly_are_stopped(tmp_path: Path) -> None:
    """A header of gigabytes, which a reader takes into memory, ends at the limit as well."""
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"comment": "x" * 12_000_000}
    archive = tarred(tmp_path / "d.tar.gz", info, mode="w:gz")
    assert "100 times its size" in refusal(archive, Limits(free=2**20, ratio=100))


def test_a_table_of_contents_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    """A ZIP that claims more entries than allowed is refused before its table is read into memory."""
    archive = zipped(tmp_path / "d.zip", ("a.png", b"x"))
    data = bytearray(archive.read_bytes())
    at = data.rindex(b"PK\5\6") + 10
    data[at : at + 2] = struct.pack("<H", 60_000)
    archive.write_bytes(data)
    assert "more than 3 entries" in refusal(archive, SMALL)


@pytest.mark.parametrize("kind", ["d.zip", *TARS])
@pytest.mark.parametrize("change", ["cut", "flip", "other"])
def test_damaged_archives_are_said_to_be_damaged(tmp_path: Path, kind: str, change: str) -> None:
    """Half an archive, one with a flipped bit, and something else altogether each end with a sentence, no traceback."""
    entries = [(f"{number}.png", os.urandom(5000)) for number in range(4)]
    mode = TARS.get(kind, "w")
    archive = zipped(tmp_path / kind, *entries) if kind == "d.zip" else tarred(tmp_path / kind, *entries, mode=mode)
    data = bytearray(archive.read_bytes())
    if change == "flip" and kind in {"d.tar", "d.zip"}:
        data[5] ^= 0xFF  # of a name; content of a plain tar has no checksum
        if kind == "d.zip":
            data[200] ^= 0xFF
    elif change == "flip":
        data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data[: len(data) // 2] if change == "cut" else b"not an archive" if change == "other" else data)
    said = refusal(archive)
    assert "pack it again" in said or "twice" in said


@given(st.data())
@settings(max_examples=60)
def test_no_damage_is_a_bug(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """However an archive is damaged: it is unpacked below its folder, or refused with a sentence."""
    folder = tmp_path_factory.mktemp("damage")
    name = data.draw(st.sampled_from(["d.zip", "d.tar", "d.tar.gz"]))
    make = zipped(folder / name, *FILES.items()) if name == "d.zip" else None
    archive = make or tarred(folder / name, *FILES.items(), mode=TARS[name])
    content = bytearray(archive.read_bytes())
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(places, max_size=4)):
        content[place] = byte
    archive.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    (folder / "out").mkdir()
    with suppress(Hopeless):
        unpack(archive, folder / "out", name=name)
    assert {path.name for path in folder.iterdir()} == {name, "out"}


@pytest.mark.parametrize(("name", "said"), [("d.tar.zst", "zstd"), ("d.7z", "is no archive by its name")])
def test_other_kinds_are_said_to_be_unknown(tmp_path: Path, name: str, said: str) -> None:
    """What cannot be unpacked here says so, and what to use."""
    (tmp_path / name).write_bytes(b"\x28\xb5\x2f\xfd")
    assert said in refusal(tmp_path / name)


def test_archives_in_archives_stay_packed(tmp_path: Path) -> None:
    """An archive in an archive is a file: nothing unpacks it."""
    inner = zipped(tmp_path / "inner.zip", ("../../evil.png", b"x")).read_bytes()
    (tmp_path / "out").mkdir()
    unpack(zipped(tmp_path / "d.zip", ("inner.zip", inner)), tmp_path / "out", name="d.zip")
    assert found(tmp_path / "out") == {"inner.zip": inner}


@given(st.text(min_size=1, max_size=40))
def test_no_name_leads_outside(name: str) -> None:
    """Whatever a path is made of: it is refused, or it is printable and stays below its folder."""
    names = Names("x", "InvalidArchive")
    try:
        plain = names.plain(name)
        names.claim(plain)
    except Hopeless:
        return
    assert plain.isprintable()
    assert os.path.normpath(f"/top/{plain}") == f"/top/{plain}"
