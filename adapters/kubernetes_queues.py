"""Why Kueue does not let a job begin, in the words of its Workload. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.kubernetes_endings import Object, brief

JOB_UID = "kueue.x-k8s.io/job-uid"
"""Label of a Workload: which object it stands for."""


def standing(queue: str, workloads: Sequence[Object]) -> str:
    """Say where a job stands in its queue, and why; empty where Kueue has not looked at it yet."""
    newest = max(workloads, key=lambda each: str(each["metadata"].get("creationTimestamp")), default=None)
    if newest is None:
        return ""
    name, conditions = newest["metadata"]["name"], _conditions(newest)
    if (newest.get("spec") or {}).get("active") is False:
        words = _said(conditions.get("Evicted")) or "somebody set spec.active"
        return f"taken out of queue {queue} ({words}): set spec.active of Workload {name} to true"
    reserved = conditions.get("QuotaReserved", {})
    if reserved.get("status") == "True":
        checks = _checks(newest)
        return f"has its quota in queue {queue}, and waits for {checks}" if checks else f"admitted by queue {queue}"
    evicted = conditions.get("Evicted", {})
    back = f"put back ({_said(evicted)}), " if evicted.get("status") == "True" else ""
    words = _said(reserved)
    return f"{back}waits in queue {queue}{f': {words}' if words else ''}"


def _checks(workload: Object) -> str:
    """Name the admission checks that are not passed."""
    checks = [one for one in (workload.get("status") or {}).get("admissionChecks") or () if one.get("state") != "Ready"]
    said = sorted((str(check.get("name")), brief(check.get("message"))) for check in checks)
    return "; ".join(f"admission check {name}{f': {words}' if words else ''}" for name, words in said)


def _conditions(workload: Object) -> dict[str, Object]:
    return {str(found.get("type")): found for found in (workload.get("status") or {}).get("conditions") or ()}


def _said(condition: Object | None) -> str:
    """Give reason and message of a condition; of those that only repeat that it waits, the message alone."""
    if condition is None:
        return ""
    reason, words = str(condition.get("reason") or ""), brief(condition.get("message"))
    plain = reason in ("", "Pending", "Inadmissible", "QuotaReserved")
    return words if plain else f"{reason}: {words}" if words else reason
