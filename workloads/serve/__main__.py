"""``python -m workloads.serve --store URL --state DIR``: run the inference server until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from adapters.store import Store
from specs.errors import TrunklineError
from specs.signatures import TRUSTED_VARIABLE, TrustedKey, decode_keys
from workloads.serve.app import Settings, serve
from workloads.serve.limits import Limits
from workloads.serve.sharing import SHARE_VARIABLE
from workloads.serve.startup import HOPELESS_EXIT, TARGET_VARIABLE, Hopeless, Wanted
from workloads.serve.trust import Trust

PROVIDERS_VARIABLE = "TRUNKLINE_PROVIDERS"
_LAST_WORDS = 1000
"""Characters of the last line: Kubernetes keeps 2048 bytes of a log's end."""
_LONGEST_DRAIN = 3600
_FILES = 128
"""That are open beside connections, at most."""
_UNITS: dict[str, int] = {
    "": 1, "B": 1, **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run; gives 0 after a clean stop, 1 where it cannot start, 2 for wrong arguments.

    10 where the target that it was told can never serve: the last line on stderr is ``trunkline: Reason: sentence``.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # What clients send may be odd; that is for their answer to say, not for our log.
    warnings.filterwarnings("ignore", module="PIL")
    # A thread that comes back from an inference must not wait 5 ms for its turn.
    sys.setswitchinterval(0.0005)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(options))
    except Hopeless as error:
        sys.stderr.write(f"trunkline: {error.reason}: {' '.join(error.message.split())[:_LAST_WORDS]}\n")
        return HOPELESS_EXIT
    except (TrunklineError, OSError) as error:
        sys.stderr.write(f"the server cannot start: {error}\n")
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(Store(options.store), _settings(options), stop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's loops where it is installed: a quarter less work for each request. None means Python's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


def _settings(options: argparse.Namespace) -> Settings:
    limits = Limits(
        max_body=options.max_body, max_held=max(Limits.max_held, options.max_body), max_pixels=options.max_pixels,
        queue=options.queue, body_timeout=options.body_timeout, idle_timeout=options.idle_timeout,
        max_batch=options.max_batch, threads=options.threads, providers=options.providers,
        lanes=options.lanes or max(1, len(os.sched_getaffinity(0)) // options.threads),
        max_json=min(Limits.max_json, options.max_body), max_connections=options.max_connections,
        memory_budget=options.memory_budget,
    )  # fmt: skip
    cache = options.cache or options.state / "cache"
    return Settings(
        options.state, cache, options.host, options.port, limits, wanted=options.target,
        trust=Trust(options.trusted_keys), drain_delay=options.drain_delay, watch=options.watch,
        keep=options.keep, share_file=options.share_file, grpc_port=options.grpc_port,
    )  # fmt: skip


def _wanted(text: str) -> Wanted:
    try:
        return Wanted.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        msg = f"not such a target, which is JSON with name, version, run, weights and file ({faults})"
        raise argparse.ArgumentTypeError(msg) from error


def _keys(text: str) -> tuple[TrustedKey, ...]:
    try:
        return decode_keys(text)
    except ValueError as error:
        msg = f'not a list of public keys in JSON, as in ["ed25519:…"] ({error})'
        raise argparse.ArgumentTypeError(msg) from error


def _providers(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if unknown := sorted(set(words) - {"cpu", "cuda", "tensorrt"}):
        msg = f"{', '.join(unknown)}: not among cpu, cuda and tensorrt"
        raise argparse.ArgumentTypeError(msg)
    return words


def _size(text: str) -> int:
    number, unit = text.rstrip("KMGTiB"), text[len(text.rstrip("KMGTiB")) :]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or int(number) < 1:
        msg = f"{text!r} is no size, as in 512MiB; units are {', '.join(filter(None, _UNITS))}"
        raise argparse.ArgumentTypeError(msg)
    return int(number) * _UNITS[unit]


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= _LONGEST_DRAIN:
        msg = f"must be from 0 to {_LONGEST_DRAIN}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _connections() -> int:
    """Give how many connections there may be, with room for files beside them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits.max_connections if soft < 0 else max(64, min(Limits.max_connections, soft - _FILES))


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        msg = "must be from 0 to 65535"
        raise argparse.ArgumentTypeError(msg)
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        msg = "must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workloads.serve", description=__doc__)
    option = parser.add_argument
    option("--store", required=True, metavar="URL", help="artifact store, for instance file:///var/lib/trunkline/store")
    option("--state", required=True, type=Path, metavar="DIR", help="what to serve after a restart, and address.json")
    option("--cache", type=Path, metavar="DIR", help="files by digest (default: STATE/cache)")
    option("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    option("--port", default=8000, type=int, help="0 takes any free one; address.json tells (default: %(default)s)")
    option("--grpc-port", type=_port, metavar="PORT", help="speak gRPC too; 0 takes any free one (default: do not)")
    told = os.environ.get(TARGET_VARIABLE)
    option("--target", default=told, type=_wanted, metavar="JSON", help=f"serve only this (default: {TARGET_VARIABLE})")
    option(
        "--share-file", default=os.environ.get(SHARE_VARIABLE), type=Path, metavar="FILE",
        help=f"tells the share of the target's canary (default: {SHARE_VARIABLE})",
    )  # fmt: skip
    option(
        "--trusted-keys", default=os.environ.get(TRUSTED_VARIABLE, ""), type=_keys, metavar="JSON",
        help=f"load only what one of these signed (default: {TRUSTED_VARIABLE})",
    )  # fmt: skip
    option("--drain-delay", default=0.0, type=_seconds, metavar="SECONDS", help="to go on answering after SIGTERM")
    option("--no-watch", dest="watch", action="store_false", help="count no pictures and predictions")
    option("--no-keep", dest="keep", action="store_false", help="keep no pictures, whatever specs ask for")
    option("--max-body", default=Limits.max_body, type=_positive, metavar="BYTES", help="of one request")
    option("--max-pixels", default=Limits.max_pixels, type=_positive, metavar="N", help="of one picture")
    option("--max-connections", default=_connections(), type=_positive, metavar="N", help="at once")
    option("--queue", default=Limits.queue, type=_positive, metavar="N", help="requests of a model that may wait")
    option("--max-batch", default=Limits.max_batch, type=_positive, metavar="N", help="rows in one inference")
    option("--threads", default=len(os.sched_getaffinity(0)), type=_positive, metavar="N", help="inside one inference")
    option(
        "--providers", default=os.environ.get(PROVIDERS_VARIABLE, ""), type=_providers, metavar="LIST",
        help=f"of onnxruntime, best first: tensorrt, cuda, cpu (default: {PROVIDERS_VARIABLE}, else cpu)",
    )  # fmt: skip
    option(
        "--memory-budget", type=_size, metavar="SIZE",
        help="of all models together, as in 512MiB: beyond it, those used least recently are parked (default: none)",
    )
    option("--lanes", type=_positive, metavar="N", help="inferences of a model at once (default: cores / threads)")
    option("--body-timeout", default=Limits.body_timeout, type=float, metavar="SECONDS", help="for a whole body")
    option("--idle-timeout", default=Limits.idle_timeout, type=float, metavar="SECONDS", help="without a request")
    return parser


if __name__ == "__main__":
    code = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # A load that hangs in the store must not keep a stopped server alive: everything worth keeping is on disk.
    os._exit(code)
