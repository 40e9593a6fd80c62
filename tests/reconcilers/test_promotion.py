"""What a promotion writes: the release as it should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcilers.promotion import candidate, is_released, next_version
from specs.digests import digest_bytes
from specs.release import Release
from specs.status import ConditionType, Reason
from tests.support.builders import candidate_ready, context, moved_on, proposed, released, settled, spec


def test_first_release_pins_run_weights_exports_and_evidence() -> None:
    """The release names every byte that will serve, and the proof that came with it."""
    stage = candidate_ready()
    made = proposed(stage.spec, stage.world)
    release = Release.model_validate(made.value, by_alias=True)
    (record,) = stage.world.exports.values()
    assert (release.version, release.run, release.weights) == (1, stage.spec.inputs_digest, record.weights)
    assert release.exports == {"onnx": record.file}
    assert release.evidence == digest_bytes(made.files["evidence/retail.shelf/v1/evidence.json"])
    assert (release.previous, release.deny, release.hold) == (None, None, None)


def test_next_release_keeps_the_one_before_as_previous_and_what_is_denied() -> None:
    """There is always something to fall back to, and nobody's ``deny`` is lost."""
    deny = [{"run": "sha256:" + "9" * 64, "reason": "bad light", "at": "v0"}]

    def change(data: dict[str, Any]) -> None:
        data["training"]["args"]["epochs"] = 9
        data["release"]["deny"] = deny

    before = settled()
    stage = moved_on(before, change)
    release = Release.model_validate(proposed(stage.spec, stage.world).value, by_alias=True)
    assert before.spec.release is not None
    assert release.version == 2
    assert release.previous is not None
    assert release.previous.version == 1
    assert release.previous.content() == before.spec.release.content()
    assert [d.model_dump(mode="json") for d in release.deny or ()] == deny


@pytest.mark.parametrize(("last", "version"), [(0, 2), (1, 2), (7, 8)], ids=["unknown", "as pinned", "reverted since"])
def test_version_is_never_used_for_two_things(last: int, version: int) -> None:
    """Versions count over the whole history, also where the newest were reverted."""
    stage = settled()
    world = replace(stage.world, source=replace(stage.world.source, last_version=last))
    assert next_version(context(stage.spec, world)) == version


def test_merging_what_is_proposed_settles() -> None:
    """A proposal, once merged, is what the plan wants: nothing is proposed again."""
    stage = candidate_ready()
    value = proposed(stage.spec, stage.world).value
    assert isinstance(value, dict)
    given = released(stage.spec, value)
    assert is_released(context(given, stage.world))
    reason = {"hold": {"reason": "x"}}
    assert is_released(context(released(stage.spec, {**value, **reason}), stage.world))


def test_candidate_is_none_until_it_is_complete() -> None:
    """A candidate without weights, or without one of its exports, is none."""
    stage = candidate_ready(exports=[{"name": "onnx", "format": "onnx"}, {"name": "mnn", "format": "mnn"}])
    assert candidate(context(stage.spec, stage.world)) is not None
    some = dict(list(stage.world.exports.items())[:1])
    assert candidate(context(stage.spec, replace(stage.world, exports=some))) is None
    assert candidate(context(spec(), replace(stage.world, runs={}))) is None


def test_held_release_that_is_the_candidate_is_released() -> None:
    """``hold`` is about promotions: where there is nothing to promote, nothing is on hold."""
    stage = settled()
    held = moved_on(stage, lambda data: data["release"].update(hold={"reason": "x"}))
    step = held.plan.step(ConditionType.PROPOSED)
    assert step is not None
    assert step.reason is Reason.RELEASED
