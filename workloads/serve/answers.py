"""What a client gets back: JSON, or a refusal that says what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from pydantic_core import to_json

_OUTCOMES = {408: "timeout", 413: "too_large", 429: "overloaded", 500: "error", 501: "unsupported", 503: "unavailable"}


class Refusal(Exception):
    """A request that is not answered as asked, and why.

    ``status`` is the HTTP status, ``message`` a sentence for people, ``reason`` a CamelCase word for programs (or
    empty), ``headers`` what else the client must know.
    """

    def __init__(
        self, status: int, message: str, *, reason: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.headers = dict(headers or {})

    @property
    def outcome(self) -> str:
        """One of a few words that label the metrics."""
        return _OUTCOMES.get(self.status, "rejected")

    def answer(self) -> web.Response:
        """Give the HTTP response: ``{"error": …}``, with ``reason`` where there is one."""
        body = {"error": self.message} | ({"reason": self.reason} if self.reason else {})
        return json_answer(body, status=self.status, headers=self.headers)


def json_answer(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Give ``value`` as JSON; NaN and infinities are written as Python and tritonclient read them."""
    return web.Response(
        body=to_json(value, inf_nan_mode="constants"), status=status, headers=headers, content_type="application/json"
    )
