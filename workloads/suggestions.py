"""What to try next, and which trial to cut short. Nothing is remembered: both follow from what was tried before.

So a search that was killed goes on as if nothing had been; the same records and the same number give the same values.
TPE and the median rule are Optuna's. ``genetic`` does what Ultralytics' own tuner does, children of the best with
mutations; that tuner itself draws from no seed, keeps its place in a local file, and knows numbers only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from specs.base import Args
from specs.digests import canonical, digest_of
from specs.experiment_records import TrialRecord
from specs.records import Epoch
from specs.training import Tuning
from workloads.space import Space

_STUBBORN = 8
"""Answers that were tried before, after which chance decides."""
_PARENTS = 9
_ORPHANS = 4
"""Trials at random before there are parents."""
_MUTATES = 0.4
_SIGMA = 0.15


def suggest(
    tuning: Tuning, digest: str, over: Sequence[TrialRecord], running: Mapping[int, Args], number: int
) -> Args | None:
    """Give the arguments of trial ``number``, None where all there are were tried. ``digest`` names the search."""
    space = Space(tuning.parameters)
    seen = {canonical(args) for args in (*(trial.args for trial in over), *running.values())}
    every = space.every()
    if every is not None:
        left = [args for args in every if canonical(args) not in seen]
        if not left:
            return None
    for attempt in range(2 * _STUBBORN):
        seed = int(digest_of([digest, number, attempt])[-8:], 16)
        chance = random.Random(seed)  # noqa: S311 - nothing secret: the same search draws the same
        if attempt >= _STUBBORN or tuning.algorithm == "random":
            args = space.anywhere(chance)
        elif tuning.algorithm == "genetic":
            args = _evolved(space, tuning, over, chance)
        else:
            args = _by_tpe(space, tuning, over, running, seed)
        if canonical(args) not in seen:
            return args
    return left[0] if every is not None else None


def cut_short(tuning: Tuning, over: Sequence[TrialRecord], so_far: Sequence[Epoch]) -> bool:
    """Whether a trial that got as far as this is not worth its end."""
    rule, metric = tuning.early_stopping, tuning.objective.metric
    if rule is None or not so_far:
        return False
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=rule.min_trials_required or 3, n_warmup_steps=rule.start_step or 4
    )
    study = optuna.create_study(
        direction=tuning.objective.type, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    for trial in over:
        if trial.status == "Succeeded" and trial.value is not None:
            study.add_trial(optuna.trial.create_trial(value=trial.value, intermediate_values=_steps(trial, metric)))
    asked = study.ask()
    for epoch in so_far:
        if metric in epoch.metrics:
            asked.report(epoch.metrics[metric], epoch.epoch)
    return bool(asked.should_prune())


def _steps(trial: TrialRecord, metric: str) -> dict[int, float]:
    return {epoch.epoch: epoch.metrics[metric] for epoch in trial.epochs if metric in epoch.metrics}


def _by_tpe(space: Space, tuning: Tuning, over: Sequence[TrialRecord], running: Mapping[int, Args], seed: int) -> Args:
    """Ask Optuna's TPE, in a study made anew from the records; trials that run count as bad, so that none is near."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    startup = min(10, max(3, tuning.max_trial_count // 4))
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
    study = optuna.create_study(direction=tuning.objective.type, sampler=sampler)
    distributions = _distributions(space)
    states = optuna.trial.TrialState
    known = {"Succeeded": states.COMPLETE, "Pruned": states.PRUNED, "Failed": states.FAIL}
    for trial in over:
        numbers = space.numbers(trial.args)
        if numbers is not None:
            done = trial.status == "Succeeded"
            study.add_trial(optuna.trial.create_trial(
                state=known[trial.status], params=_typed(numbers, distributions), distributions=distributions,
                value=trial.value if done else None, intermediate_values=_steps(trial, tuning.objective.metric),
            ))  # fmt: skip
    for args in running.values():
        numbers = space.numbers(args)
        if numbers is not None:
            study.add_trial(optuna.trial.create_trial(
                state=states.RUNNING, params=_typed(numbers, distributions), distributions=distributions
            ))  # fmt: skip
    return space.args(study.ask(distributions).params)


def _distributions(space: Space) -> dict[str, Any]:
    """Give the space in Optuna's words. Words have no order; the places of listed numbers have."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, dimension in space.dimensions.items():
        low, high = dimension.bounds
        if dimension.parameter.type == "categorical":
            found[name] = CategoricalDistribution(range(len(dimension.choices)))
        elif dimension.count is None and dimension.parameter.type == "double":
            found[name] = FloatDistribution(low, high, log=dimension.is_log)
        else:
            found[name] = IntDistribution(int(low), int(high), log=dimension.is_log)
    return found


def _typed(numbers: Mapping[str, float], distributions: Mapping[str, Any]) -> dict[str, float]:
    """Give numbers as Optuna keeps them: whole ones as int."""
    return {
        name: value if type(distributions[name]).__name__ == "FloatDistribution" else int(value)
        for name, value in numbers.items()
    }


def _evolved(space: Space, tuning: Tuning, over: Sequence[TrialRecord], chance: random.Random) -> Args:
    """Cross two of the best, the better the likelier, and change some of what comes out."""
    scored = [(trial.value, space.numbers(trial.args)) for trial in over if trial.value is not None]
    known = [(value, numbers) for value, numbers in scored if numbers is not None]
    if len(known) < _ORPHANS:
        return space.anywhere(chance)
    best = sorted(known, key=lambda each: each[0], reverse=tuning.objective.type == "maximize")[:_PARENTS]
    mother, father = chance.choices([numbers for _, numbers in best], range(len(best), 0, -1), k=2)
    child = {name: (mother if chance.random() < 0.5 else father)[name] for name in space.dimensions}
    changed = [name for name in child if chance.random() < _MUTATES] or [chance.choice(list(child))]
    for name in changed:
        dimension = space.dimensions[name]
        if dimension.parameter.type == "categorical":
            child[name] = dimension.at(chance.random())
            continue
        wide = max(_SIGMA, 1.5 / dimension.count if dimension.count else 0.0)  # else a coarse grid never moves
        place = abs(dimension.position(child[name]) + chance.gauss(0, wide)) % 2
        child[name] = dimension.at(2 - place if place > 1 else place)  # what leaves at one end comes back
    return space.args(child)
