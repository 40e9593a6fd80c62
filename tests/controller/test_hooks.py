"""Who signed a webhook, and whom it wakes: decided on headers and bytes alone."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from controller.hooks import WINDOW, Hook, Hooks, Outcome, is_signed, may_be_signed

SECRET, BODY = b"It's a Secret to Everybody", b"Hello, World!"
PUBLISHED = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""GitHub's documentation gives this signature for these two, so that implementations can be checked."""


def signature(body: bytes, secret: bytes = SECRET) -> str:
    """Sign as forges do."""
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def test_the_published_example_is_accepted() -> None:
    """Our arithmetic is GitHub's."""
    assert is_signed("github", {"X-Hub-Signature-256": f"sha256={PUBLISHED}"}, BODY, [SECRET])


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("github", {"X-Hub-Signature-256": f"sha256={signature(BODY)}"}),
        ("local", {"X-Hub-Signature-256": f"sha256={signature(BODY)}"}),
        ("gitea", {"X-Gitea-Signature": signature(BODY)}),
        ("gitea", {"X-Forgejo-Signature": signature(BODY)}),
        ("gitea", {"X-Hub-Signature-256": f"sha256={signature(BODY)}"}),
        ("gitlab", {"X-Gitlab-Token": SECRET.decode()}),
    ],
)
def test_each_forges_proof_is_accepted(kind: str, headers: Mapping[str, str]) -> None:
    """By the right secret, also as the second of two, and by no other one."""
    assert is_signed(kind, headers, BODY, [SECRET])
    assert is_signed(kind, headers, BODY, [b"the new one", SECRET])
    assert not is_signed(kind, headers, BODY, [b"another"])
    assert not is_signed(kind, headers, BODY, [])
    assert may_be_signed(headers)
    if kind != "gitlab":
        assert not is_signed(kind, headers, BODY + b" ", [SECRET])


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("github", {}),
        ("github", {"X-Hub-Signature-256": ""}),
        ("github", {"X-Hub-Signature-256": "sha256="}),
        ("github", {"X-Hub-Signature-256": "sha256=" + signature(BODY)[:-1]}),
        ("github", {"X-Hub-Signature-256": "sha1=" + signature(BODY)}),
        ("github", {"X-Hub-Signature": "sha1=" + hmac.new(SECRET, BODY, "sha1").hexdigest()}),
        ("github", {"X-Hub-Signature-256": "sha256=" + signature(BODY).upper()}),
        ("github", {"X-Hub-Signature-256": "ü" * 64}),
        ("github", {"X-Hub-Signature-256": "\udcff" * 64}),
        ("github", {"X-Hub-Signature-256": "a" * 100_000}),
        ("github", {"X-Gitlab-Token": SECRET.decode()}),
        ("gitlab", {"X-Hub-Signature-256": f"sha256={signature(BODY)}"}),
        ("gitlab", {"X-Gitlab-Token": SECRET.decode() + " "}),
        ("gitlab", {"X-Gitlab-Token": SECRET.decode()[:-1]}),
    ],
)
def test_anything_else_is_refused(kind: str, headers: Mapping[str, str]) -> None:
    """Cut, wrong, of another kind, or no text at all: refused without an error."""
    assert not is_signed(kind, headers, BODY, [SECRET])


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea", "local"])
def test_an_empty_secret_is_none(kind: str) -> None:
    """What anybody could sign with, nobody is believed for."""
    headers = {name: f"sha256={signature(BODY, b'')}" for name in ("X-Hub-Signature-256", "X-Gitea-Signature")}
    assert not is_signed(kind, headers | {"X-Gitlab-Token": ""}, BODY, [b""])


class Bench:
    """Two repositories that share a secret, one with its own, and what was woken."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.woken: list[str] = []
        self.shared, self.own = folder / "shared", folder / "own"
        self.shared.write_text("shared\n")
        self.own.write_text("own\n")
        self.hooks = Hooks(
            [self._hook("github", self.shared, "retail/models"), self._hook("github", self.shared, "street/models"),
             self._hook("gitlab", self.own, "group/sub/models")],
            lambda: self.now,
        )  # fmt: skip

    def _hook(self, kind: str, file: Path, project: str) -> Hook:
        return Hook(kind, file, project, lambda: self.woken.append(project))

    def github(self, body: bytes, secret: bytes = b"shared", delivery: str = "") -> Outcome:
        """Send as GitHub."""
        signed = {"X-Hub-Signature-256": f"sha256={signature(body, secret)}"}
        return self.hooks.take(signed | ({"X-GitHub-Delivery": delivery} if delivery else {}), body)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Nothing was sent yet."""
    return Bench(tmp_path)


