"""``spec.data``: where the pictures come from, pinned by digest."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from specs import addresses
from specs.base import Fraction, Number, Section
from specs.digests import Digest, PlainText

DvcDigest = Annotated[str, StringConstraints(pattern=r"^md5:[0-9a-f]{32}(\.dir)?$")]


class UriSource(Section):
    """A data set that a URL names: ``store://NAME`` for one that ``trunkline data add`` put into the store."""

    url: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*://[^\s]+$", max_length=2048)]
    """For people and for fetching; the digest decides what the bytes must be."""
    digest: Digest | None = None
    """Of the manifest that ``trunkline data add`` printed (``store``), of an archive's file, or of a folder's tree."""

    @field_validator("url")
    @classmethod
    def _well_formed(cls, url: str) -> str:
        wrong = addresses.fault(url)
        if wrong:
            msg = f"the URL {wrong}"
            raise ValueError(msg)
        return url


class DvcSource(Section):
    """A data set that a DVC pointer file in a git repository names."""

    repo_url: Annotated[str, Field(alias="repoURL", min_length=1, max_length=2048)]
    target_revision: Annotated[PlainText, Field(min_length=1, max_length=256)]
    path: Annotated[PlainText, Field(min_length=1, max_length=1024)]
    """Of a ``.dvc`` file, or of an output that a ``dvc.lock`` names."""
    remote: Annotated[PlainText, Field(max_length=128)] | None = None
    """Name of the DVC remote that has the bytes; the repository's default where it is not given."""
    digest: DvcDigest | None = None


class PlatformSource(Section):
    """A data set version on the Ultralytics Platform."""

    uri: Annotated[str, StringConstraints(pattern=r"^ul://[a-z0-9-]+/datasets/[a-z0-9-]+$")]
    version: Annotated[int, Field(ge=1)] | None = None
    digest: PlainText | None = None
    """The version's content hash, as the Platform gives it."""


class Source(Section):
    """Exactly one way to name a data set."""

    uri: UriSource | None = None
    dvc: DvcSource | None = None
    platform: PlatformSource | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [kind for kind in ("uri", "dvc", "platform") if getattr(self, kind) is not None]
        if len(given) != 1:
            msg = f"give exactly one of uri, dvc, platform; found {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self

    @property
    def kind(self) -> Literal["uri", "dvc", "platform"]:
        """Which of the three it is."""
        return "uri" if self.uri else "dvc" if self.dvc else "platform"

    @property
    def in_store(self) -> bool:
        """Whether it is in the store already: then its digest is that of its manifest, and nothing is fetched."""
        return self.uri is not None and self.uri.url.startswith("store://")

    @property
    def has_versions(self) -> bool:
        """Whether there can be newer ones: names in the store move, addresses elsewhere do not."""
        return self.kind != "uri" or self.in_store

    def plain(self) -> dict[str, Any]:
        """Give it as plain JSON values, in YAML names."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def digest(self) -> str | None:
        """What the bytes must be, or None while the reference is not pinned."""
        source = self.uri or self.dvc or self.platform
        return source.digest if source else None


class Expectations(Section):
    """What the training data must look like before any compute is spent on it."""

    min_images: Annotated[int, Field(ge=1)] | None = None
    classes: Annotated[list[PlainText], Field(min_length=1)] | None = None
    """Class names, in any order; all of them and no others."""
    max_class_imbalance: Annotated[Number, Field(ge=1)] | None = None
    """Largest class count divided by smallest."""
    max_near_leaks: Annotated[int, Field(ge=0)] | None = None
    """Golden pictures that training data nearly shows as well, as neighbouring frames of a video do; 0 where not given.

    Pictures that are the very same are never put up with.
    """
    max_duplicates: Annotated[int, Field(ge=0)] | None = None
    """Training pictures that show the same as another one, exactly or nearly; only reported where not given."""
    max_background: Fraction | None = None
    """Share of training pictures without labels; only reported where not given."""


class Data(Section):
    """Training data, and a frozen golden set that is only ever measured on."""

    train: Source
    golden: Source | None = None
    calibration: Source | None = None
    """Pictures for exports in INT8, which find the ranges of their numbers on them; the training data by default."""
    expect: Expectations | None = None

    @property
    def named(self) -> list[tuple[str, Source]]:
        """Every data set that is named, after its field."""
        every = (
            ("spec.data.train", self.train), ("spec.data.golden", self.golden),
            ("spec.data.calibration", self.calibration),
        )  # fmt: skip
        return [(field, source) for field, source in every if source is not None]
