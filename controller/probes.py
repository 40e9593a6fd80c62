"""Probes and metrics over HTTP, from a thread of their own: a stuck event loop must not be able to hide itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Checks = Callable[[], Sequence[str]]
"""Gives what is wrong, a sentence each; empty where all is well."""


class Probes:
    """Answers ``/healthz`` (should this process live?), ``/readyz`` (does it work?) and ``/metrics``."""

    def __init__(
        self, port: int, *, healthy: Checks, ready: Checks, metrics: Callable[[], bytes], host: str = ""
    ) -> None:
        """Listen on a port of ``host``, of all addresses where that is empty; 0 is any free port."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer."""
                match self.path.partition("?")[0]:
                    case "/metrics":
                        self._answer(200, metrics(), "text/plain; version=0.0.4; charset=utf-8")
                    case "/healthz":
                        self._judge(healthy())
                    case "/readyz":
                        self._judge(ready())
                    case _:
                        self._answer(404, b"there are /healthz, /readyz and /metrics\n")

            def _judge(self, wrong: Sequence[str]) -> None:
                self._answer(503 if wrong else 200, ("\n".join(wrong) or "ok").encode() + b"\n")

            def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every few seconds; nobody wants to read of them."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
