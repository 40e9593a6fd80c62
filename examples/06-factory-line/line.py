"""A new variant of a product comes down a line: what follows, chapter by chapter; every claim is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from camera import Pixels
from loop import Loop
from plots import PICTURES, Panel, Plot, Point
from screen import console, proved, say
from variant import new_variant
from world import World

HERE = Path(__file__).parent
MAX = 0.25
"""As in digits.yaml."""
MOST = 1.0
"""Share of the parts that are of the new variant in the end."""


class Line(Loop):
    """The story."""

    def __init__(self, world: World, *, short: bool) -> None:
        super().__init__(world, HERE / "digits.yaml", "confidence", short=short)
        self.windows = 2 if short else 6
        """Until the new variant is as frequent as it becomes."""
        self.new_from = 0

    def usual(self) -> None:
        self.chapter("The parts that the model knows: it is sure of itself, and truly right")
        self.open_shop()
        self.quiet(self.good)
        proved(f"true accuracy {self.accuracy(range(self.began, self.camera.now)):.3f}; every signal is quiet")

    def share(self, window: int) -> float:
        """Share of parts of the new variant in a window."""
        return min(max(window - self.new_from, 0) / self.windows, 1.0) * MOST

    def part(self, pixels: Pixels, window: int, chance: np.random.Generator) -> Pixels:
        """Give the old or the new variant of a part, by chance."""
        return new_variant(pixels) if chance.random() < self.share(window) else pixels

    def vary(self) -> None:
        self.chapter("A new variant comes down the line, a few parts at first; the model grows unsure")
        self.new_from = self.camera.now
        self.camera.look = self.part
        failed = self.fires(self.new_from)
        usual = self.accuracy(range(self.began, self.new_from))
        now = self.accuracy(failed)
        assert now < usual, (now, usual)
        proved(f"true accuracy in the {len(failed)} windows that failed: {now:.3f} instead of {usual:.3f}")

    def label_them(self) -> None:
        self.chapter("Parts that the model was unsure about were kept; a person labels them")
        labelled = self.label(self.labels)
        proved(f"{labelled} pictures were labelled (this example knows the answers); none of them is golden")
        say("From here on the camera sees other parts, that nobody labels: what is measured was never learned.")

    def learn_it(self) -> None:
        self.chapter("A data version, a pull request, a training, gates, a pull request, a swap at the edge")
        self.learn()

    def recover(self, file: Path) -> None:
        self.chapter("The line goes on with the new variant, and the model is right again, and surer")
        since = self.camera.now + 1
        self.quiet(self.good)
        usual = self.accuracy(range(self.began, self.new_from))
        bad = self.accuracy(self.comparable)
        again = self.accuracy(range(since, self.camera.now))
        assert bad + 0.05 < again, (usual, bad, again)
        self.draw(file)
        proved(f"true accuracy: {usual:.3f} before, {bad:.3f} with the new variant, {again:.3f} with the new version")

    def draw(self, file: Path) -> None:
        """Show accuracy and signal, as a picture and here."""
        windows, marks = self.shown()
        points = self.points(self.signal, windows)
        true, said = [Point(each.truth) for each in points], [replace(each, truth=None) for each in points]
        truth = Panel("accuracy, before, during and after", true, None, bottom=0.5, told="true accuracy")
        unsure = Panel(
            f"distance of the model's confidences from those on golden (ks), must not exceed {MAX}", said, MAX,
            said="ks of confidence",
        )  # fmt: skip
        show, chance = self.camera.pictures[0][0], np.random.default_rng(7)
        places = range(0, len(windows), -(-len(windows) // PICTURES))
        seen = {place: self.part(show, windows[place], chance) for place in places}
        plot = Plot("A new variant comes down a line", [truth, unsure], marks, seen, axis="window")
        plot.save(file)
        console.print(plot.sketch(truth))
        console.print(plot.sketch(unsure))
        say(f"The same as a picture: {file}")
