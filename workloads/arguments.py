"""Checks Ultralytics arguments before anything is spent on them. The package's own defaults say what is valid."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from specs.base import Args
from specs.exports import TARGETED
from specs.training import RESERVED_ARGS, Parameter, Tuning
from workloads.errors import Hopeless

_UNPINNED = {
    "pretrained": "name the weights in spec.training.model, with their digest",
    "distill_model": "a teacher cannot be given yet",
}
"""Arguments that may name a file; none is read that no digest pins."""

_EXPORT_EXTRAS = {"imgsz", "device", "conf", "iou", "max_det", "agnostic_nms", "name"}


def check_training(args: dict[str, Any]) -> None:
    """Hopeless ``InvalidArguments`` with every problem, where Ultralytics would refuse or misread ``args``."""
    from ultralytics.cfg import get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    valid = set(DEFAULT_CFG_DICT) - RESERVED_ARGS
    problems = _unknown(args, valid, "training")
    for name, advice in _UNPINNED.items():
        if isinstance(args.get(name), str):
            problems.append(f"{name}: {args[name]!r} is a file that no digest pins; {advice}")
    _raise(problems)
    try:
        get_cfg(overrides=dict(args))
    except (TypeError, ValueError, SyntaxError, AssertionError) as error:
        _raise([_plain(error)])


_CHOSEN_BY_AUTO = ("lr0", "momentum")
"""What ``optimizer: auto`` chooses by itself, whatever is given."""


def check_tuning(args: dict[str, Any], tuning: Tuning) -> Args:
    """Give what the searched arguments are in a trial's ``args``, with Ultralytics' defaults.

    Hopeless ``InvalidArguments`` where these, or the ends of a parameter, are refused, or would change nothing.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    check_training(args)
    for parameter in tuning.parameters:
        for end in _ends(parameter):
            check_training({**args, parameter.name: end})
    searched = {p.name: args[p.name] if p.name in args else DEFAULT_CFG_DICT[p.name] for p in tuning.parameters}
    moot = sorted(set(_CHOSEN_BY_AUTO) & searched.keys())
    optimizer = next((p for p in tuning.parameters if p.name == "optimizer"), None)
    chosen = optimizer.values or [] if optimizer else [args.get("optimizer", DEFAULT_CFG_DICT["optimizer"])]
    if moot and "auto" in chosen:
        _raise([f"{', '.join(moot)}: Ultralytics ignores it while optimizer is auto; give another in training.args"])
    return searched


def _ends(parameter: Parameter) -> list[Any]:
    """Give the values that stand for all of a parameter's."""
    if parameter.values is not None:
        return list(parameter.values)
    ends = [parameter.min, parameter.max]
    return [int(end or 0) for end in ends] if parameter.type == "int" else ends


def check_export(format_: str, args: dict[str, Any]) -> None:
    """Hopeless ``InvalidArguments`` where the exporter would refuse ``args`` for this format."""
    from ultralytics.cfg import get_cfg
    from ultralytics.engine.exporter import export_formats, validate_args

    table = export_formats()
    takes = dict(zip(table["Argument"], table["Arguments"], strict=True))
    if format_ not in takes:
        _raise([f"format {format_!r} is not one of Ultralytics: {', '.join(sorted(takes))}"])
    every = {name for names in takes.values() for name in names}
    taken = RESERVED_ARGS - ({"name"} if format_ in TARGETED else set())
    _raise(_unknown(args, (every | _EXPORT_EXTRAS) - taken, "export"))
    try:
        validate_args(format_, get_cfg(overrides={"format": format_, "batch": 1, **args}), takes[format_])
    except (TypeError, ValueError, SyntaxError, AssertionError) as error:
        _raise([_plain(error)])


def _unknown(args: dict[str, Any], valid: Collection[str], kind: str) -> list[str]:
    problems = []
    for name in sorted(args.keys() - set(valid)):
        if name in RESERVED_ARGS:
            problems.append(f"{name}: Trunkline sets this itself; remove it")
            continue
        near = get_close_matches(name, valid, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        article = "an" if kind == "export" else "a"
        problems.append(f"{name}: is not {article} {kind} argument of Ultralytics{hint}")
    return problems


def _plain(error: Exception) -> str:
    return str(error).replace("ERROR ❌️ ", "").replace(" ❌", "").strip()


def _raise(problems: list[str]) -> None:
    if problems:
        raise Hopeless("InvalidArguments", "; ".join(problems))
