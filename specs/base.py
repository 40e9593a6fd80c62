"""What every part of a ModelSpec shares: frozen, strict about unknown fields, camelCase in YAML."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


class Section(BaseModel):
    """Base of all sections. Unknown fields are errors; Python names are snake_case, YAML names camelCase."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, strict=True,
        use_attribute_docstrings=True,
    )


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=63)]
"""A DNS label: lower-case letters, digits and hyphens, at most 63."""

DURATION_PATTERN = r"^[1-9][0-9]*(ms|s|m|h|d)$"
Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN)]
"""A whole number and a unit: ``80ms``, ``30s``, ``15m``, ``1h``, ``3d``."""

Scalar = str | int | float | bool | None
Args = dict[str, Scalar | list[Scalar]]
"""An open map of arguments that another program defines."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """Give a Duration in seconds; ValueError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]*)(ms|s|m|h|d)", duration)
    if match is None:
        msg = f"not a duration: {duration!r}; write for instance 80ms, 30s, 15m, 1h or 3d"
        raise ValueError(msg)
    return int(match[1]) * _SECONDS[match[2]]
