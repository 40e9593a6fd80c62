"""What was answered a short while ago, so that it can be judged when somebody tells the truth about it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from secrets import token_hex

from specs.records import ArtifactRecord
from workloads.serve.results import Findings

REQUESTS = 16_384
"""That are remembered."""
BYTES = 32 << 20
"""Of what was found in them."""
LONGEST = 128
"""Characters of a request's name."""


@dataclass(eq=False, slots=True)
class Answered:
    """One request that was answered."""

    version: int
    artifact: ArtifactRecord
    found: Findings
    pictures: int
    size: tuple[int, int]
    """(height, width) that boxes of the truth refer to: the picture as it was sent, or the model's input."""


class Recent:
    """The last answers, by model and name of the request; the oldest ones go first."""

    def __init__(self, requests: int = REQUESTS, size: int = BYTES) -> None:
        self._most = requests
        self._room = size
        self._answers: OrderedDict[tuple[str, str], Answered] = OrderedDict()
        self._begin = token_hex(6)
        self._numbers = count(1)

    def name(self) -> str:
        """Give a name to a request that has none."""
        return f"{self._begin}-{next(self._numbers):x}"

    def remember(self, model: str, request: str, answered: Answered) -> None:
        """Keep an answer; a later one to a request of the same name takes its place."""
        self.forget(model, request)
        self._answers[model, request] = answered
        self._room -= _size(answered)
        while self._room < 0 or len(self._answers) > self._most:
            _, oldest = self._answers.popitem(last=False)
            self._room += _size(oldest)

    def find(self, model: str, request: str) -> Answered | None:
        """Give an answer that is still remembered."""
        return self._answers.get((model, request))

    def forget(self, model: str, request: str) -> None:
        """Drop an answer; no-op where there is none."""
        known = self._answers.pop((model, request), None)
        if known is not None:
            self._room += _size(known)


def is_name(text: str) -> bool:
    """Whether a client may call a request like that: it comes back in a header."""
    return 0 < len(text) <= LONGEST and text.isascii() and text.isprintable() and " " not in text


def _size(answered: Answered) -> int:
    return sum(array.nbytes for array in answered.found)
