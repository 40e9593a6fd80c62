"""Counts what is answered, and remembers it for a while, whatever way the request came in."""

from __future__ import annotations

import logging

from workloads.serve.answers import Refusal
from workloads.serve.protocol import REQUEST_HEADER
from workloads.serve.recent import LONGEST, Answered, Recent, is_name
from workloads.serve.results import Findings
from workloads.serve.served import Served
from workloads.serve.tensors import Array

log = logging.getLogger(__name__)


class Watching:
    """Takes down each answer. Belongs to the event loop's thread, and must cost next to nothing there."""

    def __init__(self) -> None:
        self.recent = Recent()
        self._bugs: set[type[Exception]] = set()

    def name(self, given: str | None) -> str:
        """Give the name of a request: the client's, or a new one. Refusal 400 for what is no name."""
        if given is None:
            return self.recent.name()
        if not is_name(given):
            msg = f"{REQUEST_HEADER} must be 1 to {LONGEST} printable ASCII characters without spaces"
            raise Refusal(400, msg)
        return given

    def answered(
        self, name: str, served: Served, request: str, *, rows: Array, found: Findings,
        size: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Count one answer of model ``name``: its input, what was found in it, and where it was a picture, its size.

        ``size`` is (height, width), as boxes are told in. Raises nothing: a bug here must not cost a client its answer.
        """
        artifact = served.artifact
        if not self.counted(name, served, rows=rows, found=found, size=size) or not found:
            return
        if artifact.task != "obb":  # whose truth is not counted
            answer = Answered(served.target.version, artifact, found, len(rows), size or artifact.image_size)
            self.recent.remember(name, request, answer)

    def counted(
        self, name: str, served: Served, *, rows: Array, found: Findings, size: tuple[int, int] | None = None
    ) -> bool:
        """Count like ``answered``, and remember nothing: nobody was told this answer. False where it did not count."""
        seen = served.observer.series.seen
        if seen is None:
            return False
        try:
            seen.saw(rows, found)
            if size is not None:
                seen.sized(size[0] * size[1])
        except Exception as error:
            if type(error) not in self._bugs:
                log.exception("an answer of model %s could not be counted", name)
            self._bugs.add(type(error))
            return False
        return True
