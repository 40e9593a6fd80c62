"""A search for better training arguments, killed half-way; its answer is a pull request that makes the gate pass."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent / "01-digits"))  # the first example's person, screen and pictures

import pictures  # noqa: E402
from clients import live_accuracy  # noqa: E402
from screen import chapter, proved, say  # noqa: E402
from stage import perform  # noqa: E402
from world import MODEL_FILE, World  # noqa: E402

SHORT = {
    "maxTrialCount: 10 ": "maxTrialCount: 4 ", "trialArgs: {epochs: 3}": "trialArgs: {epochs: 1}",
    "epochs: 6": "epochs: 1", "max: 0.03": "max: 0.004", "min: 0.00001": "min: 0.0005",
    "[32, 64, 128]": "[16, 32]",
}  # fmt: skip
"""What ``--short`` changes in the file: few and short trials, in a space where all of them learn something."""


class Demo:
    """The story, chapter by chapter; every claim it prints is checked first."""

    def __init__(self, folder: Path, *, short: bool) -> None:
        self.world, self.short = World(folder), short
        self.golden = folder
        self.before: dict[str, int] = {}

    def tell(self) -> None:
        """Run all chapters."""
        self.prepare()
        self.stopped_at_the_gate()
        self.kill()
        self.answer()
        if not self.short:
            self.release()
            self.look_back()

    def prepare(self) -> None:
        chapter(1, "A ModelSpec with a guessed learning rate, and spec.tuning")
        world = self.world
        world.clean()
        world.trunkline("init", ".")
        train, self.golden = pictures.write(world.folder / "pictures")
        text = (HERE / "digits.yaml").read_text()
        for old, new in (SHORT if self.short else {}).items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        for part, folder in (("TRAIN", train), ("GOLDEN", self.golden)):
            name = f"digits-{part.lower()}"
            words = ("data", "add", str(folder), "--task", "classify", "--name", name, "--json")
            text = text.replace(f"{part}_DIGEST", json.loads(world.trunkline(*words, show=False))["digest"])
        world.git("clone", "--quiet", "models.git", "work")
        world.git("switch", "--quiet", "--create", "digits")
        file = world.clone / MODEL_FILE
        file.parent.mkdir()
        file.write_text(text)
        world.trunkline("check", str(file.relative_to(world.folder)))
        world.git("add", "--all")
        world.git("commit", "--quiet", "--message", "Describe the digits model")
        number = world.open("digits")
        told = world.trunkline("plan", "--pr", str(number))
        assert "searches for better training arguments" in " ".join(told.split()), told
        world.trunkline("pr", "merge", str(number))

    def stopped_at_the_gate(self) -> None:
        chapter(2, "The guess is trained first, and a gate says no; that is when the search begins")
        world = self.world
        world.start_agent()
        world.wait("train, evaluate, export, judge", lambda: world.condition("GatesPassed").get("status") == "False")
        proved(f"stopped at the gate: {world.condition('GatesPassed')['message']}")
        enough = 2 if self.short else 4
        world.wait(f"{enough} trials are over", lambda: len(self.records("trials")) >= enough, 600)
        world.trunkline("tuning", "digits")

    def records(self, kind: str) -> dict[str, bytes]:
        """Give name and content of the search's records of a kind."""
        keys = sorted(key for key in self.world.records("tunings/") if f"/{kind}/" in key)
        return {key.rpartition("/")[2]: self.world.store.read(key) or b"" for key in keys}

    def kill(self) -> None:
        chapter(3, "kill -9, half-way")
        world = self.world
        job = next(name for name in world.status()["jobs"] if name.startswith("tune-"))
        group = int((world.folder / ".trunkline/jobs" / job / "lock").read_text())
        os.killpg(group, signal.SIGKILL)
        over = self.records("trials")
        self.before = {name: self.begun(name) for name in over}
        proved(f"{job} is dead; {len(over)} trials were over by then")
        world.wait("the search is over", lambda: world.proposal("tune") is not None, 900)
        after = self.records("trials")
        assert {name: after[name] for name in over} == over
        assert {name: self.begun(name) for name in over} == self.before
        again = [name for name in after if self.begun(name) > 1]
        assert len(again) <= 1, again
        what = f"trial {again[0].partition('.')[0]}, which was cut off, began again" if again else "none was cut off"
        proved(f"{len(after)} trials are over: the {len(over)} from before were not repeated; {what}")

    def begun(self, name: str) -> int:
        """Give how often a trial began, by the name of its record."""
        number = name.removesuffix(".json")
        return sum(key.startswith(f"{number}-") for key in self.records("begun"))

    def answer(self) -> None:
        chapter(4, "What was found is a pull request: these arguments, and nothing else")
        world = self.world
        world.trunkline("tuning", "digits")
        number = world.proposal("tune")
        world.trunkline("pr", "show", str(number))
        branch = next(p["branch"] for p in world.status()["proposals"] if p["number"] == number)
        world.git("fetch", "--quiet", "origin")
        changed = world.git("diff", "--unified=0", "origin/main", f"origin/{branch}", "--", MODEL_FILE)
        say(changed)
        lines = [line for line in changed.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert all(line.lstrip("+- ").startswith(("lr0:", "batch:")) for line in lines), lines
        proved(f"{len(lines) // 2} values change, the comments beside them stay; trialArgs stay what they were")
        told = world.trunkline("plan", "--pr", str(number))
        assert "retrains" in told, told
        world.trunkline("pr", "merge", str(number))

    def release(self) -> None:
        chapter(5, "Merging it retrains; now the gate passes")
        world = self.world
        world.wait("train, evaluate, export, judge", lambda: world.proposal("promote") is not None, 600)
        world.trunkline("pr", "merge", str(world.proposal("promote")))
        serves = lambda: (world.status().get("serving") or {}).get("version") == 1  # noqa: E731
        world.wait("v1 loads and proves itself", serves, 60)
        accuracy, total, _ = live_accuracy(world.server(), self.golden)
        proved(f"{total} golden pictures sent to v1: live accuracy {accuracy:.3f}")

    def look_back(self) -> None:
        chapter(6, "There is rest, and the past can be proved")
        world = self.world
        world.wait("nothing is left to do", lambda: world.condition("Ready").get("status") == "True", 60)
        assert len([key for key in world.records("tunings/") if key.endswith("/tuning.json")]) == 1
        proved(f"one search, no other after the merge: {world.condition('Tuned')['message']}")
        checked: Any = world.trunkline("verify-history", "--strict", "--require-pull-request")
        assert "nothing is wrong" in checked, checked

    def stop(self) -> None:
        self.world.stop()


def main() -> int:
    about = "Search for better training arguments, and be killed half-way."
    return perform(Demo, about, folder=".demo-tuning", short="fewer and shorter trials")


if __name__ == "__main__":
    sys.exit(main())
