"""Stands before kube-testserver and makes the watches work that it cannot stream: of groups without a dot in the name.

The server keeps ``v1``, ``batch``, ``apps``, ``policy`` and ``autoscaling`` under other names (as
``batch.testserver.local``) and translates; its translation of a watch ends in HTTP 500 ("can't get http.Flusher"). So a
watch is sent as it is first, which is when rights, faults and counts apply; only where that error comes back it is sent
by the other name, as admin, and translated here. Everything else passes through untouched. Where the server is mended
this does nothing.

Long lists of these groups it asks for page by page and gives whole: the server's translation takes minutes for one of
10,000 objects.

Run as a process: ``python -m tests.support.watch_gateway --port N --upstream KUBECONFIG --certificate FILE
--key FILE --open FILE``. The upstream server may come and go. While it is away, or the file ``--open`` is, connections
are cut: a server that has just started does not know its CustomResourceDefinitions yet and answers 404, where real
ones answer 503.
"""

from __future__ import annotations

import argparse
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

SYMPTOM = b"http.Flusher"
PAGE = 500
"""Objects of a list that are asked for at once."""
_HOP = {"connection", "content-length", "host", "keep-alive", "te", "trailers", "transfer-encoding", "upgrade"}


class Gateway:
    """Passes requests on to ``url``."""

    def __init__(self, url: str, token: str, open_: Path) -> None:
        self._url, self._admin, self._open = url, {"Authorization": f"Bearer {token}"}, open_

    @asynccontextmanager
    async def opened(self, app: web.Application) -> AsyncIterator[None]:
        """Hold the connections to the server as long as the application runs."""
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on."""
        try:
            if not self._open.exists():
                raise ConnectionAbortedError
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
            body = await request.read() or None
            if _is_long(request):
                return await self._whole(request, headers)
            async with self._ask(request.method, request.raw_path, headers, body) as answer:
                if answer.status != 500 or "watch=" not in request.query_string:
                    return await _passed_on(request, answer)
                words = await answer.read()
                if SYMPTOM not in words:
                    return web.Response(status=500, body=words, content_type="application/json")
            path, real, alias = _renamed(request.raw_path)
            async with self._ask("GET", path, headers | self._admin, None) as answer:
                return await _passed_on(request, answer, alias, real)
        except (aiohttp.ClientError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()  # that is what became of the server's own connection
            raise

    async def _whole(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        """Give a list whole. What is no list, or has one page, or meets trouble on the way, passes as it is."""
        first, path = None, f"{request.raw_path}{'&' if request.query_string else '?'}limit={PAGE}"
        token = ""
        while True:
            async with self._ask("GET", f"{path}&continue={token}" if token else path, headers, None) as answer:
                if answer.status != 200 or "json" not in answer.content_type:
                    return await _passed_on(request, answer)
                page = json.loads(await _plain(answer))
            token = quote((page.get("metadata") or {}).get("continue") or "")
            if first is None:
                first = page
            else:
                first["items"] += page["items"]
                first["metadata"] = page["metadata"]
            if not token:
                return web.json_response(first)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Any:
        # yarl must not touch the query: a selector's commas and a continue token are the server's to read.
        return self._session.request(method, URL(self._url + path, encoded=True), headers=headers, data=body)


def _is_long(request: web.Request) -> bool:
    """Whether it may be for a list of one of the renamed groups, and not for a part of one."""
    parts = request.path.split("/")
    renamed = len(parts) > 3 and (parts[1] == "api" or (parts[1] == "apis" and "." not in parts[2]))
    return request.method == "GET" and renamed and not {"watch", "limit"} & request.query.keys()


async def _plain(answer: aiohttp.ClientResponse) -> bytes:
    data = await answer.read()
    return gzip.decompress(data) if answer.headers.get("Content-Encoding") == "gzip" else data


async def _passed_on(
    request: web.Request, answer: aiohttp.ClientResponse, old: bytes = b"", new: bytes = b""
) -> web.StreamResponse:
    """Pass an answer on as it comes, with one name replaced in its lines where that is asked."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
    passed = web.StreamResponse(status=answer.status, headers=headers)
    if "Content-Length" in answer.headers:
        passed.content_length = int(answer.headers["Content-Length"])
    await passed.prepare(request)
    kept = b""
    async for chunk in answer.content.iter_any():
        if old:
            whole, newline, kept = (kept + chunk).rpartition(b"\n")
            chunk = (whole + newline).replace(old, new)  # noqa: PLW2901  one name for what is passed on
        await passed.write(chunk)
    await passed.write_eof(kept.replace(old, new) if old else b"")
    return passed


def _renamed(path: str) -> tuple[str, bytes, bytes]:
    """Give the path by the server's own name of the group, and the ``apiVersion`` as it should be and as it is."""
    parts = path.split("/")
    if parts[1] == "api":
        real, alias = parts[2], f"core.testserver.local/{parts[2]}"
        rest = parts[3:]
    else:
        real, alias = "/".join(parts[2:4]), f"{parts[2]}.testserver.local/{parts[3]}"
        rest = parts[4:]
    return "/".join(["", "apis", alias, *rest]), f'"{real}"'.encode(), f'"{alias}"'.encode()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    for name in ("upstream", "certificate", "key", "open"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args()
    config = yaml.safe_load(asked.upstream.read_text())
    token = next(user["user"]["token"] for user in config["users"] if user["name"] == "admin")
    gateway = Gateway(config["clusters"][0]["cluster"]["server"], token, asked.open)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(asked.certificate, asked.key)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.cleanup_ctx.append(gateway.opened)
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    web.run_app(
        app, host="127.0.0.1", port=asked.port, ssl_context=context, access_log=None, print=None, backlog=1024,
        handler_cancellation=True, shutdown_timeout=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
