"""``spec.labelling.queue``: where kept pictures go to be labelled by people."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from specs.base import Section
from specs.digests import PlainText

Project = Annotated[PlainText, Field(min_length=3, max_length=50)]
"""Its name there; Label Studio takes no shorter and no longer ones."""


class DirectoryQueue(Section):
    """A folder, as YOLO has it."""

    path: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=255)
    ] | None = None
    """Below ``folder`` of ``[labelling]``; the model's name where it is not given."""


class _Service(Section):
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048)]
    """Its root, as people open it; ``hosts`` of ``[labelling]`` must list the host."""
    project: Project
    """Made, with the model's classes, where there is none of this name."""

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - reading it checks it
        except ValueError as error:
            raise ValueError("the URL is none") from error
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("the URL must be https://HOST or https://HOST/path, without user, password, ? and #")
        return url


class LabelStudioQueue(_Service):
    """A project of a Label Studio."""


class CvatQueue(_Service):
    """A project of a CVAT."""


class Queue(Section):
    """Exactly one place where people label."""

    directory: DirectoryQueue | None = None
    label_studio: LabelStudioQueue | None = None
    cvat: CvatQueue | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        named = {"directory": self.directory, "labelStudio": self.label_studio, "cvat": self.cvat}
        given = [kind for kind, queue in named.items() if queue is not None]
        if len(given) != 1:
            msg = f"give exactly one of directory, labelStudio, cvat; found {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self
