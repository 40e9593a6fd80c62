"""What jobs about data leave in the store, beside the DatasetManifest itself.

::

    imports/<importDigest>.json                 ImportRecord
    validations/<train>-<golden or none>.json   ValidationRecord
    differences/<before>-<after>.json           DifferenceRecord
    datasets/names/<name>/<number>.json         NameRecord
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from specs.digests import Digest, hex_of
from specs.modelspec import Task
from specs.records import Record


class ImportRecord(Record):
    """How a data set came into the store from where git says it is, or why it never can."""

    import_digest: Digest
    task: Task
    source: dict[str, Any]
    """As the order had it, in YAML names."""
    status: Literal["Succeeded", "Failed"]
    reason: str = ""
    message: str = ""
    digest: str = ""
    """What the source's digest is: the one that git names, or the one to name where git names none."""
    manifest: Digest | None = None
    """Of the DatasetManifest."""
    images: int = 0
    bytes: int = 0
    """Fetched for this import; 0 where the node's cache had everything."""
    started: str = ""
    finished: str = ""


class Alike(Record):
    """Two pictures that show the same."""

    first: str
    second: str
    """Paths in their data sets."""
    exact: bool
    """Whether their bytes are the same; if not, one could have been made of the other."""


class SetReport(Record):
    """What looking at one data set found. Lists are cut; counts are not."""

    images: int
    unreadable_count: int = 0
    unreadable: list[str] = []
    """``path: why``."""
    bad_label_count: int = 0
    bad_labels: list[str] = []
    """``path:line: why``."""
    background: int = 0
    """Pictures without labels, of tasks other than classify."""
    objects: int = 0
    """Labelled objects; for classify: pictures."""
    class_counts: dict[str, int] = {}
    """The same by class, as they were counted now."""
    duplicate_count: int = 0
    near_duplicate_count: int = 0
    """Those of them that are no exact copies."""
    duplicates: list[Alike] = []
    """Within the set: pictures (``second``) that show the same as one before them, by path; each is counted once."""
    width: tuple[int, int, int] = (0, 0, 0)
    height: tuple[int, int, int] = (0, 0, 0)
    """Pixels: least, median, most."""


class ValidationRecord(Record):
    """What there is to say about training and golden data before anything is trained. States facts, judges nothing."""

    train_digest: Digest
    golden_digest: Digest | None = None
    """Manifests."""
    task: Task
    train: SetReport
    golden: SetReport | None = None
    leak_count: int = 0
    near_leak_count: int = 0
    """Those of them that are no exact copies."""
    leaks: list[Alike] = []
    """Golden pictures (``second``) that training data (``first``) shows as well; each once, exact copies first."""
    files: dict[str, Digest] = {}
    """Pictures for people: ``train.jpg``, ``golden.jpg``."""
    started: str = ""
    finished: str = ""


class ClassDifference(Record):
    """How often a class is labelled, before and after; None where that version has no such class."""

    name: str
    before: int | None = None
    after: int | None = None


class DifferenceRecord(Record):
    """Two versions of a data set compared: pictures by their bytes, labels by their path."""

    before: Digest
    after: Digest
    """Manifests."""
    images: tuple[int, int]
    added: int
    removed: int
    relabelled: int
    """Pictures that are in both, with other labels."""
    labelled: int | None = None
    """Added pictures that somebody labelled, an empty label file included; None in old records."""
    classes: list[ClassDifference] = []
    files: dict[str, Digest] = {}
    """``difference.jpg``: a contact sheet of what was added, removed and relabelled."""


class NameRecord(Record):
    """What a name, as in ``store://NAME``, means from this number on. The highest number counts."""

    name: str
    number: Annotated[int, Field(ge=1)]
    manifest: Digest
    """Of the data set."""
    before: Digest | None = None
    """What it meant before."""
    how: str = ""
    """In a few words, for people: ``trunkline data add``, ``37 pictures labelled``."""


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NUMBERED = re.compile(r"datasets/names/[^/]+/([0-9]{6})\.json")


def name_of(url: str) -> str | None:
    """Give the name in ``store://NAME``; None where that cannot be moved: it has more than letters, digits, . _ -."""
    name = url.removeprefix("store://")
    return name if name != url and _NAME.fullmatch(name) else None


def name_prefix(name: str) -> str:
    """Beginning of the keys of a name's records."""
    return f"datasets/names/{name}/"


def name_key(name: str, number: int) -> str:
    """Key of a NameRecord."""
    return f"{name_prefix(name)}{number:06}.json"


def name_number(key: str) -> int:
    """Give the number in a NameRecord's key; 0 for any other key."""
    match = _NUMBERED.fullmatch(key)
    return int(match[1]) if match else 0


def new_labels(record: DifferenceRecord) -> int:
    """Give how many pictures of the newer version bring labels that the older one does not have."""
    return (record.added if record.labelled is None else record.labelled) + record.relabelled


def import_key(import_digest: str) -> str:
    """Key of an ImportRecord."""
    return f"imports/{hex_of(import_digest)}.json"


def validation_key(train: str, golden: str | None) -> str:
    """Key of a ValidationRecord."""
    return f"validations/{hex_of(train)}-{hex_of(golden) if golden else 'none'}.json"


def difference_key(before: str, after: str) -> str:
    """Key of a DifferenceRecord."""
    return f"differences/{hex_of(before)}-{hex_of(after)}.json"
