"""The whole product on real data, in a few minutes, on one machine: ``make demo``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pictures
from clients import Steady, live_accuracy
from screen import chapter, proved, say
from stage import perform
from world import MODEL_FILE, World

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "07-shop-shelf"))

from shelf import Shelf  # noqa: E402


class Demo:
    """The story, chapter by chapter; every claim it prints is checked first."""

    def __init__(self, folder: Path, *, short: bool, sequel: bool) -> None:
        self.sequel = sequel
        self.world = World(folder)
        self.shelf = Shelf(self.world, short=True, first=10)
        self.short = short
        self.golden = folder
        self.served: dict[int, str] = {}
        """Version to digest of the file that served as it."""

    def tell(self) -> None:
        """Run all chapters."""
        self.prepare()
        self.too_little()
        self.enough()
        self.serve(1)
        self.export_only()
        if not self.short:
            self.retrain()
        self.revert()
        self.look_back()
        self.prove()
        if self.sequel:
            self.light()

    def prepare(self) -> None:
        chapter(1, "A repository, a data set, one ModelSpec")
        world = self.world
        world.clean()
        world.trunkline("init", ".")
        self.shelf.settle()
        train, self.golden = pictures.write(world.folder / "pictures", live=True)
        say("1,797 handwritten digits; every fifth is golden: measured on, never trained on.")
        say("Another fifth waits for chapter 11: a camera will see it.")
        digests = {"TRAIN": self.add(train, "digits-train"), "GOLDEN": self.add(self.golden, "digits-golden")}
        for part, found in digests.items():
            proved(f"{part.lower()}: {found['images']} images, {found['digest'][:19]}…")
        world.git("clone", "--quiet", "models.git", "work")
        world.git("switch", "--quiet", "--create", "digits")
        text = (HERE / "digits.yaml").read_text()
        for part, found in digests.items():
            text = text.replace(f"{part}_DIGEST", found["digest"])
        file = world.clone / MODEL_FILE
        file.parent.mkdir()
        file.write_text(text)
        world.trunkline("check", str(file.relative_to(world.folder)))
        world.git("add", "--all")
        world.git("commit", "--quiet", "--message", "Describe the digits model")
        number = world.open("digits")
        world.trunkline("plan", "--pr", str(number))
        world.trunkline("pr", "merge", str(number))

    def add(self, folder: Path, name: str) -> dict[str, Any]:
        """Put a folder of pictures into the store; give what ``trunkline data add`` said."""
        words = ("data", "add", str(folder), "--task", "classify", "--name", name, "--json")
        found: dict[str, Any] = json.loads(self.world.trunkline(*words, show=False))
        return found

    def too_little(self) -> None:
        chapter(2, "The agent sees the commit; one epoch is too little, and a gate says so")
        world = self.world
        world.start_agent()
        world.wait("train, evaluate, export, judge", lambda: world.condition("GatesPassed").get("status") == "False")
        world.trunkline("status", "digits")
        message = world.condition("GatesPassed")["message"]
        assert "floor" in message, message
        assert world.proposal("promote") is None
        proved(f"stopped at the gate: {message}; no pull request was opened")

    def enough(self) -> None:
        chapter(3, "A pull request raises the epochs; the gates pass; Trunkline proposes v1")
        world = self.world
        change = {"epochs: 1                   # too few: the gate below will say so": "epochs: 8"}
        number = world.propose("more-epochs", change, "Train longer")
        told = world.trunkline("plan", "--pr", str(number))
        assert "retrains; re-exports onnx" in told, told
        world.trunkline("pr", "merge", str(number))
        self.promote(1)

    def promote(self, version: int, *, show: bool = True) -> None:
        """Wait for the proposal of a version, show it, merge it as a person, wait until it serves."""
        world = self.world
        world.wait(f"work until Trunkline proposes v{version}", lambda: world.proposal("promote") is not None)
        number = world.proposal("promote")
        if show:
            world.trunkline("pr", "show", str(number))
            files = world.git("ls-tree", "-r", "--name-only", f"origin/{self.branch()}", "evidence").split()
            say("In the same commit: " + ", ".join(file.rpartition("/")[2] for file in files))
        world.trunkline("pr", "merge", str(number))
        self.until_serving(version)

    def branch(self) -> str:
        """Give the branch of the open proposal, fetched."""
        self.world.git("fetch", "--quiet", "origin")
        branch: str = self.world.status()["proposals"][0]["branch"]
        return branch

    def until_serving(self, version: int) -> None:
        world = self.world
        serves = lambda: (world.status().get("serving") or {}).get("version") == version  # noqa: E731
        world.wait(f"v{version} loads and proves itself", serves, 60)
        self.served[version] = world.status()["serving"]["file"]

    def serve(self, version: int) -> None:
        chapter(4, f"The server answers with v{version}")
        url = self.world.server()
        accuracy, total, versions = live_accuracy(url, self.golden)
        assert versions == {str(version)}, versions
        proved(f"{total} golden pictures sent to {url}: live accuracy {accuracy:.3f}, all answered by v{version}")

    def export_only(self) -> None:
        chapter(5, "A pull request changes only an export argument: nothing is trained")
        world = self.world
        runs = world.records("runs/")
        change = {"args: {dynamic: true}": "args: {dynamic: true, opset: 17}"}
        number = world.propose("opset", change, "Export for opset 17")
        told = world.trunkline("plan", "--pr", str(number))
        assert "retrains" not in told, told
        assert "re-exports onnx" in told, told
        world.trunkline("pr", "merge", str(number))
        self.promote(2, show=False)
        assert world.records("runs/") == runs
        assert self.served[2] != self.served[1]
        proved(f"v2 serves other bytes from the same run; still {len(runs)} runs in the store")

    def retrain(self) -> None:
        chapter(6, "A pull request changes the training: retrain, promote, swap under load")
        world = self.world
        number = world.propose("seed", {"seed: 7": "seed: 8"}, "Try another seed")
        world.trunkline("plan", "--pr", str(number))
        world.trunkline("pr", "merge", str(number))
        picture = next(self.golden.rglob("*.png"))
        with Steady(world.server(), picture) as client:
            self.promote(3, show=False)
            time.sleep(1)
        assert not client.failures, client.failures[:3]
        counts = ", ".join(f"{version}: {count}" for version, count in sorted(client.answers.items()))
        assert {"v2", "v3"} <= client.answers.keys(), counts
        proved(f"a client kept asking all the while: {counts}; 0 failed")

    def revert(self) -> None:
        last = max(self.served)
        chapter(7, f"git revert of v{last}: the bytes of v{last - 1} serve again")
        world = self.world
        before = world.records("runs/"), world.records("exports/")
        world.git("fetch", "--quiet", "origin")
        merge = world.git("log", "--first-parent", "--max-count=1", "--format=%H", "origin/main")
        world.git("switch", "--quiet", "--create", f"undo-v{last}", "origin/main")
        world.git("revert", "--mainline", "1", "--no-edit", merge, show=True)
        number = world.open(f"undo-v{last}")
        world.trunkline("plan", "--pr", str(number))
        world.trunkline("pr", "merge", str(number))
        started = time.monotonic()
        self.until_serving(last - 1)
        took = time.monotonic() - started
        self.serve_check(last - 1)
        assert (world.records("runs/"), world.records("exports/")) == before
        proved(f"v{last - 1} serves again after {took:.1f} s, the same bytes; nothing was trained or exported")

    def serve_check(self, version: int) -> None:
        accuracy, total, versions = live_accuracy(self.world.server(), self.golden)
        assert versions == {str(version)}, versions
        proved(f"{total} golden pictures: live accuracy {accuracy:.3f}, all answered by v{version}")

    def look_back(self) -> None:
        chapter(8, "Who released what, when, from which commit, data and run")
        self.world.trunkline("history", "digits")
        self.world.wait("nothing is left to do", lambda: self.world.condition("Ready").get("status") == "True", 60)
        self.world.trunkline("status")

    def prove(self) -> None:
        chapter(9, "Where the bytes come from, and whether all of this is true")
        world, last = self.world, max(self.served)
        digest = self.served[last - 1]
        told = world.trunkline("why", digest)
        assert f"is the export onnx of default/digits v{last - 1}" in told, told
        assert not set("✗?~") & {line.lstrip(" │├└─")[:1] for line in told.splitlines()}, told
        proved(f"from the {digest[:19]}… that serves to the pull request that was merged, every step of it")
        releases = len(json.loads(world.trunkline("history", "--json", show=False)))
        told = world.trunkline("verify-history", "--deep", "--strict", "--require-pull-request")
        assert f"{releases} releases in " in told, told
        assert "nothing is wrong" in told, told
        proved(f"{releases} changes of the release, each proved anew from what git, store and forge still say")

    def light(self) -> None:
        """Tell in short what examples/07-shop-shelf tells whole."""
        shelf = self.shelf
        shelf.watch()
        shelf.good_days()
        shelf.darken()
        shelf.label_them()
        shelf.learn_it()
        shelf.recover(self.world.folder / "shop-shelf.png")

    def stop(self) -> None:
        self.shelf.stop()


def main() -> int:
    about = "Run the whole story on real data."
    sequel = "the second story, which examples/07-shop-shelf tells whole"
    return perform(Demo, about, folder=".demo", short="leave out the second retraining", sequel=sequel)


if __name__ == "__main__":
    sys.exit(main())
