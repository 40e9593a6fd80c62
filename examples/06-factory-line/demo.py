"""A new product variant makes a model unsure; labels, a training and a swap follow by pull requests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent / "01-digits"))  # the first example's person, screen and camera

from line import Line  # noqa: E402
from stage import perform  # noqa: E402
from world import World  # noqa: E402


class Demo:
    """The whole story, from an empty folder on."""

    def __init__(self, folder: Path, *, short: bool, trained: Path | None) -> None:
        self.trained = trained
        self.line = Line(World(folder), short=short)

    def tell(self) -> None:
        """Run all chapters."""
        line = self.line
        line.chapter("A model with spec.monitoring, spec.triggers and spec.labelling is trained, merged, and serves")
        line.release(self.trained)
        line.usual()
        line.vary()
        line.label_them()
        line.learn_it()
        line.recover(line.world.folder / "factory-line.png")
        if not line.short:
            line.look_back()

    def stop(self) -> None:
        self.line.stop()


def main() -> int:
    about = "Let a model on a line learn a new variant."
    return perform(Demo, about, folder=".demo-factory", short="fewer and shorter windows", trained=True)


if __name__ == "__main__":
    sys.exit(main())
