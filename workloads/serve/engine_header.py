"""What is written before a TensorRT engine: a length, and that much JSON, the way Ultralytics does it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Give what is written before the engine, and the engine.

    The length is four bytes, little-endian. An engine with nothing before it is taken as it is.
    """
    length = int.from_bytes(data[:4], "little")
    if 0 < length <= len(data) - 4:
        with suppress(ValueError):
            described = json.loads(data[4 : 4 + length])
            if isinstance(described, dict):
                return described, data[4 + length :]
    return {}, data


def join(described: Mapping[str, Any], plan: bytes) -> bytes:
    """Write a file that ``split`` reads."""
    head = json.dumps(described, sort_keys=True).encode()
    return len(head).to_bytes(4, "little") + head + plan
