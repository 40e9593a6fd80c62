"""Making git say what serves after a release failed: the bytes before it, its run denied, promotions on hold. Pure."""

from __future__ import annotations

from typing import Any

from reconcilers.actions import Action
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import Draft, Edit
from reconcilers.live_checks import read
from reconcilers.live_gate import LiveGate, Outcome
from reconcilers.markdown import code, escape
from reconcilers.promotion import next_version, pin
from reconcilers.proposals import plan_proposal, stale
from specs.release import Pin, Release
from specs.status import Reason

INTENT = "rollback"


def plan_rollback(ctx: Context, rollout: Step, gate: LiveGate | None = None) -> Step | None:
    """Propose to make git say what serves, after a rollout that failed for good; None in any other case."""
    release, state = ctx.spec.release, ctx.observed.serving
    if rollout.reason is not Reason.FALLBACK or release is None or release.previous is None:
        return None
    if gate is not None and gate.outcome is Outcome.FAILED:
        return plan_proposal(ctx, draft(ctx, release, release.previous, gate.message, live=True))
    return plan_proposal(ctx, draft(ctx, release, release.previous, state.failure if state else ""))


def plan_recall(ctx: Context, fleet: Step | None) -> Step | None:
    """Propose the release before, after too many devices failed; None where they did not, or there is none."""
    release = ctx.spec.release
    if fleet is None or fleet.reason is not Reason.FLEET_HALTED or release is None or release.previous is None:
        return None
    if any(denied.run == release.previous.run for denied in release.deny or ()):
        return None
    return plan_proposal(ctx, draft(ctx, release, release.previous, fleet.message))


def over(ctx: Context, rollout: Step, *, recalled: bool = False) -> tuple[Action, ...]:
    """Close rollbacks that nothing asks for any more; ``recalled``: devices ask for one."""
    release = ctx.spec.release
    if release is None or (rollout.verdict in (Verdict.DONE, Verdict.REST) and not recalled):
        return stale(ctx, INTENT, reason="Obsolete", sentence="The release serves, or is gone.")
    # Not over while a server that started again tries again: nobody should be asked twice.
    return stale(ctx, INTENT, reason="Obsolete", sentence="The release is another one by now.", subject=release.run)


def draft(ctx: Context, release: Release, previous: Pin, why: str, *, live: bool = False) -> Draft:
    """Write the rollback. ``live`` says that the release did load, and did badly in live traffic."""
    version = next_version(ctx)
    denied = [d.model_dump(mode="json", by_alias=True, exclude_none=True) for d in release.deny or ()]
    reason, held = ("failed live gate", "failed its live gate") if live else ("failed rollout", "failed to roll out")
    content: dict[str, Any] = {**previous.content(), "denied": release.run}
    value: dict[str, Any] = {
        "version": version, **previous.content(), "previous": pin(release),
        "deny": [*denied, {"run": release.run, "reason": reason, "at": f"v{release.version}"}],
        "hold": {"reason": f"v{release.version} {held}"},
    }  # fmt: skip
    body = (
        f"{_disagreed(ctx, release, previous, why) if live else _unloaded(ctx, release, why)}\n\n"
        f"Merging makes git say what serves: the bytes of v{previous.version}, as v{version}. It also puts the failed "
        "run on `deny` and promotions on `hold`; remove `hold` by pull request to go on.\n\n"
        f"### How to say no\n\nClose this without merging: it is not asked again while v{release.version} is the "
        "release. What serves stays as it is.\n"
    )
    trailers = (
        ("Trunkline-Version", str(version)),
        ("Trunkline-Run", previous.run),
        ("Trunkline-Weights", previous.weights),
    )
    return Draft(
        intent=INTENT, content=content, subject=release.run, field="spec.release", body=body,
        title=f"{ctx.key}: roll back v{release.version} to the bytes of v{previous.version}",
        edit=lambda: Edit(value, trailers), auto_merge=ctx.auto_merge != "Never",
    )  # fmt: skip


def _unloaded(ctx: Context, release: Release, why: str) -> str:
    return f"**v{release.version}** of {code(str(ctx.key))} could not be rolled out.\n\n> {escape(why)}"


def _disagreed(ctx: Context, release: Release, previous: Pin, why: str) -> str:
    """Say that it was live traffic, with its numbers as a table as far as there are any."""
    begin = (
        f"**v{release.version}** of {code(str(ctx.key))} passed its gates, and live traffic disagrees: "
        f"v{previous.version} serves again."
    )
    checks = read(why)
    if not checks:
        return f"{begin}\n\n> {escape(why)}"
    rows = [f"| live traffic | v{release.version} | v{previous.version} | |", "|---|---|---|---|"]
    for check in checks:
        verdict = f"**{check.verdict}**" if check.fails else check.verdict
        rows.append(f"| {' | '.join(escape(each) for each in (check.name, check.new, check.old))} | {verdict} |")
    table = "\n".join(rows)
    return f"{begin}\n\n{table}\n\nEach number with the interval that holds it beyond doubt, and how many it is from."
