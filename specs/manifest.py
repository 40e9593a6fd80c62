"""Manifests: ModelSpecs as text. One door for all that reads, edits and proves them."""

from __future__ import annotations

from specs.edits import INTENT_FIELDS, edit
from specs.proof import prove, prove_rewritten, rewrite
from specs.reading import Candidate, LoadedModel, decode, find, judge, load, parse

__all__ = [
    "INTENT_FIELDS", "Candidate", "LoadedModel", "decode", "edit", "find", "judge", "load", "parse", "prove",
    "prove_rewritten", "rewrite",
]  # fmt: skip
