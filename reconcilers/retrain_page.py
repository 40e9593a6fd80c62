"""What people read before they have a model trained anew: the title, the body, and the page beside the evidence. Pure.

What asks is in the body, and stays the same for as long as it asks. The windows that made it so are told as they were
when the pull request was written.
"""

from __future__ import annotations

import json
from typing import Any

from reconcilers.asking import Cause
from reconcilers.causes import because
from reconcilers.context import Context
from reconcilers.episodes import episode_windows, for_windows
from reconcilers.markdown import code, escape, number, table
from reconcilers.observed import Reading
from specs.moments import iso
from specs.monitoring import Signal
from specs.names import parse_episode
from specs.status import SignalStatus

SCHEMA = "trunkline.dev/signals/v1"


def title(ctx: Context, cause: Cause) -> str:
    """Give the pull request's title, with what asks."""
    return f"{ctx.key}: retrain, since {in_short(cause)}"


def in_short(cause: Cause) -> str:
    """Say in a few words what asks."""
    if not cause.signals:
        return "the schedule is due"
    names = [signal.name for signal in cause.signals]
    return f"the signal {names[0]} fires" if len(names) == 1 else f"the signals {' and '.join(names)} fire together"


def body(ctx: Context, cause: Cause, folder: str) -> str:
    """Give the pull request's text: what asks, what merging does, how to undo it, how to say no."""
    undone = (
        "### How to undo it\n\n`git revert` the merge. Then the run before is the candidate again; nothing is trained "
        "anew.\n"
    )
    until = "before the next episode" if cause.signals else "before the schedule is due again"
    over = " It closes this by itself once the signals are quiet again." if cause.signals else ""
    refused = (
        "### How to say no\n\nClose this without merging: Trunkline remembers that, and does not ask again "
        f"{until}.{over}\n"
    )
    evidence = f"Evidence: {code(folder + '/signals.json')}, and a report beside it.\n"
    merged = f"### What merging does\n\n{_consequence(ctx)}"
    return "\n".join((_what_asks(ctx, cause), merged, undone, refused, evidence, because(cause.episodes)))


def told(ctx: Context, cause: Cause) -> str:
    """Give what was known when this was written: the windows, and who else asks for the same reason."""
    parts = [f"### As it was when this was written\n\n{_windows(ctx, cause)}"] if cause.signals else []
    parts += [f"{_others(ctx, cause)}\n"] if _others(ctx, cause) else []
    return "\n".join(parts)


def why_now(ctx: Context, cause: Cause) -> str:
    """Give what a question about newer data says of the cause that made us ask it."""
    parts = (f"### Why it is asked now\n\n{_what_asks(ctx, cause)}", told(ctx, cause), because(cause.episodes))
    return "\n".join(part for part in parts if part)


def page(ctx: Context, cause: Cause) -> str:
    """Give report.md: what asks, with every window that made it so."""
    head = f"# {escape(str(ctx.key))}: {escape(in_short(cause))}\n"
    windows = [f"### Windows\n\n{_windows(ctx, cause)}"] if cause.signals else []
    return "\n".join([head, _what_asks(ctx, cause), *windows])


def evidence(ctx: Context, cause: Cause, nonce: str) -> dict[str, Any]:
    """Give what made us ask, as plain JSON values."""
    monitoring = ctx.spec.monitoring
    return {
        "schema": SCHEMA, "model": str(ctx.key), "field": "spec.training.nonce", "nonce": nonce, "cause": cause.name,
        "version": ctx.spec.release.version if ctx.spec.release else None,
        "window": monitoring.window if monitoring else None,
        "forWindows": for_windows(monitoring) if monitoring else None,
        "signals": [
            {
                "signal": _signal(ctx, each).model_dump(mode="json", by_alias=True, exclude_none=True),
                "episode": each.episode, "since": each.since,
                "fired": {"value": each.value, "low": each.low, "high": each.high, "n": each.n},
                "windows": [_plain(reading) for reading in _made_so(ctx, each)],
            }
            for each in cause.signals
        ],
    }  # fmt: skip


