"""Where a job runs: what is recorded about it, and how it is kept from reaching out."""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from specs.records import Environment

SCRATCH = "TRUNKLINE_SCRATCH"
CACHE = "TRUNKLINE_CACHE"
VARIABLES = "TRUNKLINE_VARIABLES"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOCK = ".lock"
_NAME, _VERSION = re.compile(r"^Name: *(\S+)", re.MULTILINE), re.compile(r"^Version: *(\S+)", re.MULTILINE)
_SILENT = ("clearml", "comet", "dvc", "mlflow", "raytune", "sync", "tensorboard", "vscode_msg", "wandb")
"""Settings of Ultralytics that are off in jobs: what a run says, and to whom, is Trunkline's business."""

_TELLTALES = ("MNN.tools.utils.log",)
"""Modules of others that install packages when they are imported, and tell their makers who uses them for what."""


def describe() -> Environment:
    """Describe this interpreter and machine, and the GPU where torch works on one."""
    return Environment(
        python=platform.python_version(), platform=platform.platform(), device=_device(), cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)), packages=packages(),
    )  # fmt: skip


def packages() -> dict[str, str]:
    """Give name and version of every installed distribution, by name.

    Only the two lines are read: parsing all of a distribution's metadata, twice, is most of the time this used to take.
    """
    found = {}
    # What setuptools carries inside itself is on the path once somebody has imported that, and is installed nowhere.
    for distribution in metadata.distributions(path=[place for place in sys.path if Path(place).name != "_vendor"]):
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        name, version = _NAME.search(text), _VERSION.search(text)
        if name and version:
            found[name[1]] = version[1]
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _device() -> str:
    torch = sys.modules.get("torch")  # importing it only to ask would take seconds
    return str(torch.cuda.get_device_name()) if torch and torch.cuda.is_available() else "cpu"


def _cpu() -> str:
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def take_variables() -> None:
    """Make variables of the files of a folder, where one is named: some runtimes hand Secrets over in no other way.

    What is set already stays.
    """
    folder = os.environ.get(VARIABLES)
    for path in sorted(Path(folder).iterdir()) if folder else ():
        if _VARIABLE.fullmatch(path.name) and path.is_file():
            os.environ.setdefault(path.name, path.read_text(encoding="utf-8"))


def cache() -> Path | None:
    """Give the folder that jobs on this machine share, or None where there is none."""
    given = os.environ.get(CACHE)
    return Path(given) if given else None


@contextmanager
def scratch(job: str) -> Iterator[Path]:
    """Give an empty private folder, also the working directory meanwhile; nothing of it is left afterwards.

    What earlier attempts left that were killed is swept first: an attempt holds a lock on its folder while it lives.
    """
    parent = Path(os.environ.get(SCRATCH) or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{job}.*"):
        _sweep(old)
    folder = Path(tempfile.mkdtemp(prefix=f"{job}.", dir=parent)).resolve()
    before = Path.cwd()
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            os.chdir(folder)
            yield folder
        finally:
            os.chdir(before)
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(folder: Path) -> None:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # alive, being made, or not ours


@contextmanager
def uncollected() -> Iterator[Callable[[], None]]:
    """Search for no garbage among libraries and models while they are loaded: they stay until the end.

    Call what this gives once all is loaded. From then on only what came later is searched, which Ultralytics does
    after every epoch. Together that is worth more than all a work order adds to a training.
    """

    def loaded() -> None:
        gc.freeze()
        gc.enable()

    gc.disable()
    try:
        yield loaded
    finally:
        gc.enable()
        gc.unfreeze()


def isolate(folder: Path) -> None:
    """Keep Ultralytics from the network, from trackers, from installing packages and from the home directory.

    Must run before Ultralytics is imported. Checkpoints load in its restricted mode: known classes only.
    """
    settings = folder / "settings"
    (settings / "Ultralytics").mkdir(parents=True)
    silent = json.dumps(dict.fromkeys(_SILENT, False))  # Ultralytics adds the rest, and drops what it does not know
    (settings / "Ultralytics" / "settings.json").write_text(silent, encoding="utf-8")
    os.environ.update(
        YOLO_CONFIG_DIR=str(settings), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="true",
        NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="disabled", COMET_MODE="disabled",
    )  # fmt: skip
    os.environ.pop("ULTRALYTICS_API_KEY", None)
    for module in _TELLTALES:
        sys.modules[module] = None  # type: ignore[assignment]  # so that importing it fails, which they allow for
    shared = cache()
    if shared is not None:
        os.environ.setdefault("MPLCONFIGDIR", str(shared / "matplotlib"))
    provide_font(settings / "Ultralytics")


def provide_font(folder: Path) -> None:
    """Put a font where Ultralytics looks, which downloads one for its pictures otherwise; matplotlib brings one."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return
    font = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        if font.is_file() and not (folder / name).exists():
            (folder / name).symlink_to(font)
