"""Formats that a server makes of a released ONNX file for itself, in one word: ``openvino``, ``engine:fp16``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import StringConstraints

BUILD_PATTERN = r"^((openvino|engine)(:fp16)?)?$"
BuildWord = Annotated[str, StringConstraints(pattern=BUILD_PATTERN)]
"""Empty where the released file itself is served."""
_HALF = frozenset({"16", "fp16", "True"})


@dataclass(frozen=True)
class Build:
    """What to make."""

    format: str
    precision: str = "fp32"
    """In which it calculates: ``fp32`` or ``fp16``."""

    @classmethod
    def parse(cls, word: str) -> Build | None:
        """Read the word; None where it is empty, ValueError where it is none."""
        if not re.fullmatch(BUILD_PATTERN, word):
            msg = f"{word!r} is not openvino or engine, with :fp16 behind it where it may calculate so"
            raise ValueError(msg)
        format_, _, precision = word.partition(":")
        return cls(format_, precision or "fp32") if word else None

    @property
    def word(self) -> str:
        """Write it down."""
        return self.format if self.precision == "fp32" else f"{self.format}:{self.precision}"


def build_word(format_: str, args: Mapping[str, Any]) -> str:
    """Give the word for a format with Ultralytics' arguments: ``quantize: 16`` means half precision."""
    half = str(args.get("quantize", args.get("half"))) in _HALF
    return Build(format_, "fp16" if half else "fp32").word
