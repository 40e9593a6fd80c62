"""Checks on commits for the embedded forge: ``refs/trunkline/checks/<commit>`` points at a blob that holds them all."""

from __future__ import annotations

import json

from adapters.git_environment import check_commit
from adapters.pull_ledger import PullLedger
from specs.errors import Stalled
from specs.facts import Check, CheckState

CHECKS = "refs/trunkline/checks/"
_NOTHING = "0" * 40


class LocalChecks:
    """Reads and sets checks, by whoever and as many at once as there may be: none is lost."""

    def __init__(self, ledger: PullLedger) -> None:
        self._ledger = ledger

    def get(self, commit: str) -> tuple[Check, ...]:
        """Give the checks on a commit, by name."""
        return tuple(check for _, check in sorted(self._look(commit)[1].items()))

    def set(self, commit: str, check: Check) -> None:
        """Set one; writes nothing where it is so already. Transient ``RepositoryBusy``."""
        for _ in self._ledger.attempts():
            before, known = self._look(commit)
            if known.get(check.name) == check:
                return
            wanted = {**known, check.name: check}
            text = json.dumps([vars(each) for _, each in sorted(wanted.items())], indent=1)
            blob = self._ledger.objects.put_blob(text.encode())
            if self._ledger.swap([f"update {CHECKS}{commit} {blob} {before or _NOTHING}"]):
                return

    def _look(self, commit: str) -> tuple[str | None, dict[str, Check]]:
        name = CHECKS + check_commit(commit)
        blob = self._ledger.objects.refs(name).get(name)
        if blob is None:
            return None, {}
        try:
            entries = json.loads(self._ledger.objects.blobs([blob])[blob])
            found = [Check(**{**entry, "state": CheckState(entry["state"])}) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            text = f"{name} cannot be read ({error}); to let the checks run anew: git update-ref -d {name}"
            raise Stalled("ChecksCorrupt", text) from error
        return blob, {check.name: check for check in found}
