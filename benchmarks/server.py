"""The inference server against bare onnxruntime and against other servers, on the same model and machine.

    python -m benchmarks.server [--model FILE.onnx --side 320 --task detect] [--peers MLServer …] [--json FILE]
    python -m benchmarks.server --swap 20        swaps under load, alone
    python -m benchmarks.server --watching       what counting live traffic costs, alone

Three things are measured. *Throughput*: clients that always have a request under way, against ``session.run`` in a
loop. *Latency*: half of what the loop can do, at an even pace, against onnxruntime behind a blocking socket, which is
the bare call and the transport. *Memory*: of all processes of a server, after both. The client is another process that
does as little as a client can. It shares the machine's cores with the server, and the loop has no client.

Peers (MLServer, KServe, LitServe, BentoML) live in environments below ``.bench/peers`` that pip makes the first time.
What they run is in ``benchmarks/peers``: the same session with the same settings, binary tensors and batches where they
can.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import server_load, server_model
from benchmarks.server_contenders import PEERS
from benchmarks.server_side_by_side import compare


def main() -> int:
    """Run; gives 1 where a goal is missed."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        path = options.model
        if path is None:
            path = Path(folder) / "model.onnx"
            path.write_bytes(server_model.convolutional())
        if options.watching:
            return int(server_load.watching(options, path.read_bytes()) > server_load.WATCHING)
        if options.swap:
            return int(server_load.swaps(options) > 0)
        return int(compare(options, path) > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX file (default: a convolutional classifier, 224 px)")
    parser.add_argument("--side", type=int, default=server_model.SIDE, help="pixels (default: %(default)s)")
    parser.add_argument("--task", default="classify")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each kind; the best counts")
    parser.add_argument("--connections", type=int, default=16, help="that saturate (default: %(default)s)")
    parser.add_argument("--load", type=float, default=0.5, help="moderate load, as a share of what the loop can do")
    parser.add_argument("--batch", type=int, default=8, help="rows that peers batch at most (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="*", help="inside one inference (default: 1, and all cores)")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS, help="all where it is not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--swap", type=int, default=0, metavar="N", help="only swap so often under load")
    parser.add_argument("--watching", action="store_true", help="only what counting live traffic costs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
