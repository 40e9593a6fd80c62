"""A tuning job whose trials are pretended: the real command line but for the trials."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters.store import Store
from specs.workorders import TuneOrder
from tests.support.tuning_bench import COMMAND
from workloads import environment, tuning
from workloads.errors import end_on_sigterm


def main() -> None:
    """Do the order."""
    _, _, url, _, file = sys.argv
    order = TuneOrder.model_validate_json(Path(file).read_bytes())
    end_on_sigterm()
    with environment.scratch(order.job) as scratch:
        tuning.run(order, Store(url), scratch, command=COMMAND)


main()
