"""When a signal fires, and when it ceases: a fold over the readings of its windows. Pure.

It fires when as many conclusive windows as ``forWindows`` says failed one after the other, and ceases when as many
passed; what says nothing is skipped. So a value that dances around its bound changes nothing, and neither does silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconcilers.observed import Judgement, Reading
from specs.moments import iso
from specs.monitoring import FOR_WINDOWS, Monitoring
from specs.names import episode_name, parse_episode
from specs.status import SignalStatus

NOBODY: Mapping[str, bool] = {}
_LEAST_KNOWN = 24


def for_windows(monitoring: Monitoring) -> int:
    """Give how many windows in a row must agree."""
    return monitoring.for_windows or FOR_WINDOWS


def known_windows(monitoring: Monitoring) -> int:
    """Give how many of the last windows are asked for: enough to see an episode begin between silent ones."""
    return max(_LEAST_KNOWN, 4 * for_windows(monitoring))


@dataclass
class _Fold:
    """Where a signal stands after the windows so far."""

    state: str = ""
    """``Firing``, ``Quiet``, or empty: as many windows as it takes to tell were not seen."""
    first: Reading | None = None
    """The window with which that began."""
    last: Reading | None = None
    """The window after which it was so."""
    told: bool = False
    """Whether it was otherwise before, within the windows that are known."""

    def over(self, readings: Iterable[Reading], needed: int) -> _Fold:
        """Take in the conclusive ones of these windows, oldest first."""
        row: list[Reading] = []
        for reading in _conclusive(readings):
            row = [*row, reading] if row and row[0].judgement is reading.judgement else [reading]
            state = "Firing" if reading.judgement is Judgement.FAILING else "Quiet"
            if len(row) == needed and state != self.state:
                self.first, self.last, self.told = row[-needed], reading, bool(self.state)
                self.state = state
        return self


def standings(
    monitoring: Monitoring, version: int, readings: Mapping[str, Sequence[Reading]], before: Sequence[SignalStatus],
    asked_for: Mapping[str, bool] = NOBODY,
) -> tuple[SignalStatus, ...]:
    """Give how each signal of a release stands, in the order of the spec.

    ``before`` is what was told last; where no window is known, that stays: a restart, or a Prometheus that is down, is
    no news. ``asked_for``, for when nobody else remembers: episodes that pull requests of ours name, and whether one is
    still open.
    """
    told = {status.name: status for status in before if _is_about(status, version)}
    needed = for_windows(monitoring)
    return tuple(
        _standing(each.name, version, readings.get(each.name, ()), told.get(each.name), needed)
        or _adopted(each.name, version, readings.get(each.name, ()), asked_for, needed)
        for each in monitoring.signals
    )


def _standing(
    name: str, version: int, readings: Sequence[Reading], before: SignalStatus | None, needed: int
) -> SignalStatus | None:
    """Judge by the windows and by what was told last; None where nothing was told."""
    if before is None:
        return None
    if not readings:
        return before
    began = _start(before)
    if began is not None and not any(int(reading.start) == began for reading in _conclusive(readings)):
        # The windows known no longer reach back to its beginning, so what was told last is all that is known of it.
        later = _Fold("Firing").over((r for r in readings if int(r.start) > began), needed)
        return before if later.first is None else _told(name, version, later)
    return _by_windows(name, version, _Fold().over(readings, needed), readings, before)


def _by_windows(
    name: str, version: int, fold: _Fold, readings: Sequence[Reading], before: SignalStatus | None
) -> SignalStatus:
    """Judge by the windows alone; what was told last only lends the words for silence that goes on."""
    if fold.state == "Firing" or fold.told:
        return _told(name, version, fold)
    if next(_conclusive(readings), None) is None:
        return SignalStatus(name=name, state="Unknown")
    return before if before is not None and before.state == "Quiet" else SignalStatus(name=name, state="Quiet")


def _adopted(
    name: str, version: int, readings: Sequence[Reading], asked_for: Mapping[str, bool], needed: int
) -> SignalStatus:
    """Judge where the last status is lost: by the windows, and where they do not reach back, by what we asked for."""
    fold = _Fold().over(readings, needed)
    found = _by_windows(name, version, fold, readings, None)
    first = next(_conclusive(readings), None)
    is_open = fold.state == "" or (fold.state == "Firing" and fold.first is first)
    named = (parse_episode(cause) for cause, still in asked_for.items() if still or fold.state)
    ours = [each[2] for each in named if each is not None and each[:2] == (name, version)]
    older = [start for start in ours if fold.first is None or start < fold.first.start]
    if not is_open or not older:
        return found
    episode = episode_name(name, version, max(older))
    return found.model_copy(update={"state": "Firing", "since": iso(max(older)), "episode": episode})


def _conclusive(readings: Iterable[Reading]) -> Iterator[Reading]:
    return (reading for reading in readings if reading.judgement is not Judgement.INCONCLUSIVE)


def _is_about(before: SignalStatus, version: int) -> bool:
    """Whether what was told last is about this release: an episode is, or is not, and silence is about any."""
    named = parse_episode(before.episode)
    return before.state != "Firing" or (named is not None and named[1] == version)


def _start(status: SignalStatus) -> float | None:
    """Give the start of the episode that is told, in whole seconds; None where none is."""
    named = parse_episode(status.episode) if status.state == "Firing" else None
    return named[2] if named else None


def _told(name: str, version: int, fold: _Fold) -> SignalStatus:
    """Give how a signal stands, with the numbers of the window that made it so."""
    first, last = fold.first, fold.last
    if first is None or last is None:
        return SignalStatus(name=name, state="Unknown")
    episode = episode_name(name, version, first.start) if fold.state == "Firing" else ""
    return SignalStatus(
        name=name, state="Firing" if episode else "Quiet", value=last.value, low=last.low, high=last.high, n=last.n,
        since=iso(first.start), episode=episode,
    )  # fmt: skip


def episode_windows(readings: Sequence[Reading], start: float, needed: int) -> tuple[Reading, ...]:
    """Give the conclusive windows by which an episode came to be; empty where they are not known any more."""
    found = [r for r in readings if int(r.start) >= start and r.judgement is Judgement.FAILING][:needed]
    return tuple(found) if found and int(found[0].start) == start and len(found) == needed else ()
