"""Listens for gRPC: limits, time-outs, refusals as status codes, and an end without losing a request.

It runs in the server's own event loop, beside HTTP, over the same models, limits and counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from workloads.serve.answers import Refusal
from workloads.serve.grpc_service import Method, Service
from workloads.serve.limits import Intake, Limits

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.FAILED_PRECONDITION, 429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL, 501: grpc.StatusCode.UNIMPLEMENTED, 503: grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip
_ENVELOPE = 64 * 1024
"""Bytes of a message around its tensors: names, shapes, parameters."""
_PER_QUEUE = 4
"""Calls under way at once, for each request that may wait for a model; those beyond are refused unread."""
_KEEPALIVE = 30_000
"""Milliseconds without a sign of life of a client with a call under way, after which it is asked for one."""


class GrpcServer:
    """One port. ``start``, then ``stop``; both in the event loop that answers."""

    def __init__(self, service: Service, intake: Intake, limits: Limits) -> None:
        self._intake = intake
        self._limits = limits
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # a port that another server has is an error, not shared
                ("grpc.max_receive_message_length", limits.max_body + _ENVELOPE),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_connection_idle_ms", int(limits.idle_timeout * 1000)),
                ("grpc.keepalive_time_ms", _KEEPALIVE), ("grpc.keepalive_timeout_ms", _KEEPALIVE // 3),
            ],
            maximum_concurrent_rpcs=_PER_QUEUE * limits.queue,
        )  # fmt: skip
        for name, methods in service.methods().items():
            handlers = {method: self._handler(*kind) for method, kind in methods.items()}
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])

    async def start(self, host: str, port: int) -> str:
        """Listen; give host and port. OSError for a port that cannot be had."""
        place = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{place}:{port}")
        except RuntimeError as error:
            msg = f"cannot listen for gRPC at {place}:{port}; is the port taken? (--grpc-port)"
            raise OSError(msg) from error
        await self._server.start()
        return f"{place}:{bound}"

    async def stop(self, grace: float) -> None:
        """Take no new calls, and give those under way ``grace`` seconds to end; clients are told to go elsewhere."""
        await self._server.stop(grace)

    def _handler(self, kind: type[Any], answer: Method) -> Any:
        """Make a handler of bytes.

        On the wire a stream of one message is the same as a message. Taken as a stream, it is ours to say how long a
        slow client may send.
        """

        async def handle(messages: AsyncIterator[bytes], context: Any) -> bytes:
            try:
                body = await self._body(messages)
                self._intake.hold(len(body))
                try:
                    return await answer(_parsed(kind, body))
                finally:
                    self._intake.hold(-len(body))
            except Refusal as refusal:
                code = _CODES.get(refusal.status, grpc.StatusCode.INVALID_ARGUMENT)
                await context.abort(code, refusal.message, _metadata(refusal))
                raise

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _body(self, messages: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_timeout):
                async for message in messages:
                    return message
        except TimeoutError as error:
            msg = f"the message did not end within {self._limits.body_timeout:g} seconds"
            raise Refusal(408, msg) from error
        raise Refusal(400, "the call has no message")


def _parsed(kind: type[Any], body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise Refusal(400, f"the message is no {kind.__name__}: {error}") from error


def _metadata(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """Give what a client must know besides the sentence; gRPC's own clients wait as long as they are told."""
    told = [("trunkline-reason", refusal.reason)] if refusal.reason else []
    seconds = refusal.headers.get("Retry-After")
    if seconds is not None:
        told += [("retry-after", seconds), ("grpc-retry-pushback-ms", str(int(float(seconds) * 1000)))]
    return tuple(told)
