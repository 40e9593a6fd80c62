"""Names of files that come from elsewhere: which of them may be written to this disk, and mean one file each."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from workloads.errors import Hopeless

DEPTH = 32
NAME_BYTES, PATH_BYTES = 255, 1024


@dataclass
class Names:
    """The paths of one archive or folder, checked one after the other.

    ``of`` is what it is called, for messages; ``reason`` goes with them. Whatever is refused is Hopeless.
    """

    of: str
    reason: str
    _files: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)
    _seen: dict[str, str] = field(default_factory=dict)
    """Each file and folder as a file system would see it that knows no case, and how it was written first."""

    def refusal(self, why: str) -> Hopeless:
        """Give the error that says why this can never be taken."""
        return Hopeless(self.reason, f"{self.of} {why}")

    def plain(self, path: str) -> str:
        """Give a path without what is harmless (``./`` at its beginning, ``/`` at its end); refuse what is not."""
        plain = path.removeprefix("./").rstrip("/")
        parts = plain.split("/")
        if path.startswith("/") or ".." in parts or "\\" in path:
            raise self.refusal(f"holds {path[:99]!r}, which leads outside; write relative paths with /")
        if not path.isprintable():  # surrogates are not, either: what is no UTF-8
            raise self.refusal(f"holds {path[:99]!r}, which cannot be printed; rename it")
        if plain and {"", "."} & set(parts):
            raise self.refusal(f"holds {path[:99]!r}, which is no plain path; rename it")
        long = any(len(part.encode()) > NAME_BYTES for part in parts) or len(plain.encode()) > PATH_BYTES
        if long or len(parts) > DEPTH:
            raise self.refusal(f"holds {path[:99]!r}…, which is too long or too deep; shorten it")
        return plain

    def claim(self, path: str) -> None:
        """Take a plain path for a file; refuse it where another has it, or would have it on some disks."""
        if not path:
            raise self.refusal("holds a file without a name; rename it")
        parts = path.split("/")
        folders = ["/".join(parts[:count]) for count in range(1, len(parts))]
        for each in [*(folder for folder in folders if folder not in self._folders), path]:
            first = self._seen.setdefault(unicodedata.normalize("NFC", each).casefold(), each)
            if first != each:
                raise self.refusal(f"holds {first!r} and {each!r}, which are one on many disks; rename one of them")
        if path in self._files or path in self._folders or not self._files.isdisjoint(folders):
            raise self.refusal(f"holds {path!r} twice; keep one of them")
        self._files.add(path)
        self._folders.update(folders)
