"""Where tests stand in the way of effects: before one, after one, or instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from specs.errors import Transient

T = TypeVar("T")
Moment = Literal["before", "after"]


class KilledError(Exception):
    """The process ended here. No error of ours, so nobody may catch it."""


@dataclass
class Wire:
    """Every effect of every fake goes through here and is numbered, from 1."""

    log: list[str] = field(default_factory=list)
    script: Callable[[int, Moment, str], None] | None = None
    """Called around each effect with its number, the moment and its name; what it raises, the caller gets."""
    twice: bool = False
    """Carry out each effect two times, as a caller does that never got the first answer."""

    def effect(self, name: str, do: Callable[[], T]) -> T:
        """Carry out one effect."""
        self.log.append(name)
        number, script = len(self.log), self.script
        if script is not None:
            script(number, "before", name)
        answer = do()
        if self.twice:
            answer = do()
        if script is not None:
            script(number, "after", name)
        return answer


def at(effect: int, moment: Moment, do: Callable[[], object]) -> Callable[[int, Moment, str], None]:
    """Do something once, at one moment of one effect."""
    done: list[bool] = []

    def run(number: int, when: Moment, _name: str) -> None:
        if not done and (number, when) == (effect, moment):
            done.append(True)
            do()

    return run


def killed() -> None:
    """End the process."""
    raise KilledError


def unanswered() -> None:
    """Lose the answer."""
    raise Transient("Timeout", "no answer came")
