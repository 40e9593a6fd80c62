"""A webhook on this machine, which shows what Trunkline would post into a chat."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Takes JSON messages on a free port, from a thread."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        taken = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self._server.server_address[1]}/"
        """As Apprise writes it; `slack://…`, `msteams://…` or `mailto://…` would be another line in the same file."""
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, word: str) -> str | None:
        """Give title and text of the first message with a word in it."""
        for message in self.messages:
            text = f"{message.get('title', '')}\n{message.get('message', '')}"
            if word in text:
                return text.strip()
        return None