def about(name: str, **more: object) -> bytes:
    """Give a body about a repository."""
    return json.dumps({"repository": {"full_name": name}, **more}).encode()


def test_it_wakes_the_repository_that_it_names(bench: Bench) -> None:
    """Of those that share the secret; what names none of ours wakes none."""
    assert bench.github(about("Street/Models")) is Outcome.WOKE
    assert bench.woken == ["street/models"]
    assert bench.github(about("street/other")) is Outcome.OTHER
    assert bench.woken == ["street/models"]


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b"7", b"[" * 100_000, b'{"repository": 5}', b'{"repository": {"full_name": [1]}}']
)  # fmt: skip
def test_what_cannot_be_read_wakes_all_that_share_the_secret(bench: Bench, body: bytes) -> None:
    """It is signed, so a look does no harm."""
    assert bench.github(body) is Outcome.WOKE
    assert bench.woken == ["retail/models", "street/models"]


def test_a_secret_of_ones_own_needs_no_body(bench: Bench) -> None:
    """One repository: nothing is parsed."""
    headers = {"X-Gitlab-Token": "own", "X-Gitlab-Webhook-UUID": "always the same"}
    assert bench.hooks.take(headers, b"{not json") is Outcome.WOKE
    assert bench.hooks.take(headers, b"{another") is Outcome.WOKE
    assert bench.woken == ["group/sub/models"] * 2


def test_one_forges_secret_wakes_no_other_repository(bench: Bench) -> None:
    """Whatever the body names."""
    body = json.dumps({"project": {"path_with_namespace": "retail/models"}}).encode()
    assert bench.hooks.take({"X-Gitlab-Token": "own"}, body) is Outcome.WOKE
    assert bench.github(about("group/sub/models")) is Outcome.OTHER
    assert bench.hooks.take({"X-Gitlab-Token": "shared"}, body) is Outcome.REFUSED
    assert bench.woken == ["group/sub/models"]


def test_a_replay_wakes_nobody(bench: Bench) -> None:
    """The same delivery, or the same bytes under another delivery's name, within the window."""
    assert bench.github(about("retail/models", n=1), delivery="one") is Outcome.WOKE
    assert bench.github(about("retail/models", n=1), delivery="two") is Outcome.DUPLICATE
    assert bench.github(about("retail/models", n=2), delivery="one") is Outcome.DUPLICATE
    assert bench.woken == ["retail/models"]
    bench.now = WINDOW + 1
    assert bench.github(about("retail/models", n=1), delivery="one") is Outcome.WOKE


def test_strangers_cannot_spoil_a_delivery(bench: Bench) -> None:
    """What is not signed is not remembered, so a true delivery of that name still wakes."""
    assert bench.github(about("retail/models"), b"guess", delivery="one") is Outcome.REFUSED
    assert bench.github(about("retail/models"), delivery="one") is Outcome.WOKE


def test_memory_has_a_bound(bench: Bench) -> None:
    """Of thousands of deliveries in one window the newest are remembered."""
    for number in range(3_000):
        bench.github(about("retail/models", n=number))
    assert bench.github(about("retail/models", n=2_999)) is Outcome.DUPLICATE
    assert bench.github(about("retail/models", n=0)) is Outcome.WOKE


def test_a_secret_can_be_replaced(bench: Bench) -> None:
    """The file is read anew: two lines hold both, then the old one is refused; nothing is restarted."""
    bench.shared.write_text("shared\nnewer\n")
    assert bench.github(b"1") is Outcome.WOKE
    assert bench.github(b"2", b"newer") is Outcome.WOKE
    bench.shared.write_text("newer\n")
    assert bench.github(b"3") is Outcome.REFUSED
    assert bench.github(b"4", b"newer") is Outcome.WOKE


@pytest.mark.parametrize("content", [None, "", "\n \n"])
def test_without_a_secret_nobody_is_believed(
    bench: Bench, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is missing or empty is told of once, and is no secret."""
    if content is None:
        bench.shared.unlink()
    else:
        bench.shared.write_text(content)
    for secret in (b"", b"shared", b"\n", b" "):
        assert bench.github(b"x", secret) is Outcome.REFUSED
    assert bench.woken == []
    assert len([record for record in caplog.records if "shared" in record.getMessage()]) == 1
