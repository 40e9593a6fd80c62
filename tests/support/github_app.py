"""A GitHub App: its key, and the tokens that the stand-in gives for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from adapters.forge_github_app import AppToken
from tests.support.forge_server import ForgeServer
from tests.support.github_server import GitHubServer


def new_key(path: Path) -> RSAPrivateKey:
    """Make an App's private key and write it as GitHub gives it out."""
    key = generate_private_key(65537, 2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return key


def app_of(server: ForgeServer, folder: Path, clock: Callable[[], float] | None = None) -> AppToken:
    """Install an App in the stand-in and give what asks it for tokens."""
    assert isinstance(server, GitHubServer)
    server.app_key = new_key(folder / "app.pem").public_key()
    return AppToken(
        server.url, app=7, installation=42, key_file=folder / "app.pem", clock=clock or (lambda: server.clock)
    )
