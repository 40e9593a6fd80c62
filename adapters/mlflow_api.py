"""MLflow's REST API, as far as Trunkline needs it. No package of theirs: training must not pay for importing one.

Small answers, bounded in size and time whatever the server does. ``Transient`` where trying again may help; ``Stalled``
where the server said no.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from adapters.tracking_access import Access
from specs.errors import Stalled, Transient

RUN_TAG = "trunkline.inputsDigest"
"""Names the training that a run mirrors."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow's pages show first: curves and models, not conversations."""
MAX_METRICS, MAX_PARAMS = 1000, 100
"""In one request, by MLflow's limits."""
_PARAM_LENGTH, _TAG_LENGTH = 6000, 8000
_MAX_ANSWER = 32 * 2**20
_PATIENCE = 60.0
"""Seconds that one answer may take in all, however busily it drips."""
_PAGES = 100
_WORDS = 300


class Missing(Stalled):
    """There is no such thing there."""


class Exists(Stalled):
    """It is there already."""


@dataclass(frozen=True)
class Point:
    """A metric at a step. ``when`` is Unix time in milliseconds; the same point sent twice is one."""

    key: str
    value: float
    step: int
    when: int


@dataclass(frozen=True)
class Run:
    """An MLflow run."""

    id: str
    experiment: str
    artifacts: str
    status: str
    started: int
    """Unix time in milliseconds."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    latest: Mapping[str, float]
    """The newest value of each metric."""
    datasets: frozenset[str]
    """Names of the data sets that it lists as inputs."""


def legal(name: str) -> str:
    """Give a name for a metric or a param as MLflow takes it, the way Ultralytics makes one: without parentheses."""
    return re.sub(r"[^\w./ :-]", "_", re.sub(r"[()]", "", name))[:250]


class MlflowApi:
    """One tracking server. May be used by several threads."""

    def __init__(self, uri: str, access: Access, *, timeout: float = 10.0, patience: float = _PATIENCE) -> None:
        self.uri = uri.rstrip("/")
        self._access = access
        self._patience = patience
        self._http = httpx.Client(timeout=timeout, headers={"User-Agent": "trunkline"}, follow_redirects=False)

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    # ------------------------------------------------------------------------------------------------ experiments, runs
    def experiment(self, name: str) -> str:
        """Give the id of an experiment, made where there is none; Stalled ``TrackingRefused`` for a deleted one."""
        found = self._experiment(name)
        if found is None:
            try:
                return str(self.post("experiments/create", name=name, tags=_pairs(_KIND))["experiment_id"])
            except Exists:  # somebody was quicker
                found = self._experiment(name)
        if found is None or found.get("lifecycle_stage") == "deleted":
            text = f"experiment {name} was deleted in {self.uri}: restore it, or name another one"
            raise Stalled("TrackingRefused", text)
        return str(found["experiment_id"])

    def find_experiment(self, name: str) -> str:
        """Give the id of an experiment; empty where there is none."""
        found = self._experiment(name)
        return str(found["experiment_id"]) if found else ""

    def _experiment(self, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self.get("experiments/get-by-name", experiment_name=name)["experiment"]
        except Missing:
            return None
        return found

    def runs(self, experiment: str, inputs_digest: str) -> list[Run]:
        """Give the runs that mirror a training and were not deleted, oldest first."""
        wanted = f"tags.`{RUN_TAG}` = '{inputs_digest}'"
        found = self.post(
            "runs/search", experiment_ids=[experiment], filter=wanted, run_view_type="ACTIVE_ONLY", max_results=100
        )
        return sorted(map(_run, found.get("runs", ())), key=lambda run: (run.started, run.id))

    def create(self, experiment: str, inputs_digest: str, name: str, started: int) -> Run:
        """Make a run. Look first: made twice, there are two. ``started`` is Unix time in milliseconds."""
        tags = {RUN_TAG: inputs_digest, "mlflow.user": "trunkline"}
        made = self.post(
            "runs/create", experiment_id=experiment, run_name=name, start_time=started, tags=_pairs(tags),
            user_id="trunkline",
        )  # fmt: skip
        return _run(made["run"])

    def delete(self, run: Run) -> None:
        """Mark a run as deleted; MLflow keeps it until somebody sweeps."""
        self.post("runs/delete", run_id=run.id)

    def log(
        self, run: Run, *, metrics: Sequence[Point] = (), params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Add metrics and params, set tags; nothing where there is nothing. A param never changes: Stalled."""
        for start in range(0, len(metrics), MAX_METRICS):
            part = [
                {"key": legal(p.key), "value": p.value, "step": p.step, "timestamp": p.when}
                for p in metrics[start : start + MAX_METRICS]
            ]
            self.post("runs/log-batch", run_id=run.id, metrics=part)
        for what, given, limit in (("params", params, _PARAM_LENGTH), ("tags", tags, _TAG_LENGTH)):
            pairs = _pairs({key: value[:limit] for key, value in (given or {}).items()})
            for start in range(0, len(pairs), MAX_PARAMS):
                self.post("runs/log-batch", run_id=run.id, **{what: pairs[start : start + MAX_PARAMS]})

    def history(self, run: Run, key: str) -> list[tuple[int, float]]:
        """Give all (step, value) of a metric."""
        found: list[tuple[int, float]] = []
        token = ""
        for _ in range(_PAGES):
            page = self.get("metrics/get-history", run_id=run.id, metric_key=legal(key), max_results="1000",
                            **({"page_token": token} if token else {}))  # fmt: skip
            found += [(int(m.get("step", 0)), float(m.get("value", 0))) for m in page.get("metrics", ())]
            token = page.get("next_page_token", "")
            if not token:
                break
        return found

    def add_inputs(self, run: Run, datasets: Sequence[Mapping[str, Any]]) -> None:
        """List data sets as inputs of a run; those of the same name and digest are one."""
        self.post("runs/log-inputs", run_id=run.id, datasets=list(datasets))

    def end(self, run: Run, status: str, when: int) -> None:
        """Say how a run ended, and when (Unix time in milliseconds)."""
        self.post("runs/update", run_id=run.id, status=status, end_time=when)

    # ------------------------------------------------------------------------------------------------ the wire
    def get(self, path: str, **parameters: str) -> Any:
        """Ask."""
        return self._send("GET", path, params=parameters)

    def post(self, path: str, **body: Any) -> Any:
        """Ask for a change."""
        return self._send("POST", path, json=body)

    def delete_at(self, path: str, **body: Any) -> Any:
        """Ask for something to go."""
        return self._send("DELETE", path, json=body)

    def _send(self, verb: str, path: str, **content: Any) -> Any:
        self._access.check(self.uri)
        headers = self._access.headers(self.uri)
        where = f"{self.uri}/api/2.0/mlflow/{path}"
        try:
            with self._http.stream(verb, where, headers=headers, **content) as answer:
                body = self._read(answer)
        except httpx.HTTPError as error:
            said = "" if isinstance(error, httpx.LocalProtocolError) else str(error)  # which would quote our headers
            raise Transient("TrackingUnavailable", f"{where}: {said or type(error).__name__}") from error
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise Transient("TrackingUnavailable", f"{where} answered {answer.status_code}")
        if answer.status_code < 300:
            return _json(body, where)
        raise self._refusal(answer, body, where, headers)

    def _read(self, answer: httpx.Response) -> bytes:
        until, parts, size = time.monotonic() + self._patience, [], 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > _MAX_ANSWER or time.monotonic() > until:
                raise Transient("TrackingUnavailable", f"{self.uri} gives an answer without end")
        return b"".join(parts)

    def _refusal(self, answer: httpx.Response, body: bytes, where: str, headers: Mapping[str, str]) -> Stalled:
        if answer.has_redirect_location:
            return Stalled("TrackingMoved", f"{where} is elsewhere now; correct spec.tracking.mlflow.trackingUri")
        if answer.status_code in (401, 403):
            return Stalled("TrackingUnauthorized", f"{self.uri} does not let us in; look at [tracking] token_file")
        try:
            said = _json(body, where)
        except Transient:
            said = {}
        code = said.get("error_code", "") if isinstance(said, dict) else ""
        words = " ".join(str(said.get("message", "")).split()) if isinstance(said, dict) else ""
        for secret in " ".join(headers.values()).split()[1:]:
            words = words.replace(secret, "***")
        kind = {"RESOURCE_DOES_NOT_EXIST": Missing, "RESOURCE_ALREADY_EXISTS": Exists}.get(code, Stalled)
        return kind("TrackingRefused", f"{where} answered {answer.status_code}: {words[:_WORDS] or 'no words'}")


def _json(body: bytes, where: str) -> Any:
    try:
        return httpx.Response(200, content=body or b"{}").json()
    except ValueError as error:
        raise Transient("TrackingUnavailable", f"{where} gave something that is no JSON") from error


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(values.items())]


def _plain(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(pair["key"]): pair.get("value", "") for pair in pairs}


def _run(given: Mapping[str, Any]) -> Run:
    info, data = given["info"], given.get("data", {})
    inputs = (given.get("inputs") or {}).get("dataset_inputs", ())
    return Run(
        id=info["run_id"], experiment=info["experiment_id"], artifacts=info.get("artifact_uri", ""),
        status=info.get("status", ""), started=int(info.get("start_time", 0)), params=_plain(data.get("params", ())),
        tags=_plain(data.get("tags", ())), latest=_plain(data.get("metrics", ())),
        datasets=frozenset(each["dataset"]["name"] for each in inputs),
    )  # fmt: skip
