"""What must be remembered about a model beside its server: a file for each of them, replaced in one step."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters import processes
from specs.serving_facts import Rejected, ServingTarget


@dataclass(frozen=True)
class Note:
    """What must be remembered about a model beside the server."""

    path: Path
    file: str = ""
    version: int = 0
    build: str = ""
    """The last target."""
    deaths: int = 0
    """How often the server died of that file."""
    rejected: Rejected | None = None
    """What that target replaced for good."""

    @classmethod
    def read(cls, path: Path) -> Note:
        """Read a note, empty where there is none."""
        with suppress(ValueError, LookupError, TypeError):
            known = json.loads(processes.read_text(path))
            given = known.get("rejected")
            rejected = Rejected(str(given["file"]), str(given["failure"])) if given else None
            last = str(known["file"]), int(known.get("version", 0)), str(known.get("build", ""))
            return cls(path, *last, int(known["deaths"]), rejected)
        return cls(path)

    def about(self, target: ServingTarget, rejected: Rejected | None) -> Note:
        """Give the note that goes with a target: what was known stays as far as it is about that."""
        same = (self.file, self.version) == (target.file, target.version)
        deaths = self.deaths if (self.file, self.build) == (target.file, target.build) else 0
        known = self.rejected if same else None  # the first verdict stays
        return Note(self.path, target.file, target.version, target.build, deaths, known or rejected)

    def write(self) -> None:
        """Remember it; OSError where the disk does not take it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        processes.write_text(self.path, json.dumps({n: v for n, v in asdict(self).items() if n != "path"}))

    @property
    def failure(self) -> str:
        """Why the file will not be tried again; empty where it may be. Once may be chance, twice is not."""
        return f"the server died {self.deaths} times while it loaded this file" if self.deaths > 1 else ""
