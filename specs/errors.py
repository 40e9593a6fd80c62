"""Trouble has three names, and each error says which one it is.

    TrunklineError
    ├── Stalled         a person must act: bad spec, failed gate, unsafe edit
    │   ├── InvalidManifest    the file does not say what a ModelSpec must say
    │   ├── UnsafeEdit         an edit would touch more than it may
    │   └── CorruptArtifact    bytes differ from the digest that names them
    └── Transient       the world is in the way: conflict, timeout, disk full; try again

Waiting is not an error: it is a value, ``reconcilers.plan.Wait``.
"""

from __future__ import annotations

from dataclasses import dataclass


class TrunklineError(Exception):
    """Base of everything Trunkline raises on purpose.

    ``reason`` is a CamelCase word for programs, ``message`` a sentence for people that says what is wrong,
    where, and what to do about it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Stalled(TrunklineError):
    """Trying again changes nothing; an input must change first."""


class Transient(TrunklineError):
    """Trying again later may work."""


class UnsafeEdit(Stalled):
    """A manifest edit could not be proved to change only what its intent allows."""

    def __init__(self, message: str) -> None:
        super().__init__("UnsafeEdit", message)


class CorruptArtifact(Stalled):
    """Stored bytes do not match the digest that names them."""

    def __init__(self, message: str) -> None:
        super().__init__("CorruptArtifact", message)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file, placed so that an editor can jump to it.

    ``line`` and ``column`` count from 1; 0 means the whole file. ``field`` is a dotted path such as
    ``spec.training.args`` or the empty string.
    """

    path: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class InvalidManifest(Stalled):
    """A file that should hold ModelSpecs does not; carries every problem found, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("InvalidManifest", "\n".join(str(p) for p in problems))
        self.problems = problems
