"""What jobs about data leave in the store, beside the DatasetManifest itself.

::

    imports/<importDigest>.json                 ImportRecord
    validations/<train>-<golden or none>.json   ValidationRecord
    differences/<before>-<after>.json           DifferenceRecord
"""

from __future__ import annotations

from typing import Any, Literal

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
    classes: list[ClassDifference] = []
    files: dict[str, Digest] = {}
    """``difference.jpg``: a contact sheet of what was added, removed and relabelled."""


def import_key(import_digest: str) -> str:
    """Key of an ImportRecord."""
    return f"imports/{hex_of(import_digest)}.json"


def validation_key(train: str, golden: str | None) -> str:
    """Key of a ValidationRecord."""
    return f"validations/{hex_of(train)}-{hex_of(golden) if golden else 'none'}.json"


def difference_key(before: str, after: str) -> str:
    """Key of a DifferenceRecord."""
    return f"differences/{hex_of(before)}-{hex_of(after)}.json"
