"""Names derived from what they stand for, so that "already exists" means "already done"."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from specs.digests import digest_of, hex_of

BRANCH_PREFIX = "trunkline/"
INTENTS = ("promote", "retrain", "bump-data", "tune", "rollback")
_BRANCH = re.compile(r"trunkline/(promote|retrain|bump-data|tune|rollback)/([a-z0-9-]+)\.([a-z0-9-]+)/([0-9a-f]{12})")


def job_name(kind: str, model: str, key12: str) -> str:
    """Name a job: a DNS label of at most 63 characters that ends with the key."""
    room = 63 - len(kind) - len(key12) - 2
    name = model.rpartition("/")[2][:room].strip("-")
    return f"{kind}-{name}-{key12}"


def attempt_name(job: str, number: int, longest: int = 63) -> str:
    """Name an attempt of a job, from 1: the first is named like the job, others end with key and number.

    At most ``longest`` characters; what is cut off is the end of the model's name, never the key.
    """
    body, _, key = job.rpartition("-")
    ending = f"-{key}" if number == 1 else f"-{key}-{number}"
    return body[: longest - len(ending)].rstrip("-") + ending


def proposal_branch(intent: str, namespace: str, name: str, key: str) -> str:
    """Name a proposal's branch: ``trunkline/<intent>/<ns>.<name>/<key12>``."""
    return f"{BRANCH_PREFIX}{intent}/{namespace}.{name}/{key[:12]}"


def parse_branch(branch: str) -> tuple[str, str, str, str] | None:
    """Give (intent, namespace, name, key12) of a proposal branch; None for any other branch."""
    match = _BRANCH.fullmatch(branch)
    return (match[1], match[2], match[3], match[4]) if match else None


def evidence_dir(namespace: str, name: str, version: int) -> str:
    """Folder in the repository that holds the evidence of a release."""
    return f"evidence/{namespace}.{name}/v{version}"


def tuning_dir(namespace: str, name: str, search: str) -> str:
    """Folder in the repository that holds what a search found, which its digest names."""
    return f"evidence/{namespace}.{name}/tuning/{hex_of(search)[:12]}"


def data_evidence_root(namespace: str, name: str) -> str:
    """Folder in the repository that holds the evidence about a model's data."""
    return f"evidence/{namespace}.{name}/data"


def data_evidence_dir(namespace: str, name: str, data: str, against: str) -> str:
    """Folder in the repository that holds what was found out about a data set before it was proposed.

    ``data`` is the digest of its manifest, ``against`` that of what it was compared with, so that nothing is ever
    written there twice.
    """
    return f"{data_evidence_root(namespace, name)}/{hex_of(data)[:12]}-{hex_of(against)[:12]}"


def model_of_serving_name(served: str) -> tuple[str, str]:
    """Give (namespace, name) of the model that has a name at the server: the inverse of ``serving_name``."""
    namespace, dot, name = served.rpartition(".")
    return (namespace, name) if dot else ("default", served)


def serving_name(namespace: str, name: str) -> str:
    """Name of the model at the server: clients of the default namespace need not say so."""
    return name if namespace == "default" else f"{namespace}.{name}"


_MOMENT = "%Y%m%dT%H%M%SZ"
_EPISODE = re.compile(r"([a-z0-9-]+)-v([0-9]+)-([0-9]{8}T[0-9]{6}Z)")
_NONCE_LENGTH = 64


def moment_name(when: float) -> str:
    """Write a moment (Unix time, seconds) as names have it: ``20261126T100000Z``."""
    return datetime.fromtimestamp(when, UTC).strftime(_MOMENT)


def episode_name(signal: str, version: int, start: float) -> str:
    """Name a time in which a signal fires: signal, release, and the start of its first failing window (Unix time)."""
    return f"{signal}-v{version}-{moment_name(start)}"


def parse_episode(name: str) -> tuple[str, int, float] | None:
    """Give (signal, version, start in Unix time) of an episode's name; None for any other text."""
    match = _EPISODE.fullmatch(name)
    if match is None:
        return None
    try:
        start = datetime.strptime(match[3], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return match[1], int(match[2]), start.timestamp()


def nonce_name(cause: str) -> str:
    """Give the nonce that stands for a cause: its name, cut where that is too long, but never to another's."""
    if len(cause) <= _NONCE_LENGTH:
        return cause
    ending = f"-{hex_of(digest_of(cause))[:12]}"
    return cause[: _NONCE_LENGTH - len(ending)] + ending


def signals_dir(namespace: str, name: str, nonce: str) -> str:
    """Folder in the repository that holds what asked for a retraining, which the nonce names."""
    return f"evidence/{namespace}.{name}/signals/{nonce}"
