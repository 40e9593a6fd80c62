"""A shop's light changes; accuracy is estimated without labels, falls, alarms, and is mended by pull requests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent / "01-digits"))  # the first example's person, screen and camera

from shelf import Shelf  # noqa: E402
from stage import perform  # noqa: E402
from world import World  # noqa: E402


class Demo:
    """The whole story, from an empty folder on."""

    def __init__(self, folder: Path, *, short: bool, trained: Path | None) -> None:
        self.trained = trained
        self.shelf = Shelf(World(folder), short=short)

    def tell(self) -> None:
        """Run all chapters."""
        shelf = self.shelf
        shelf.chapter("A model with spec.monitoring, spec.triggers and spec.labelling is trained, merged, and serves")
        shelf.release(self.trained)
        shelf.good_days()
        shelf.darken()
        shelf.label_them()
        shelf.learn_it()
        shelf.recover(shelf.world.folder / "shop-shelf.png")
        if not shelf.short:
            shelf.look_back()

    def stop(self) -> None:
        self.shelf.stop()


def main() -> int:
    about = "Watch a model in changing light, and mend it."
    return perform(Demo, about, folder=".demo-shelf", short="fewer and shorter days", trained=True)


if __name__ == "__main__":
    sys.exit(main())
