"""The files of a run on a tracking server. MLflow's own client brings them: it knows where a server keeps them.

::

    args.yaml, results.csv, pictures/, golden/       what training and measuring left
    environment.json, requirements.txt               where it ran
    model/weights.pt, model/MLmodel                  the chosen weights; a registered version points at this folder
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from adapters.mlflow_api import Run
from adapters.store import Store
from adapters.tracking_access import Access
from specs.errors import Stalled, Transient
from specs.records import IMAGE_SUFFIXES, DatasetManifest, EvaluationRecord, RunRecord, dataset_key
from specs.workorders import TrackOrder

MODEL = "model"
_REMOTE = ("mlflow-artifacts", "s3", "gs", "wasbs", "abfss", "r2")


def upload(
    store: Store, order: TrackOrder, record: RunRecord, golden: EvaluationRecord | None, run: Run, scratch: Path
) -> None:
    """Bring all files; those that are there already are written over by the same bytes.

    Stalled ``ArtifactsUnreachable`` where the server keeps them in a folder of its own machine; Transient
    ``ArtifactsNotStored`` where they do not arrive.
    """
    _check_place(order.tracking_uri, run.artifacts)
    folder = scratch / "artifacts"
    folder.mkdir()
    _gather(store, record, golden, folder)
    if record.weights is not None:
        _model(store, record, run, folder / MODEL)
    with _client_of(order.tracking_uri):
        _bring(order.tracking_uri, run, folder)


def _check_place(uri: str, artifacts: str) -> None:
    """A server says where its runs' files are kept, and MLflow's client goes there with whatever rights we have."""
    parts = urlsplit(artifacts)
    if parts.scheme == "mlflow-artifacts" and parts.netloc not in ("", urlsplit(uri).netloc):
        raise Stalled("ArtifactsUnreachable", f"{uri} sends files to another server, {parts.hostname}; none is brought")
    if parts.scheme in _REMOTE or (parts.scheme in ("", "file") and _is_here(uri)):
        return
    raise Stalled(
        "ArtifactsUnreachable",
        f"{uri} keeps files at {parts.scheme or 'file'}://, which is no place for a job to write to; "
        "let the server take them (--serve-artifacts), or keep them in an object store",
    )


def _is_here(uri: str) -> bool:
    host = urlsplit(uri).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _gather(store: Store, record: RunRecord, golden: EvaluationRecord | None, folder: Path) -> None:
    for name, digest in record.files.items():
        below = "pictures" if name.lower().endswith(IMAGE_SUFFIXES) else "."
        store.fetch_blob(digest, folder / below / name)
    for name, digest in (golden.files if golden else {}).items():
        store.fetch_blob(digest, folder / "golden" / name)
    if record.environment is not None:
        (folder / "environment.json").write_bytes(record.environment.encode())
        packages = record.environment.packages
        lines = "".join(f"{name}=={packages[name]}\n" for name in sorted(packages, key=str.lower))
        (folder / "requirements.txt").write_text(lines, encoding="utf-8")


def _model(store: Store, record: RunRecord, run: Run, folder: Path) -> None:
    """Lay out the weights as MLflow's registry likes a model: beside a description."""
    from mlflow.models import Model

    weights = record.weights or ""
    store.fetch_blob(weights, folder / "weights.pt")
    manifest = store.read(dataset_key(record.dataset or str(record.inputs["data"])))
    names = DatasetManifest.decode(manifest).names if manifest else []
    packages = record.environment.packages if record.environment else {}
    flavor = {
        "data": "weights.pt", "weights": weights, "task": record.inputs["task"], "names": names,
        "ultralytics_version": packages.get("ultralytics", ""),
    }  # fmt: skip
    described = Model(
        artifact_path=MODEL, run_id=run.id, flavors={"ultralytics": flavor}, utc_time_created=record.finished,
        model_uuid=weights.removeprefix("sha256:")[:32],
        metadata={"trunkline.model": record.model, "trunkline.run": record.inputs_digest},
    )  # fmt: skip
    described.save(str(folder / "MLmodel"))


@contextmanager
def _client_of(uri: str) -> Iterator[None]:
    """Tell MLflow's client whom to ask, as whom, and not to try for long: this job is started again anyway."""
    user, secret = Access.of(os.environ).secret(uri)
    wanted = {
        "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip
    if user:
        wanted |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": secret}
    elif secret:
        wanted["MLFLOW_TRACKING_TOKEN"] = secret
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _bring(uri: str, run: Run, folder: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        MlflowClient(tracking_uri=uri).log_artifacts(run.id, str(folder))
    except (MlflowException, RequestException, OSError) as error:
        words = " ".join(str(error).split())[:300]
        raise Transient("ArtifactsNotStored", f"the files of run {run.id} did not arrive at {uri}: {words}") from error
