"""What a client needs to know from a kubeconfig."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import httpx
import yaml


def access(kubeconfig: Path) -> tuple[str, dict[str, str], ssl.SSLContext]:
    """Read what a client needs from a kubeconfig's current context: URL, headers, and how to trust the server."""
    config = yaml.safe_load(kubeconfig.read_text())
    named = {kind: {item["name"]: item for item in config[f"{kind}s"]} for kind in ("context", "cluster", "user")}
    context = named["context"][config["current-context"]]["context"]
    cluster, user = named["cluster"][context["cluster"]]["cluster"], named["user"][context["user"]]["user"]
    trust = ssl.create_default_context()
    if "certificate-authority-data" in cluster:
        trust.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    elif cluster.get("insecure-skip-tls-verify"):
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    if "client-certificate-data" in user:
        pair = kubeconfig.with_name(f"{kubeconfig.name}.pem")
        pair.touch(mode=0o600)
        parts = (user["client-certificate-data"], user["client-key-data"])
        pair.write_bytes(b"\n".join(base64.b64decode(part) for part in parts))
        trust.load_cert_chain(pair)
    return cluster["server"], {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}, trust


def connect(kubeconfig: Path) -> httpx.Client:
    """Connect as a kubeconfig's current context says."""
    url, headers, trust = access(kubeconfig)
    return httpx.Client(base_url=url, headers=headers, verify=trust, timeout=30, trust_env=False)
