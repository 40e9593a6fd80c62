"""A release as a machine-learning bill of materials: CycloneDX 1.6 with a model card. Pure, the same every time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from reconcilers.chronicle import Event
from reconcilers.releases import LEVEL, Row, row
from specs.digests import digest_of, hex_of
from specs.errors import Stalled
from specs.evidence import Dataset, Evidence
from specs.past import email
from specs.records import EvaluationRecord
from specs.release import Release

_SCP = re.compile(r"([^/@:]+@)?([^/:]+):(?!//)(.+)")
_URL_SAFE = ":/?#[]@!$&'()*+,;=%~-._"


def bom(event: Event, *, pull_url: str = "") -> dict[str, Any]:
    """Give the document. ``pull_url``: where the pull request can be read, if a forge tells.

    Whatever git does not tell is left out, never guessed.
    """
    release, told = event.release, row(event)
    if release is None:
        raise Stalled("NoSuchRelease", f"nothing of {event.key} is released by commit {event.step.sha[:12]}")
    evidence = event.proof.evidence if event.proof else None
    model = _model(event, release, told, evidence)
    model["externalReferences"] = list(_references(event, evidence, pull_url))
    if not model["externalReferences"]:
        del model["externalReferences"]
    parts = list(_parts(release, evidence))
    used = [part["bom-ref"] for part in parts if part["type"] in ("data", "machine-learning-model")]
    exports = [part["bom-ref"] for part in parts if part["type"] == "file"]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": _serial([str(event.key), release.version, event.step.sha]),
        "version": 1,
        "metadata": {
            "timestamp": told.when,
            "tools": {"components": [{"type": "application", "name": "trunkline"}]},
            "component": model,
        },
        "components": parts,
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": used},
            *({"ref": export, "dependsOn": [model["bom-ref"]]} for export in exports),
        ],
    }


def _serial(parts: list[Any]) -> str:
    """Name the document after what it is about: a UUID of version 8 (RFC 9562) made of a digest."""
    digits = digest_of(["trunkline.dev/bom/v1", *parts]).removeprefix("sha256:")
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"urn:uuid:{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _model(event: Event, release: Release, told: Row, evidence: Evidence | None) -> dict[str, Any]:
    step = event.step
    author = {"name": step.commit.author.partition(" <")[0], "email": email(step.commit.author)}
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", author["email"]):
        del author["email"]
    commit = {"uid": step.sha, "author": {"timestamp": told.when, **author}, "message": step.commit.subject}
    notes = f"{event.how}; replaced {f'v{told.replaced}' if told.replaced else 'nothing'}"
    return {
        "type": "machine-learning-model",
        "bom-ref": f"{event.key}@v{release.version}",
        "group": event.key.namespace,
        "name": event.key.name,
        "version": str(release.version),
        "hashes": _hashes(release.weights),
        "pedigree": {"commits": [commit], "notes": notes},
        "modelCard": _card(event, evidence),
        "properties": _properties(told),
    }  # fmt: skip


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": hex_of(digest)}]


def _card(event: Event, evidence: Evidence | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"approach": {"type": "supervised"}}
    if event.moment.after is not None:
        parameters["task"] = event.moment.after.spec.task
    if evidence is None:
        return {"modelParameters": parameters}
    model = evidence.inputs.get("model")
    if isinstance(model, dict) and isinstance(model.get("name"), str):
        parameters["modelArchitecture"] = model["name"]
    sets = {"train": evidence.data.train, "golden": evidence.data.golden}
    parameters["datasets"] = [{"ref": _ref(name, found)} for name, found in sets.items() if found]
    metrics = [*_metrics(evidence.evaluation), *_export_metrics(evidence)]
    card: dict[str, Any] = {"modelParameters": parameters}
    return card | ({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {})


def _metrics(found: EvaluationRecord | None, slice_: str = "") -> Iterator[dict[str, Any]]:
    if found is None:
        return
    for name, value in sorted(found.values.items()):
        metric: dict[str, Any] = {"type": name, "value": f"{value:.6g}"}
        bounds = found.intervals.get(name, {}).get(LEVEL)
        if bounds is not None:
            low, high = (f"{bound:.6g}" for bound in bounds)
            metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
        yield metric | ({"slice": slice_} if slice_ else {})
    for class_, values in sorted(found.per_class.items()):
        where = f"{slice_}, class {class_}" if slice_ else f"class {class_}"
        yield from ({"type": name, "value": f"{value:.6g}", "slice": where} for name, value in sorted(values.items()))


def _export_metrics(evidence: Evidence) -> Iterator[dict[str, Any]]:
    for each in evidence.exports:
        yield from _metrics(each.evaluation, f"export {each.name}")
        for name, value in sorted(each.record.metrics.items()) if each.record else ():
            yield {"type": name, "value": f"{value:.6g}", "slice": f"export {each.name}"}


def _properties(told: Row) -> list[dict[str, str]]:
    """Give what CycloneDX has no field for."""
    named: dict[str, object | None] = {
        "run": told.run, "evidence": told.evidence_digest, "evidence-state": told.evidence, "asked-for-by": told.source,
        "proposed-by": told.proposed_by, "merged-by": told.merged_by, "pull-request": told.pull_request,
        "approved-by": ", ".join(told.approved_by) if told.approved_by else None, "golden-images": told.n,
    }  # fmt: skip
    named |= {f"training:{key}": json.dumps(value) for key, value in sorted((told.args or {}).items())}
    return [{"name": f"trunkline:{key}", "value": str(value)} for key, value in named.items() if value is not None]


def _references(event: Event, evidence: Evidence | None, pull_url: str) -> Iterator[dict[str, Any]]:
    if evidence is not None and evidence.source.repository:
        yield {"type": "vcs", "url": _address(evidence.source.repository), "comment": f"commit {event.step.sha}"}
    if evidence is not None and event.proof is not None:
        yield {"type": "evidence", "url": event.proof.path, "hashes": _hashes(event.proof.found)}
    if pull_url:
        yield {"type": "other", "url": quote(pull_url, safe=_URL_SAFE), "comment": "pull request"}


def _address(url: str) -> str:
    """Give a repository's address as a URL: ``user@host:path`` is none, and spaces have no place in one."""
    match = _SCP.fullmatch(url)
    whole = f"ssh://{match[1] or ''}{match[2]}/{match[3]}" if match and "://" not in url else url
    return quote(whole, safe=_URL_SAFE)


