"""Secrets never leave: canaries in everything that may hold one, a story with all that goes wrong, and a search."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.apiserver import free_port
from tests.support.canaries import canary, files, leaks, repository
from tests.support.cluster import Cluster
from tests.support.forge_server import running
from tests.support.github_server import GitHubServer

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]

TOKEN, HOOK, GIT, STORE, GUESS = (canary(name) for name in ("token", "hook", "git", "store", "guess"))
SECRETS = (TOKEN, HOOK, GIT, STORE, GUESS)


class Scene:
    """A cluster whose operator works with a forge behind HTTP, and polls so rarely that only webhooks help."""

    def __init__(self, folder: Path) -> None:
        self._numbers = itertools.count()
        self._seen: set[str] = set()
        self._secrets = folder / "secrets"
        self._secrets.mkdir()
        self.port = free_port()
        for name, text in {"token": TOKEN, "hook": HOOK, "git": f"https://bot:{GIT}@git.example.com"}.items():
            (self._secrets / name).write_text(text + "\n")
        self.cluster = Cluster(folder / "cluster", poll=600)
        self.forge = GitHubServer(self.cluster.person.hub.path)
        self.forge.token = TOKEN

    def start(self) -> None:
        """Start the operator."""
        self.cluster.settings = f"webhook_port = {self.port}"
        away = self._binding("street", "https://127.0.0.1:1/street/models.git", "http://127.0.0.1:1", "street/models")
        here = self._binding("default", str(self.cluster.person.hub.path), self.forge.url, "acme/models")
        self.cluster.bindings = away + here
        self.cluster.start(AWS_SECRET_ACCESS_KEY=STORE, AWS_SESSION_TOKEN=STORE)

    def _binding(self, namespace: str, repository: str, url: str, project: str) -> str:
        return (
            f'[[bindings]]\nnamespaces = ["{namespace}"]\nrepository = "{repository}"\n'
            f'credentials = "{self._secrets / "git"}"\n[bindings.forge]\nkind = "github"\nurl = "{url}"\n'
            f'project = "{project}"\ntoken_file = "{self._secrets / "token"}"\n'
            f'webhook_secret_file = "{self._secrets / "hook"}"\n'
        )

    def knock(self, secret: str = HOOK, **headers: str) -> int:
        """Send a webhook, and see how the model is; gives the answer's status, 0 where nobody listens."""
        self._seen.add(json.dumps(self.cluster.model()))
        body = json.dumps({"number": next(self._numbers)}).encode()
        signed = {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
        try:
            with httpx.Client(trust_env=False) as client:
                answer = client.post(f"http://127.0.0.1:{self.port}/webhook", content=body, headers=signed | headers)
            return answer.status_code
        except httpx.HTTPError:
            return 0

    def quote_us(self) -> None:
        """Let the forge, and a hook of the repository, quote what they refuse, as careless ones do."""
        said = f"Bad credentials: Bearer {TOKEN} ({TOKEN})"
        self.forge.fault("GET", "/pulls", 401, words=said)
        self.forge.fault("GET", "/pulls", 500, words=said)
        self.forge.fault("GET", "/pulls", 403, words=said)
        self.forge.fault("POST", "/pulls", 500, words=said)
        self.forge.fault("POST", "/pulls", 422, words=said)
        hook = self.cluster.person.hub.path / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(
            "#!/bin/sh\ngrep -q trunkline/ || exit 0\n[ -e quoted ] && exit 0\ntouch quoted\n"
            f"echo 'https://bot:{GIT}@git.example.com rejected: bot, {GIT}' >&2\nexit 1\n"
        )
        hook.chmod(hook.stat().st_mode | stat.S_IXUSR)

    def left_behind(self) -> dict[str, bytes]:
        """Gather all that anybody could read later, but what the secrets were given in."""
        cluster, forge = self.cluster, self.forge
        kinds = ("jobs", "deployments", "services", "pods", "events", "configmaps")
        sent = [(call.verb, call.path, call.query, call.body) for call in forge.calls]
        with httpx.Client(trust_env=False) as client:
            metrics = client.get(f"{cluster.url()}/metrics").content
        found = {
            "the log": cluster.log().encode(), "metrics": metrics, "the model": "".join(self._seen).encode(),
            "requests to the forge": json.dumps(sent).encode(), "pull requests": repr(forge.pulls).encode(),
            "checks": repr(forge.statuses).encode(),
        }  # fmt: skip
        found |= {kind: json.dumps(cluster.objects(kind)).encode() for kind in kinds}
        found |= {f"git {name}": data for name, data in repository(cluster.person.hub.path).items()}
        for folder in ("store", "operator", "pods", "log"):
            found |= {f"{folder}/{name}": data for name, data in files(cluster.folder / folder).items()}
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Everything but the operator runs."""
    made = Scene(tmp_path)
    with running(made.forge), made.cluster:
        yield made


def test_no_secret_is_left_anywhere(scene: Scene) -> None:
    """A model is proposed and served, by webhooks alone; forge and repository refuse, and quote our secrets.

    Another repository is away all the while, and that keeps nobody waiting.
    """
    cluster, forge = scene.cluster, scene.forge
    scene.quote_us()
    scene.start()
    cluster.until("somebody listens", lambda: scene.knock(GUESS) == 401)
    assert scene.knock(**{"X-Hub-Signature-256": f"sha256={HOOK}"}) == 401
    assert scene.knock(**{"X-Gitlab-Token": HOOK, "X-Hub-Signature-256": ""}) == 401
    cluster.person.write(cluster.person.spec())
    cluster.until("v1 is proposed", lambda: scene.knock() == 204 and forge.pulls)
    (number,) = forge.pulls
    forge.merge(number)
    cluster.until("v1 serves", lambda: scene.knock() == 204 and cluster.serves(1))
    found = scene.left_behind()
    assert (cluster.person.hub.path / "quoted").exists()
    assert {401, 403, 422, 500} <= {call.answer.status for call in forge.calls}
    assert {"the log", "git objects"} <= found.keys()
    assert b"Bad credentials" in found["the log"]
    assert b"rejected: bot, ***" in found["the model"]
    assert b'trunkline_webhooks_total{outcome="refused"}' in found["metrics"]
    up = re.findall(rb'trunkline_repository_up{repository=".*(street|hub).*"} ([01])', found["metrics"])
    assert sorted(up) == [(b"hub", b"1"), (b"street", b"0")]
    assert leaks(SECRETS, found) == []


def test_the_search_finds_what_is_there() -> None:
    """Plain, in a URL, in JSON, and in base64 with a user before it."""
    for text in ("cAnArY-x/+x=7", "cAnArY-x%2F%2Bx%3D7", "cAnArY-x\\/+x=7", "Ym90OmNBbkFyWS14Lyt4PTc="):
        assert leaks([canary("x")], {"a log": f"what {text} was".encode()}) == [f"{canary('x')} in a log"]
    assert leaks([canary("x")], {"a log": b"cAnArY-"}) == []
