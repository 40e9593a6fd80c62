"""What merging does as a page: short enough for a comment, plain whatever people write, honest about time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from reconcilers.consequence import Consequence, DataChange
from reconcilers.estimate import Estimate, Past, past, training_time
from reconcilers.forecast import Forecast, forecast
from reconcilers.imagined import converged, without_expectations
from reconcilers.plan_page import LIMIT, page, section
from specs.dataset_diff import difference
from specs.errors import Problem
from specs.modelspec import ModelKey
from specs.records import RunRecord
from tests.support.builders import KEY, NOW, digest, manifest, serving, source, spec

EVIL = "<img src=x> @everyone [x](https://e.example) closes #1 | `b` ~~~ \n# head"
ONE = Consequence(
    KEY, "changed", ("training.args.epochs: 1 -> 2",), Forecast(("retrains",), ("floor: x >= 1",)), "m.yaml"
)


def test_a_page_never_outgrows_a_comment() -> None:
    """Thousands of models: as many as fit, and how many more there are."""
    many = [replace(ONE, key=ModelKey("default", f"m{n}"), lines=ONE.lines * 30) for n in range(3000)]
    for limit in (LIMIT, 5_000):
        text = page(many, [Problem(f"{n}.yaml", 1, 1, "spec", "wrong") for n in range(2000)], limit=limit)
        assert len(text) <= limit
    text = page(many, ())
    shown = text.count("\n### ")
    assert 10 < shown < 3000
    assert f"{3000 - shown} more models are not shown" in text
    assert "more" not in page(many[:2], ())


def test_text_of_people_stays_text() -> None:
    """Whatever is written into a spec, a path or an error, the page has no link, no picture, no HTML, no mention."""
    told = replace(
        ONE, lines=(f"a: {EVIL}",), path=f"{EVIL}.yaml", forecast=Forecast((EVIL,), (EVIL,), stopped=EVIL),
        data=(DataChange("train", digest("a"), digest("b"), difference(
            manifest("a"), manifest("b").model_copy(update={"names": ["milk", EVIL]}))),),
    )  # fmt: skip
    text = page([told], [Problem(f"{EVIL}.yaml", 3, 1, EVIL, EVIL)])
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<img" not in html
    assert "<a " not in html
    assert "<h1" not in html
    outside = html.replace("@\u200b", "").split("<code>")
    assert not any("@everyone" in part.rpartition("</code>")[2] for part in outside)


def test_data_is_compared_by_bytes() -> None:
    """A renamed picture is the same picture; classes are named."""
    before, after = manifest("data", 20), manifest("data", 23, names=("milk", "butter"))
    found = difference(before, after)
    assert found.images == (20, 23)
    assert (found.classes_added, found.classes_removed) == (("butter",), ("bread",))
    assert found.added - found.removed == 3
    told = replace(ONE, data=(DataChange("train", digest("a"), digest("b"), found),))
    assert "20 → 23 images, 3 added, 0 removed, 10 relabelled, new classes: butter" in section(told)


def _past(epochs: object, seconds: float, model: str = str(KEY), **changes: object) -> Past:
    inputs = spec().inputs()
    inputs["args"] = {**inputs["args"], "epochs": epochs}
    return Past(model, inputs | changes, seconds)


def test_time_is_the_median_of_like_runs_scaled_by_epochs() -> None:
    """Runs of the same inputs count before others of the model; where nothing is known, it is said."""
    epochs = spec().training.args["epochs"]
    assert isinstance(epochs, int)
    alike = [_past(epochs, 10), _past(epochs, 30), _past(epochs * 2, 40), _past(epochs, 900, data="other")]
    found = training_time(KEY, spec(), alike)
    assert (found.seconds, found.runs, found.alike) == (20, 3, True)
    assert found.sentence == "about 20 s, the median of 3 earlier runs of such inputs"
    others = training_time(KEY, spec(), alike[3:])
    assert (others.seconds, others.alike) == (900, False)
    assert "about 15 min, the median of 1 earlier run of this model" in others.sentence
    unknown = training_time(KEY, spec(), [_past(epochs, 5, "else/where", data="other")])
    assert unknown == Estimate()
    assert "unknown" in unknown.sentence
    assert "unknown" in section(replace(ONE, training=unknown))
    assert training_time(KEY, spec(), [_past("many", 7)]).seconds == 7


def test_only_runs_that_succeeded_tell_time() -> None:
    """A failed run, or one without a time, says nothing."""
    run = RunRecord(inputs_digest=digest("i"), inputs={}, status="Succeeded", model="a/b", commit="", seconds=3)
    assert past(run) == Past("a/b", {}, 3)
    assert past(run.model_copy(update={"status": "Failed"})) is None
    assert past(run.model_copy(update={"seconds": 0})) is None


V1 = {"version": 1, "run": spec().inputs_digest, "weights": digest("w"), "exports": {"onnx": digest("e")}}
V2 = {"version": 2, "run": digest("other run"), "weights": digest("x"), "exports": {"onnx": digest("y")}}
GATES = "then the gates decide whether a release is proposed"
BLIND: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "epochs": ({"release": V1}, {"training__args__epochs": 99}, f"retrains; re-exports onnx; {GATES}"),
    "an export": ({"release": V1}, {"exports": [{"name": "onnx", "format": "onnx", "args": {"dynamic": True}}]},
                  f"re-exports onnx; {GATES}"),
    "first release": ({}, {"release": V1}, "serves v1"),
    "revert": ({"release": V2}, {"release": V1}, "serves v1"),
    "a gate of what is released": ({"release": V1}, {"gates": [{"name": "f", "metric": "m", "min": 1}]},
                                   "nothing changes"),
    "serving goes": ({"release": V1}, {"serving": None}, "stops serving"),
    "no gates": ({"release": V1, "gates": []}, {"training__args__epochs": 99},
                 "retrains; re-exports onnx; proposes to promote"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "change", "told"), BLIND.values(), ids=BLIND.keys())
def test_without_a_store_the_files_tell(old: dict[str, object], change: dict[str, object], told: str) -> None:
    """In a world where all that was asked for is done, a change leads to what it must lead to."""
    before, after = spec(**old), spec(**{**old, **change})
    world = converged(source(), before, after, serving(before) if before.release else None)
    assert forecast(KEY, without_expectations(after), world, NOW, again=True, blind=True).sentence == told
