"""The search space of a tuning: what a trial may be given, and the same as numbers that an algorithm can think in.

Values are rounded before they are tried, so that what is proposed in the end is what was tried.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import exp, floor, log
from typing import Any

from specs.base import Args, Scalar
from specs.digests import canonical
from specs.training import Parameter

_DIGITS = 4
"""Significant digits of a value that may be anything; nobody reviews more."""
_FEW = 4096
"""Up to so many combinations a search is carried to its end."""


@dataclass(frozen=True)
class Dimension:
    """One parameter. Algorithms see a number: the value itself, or for listed values its place in the list."""

    parameter: Parameter

    @cached_property
    def choices(self) -> tuple[Scalar, ...]:
        """What is listed; numbers in order, so that neighbours are alike. Empty for ranges."""
        values = self.parameter.values or []
        if self.parameter.type == "discrete":
            return tuple(sorted(values, key=lambda value: float(str(value))))
        return tuple(values)

    @property
    def step(self) -> float | None:
        """Distance between values on a grid, None where there is none."""
        whole = self.parameter.type == "int" and not self.is_log
        return self.parameter.step or (1.0 if whole else None)

    @property
    def is_log(self) -> bool:
        """Whether ratios matter, not differences."""
        return self.parameter.scale == "log"

    @property
    def _range(self) -> tuple[float, float]:
        return float(self.parameter.min or 0), float(self.parameter.max or 0)

    @cached_property
    def count(self) -> int | None:
        """How many values there are, None where nobody counts them; then a number is the value, else its place."""
        if self.choices:
            return len(self.choices)
        low, high = self._range
        return None if self.step is None else floor((high - low) / self.step + 1e-9) + 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return self._range if self.count is None else (0.0, float(self.count - 1))

    def value(self, number: float) -> Scalar:
        """Give what is tried for a number: one that is there, within the bounds, with few digits."""
        low, high = self.bounds
        within = min(max(number, low), high)
        if self.choices:
            return self.choices[round(within)]
        if self.count is not None:
            within = float(f"{self._range[0] + round(within) * (self.step or 1.0):.12g}")
        if self.parameter.type == "int":
            return round(within)
        return within if self.count is not None else min(max(float(f"{within:.{_DIGITS}g}"), low), high)

    def number(self, value: object) -> float | None:
        """Give the number of a value, None for one that is not in the space: the arguments as they are may be any."""
        if self.choices:
            found = [at for at, choice in enumerate(self.choices) if canonical(choice) == canonical(value)]
            return float(found[0]) if found else None
        low, high = self._range
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            return None
        if self.count is None:
            return float(value) if self.parameter.type == "double" or float(value).is_integer() else None
        place = (value - low) / (self.step or 1.0)
        return float(round(place)) if abs(place - round(place)) < 1e-9 and round(place) < self.count else None

    def position(self, number: float) -> float:
        """Give where a number is between the bounds, from 0 to 1."""
        low, high = self.bounds
        return log(number / low) / log(high / low) if self.is_log else (number - low) / (high - low)

    def at(self, position: float) -> float:
        """Give the number at a position from 0 to 1."""
        low, high = self.bounds
        return low * exp(position * log(high / low)) if self.is_log else low + position * (high - low)


class Space:
    """All dimensions together."""

    def __init__(self, parameters: list[Parameter]) -> None:
        self.dimensions = {parameter.name: Dimension(parameter) for parameter in parameters}

    def numbers(self, args: Args) -> dict[str, float] | None:
        """Give the numbers of a trial's arguments, None where they are not in the space."""
        found = {name: dimension.number(args.get(name)) for name, dimension in self.dimensions.items()}
        numbers = {name: number for name, number in found.items() if number is not None}
        return numbers if len(numbers) == len(found) else None

    def args(self, numbers: dict[str, Any]) -> Args:
        """Give a trial's arguments for numbers."""
        return {name: dimension.value(numbers[name]) for name, dimension in self.dimensions.items()}

    def anywhere(self, chance: random.Random) -> Args:
        """Give arguments at random."""
        return self.args({name: dimension.at(chance.random()) for name, dimension in self.dimensions.items()})

    def every(self) -> Iterator[Args] | None:
        """Give all arguments there are, None where they are too many."""
        total = 1
        for dimension in self.dimensions.values():
            total *= dimension.count or _FEW + 1
            if total > _FEW:
                return None
        values = [
            [each.value(at) for at in range(each.count or 0)]
            for each in self.dimensions.values()
        ]
        return (dict(zip(self.dimensions, combination, strict=True)) for combination in itertools.product(*values))
