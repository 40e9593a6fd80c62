"""A client that does as little as one can: raw sockets, requests made once. Runs in a process of its own.

    python -m benchmarks.server_client REQUEST HOST PORT CONNECTIONS SECONDS [RATE]

REQUEST is a file of bytes: a whole HTTP request, or a gRPC message where its name ends in ``.grpc``. Without RATE each
connection always has one request under way; with it, requests are due at even distances, and what counts is the time
from when a request was due, so that a server that falls behind cannot hide it. Prints JSON.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DRAIN = 20.0
"""Seconds to wait for answers that no longer count."""
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class Outcome:
    """What happened. Times in seconds."""

    done: int = 0
    failed: int = 0
    waits: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """In which it happened."""
    late: int = 0
    """Answers that came after that, and count for nothing but what the server did for them."""

    def told(self, *, ok: bool, due: float) -> None:
        """Take down one answer."""
        self.done += 1
        self.failed += not ok
        self.waits.append(time.perf_counter() - due)


class Connection:
    """One keep-alive connection that has at most one request under way."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._got = b""
        self.due = 0.0
        self.body = b""

    def send(self, due: float) -> None:
        """Send a request that was due at a time."""
        self.due = due
        self.socket.sendall(self._request)

    def receive(self) -> int | None:
        """Read what is there; the status once a response is complete."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, rest = self._got[:end].lower(), self._got[end + 4 :]
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            if not rest.endswith(b"0\r\n\r\n"):
                return None
            self.body = unchunked(rest)
        else:
            length = int(head[at + 17 :].split(b"\r\n", 1)[0])
            if len(rest) < length:
                return None
            self.body = rest
        status, self._got = int(self._got[9:12]), b""
        return status


def unchunked(data: bytes) -> bytes:
    """Give a body that came in chunks."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return body
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]


def saturate(address: tuple[str, int], request: bytes, connections: int, seconds: float) -> Outcome:
    """Keep one request under way on each connection."""
    outcome, selector = Outcome(), selectors.DefaultSelector()
    for _ in range(connections):
        connection = Connection(address, request)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(time.perf_counter())
    end = time.perf_counter() + seconds
    under_way = connections
    # Nothing is left behind that the server would still work on while others are measured.
    while under_way and time.perf_counter() < end + _DRAIN:
        for key, _ in selector.select(timeout=1):
            status = key.data.receive()
            if status is None:
                continue
            if time.perf_counter() < end:
                outcome.told(ok=status == 200, due=key.data.due)
                key.data.send(time.perf_counter())
            else:
                under_way -= 1
                outcome.late += 1
    outcome.seconds = seconds
    return outcome


def paced(address: tuple[str, int], request: bytes, connections: int, seconds: float, rate: float) -> Outcome:
    """Send so many requests a second, at even distances, on whichever connection is free."""
    # epoll waits for whole milliseconds; what is measured here is shorter.
    outcome, selector = Outcome(), selectors.SelectSelector()
    idle = deque(Connection(address, request) for _ in range(connections))
    for connection in idle:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    started = time.perf_counter()
    number, total = 0, max(1, int(rate * seconds))
    while outcome.done < total and time.perf_counter() < started + 3 * seconds:
        due = started + number / rate
        if number < total and idle and time.perf_counter() >= due:
            idle.popleft().send(due)
            number += 1
            continue
        wait = max(0.0, due - time.perf_counter()) if idle and number < total else 1.0
        for key, _ in selector.select(timeout=wait):
            status = key.data.receive()
            if status is not None:
                outcome.told(ok=status == 200, due=key.data.due)
                idle.appendleft(key.data)
    outcome.failed += total - outcome.done
    outcome.seconds = time.perf_counter() - started
    return outcome


def over_grpc(
    address: tuple[str, int], request: bytes, connections: int, seconds: float, rate: float | None
) -> Outcome:
    """Do the same over gRPC: bytes in, bytes out, nothing is encoded here."""
    outcome, lock, room = Outcome(), threading.Lock(), threading.Semaphore(connections)
    call = grpc_call(address)
    started = time.perf_counter()
    end, total = started + seconds, max(1, int(rate * seconds)) if rate else None

    def ask(due: float) -> None:
        def ended(future: Any) -> None:
            with lock:
                if total is not None or time.perf_counter() < end:
                    outcome.told(ok=future.exception() is None, due=due)
                else:
                    outcome.late += 1
            room.release()

        call.future(request).add_done_callback(ended)

    number = 0
    while number < total if total is not None else time.perf_counter() < end:
        room.acquire()
        due = started + number / rate if rate else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        ask(due)
        number += 1
    for _ in range(connections):
        room.acquire()
    outcome.seconds = seconds if rate is None else time.perf_counter() - started
    return outcome


def grpc_call(address: tuple[str, int]) -> Any:
    """Give what sends a message and gives the answer's bytes."""
    import grpc  # noqa: PLC0415  needed for some peers only

    limits = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    channel = grpc.insecure_channel(f"{address[0]}:{address[1]}", options=limits)
    return channel.unary_unary(GRPC_METHOD)


def once(address: tuple[str, int], request: Path) -> bytes:
    """Give the body of one answer; OSError where it fails."""
    if request.suffix == ".grpc":
        try:
            return bytes(grpc_call(address)(request.read_bytes(), timeout=30))
        except Exception as error:
            raise OSError(str(error)) from error
    connection = Connection(address, request.read_bytes())
    with connection.socket:
        connection.socket.settimeout(30)
        connection.send(0.0)
        while (status := connection.receive()) is None:
            pass
        if status != 200:
            raise OSError(f"{status}: {connection.body[:300].decode(errors='replace')}")
        return connection.body


def quantile(values: list[float], share: float) -> float:
    """Give a quantile, by the nearest rank; 0 of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


def main() -> None:
    """Do it and print what happened."""
    path, host, port, connections, seconds, *rate = sys.argv[1:]
    request, address, pace = Path(path).read_bytes(), (host, int(port)), float(rate[0]) if rate else None
    cpu = time.process_time()
    if path.endswith(".grpc"):
        outcome = over_grpc(address, request, int(connections), float(seconds), pace)
    elif pace is not None:
        outcome = paced(address, request, int(connections), float(seconds), pace)
    else:
        outcome = saturate(address, request, int(connections), float(seconds))
    used = time.process_time() - cpu
    print(json.dumps({
        "done": outcome.done, "late": outcome.late, "failed": outcome.failed, "rate": outcome.done / outcome.seconds,
        "p50": quantile(outcome.waits, 0.5), "p99": quantile(outcome.waits, 0.99),
        "cpu_us": used / max(outcome.done, 1) * 1e6,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
