"""The control side of the model server's HTTP interface: what serves, load, unload."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx

from specs.errors import Transient
from specs.serving_facts import ServingTarget

_NOT_NOW = frozenset({408, 409, 425, 429})
_IDENTITY = ("version", "file", "run", "weights")


class ServerApi:
    """Talks to a server at any URL. Whatever may get better by waiting is Transient ``ServerUnavailable``.

    ``request`` and ``load`` are seconds to wait for an answer; a load takes as long as reading and trying a model.
    """

    def __init__(self, *, request: float, load: float) -> None:
        self._request_timeout = request
        self._load_timeout = load
        # Proxies are for the world outside: a server of this machine is never behind one.
        self._http = httpx.Client(trust_env=False)

    def check_alive(self, url: str) -> None:
        """Come back where the server answers that it lives."""
        answer = self._ask("GET", f"{url}/v2/health/live")
        if answer.is_error:
            raise unavailable(f"does not feel alive ({_sentence(answer)})")

    def models(self, url: str) -> dict[str, dict[str, Any]]:
        """Give what the server says about each of its models, by name."""
        answer = self._ask("GET", f"{url}/trunkline/models")
        with suppress(ValueError, LookupError, TypeError, AttributeError):
            return {str(name): dict(entry) for name, entry in answer.json()["models"].items()}
        raise unavailable(f"answers {url}/trunkline/models with nonsense (HTTP {answer.status_code})")

    def load(self, url: str, target: ServingTarget) -> str:
        """Ask for a target and wait until it serves; gives why it cannot, empty where it does."""
        parameters = {field: getattr(target, field) for field in _IDENTITY} | {"options": target.options.plain()}
        place = f"{url}/v2/repository/models/{target.name}/load"
        answer = self._ask("POST", place, {"parameters": parameters}, timeout=self._load_timeout)
        if answer.status_code in _NOT_NOW or answer.is_server_error:
            raise unavailable(f"cannot load {target.name} now ({_sentence(answer)})")
        return "" if answer.is_success else _sentence(answer)

    def unload(self, url: str, name: str) -> None:
        """Stop serving a model; no-op where the server does not have it."""
        answer = self._ask("POST", f"{url}/v2/repository/models/{name}/unload", {})
        if not answer.is_success and name in self.models(url):
            raise unavailable(f"does not unload {name} ({_sentence(answer)})")

    def _ask(self, method: str, url: str, body: object = None, *, timeout: float | None = None) -> httpx.Response:
        limits = httpx.Timeout(timeout or self._request_timeout, connect=2)
        try:
            return self._http.request(method, url, json=body, timeout=limits)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable(f"does not answer at {url} ({type(error).__name__})") from error


def serves(entry: dict[str, Any], target: ServingTarget) -> bool:
    """Whether a model's entry says that exactly this target is ready; one that knows no options takes none."""
    same = all(entry.get(field) == getattr(target, field) for field in _IDENTITY)
    return bool(entry.get("ready")) and same and entry.get("options") in (None, target.options.digest)


def unavailable(what: str) -> Transient:
    """Say what the server does or does not do now."""
    return Transient("ServerUnavailable", f"the model server {what}")


def _sentence(answer: httpx.Response) -> str:
    """Give the server's own words for what went wrong, at most 500 characters."""
    with suppress(ValueError, LookupError, TypeError):
        return str(answer.json()["error"])[:500]
    return f"HTTP {answer.status_code}"
