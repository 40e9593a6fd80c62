"""The light in a shop changes over days: what follows, chapter by chapter; every claim that is printed is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from light import dimmed
from loop import Loop
from plots import PICTURES, Panel, Plot
from screen import console, proved, say
from world import World

HERE = Path(__file__).parent
FLOOR = 0.95
"""As in digits.yaml."""
DARKEST = 0.65
"""Share of the light that is missing in the end."""


class Shelf(Loop):
    """The story; ``first`` is the number of its first chapter."""

    def __init__(self, world: World, *, short: bool, first: int = 1) -> None:
        super().__init__(world, HERE / "digits.yaml", "accuracy", short=short, first=first)
        self.days = 3 if short else 10
        """Until the light is worst."""
        self.dark_from = 0

    def watch(self) -> None:
        self.chapter("A pull request says what to watch in live traffic, and what may follow")
        world, text = self.world, self.text()
        serving = "  serving:\n    export: onnx\n"
        number = world.propose("watch", {serving: serving + text[text.index("\n  monitoring:") :]}, "Watch it live")
        world.trunkline("plan", "--pr", str(number))
        world.trunkline("pr", "merge", str(number))

    def good_days(self) -> None:
        self.chapter("Days with good light: customers' pictures come in, and every signal is quiet")
        self.open_shop()
        self.quiet(self.good)
        days = range(self.began, self.camera.now)
        proved(f"{self.good} days: the estimate stays above {FLOOR}; it is truly {self.accuracy(days):.3f}")

    def missing(self, window: int) -> float:
        """Share of the light that is missing in a window."""
        return min(max(window - self.dark_from, 0) / self.days, 1.0) * DARKEST

    def darken(self) -> None:
        self.chapter("The days get darker. Nobody has labelled anything, and Trunkline says the model is getting worse")
        self.dark_from = self.camera.now
        self.camera.look = lambda pixels, window, chance: dimmed(pixels, self.missing(window), chance)
        failed = self.fires(self.dark_from)
        truth = self.accuracy(failed)
        told = self.readings[self.signal]
        said = sum(told[day]["value"] for day in failed) / len(failed)
        assert truth < FLOOR, truth
        proved(f"in the {len(failed)} days that failed accuracy was estimated as {said:.3f}; truly it was {truth:.3f}")

    def label_them(self) -> None:
        self.chapter("Pictures that the model was unsure about were kept; somebody says what is in them")
        labelled = self.label(self.labels)
        proved(f"{labelled} pictures were labelled (this example knows the answers); none of them is golden")
        say("From here on the camera sees other digits, that nobody labels: what is measured was never learned.")

    def learn_it(self) -> None:
        self.chapter("The labels are a data version, and that a pull request; then gates, a release, a swap")
        self.learn()

    def recover(self, file: Path) -> None:
        self.chapter("The light is as bad as before, and the model is good again")
        since = self.camera.now + 1
        self.quiet(self.good)
        good = self.accuracy(range(self.began, self.dark_from))
        bad = self.accuracy(self.comparable)
        again = self.accuracy(range(since, self.camera.now))
        assert bad + 0.1 < again, (good, bad, again)
        self.draw(file)
        proved(f"true accuracy: {good:.3f} in good light, {bad:.3f} in the dark, {again:.3f} now, in the same dark")

    def draw(self, file: Path) -> None:
        """Show estimate and truth, as a picture and here."""
        windows, marks = self.shown()
        panel = Panel(
            f"must not fall below {FLOOR}", self.points(self.signal, windows), FLOOR, bottom=0.4,
            said="estimated accuracy", told="true accuracy",
        )  # fmt: skip
        show, chance = self.camera.pictures[0][0], np.random.default_rng(7)
        seen = {
            place: dimmed(show, self.missing(windows[place]), chance)
            for place in range(0, len(windows), -(-len(windows) // PICTURES))
        }
        plot = Plot("A shop's light fades over days; the estimate needs no labels", [panel], marks, seen)
        plot.save(file)
        console.print(plot.sketch(panel))
        every = self.points(self.signal, range(self.began, self.camera.now))
        both = [(p.value, p.truth, p.low, p.high) for p in every if p.value is not None and p.truth is not None]
        inside = sum(low <= truth <= high for _, truth, low, high in both if low is not None and high is not None)
        off = sum(abs(value - truth) for value, truth, *_ in both) / len(both)
        proved(f"off by {off:.3f} on average; the truth lay in the estimate's interval on {inside} of {len(both)} days")
        say(f"The same as a picture: {file}")
