"""Ways of exporting: what makes two exports of the same weights the same, and the digest that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs.base import Args
from specs.digests import digest_of
from specs.exports import needs_calibration
from specs.records import ExportRecord


def export_digest(
    format_: str, args: Args, image_size: object, *, calibration: str | None = None,
    runtime: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """Name the way of exporting: format, arguments and size; not the weights, not the export's name.

    Calibration data is part of it only where it is looked at, and the machine only where one was asked for.
    """
    way: dict[str, Any] = {"v": 1, "format": format_, "args": args, "imgsz": args.get("imgsz", image_size)}
    if needs_calibration(format_, args):
        way["calibration"] = calibration
    if runtime:
        way["runtime"] = dict(runtime)
    return digest_of(way)


def way_of(record: ExportRecord, image_size: object) -> str:
    """Give the digest of the way of exporting that a record's own words give; ``image_size`` is that of the training.

    It is the record's own where nobody altered that.
    """
    return export_digest(
        record.format, record.args, image_size, calibration=record.calibration, runtime=record.made_for
    )