def _ref(name: str, found: Dataset) -> str:
    return f"{name}@{found.digest}"


def _parts(release: Release, evidence: Evidence | None) -> Iterator[dict[str, Any]]:
    for name, digest in sorted(release.exports.items()):
        ref = f"export-{name}@{digest}"
        yield {"type": "file", "bom-ref": ref, "name": f"export {name}", "hashes": _hashes(digest)}
    if evidence is None:
        return
    for name, found in (("train", evidence.data.train), ("golden", evidence.data.golden)):
        if found is not None:
            contents = [
                {"name": "trunkline:images", "value": str(found.images)},
                {"name": "trunkline:classes", "value": ", ".join(found.names)},
            ]
            if found.pinned != found.digest:
                contents.append({"name": "trunkline:pinned", "value": found.pinned})
            yield {
                "type": "data", "bom-ref": _ref(name, found), "name": f"{name} data", "hashes": _hashes(found.digest),
                "data": [{"type": "dataset", "name": f"{name} data", "contents": {"properties": contents}}],
            }  # fmt: skip
    base = evidence.run.base_model if evidence.run else None
    if base is not None:
        yield {"type": "machine-learning-model", "bom-ref": f"base@{base}", "name": "base model",
               "hashes": _hashes(base)}  # fmt: skip
