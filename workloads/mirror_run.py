"""Which run of a tracking server mirrors a training: found by its tag, for creating one is not idempotent."""

from __future__ import annotations

from collections.abc import Callable

from adapters.mlflow_api import MlflowApi, Run
from specs.errors import Transient


def adopt(
    api: MlflowApi, experiment: str, inputs_digest: str, *, name: str, started: int, fits: Callable[[Run], bool]
) -> Run:
    """Give the one run of a training: the oldest that ``fits``, made where there is none; all others go.

    Several are there where an answer was lost, where two looked at once, or where an attempt at the training ended
    before its time and left curves that another attempt did not repeat. ``started`` is Unix time in milliseconds.
    """
    found = api.runs(experiment, inputs_digest)
    chosen = next((run for run in found if fits(run)), None)
    if chosen is None:
        api.create(experiment, inputs_digest, name, started)
        found = api.runs(experiment, inputs_digest)  # whoever else created one at the same time agrees on the oldest
        chosen = next((run for run in found if fits(run)), None)
    if chosen is None:
        raise Transient("TrackingUnavailable", f"{api.uri} does not show the run that it made just now")
    for run in found:
        if run.id != chosen.id:
            api.delete(run)
    return chosen
