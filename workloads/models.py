"""Loads what a job works on, as Ultralytics models: by name from the package, or by digest from the store."""

from __future__ import annotations

import pickle
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import Transient
from specs.exports import FORMATS
from specs.modelspec import Task
from workloads import archive
from workloads.environment import cache
from workloads.errors import Hopeless

_SUFFIX_OF_TASK = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}


def base_model(store: Store, named: dict[str, str], task: Task, scratch: Path) -> tuple[Any, str | None]:
    """Load what training starts from; give it, and the digest that a published name stood for.

    Hopeless ``UnknownModel``, ``UnreadableModel`` or ``TaskMismatch``; Transient where a download fails.
    """
    digest = None
    if "digest" in named:
        path = scratch / "base.pt"
        store.fetch_blob(named["digest"], path)
    elif named["name"].endswith(".pt"):
        path = _published(named["name"], scratch)
        digest = digest_bytes(path.read_bytes())
    else:
        path = _architecture(named["name"])
    model = load(path, None)
    if model.task != task:
        name = named.get("name", "")
        stem, dot, suffix = name.rpartition(".")
        advice = f"; use {stem.split('-')[0]}{_SUFFIX_OF_TASK[task]}{dot}{suffix}" if name else ""
        raise Hopeless("TaskMismatch", f"the model is for {model.task}, but the task is {task}{advice}")
    return model, digest


def load(path: Path, task: Task | None) -> Any:
    """Load weights or an architecture; Hopeless ``UnreadableModel`` for what is none or holds foreign code."""
    from ultralytics import YOLO

    try:
        return YOLO(str(path), task=task)
    except (pickle.UnpicklingError, EOFError, TypeError, KeyError, AttributeError) as error:
        message = f"{path.name} is no Ultralytics checkpoint of known layers: {error}"
        raise Hopeless("UnreadableModel", message) from error


def _architecture(name: str) -> Path:
    """Ultralytics finds ``yolo26n.yaml`` in the package as ``yolo26.yaml``; only ask whether it will."""
    from ultralytics.nn.tasks import yaml_model_load

    try:
        yaml_model_load(name)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise Hopeless("UnknownModel", f"{name}: Ultralytics ships no such model; yolo26n.yaml is one") from error
    return Path(name)


def _published(name: str, scratch: Path) -> Path:
    """Find published weights in the cache of this machine, or download them once."""
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    if name not in GITHUB_ASSETS_NAMES:
        near = get_close_matches(name, GITHUB_ASSETS_NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Hopeless("UnknownModel", f"{name}: Ultralytics publishes no such weights{hint}")
    folder = (cache() or scratch) / "models"
    kept = folder / name
    if kept.is_file():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as private:
        try:
            attempt_download_asset(Path(private, name))
            Path(private, name).replace(kept)
        except (OSError, RuntimeError) as error:
            message = f"{name} is not in {folder} and could not be downloaded: {error}; put it there by hand"
            raise Transient("DownloadFailed", message) from error
    return kept


def fetch_subject(store: Store, digest: str, format_: str, scratch: Path) -> Path:
    """Put weights or an export where Ultralytics recognises its format by the name."""
    target = scratch / ("model.pt" if format_ == "pt" else f"model{FORMATS[format_]}")
    if format_ != "pt" and archive.is_folder(format_):
        packed = scratch / "model.tar"
        store.fetch_blob(digest, packed)
        archive.unpack(packed, target)
    else:
        store.fetch_blob(digest, target)
    return target
