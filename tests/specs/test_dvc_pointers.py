"""DVC's pointer files and listings, as text that somebody else wrote."""

from __future__ import annotations

import json

import pytest

from specs import dvc_listings
from specs.dvc_pointers import SIZE_LIMIT, Pointer, configurations, find
from specs.errors import CorruptArtifact, Stalled

MD5 = "8c1d" * 8
DIR = f"md5:{MD5}.dir"
PLACE = "main of https://git.example.com/data.git"


def look(path: str, **files: str | bytes) -> Pointer:
    """Find an output in files, whose names have ``__`` for ``/`` and ``_dot_`` for ``.``."""
    there = {name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()}

    def read(name: str) -> bytes | None:
        text = there.get(name)
        return text.encode() if isinstance(text, str) else text

    return find(path, read, PLACE)


def refusal(path: str, reason: str = "DataMissing", **files: str | bytes) -> str:
    """Give the words with which an output is refused."""
    with pytest.raises(Stalled) as caught:
        look(path, **files)
    assert caught.value.reason == reason
    assert PLACE in caught.value.message
    return caught.value.message


DVC = f"outs:\n- {{md5: {MD5}.dir, size: 4, nfiles: 2, hash: md5, path: shelf}}\n"


def test_a_dvc_file_names_its_output() -> None:
    """The ``.dvc`` file, or the output's own path, gives the digest as a spec would have it."""
    want = Pointer("sets/shelf.dvc", "sets/shelf", DIR)
    assert look("sets/shelf.dvc", sets__shelf_dot_dvc=DVC) == want
    assert look("sets/shelf", sets__shelf_dot_dvc=DVC) == want
    assert look("sets/shelf/", sets__shelf_dot_dvc=DVC) == want
    assert want.is_folder


def test_pointers_of_dvc_2_and_single_files_are_told_apart() -> None:
    """Without ``hash`` the MD5 is of text with unified line ends; without ``.dir`` it is of one file."""
    found = look("a.zip.dvc", a_dot_zip_dot_dvc=f"outs: [{{md5: {MD5}, path: a.zip, remote: far}}]")
    assert found == Pointer("a.zip.dvc", "a.zip", f"md5:{MD5}", unified=True, remote="far")
    assert not found.is_folder


def test_the_working_directory_of_a_dvc_file_counts() -> None:
    """``wdir`` moves its outputs, as DVC reads it."""
    text = f"wdir: ../data\nouts: [{{md5: {MD5}.dir, hash: md5, path: shelf}}]"
    assert look("pointers/shelf.dvc", pointers__shelf_dot_dvc=text).path == "data/shelf"


LOCK = f"""
schema: '2.0'
stages:
  crop:
    cmd: python crop.py
    outs: [{{path: out/shelf, hash: md5, md5: {MD5}.dir, size: 3, nfiles: 1}}]
  split@small:
    outs: [{{path: small, hash: md5, md5: {"0" * 32}.dir}}]
"""


def test_outputs_of_pipelines_are_found_by_their_path() -> None:
    """A dvc.lock in the output's folder, or in one above it, names it; nothing is run to know."""
    assert look("out/shelf", dvc_dot_lock=LOCK).digest == DIR
    assert look("sub/out/shelf", sub__dvc_dot_lock=LOCK).file == "sub/dvc.lock"
    yaml = "stages: {split: {wdir: parts, foreach: [small], do: {cmd: x}}}"
    assert look("parts/small", dvc_dot_lock=LOCK, dvc_dot_yaml=yaml).digest == f"md5:{'0' * 32}.dir"


