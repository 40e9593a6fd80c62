"""``python -m workloads --store URL [--order FILE]``: does one work order.

Exit codes: 0 done (the record exists), 2 wrong usage, 10 these inputs can never work, 65 the store's material is not
what the order names, 75 try again later, 137 out of memory, 143 ended by SIGTERM; anything else is a bug, and may be
retried. The order comes from the file, or from the environment variable TRUNKLINE_WORK_ORDER.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from adapters.store import Store
from specs.errors import Stalled, Transient
from specs.workorders import decode
from workloads.environment import take_variables
from workloads.errors import HOPELESS, RETRY, end_on_sigterm
from workloads.job import run

ORDER = "TRUNKLINE_WORK_ORDER"


def main() -> int:
    """Read the order, do it, give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workloads", description="Does one Trunkline work order.")
    parser.add_argument("--store", required=True, help="URL of the store: file:///srv/store, s3://bucket/path …")
    parser.add_argument("--order", type=Path, help=f"file with the work order; default: the variable {ORDER}")
    given = parser.parse_args()
    end_on_sigterm()
    take_variables()
    try:
        text = given.order.read_bytes() if given.order else os.environ[ORDER].encode()
    except (OSError, KeyError) as error:
        parser.error(f"no work order: {error}; name a file with --order, or set {ORDER}")
    try:
        order = decode(text)
    except ValidationError as error:
        sys.stderr.write(f"trunkline: InvalidOrder: {error}\n")
        return HOPELESS
    try:
        store = Store(given.store)
    except Stalled as error:
        parser.error(error.message)
    except Transient as error:
        sys.stderr.write(f"trunkline: {error.reason}: {error.message}\n")
        return RETRY
    return run(order, store)


if __name__ == "__main__":
    sys.exit(main())
