"""The control side of the model server's HTTP interface: what serves, load, unload."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import httpx

from specs.errors import Transient
from specs.serving_facts import CanaryState, ServingTarget, Share

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
        """Ask for a target and wait until it serves, alone or beside another; gives why not, empty where it does."""
        parameters: dict[str, Any] = {field: getattr(target, field) for field in _IDENTITY}
        parameters |= {"options": target.options.plain()} | ({"build": target.build} if target.build else {})
        parameters |= {"share": asdict(target.share)} if target.share is not None else {}
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


def serves(entry: Mapping[str, Any], target: ServingTarget) -> bool:
    """Whether a model's entry says that exactly this is ready: the target alone, or beside another with its share.

    What serves already is not beside itself, so for that a share has no meaning. A server that knows no options takes
    none.
    """
    if entry.get("options") not in (None, target.options.digest):
        return False
    canary = canary_of(entry)
    if canary is None:
        return bool(entry.get("ready")) and _is(entry, target)
    return canary.ready and canary.share == target.share and _is(entry["canary"], target)


def canary_of(entry: Mapping[str, Any]) -> CanaryState | None:
    """Give what an entry says about the version beside what serves, None where there is none."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        told = entry["canary"]
        share = Share(*(int(told["share"].get(field, 0)) for field in ("step", "weight", "mirror")))
        return CanaryState(
            int(told["version"]), str(told["file"]), share, bool(told["ready"]), float(told["since"] or 0),
            str(told.get("self_test") or ""),
        )  # fmt: skip
    return None


def _is(entry: Mapping[str, Any], target: ServingTarget) -> bool:
    same = all(entry.get(field) == getattr(target, field) for field in _IDENTITY)
    return same and (entry.get("build") or "") == target.build


def unavailable(what: str) -> Transient:
    """Say what the server does or does not do now."""
    return Transient("ServerUnavailable", f"the model server {what}")


def _sentence(answer: httpx.Response) -> str:
    """Give the server's own words for what went wrong, at most 500 characters."""
    with suppress(ValueError, LookupError, TypeError):
        return str(answer.json()["error"])[:500]
    return f"HTTP {answer.status_code}"
