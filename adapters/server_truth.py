"""Tells a model server what was true about requests that it answered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

from specs.errors import Transient

_NOT_NOW = frozenset({408, 409, 425, 429})


class TruthApi:
    """One server at ``url``, its root. Told twice, a server counts a request once: by its id."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(timeout=timeout, trust_env=False, follow_redirects=False)

    def tell(self, model: str, truth: Mapping[str, Any]) -> str:
        """Tell it about one request of a model, by its name there; gives why it did not count that, empty if it did.

        Transient ``ServerUnavailable`` where it cannot be told now.
        """
        where = f"{self.url}/models/{model}/truth"
        try:
            answer = self._http.post(where, json=dict(truth))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            words = f"the model server does not answer at {where} ({type(error).__name__})"
            raise Transient("ServerUnavailable", words) from error
        if answer.status_code in _NOT_NOW or answer.status_code >= 500 or answer.has_redirect_location:
            raise Transient("ServerUnavailable", f"{where} cannot be told now: {_sentence(answer)}")
        if not answer.is_success:
            return _sentence(answer)
        with suppress(ValueError, AttributeError):
            if answer.json().get("counted") is False:
                return "it was told before, or the version that answered serves no more"
        return ""


def _sentence(answer: httpx.Response) -> str:
    with suppress(ValueError, LookupError, TypeError):
        return str(answer.json()["error"])[:300]
    return f"HTTP {answer.status_code}"
