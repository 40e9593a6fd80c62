"""The evidence that comes with better arguments: files of the search's folder, about this change. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from specs.changeset import FileChange, evidence_flaw
from specs.digests import canonical
from specs.experiment_records import TuningRecord
from specs.modelspec import ModelKey, Spec
from specs.names import tuning_dir
from specs.workorders import tuning_digest

_NAME = "tuning.json"


def tuning_evidence_flaw(
    key: ModelKey, spec: Spec, changed: Sequence[str], files: Sequence[FileChange], read: Callable[[str], bytes]
) -> str:
    """Say what is wrong with the evidence for ``spec`` as it would be; empty where it fits.

    ``changed``: names of the arguments that become other ones. ``files`` are those of the model's evidence folder.
    """
    search = tuning_digest(key, spec)
    if search is None:
        return f"spec.tuning of {key} asks for no search"
    folder = f"{tuning_dir(*key, search)}/"
    if flaw := evidence_flaw(files, folder, "the search that spec.tuning asks for"):
        return flaw
    found = next((file.after for file in files if file.path == f"{folder}{_NAME}"), None)
    if found is None:
        return f"{folder}{_NAME} does not come with the arguments"
    try:
        told = TuningRecord.decode(read(found.blob))
    except ValidationError:
        return f"{folder}{_NAME} is no record of a search"
    best, args = told.best.args if told.best else {}, spec.training.args
    wrong = [name for name in changed if name not in best or canonical(args.get(name)) != canonical(best[name])]
    if told.tuning_digest != search or wrong:
        return f"{folder}{_NAME} is about something else than this change of spec.training.args of {key}"
    return ""