def evidence_text(ctx: Context, cause: Cause, nonce: str) -> bytes:
    """Give signals.json."""
    return json.dumps(evidence(ctx, cause, nonce), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _plain(reading: Reading) -> dict[str, Any]:
    return {
        "start": int(reading.start), "n": reading.n, "value": reading.value, "low": reading.low, "high": reading.high,
        "judgement": reading.judgement.value,
    }  # fmt: skip


def _what_asks(ctx: Context, cause: Cause) -> str:
    model, version = code(str(ctx.key)), ctx.spec.release.version if ctx.spec.release else 0
    if not cause.signals:
        line = ctx.spec.triggers.schedule if ctx.spec.triggers else ""
        return (
            f"`spec.triggers.schedule` ({code(line or '')}, UTC) asks for {model} to be trained anew: the run of its "
            "inputs began before the schedule was due last.\n"
        )
    needed = for_windows(ctx.spec.monitoring) if ctx.spec.monitoring else 0
    rows = [(code(each.name), _bound(_signal(ctx, each)), each.since, code(each.episode)) for each in cause.signals]
    head = (
        f"Live traffic of {model} v{version} is out of bounds, beyond doubt and for {needed} windows in a row: "
        f"{escape(in_short(cause))}.\n"
    )
    return f"{head}\n{table(('signal', 'bound', 'since', 'episode'), rows)}"


def _windows(ctx: Context, cause: Cause) -> str:
    rows = []
    for each in cause.signals:
        name, bound = code(each.name), _bound(_signal(ctx, each))
        found = _made_so(ctx, each)
        rows += [
            (name, iso(r.start), number(r.value), _interval(r.low, r.high), str(r.n), bound) for r in found
        ] or [(name, "the last of them", number(each.value), _interval(each.low, each.high), str(each.n), bound)]
    return table(("signal", "window", "value", "interval", "n", "bound"), rows)


def _made_so(ctx: Context, status: SignalStatus) -> tuple[Reading, ...]:
    """Give the windows by which a signal came to fire; empty where they are forgotten."""
    named, monitoring = parse_episode(status.episode), ctx.spec.monitoring
    if named is None or monitoring is None:
        return ()
    return episode_windows(ctx.observed.readings.get(status.name, ()), named[2], for_windows(monitoring))


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return "–"
    return f"{low:.4g} to {high:.4g}" if high is not None else f"{low:.4g} or more"  # the last bin has no end


def _signal(ctx: Context, status: SignalStatus) -> Signal:
    every = ctx.spec.monitoring.signals if ctx.spec.monitoring else []
    return next(signal for signal in every if signal.name == status.name)


def _bound(signal: Signal) -> str:
    """Show what the signal must not leave."""
    method = f" ({signal.method})" if signal.method else ""
    least = [f"at least {_shown(signal.min)}"] if signal.min is not None else []
    most = [f"at most {_shown(signal.max)}"] if signal.max is not None else []
    return escape(" and ".join([*least, *most]) or "its default") + method


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _others(ctx: Context, cause: Cause) -> str:
    """Say how many other models of the repository ask for the same reason."""
    names, own = {signal.name for signal in cause.signals}, f"{ctx.key.namespace}.{ctx.key.name}"
    others = {model for signal, model in ctx.observed.crowd.because if signal in names and model != own}
    if not others:
        return ""
    count = f"{len(others)} other models" if len(others) > 1 else "One other model"
    verb = "ask" if len(others) > 1 else "asks"
    return (
        f"{count} of this repository {verb} for the same reason: {', '.join(map(code, sorted(others)[:10]))}"
        f"{' …' if len(others) > 10 else ''}. There may be one cause for all of them."
    )


def _consequence(ctx: Context) -> str:
    gates = "the gates decide whether it is proposed as a release" if ctx.spec.gates else "it is proposed as a release"
    serving = " What serves goes on serving until then." if ctx.spec.serving and ctx.spec.release else ""
    return (
        "A model is trained with the same data and arguments as now, under another nonce. With no new data it learns "
        f"nothing new: label what live traffic brought first, where you can.{serving} Then {gates}.\n"
    )
