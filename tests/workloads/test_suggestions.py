"""What to try next: within the space, never twice, the same for the same records, and better with time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.base import Args
from specs.digests import canonical, digest_of
from specs.experiment_records import TrialRecord
from specs.records import Epoch
from specs.training import Parameter, Tuning
from workloads.space import Dimension
from workloads.suggestions import cut_short, suggest

SEARCH = digest_of("search")
PARAMETERS: list[dict[str, Any]] = [
    {"name": "lr0", "type": "double", "min": 0.0001, "max": 0.1, "scale": "log"},
    {"name": "dropout", "type": "double", "min": 0, "max": 1, "step": 0.3},
    {"name": "close_mosaic", "type": "int", "min": 2, "max": 9, "step": 3},
    {"name": "batch", "type": "int", "min": 4, "max": 64, "scale": "log"},
    {"name": "imgsz", "type": "discrete", "values": [64, 32, 48]},
    {"name": "optimizer", "type": "categorical", "values": ["SGD", None, "AdamW"]},
]
ALGORITHMS = ["tpe", "random", "genetic"]


def tuning(algorithm: str = "tpe", parameters: list[dict[str, Any]] | None = None, **changes: Any) -> Tuning:
    """Give a search."""
    base = {
        "objective": {"type": "maximize", "metric": "m"}, "parameters": parameters or PARAMETERS, "maxTrialCount": 40,
        "algorithm": algorithm,
    }  # fmt: skip
    return Tuning.model_validate(base | changes, by_alias=True, by_name=False)


def goodness(args: Args) -> float:
    """Be best at a learning rate of 0.01 and pictures of 48 pixels."""
    lr0 = args["lr0"]
    assert isinstance(lr0, float)
    return (args["imgsz"] == 48) - abs(math.log10(lr0) + 2)


def search(wanted: Tuning, count: int, digest: str = SEARCH) -> list[TrialRecord]:
    """Try so many."""
    over: list[TrialRecord] = []
    for number in range(1, count + 1):
        args = suggest(wanted, digest, over, {}, number)
        assert args is not None
        failed = number % 7 == 0
        value = None if failed else goodness(args)
        over.append(TrialRecord(number=number, args=args, status="Failed" if failed else "Succeeded", value=value))
    return over


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_tried_is_in_the_space(algorithm: str) -> None:
    """Ranges, steps and lists hold; no value has more digits than a person would review; nothing is tried twice."""
    over = search(tuning(algorithm), 25)
    for trial in over:
        args = trial.args
        assert 0.0001 <= args["lr0"] <= 0.1  # type: ignore[operator]
        assert args["lr0"] == float(f"{args['lr0']:.4g}")
        assert args["dropout"] in (0, 0.3, 0.6, 0.9)
        assert args["close_mosaic"] in (2, 5, 8)
        assert isinstance(args["batch"], int)
        assert 4 <= args["batch"] <= 64
        assert args["imgsz"] in (32, 48, 64)
        assert args["optimizer"] in ("SGD", None, "AdamW")
    assert len({canonical(trial.args) for trial in over}) == len(over)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_records_give_the_same_values(algorithm: str) -> None:
    """Whoever goes on with a search chooses what the one before would have chosen; another search does not."""
    wanted = tuning(algorithm)
    over = search(wanted, 12)
    running: dict[int, Args] = {13: over[3].args | {"lr0": 0.02}}
    again = suggest(wanted, SEARCH, over, running, 14)
    assert again == suggest(wanted, SEARCH, list(over), dict(running), 14)
    assert again != suggest(wanted, digest_of("another"), over, running, 14)


@pytest.mark.parametrize("algorithm", ["tpe", "genetic"])
def test_what_was_learned_is_used(algorithm: str) -> None:
    """The last trials are better than those of chance, on the whole, in each of three searches."""
    for name in ("a", "b", "c"):
        last = [trial.value or 0.0 for trial in search(tuning(algorithm), 40, digest_of(name))[-12:]]
        chance = [trial.value or 0.0 for trial in search(tuning("random"), 40, digest_of(name))]
        assert sum(last) / len(last) > sum(chance) / len(chance)


def test_minimizing_goes_the_other_way() -> None:
    """A loss is followed down."""
    wanted = tuning("tpe", objective={"type": "minimize", "metric": "m"})
    last = [goodness(trial.args) for trial in search(wanted, 40)[-12:]]
    assert sum(last) / len(last) < -0.5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_small_space_is_searched_to_its_end(algorithm: str) -> None:
    """Every combination once, then nothing."""
    small = [PARAMETERS[4], PARAMETERS[5]]
    wanted, over = tuning(algorithm, small), list[TrialRecord]()
    while (args := suggest(wanted, SEARCH, over, {}, len(over))) is not None:
        over.append(TrialRecord(number=len(over), args=args, status="Succeeded", value=float(len(over))))
    assert len({canonical(trial.args) for trial in over}) == len(over) == 9


def test_arguments_outside_the_space_do_no_harm() -> None:
    """The first trial has the arguments as they are, which nobody said are in the space."""
    outside = TrialRecord(number=0, args={"lr0": 0.5}, status="Succeeded", value=1.0)
    for algorithm in ALGORITHMS:
        assert suggest(tuning(algorithm), SEARCH, [outside] * 12, {}, 1) is not None


def course(*values: float) -> list[Epoch]:
    """Give the epochs of a trial."""
    return [Epoch(epoch=n, metrics={"m": value}) for n, value in enumerate(values, 1)]


OVER = [
    TrialRecord(number=n, args={}, status="Succeeded", value=0.9, epochs=course(0.1, 0.5, 0.7, 0.9)) for n in range(3)
]


class TestCuttingShort:
    def test_only_where_it_is_asked_for(self) -> None:
        """Without ``earlyStopping`` every trial goes to its end."""
        assert not cut_short(tuning(), OVER, course(0, 0, 0, 0))

    def test_it_keeps_to_the_median_rule(self) -> None:
        """Not before ``startStep`` epochs and ``minTrialsRequired`` whole trials; then below their median."""
        wanted = tuning(earlyStopping={"startStep": 2, "minTrialsRequired": 3})
        assert cut_short(wanted, OVER, course(0.1, 0.2))
        assert not cut_short(wanted, OVER[:2], course(0.1, 0.2))
        assert not cut_short(wanted, OVER, course(0.0))
        assert not cut_short(wanted, OVER, course(0.0, 0.6))

    def test_a_loss_is_bad_where_it_is_high(self) -> None:
        """The direction of the objective counts."""
        wanted = tuning(earlyStopping={"startStep": 2}, objective={"type": "minimize", "metric": "m"})
        assert cut_short(wanted, OVER, course(0.9, 0.9))
        assert not cut_short(wanted, OVER, course(0.1, 0.1))


@given(st.sampled_from(PARAMETERS), st.floats(0, 1))
def test_a_value_has_a_number_and_back(parameter: dict[str, Any], position: float) -> None:
    """What is tried is known again in the records, digit for digit."""
    dimension = Dimension(Parameter.model_validate(parameter, by_alias=True, by_name=False))
    value = dimension.value(dimension.at(position))
    number = dimension.number(value)
    assert number is not None
    assert dimension.value(number) == value


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(0, 0.2), (0, "0.01"), (1, 0.4), (2, 3), (3, 4.5), (4, 40), (5, "Adam"), (0, True)],
)
def test_what_is_not_in_the_space_has_no_number(parameter: int, value: object) -> None:
    """Values beyond, between and of another kind."""
    dimension = Dimension(Parameter.model_validate(PARAMETERS[parameter], by_alias=True, by_name=False))
    assert dimension.number(value) is None
