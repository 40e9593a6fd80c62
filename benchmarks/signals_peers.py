"""What Evidently and NannyML say of the same windows, with their own defaults.

This file is also the program that runs in their environments, so nothing of Trunkline is imported at its top.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PEERS: Mapping[str, tuple[str, ...]] = {
    "Evidently": ("evidently", "pandas<3"), "NannyML": ("nannyml", "pandas<3", "statsmodels"),
}  # fmt: skip
"""What pip installs; neither names an upper bound of pandas that it works with."""
_QUIET = {"PYTHONPATH": "", "DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "OMP_NUM_THREADS": "1"}
LOOKED_AT = ("brightness", "contrast", "sharpness", "confidence", "predicted")
NUMBERS = LOOKED_AT[:4]


@dataclass(frozen=True)
class Said:
    """Verdicts of one peer, over all rounds."""

    alarms: Mapping[str, list[int]]
    """What is alarmed about, to the number of windows, by step."""
    accuracy: list[float]
    """Mean estimate by step; empty where it estimates none."""


def ask(folder: Path, arrays: Mapping[str, Any], window: int) -> dict[str, Said]:
    """Let each peer look at the windows, in an environment that pip makes the first time."""
    data = folder / "windows.npz"
    np.savez(data, window=window, **arrays)
    said = {}
    for name, packages in PEERS.items():
        home = folder / "peers" / name.lower()
        if not (home / "done").exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            subprocess.run([home / "bin" / "pip", "install", "-q", *packages], check=True)
            (home / "done").touch()
        answer = folder / f"{name.lower()}.json"
        environment = {**os.environ, **_QUIET}
        # -P: what lies beside this file must not stand in for parts of the standard library.
        command = [home / "bin" / "python", "-P", __file__, name, str(data), str(answer)]
        subprocess.run(command, check=True, env=environment)
        said[name] = Said(**json.loads(answer.read_text()))
    return said


# ------------------------------------------------------------------------------------------------ in their environment
def _frame(rows: Any, labels: Any = None) -> Any:
    import pandas as pd  # noqa: PLC0415  theirs

    scores = rows[:, 3:]
    columns = dict(zip(NUMBERS, (*rows[:, :3].T, scores.max(axis=1)), strict=True))
    columns["predicted"] = scores.argmax(axis=1).astype(str)
    columns |= {f"p{number}": scores[:, number] for number in range(scores.shape[1])}
    if labels is not None:
        columns["label"] = labels
    return pd.DataFrame(columns)


def _evidently(reference: Any, labels: Any, windows: Any) -> tuple[list[dict[str, bool]], list[float]]:
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415  theirs
    from evidently.presets import DataDriftPreset  # noqa: PLC0415  theirs

    del labels
    about = DataDefinition(numerical_columns=list(NUMBERS), categorical_columns=["predicted"])
    golden = Dataset.from_pandas(_frame(reference)[list(LOOKED_AT)], data_definition=about)
    alarms = []
    for rows in windows:
        live = Dataset.from_pandas(_frame(rows)[list(LOOKED_AT)], data_definition=about)
        found = Report([DataDriftPreset()]).run(live, golden).dict()["metrics"]
        count = next(each["value"] for each in found if each["metric_name"].startswith("DriftedColumnsCount"))
        alarms.append({"any column": count["count"] >= 1, "half of the columns": count["share"] >= 0.5})
    return alarms, []


def _nannyml(reference: Any, labels: Any, windows: Any) -> tuple[list[dict[str, bool]], list[float]]:
    import nannyml  # noqa: PLC0415  theirs
    import pandas as pd  # noqa: PLC0415  theirs

    golden = _frame(reference, labels)
    live = pd.concat([_frame(rows) for rows in windows], ignore_index=True)
    size = len(windows[0])
    classes = sorted(set(golden["predicted"]) | set(golden["label"]))
    estimator = nannyml.CBPE(
        problem_type="classification_multiclass", y_pred="predicted", y_true="label",
        y_pred_proba={name: f"p{name}" for name in classes}, metrics=["accuracy"], chunk_size=size,
    )  # fmt: skip
    estimator.fit(golden)
    estimated = estimator.estimate(live).filter(period="analysis").to_df()["accuracy"]
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(LOOKED_AT), treat_as_categorical=["predicted"], chunk_size=size
    )
    calculator.fit(golden)
    drifted = calculator.calculate(live).filter(period="analysis").to_df()
    alarms = [
        {
            "any column": any(bool(drifted[column, "jensen_shannon", "alert"].iloc[place]) for column in LOOKED_AT),
            "CBPE": bool(estimated["alert"].iloc[place]),
        }
        for place in range(len(windows))
    ]
    return alarms, [float(value) for value in estimated["value"]]


_ASKED: Mapping[str, Callable[..., tuple[list[dict[str, bool]], list[float]]]] = {
    "Evidently": _evidently, "NannyML": _nannyml,
}  # fmt: skip


def main() -> None:
    """Look at all windows of all rounds, as the peer named first; leave a Said."""
    warnings.filterwarnings("ignore")
    name, data, answer = sys.argv[1:]
    arrays = np.load(data)
    alarms: dict[str, list[int]] = {}
    accuracies = []
    digits = [str(number) for number in range(arrays["golden"].shape[2] - 3)]
    for reference, labels, windows in zip(arrays["golden"], arrays["golden_labels"], arrays["windows"], strict=True):
        # The digits after the one that was left out follow without a gap, as the model's outputs do.
        known = np.array(digits)[np.searchsorted(np.unique(arrays["golden_labels"]), labels)]
        found, accuracy = _ASKED[name](reference, known, windows)
        for place, each in enumerate(found):
            for what, alarmed in each.items():
                alarms.setdefault(what, [0] * len(windows))[place] += int(alarmed)
        accuracies += [accuracy] if accuracy else []
    mean = np.mean(accuracies, axis=0).tolist() if accuracies else []
    Path(answer).write_text(json.dumps({"alarms": alarms, "accuracy": mean}))


if __name__ == "__main__":
    main()