@pytest.mark.parametrize(
    ("path", "files", "reason", "says"),
    [
        ("shelf.dvc", {}, "DataMissing", "no file shelf.dvc"),
        ("shelf", {}, "DataMissing", "names an output shelf"),
        ("shelf.dvc", {"shelf_dot_dvc": "outs: [{path: shelf}]"}, "DataMissing", "dvc commit"),
        ("shelf.dvc", {"shelf_dot_dvc": f"outs: [{{path: shelf, md5: {MD5[:-1]}}}]"}, "DataMissing", "dvc commit"),
        ("shelf.dvc", {"shelf_dot_dvc": f"outs: [{{path: s, hash: sha1, md5: {MD5}}}]"}, "DataMissing", "no md5"),
        ("shelf.dvc", {"shelf_dot_dvc": "outs: []"}, "DataMissing", "no file shelf.dvc"),
        ("shelf.dvc", {"shelf_dot_dvc": "- not a mapping"}, "DataMissing", "no pointer file"),
        ("shelf.dvc", {"shelf_dot_dvc": "a: [b"}, "DataMissing", "as YAML"),
        ("shelf.dvc", {"shelf_dot_dvc": "!!python/object/apply:os.system [x]"}, "DataMissing", "as YAML"),
        ("shelf.dvc", {"shelf_dot_dvc": "[" * 5000}, "DataMissing", "as YAML"),
        ("shelf.dvc", {"shelf_dot_dvc": b"\xff\xfe\x00"}, "DataMissing", "as YAML"),
        ("shelf.dvc", {"shelf_dot_dvc": "#" * (SIZE_LIMIT + 1)}, "DataMissing", "bytes"),
        (
            "shelf.dvc",
            {"shelf_dot_dvc": f"outs: [{{path: a, md5: {MD5}}}, {{path: b, md5: {MD5}}}]"},
            "DataMissing",
            "a, b",
        ),
        (
            "shelf.dvc",
            {"shelf_dot_dvc": f"deps: [{{repo: {{url: x}}, path: y}}]\nouts: [{{path: shelf, md5: {MD5}}}]"},
            "DataSourceUnsupported",
            "another data repository",
        ),
        (
            "shelf.dvc",
            {"shelf_dot_dvc": f"outs: [{{path: s, md5: {MD5}.dir, hash: md5, files: [{{relpath: a}}]}}]"},
            "DataSourceUnsupported",
            "version_aware",
        ),
        (
            "shelf.dvc",
            {"shelf_dot_dvc": f"outs: [{{path: ../../etc, md5: {MD5}, hash: md5}}]"},
            "DataSourceUnsupported",
            "outside",
        ),
        (
            "shelf.dvc",
            {"shelf_dot_dvc": f"outs: [{{path: s, md5: {MD5}, hash: md5, cache: false}}]"},
            "DataSourceUnsupported",
            "in git itself",
        ),
    ],
)
def test_what_cannot_be_pinned_says_why(path: str, files: dict[str, str], reason: str, says: str) -> None:
    """Every fault of a pointer is one sentence with the file, the revision and what to do."""
    assert says in refusal(path, reason, **files)


def test_the_nearest_configuration_holds() -> None:
    """A repository may hold a DVC project in a folder; its configuration is looked for from the pointer upwards."""
    found = list(configurations(Pointer("a/b/shelf.dvc", "a/b/shelf", DIR)))
    assert found == ["a/b/.dvc/config", "a/.dvc/config", ".dvc/config"]


# ------------------------------------------------------------------------------------------------ listings


def test_a_listing_gives_its_files() -> None:
    """Paths and MD5s, sorted, whatever else the entries say."""
    data = json.dumps([{"md5": MD5, "relpath": "b/c.txt", "size": 3}, {"md5": "0" * 32, "relpath": "a"}]).encode()
    assert dvc_listings.read(data, "x.dir") == {"a": "0" * 32, "b/c.txt": MD5}


@pytest.mark.parametrize(
    "entries",
    [
        "text", b"\xff", b"[" * 100_000, {"md5": MD5}, [1], [{"md5": MD5}], [{"relpath": "a"}],
        [{"md5": "../../etc/passwd", "relpath": "a"}], [{"md5": MD5.upper(), "relpath": "a"}],
        *([{"md5": MD5, "relpath": path}] for path in (
            "../x", "a/../../x", "/etc/passwd", "", ".", "a//b", "a/./b", "a\\b", "a\nb", "a\0b", "x" * 300, "\ud800",
            "a/" * 600 + "b",
        )),
        [{"md5": MD5, "relpath": "a"}, {"md5": MD5, "relpath": "a"}],
        [{"md5": MD5, "relpath": "a"}, {"md5": MD5, "relpath": "a/b/c"}],
    ],
)  # fmt: skip
def test_listings_that_would_leave_the_folder_are_refused(entries: object) -> None:
    """No path leads out, none is there twice, and nothing but plain names of files gets through."""
    data = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    with pytest.raises(CorruptArtifact, match=r"x\.dir"):
        dvc_listings.read(data, "x.dir")


def test_listings_without_end_are_refused() -> None:
    """A listing names at most as many files as a data set may have."""
    data = json.dumps([{"md5": MD5, "relpath": str(number)} for number in range(4)]).encode()
    assert len(dvc_listings.read(data, "x.dir", limit=4)) == 4
    with pytest.raises(CorruptArtifact, match=r"4 files; at most 3"):
        dvc_listings.read(data, "x.dir", limit=3)
