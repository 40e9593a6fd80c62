"""Lua 5.1 as Argo CD gives it to scripts: the base and table libraries, and nothing else."""

from __future__ import annotations

from typing import Any

from lupa import lua51

_ABSENT = ("debug", "dofile", "io", "load", "loadfile", "math", "package", "require", "string")


def run(script: str, given: dict[str, Any]) -> Any:
    """Run a script with ``obj``, and give what it returns as plain Python."""
    runtime = lua51.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    for name in _ABSENT:
        runtime.globals()[name] = None
    runtime.globals().os = None
    runtime.globals().obj = _into(runtime, given)
    return _out(runtime.execute(script))


def _into(runtime: Any, value: Any) -> Any:
    """Give a value as Argo CD does: lists begin at 1, and what is null is not there."""
    if isinstance(value, dict):
        return runtime.table_from({key: _into(runtime, item) for key, item in value.items() if item is not None})
    if isinstance(value, list):
        return runtime.table_from([_into(runtime, item) for item in value])
    return value


def _out(value: Any) -> Any:
    if lua51.lua_type(value) != "table":
        return value
    items = {key: _out(item) for key, item in value.items()}
    return list(items.values()) if items and set(items) == set(range(1, len(items) + 1)) else items
