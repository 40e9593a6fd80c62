"""From a signal to a better model: what the stories of watched models have in common."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pictures
import screen
from camera import Camera, load
from plots import Point
from screen import proved, say
from webhook import Webhook
from world import MODEL_FILE, World

SETTINGS = """
[monitoring]
poll = 0.5                    # windows are seconds here

[data]
poll = 1.0                    # seconds between two looks at what a name in the store means now

[alerts]
urls_file = "alerts.txt"      # where to tell people: one webhook here; chats and mail work likewise
group_wait = 0.0
"""
SHORT = {
    "window: 4s ": "window: 3s ", "forWindows: 3": "forWindows: 2", "newLabels: 60": "newLabels: 40",
}  # fmt: skip
"""What ``--short`` changes in the file."""
TRAINED = ("artifacts", "blobs", "datasets", "evaluations", "exports", "runs", "validations")
"""What of a store is about a model and its data, and not about live traffic."""
WAITING = 3
"""So many windows are drawn before and after those that are left out."""


class Loop:
    """A released model, live traffic, a signal that fires, people who label, and a better model.

    ``file`` is the example's ModelSpec. The camera sees the first half of the live pictures, which people may be asked
    to label, until they are; then the second half, which nobody labels and nothing is trained on.
    """

    def __init__(self, world: World, file: Path, signal: str, *, short: bool, first: int = 1) -> None:
        self.world, self.file, self.signal, self.short = world, file, signal, short
        self.window = 3.0 if short else 4.0
        self.good = 2 if short else 4
        """How many good windows are enough to see."""
        self.labels = 100 if short else 180
        """How many pictures are worth labelling."""
        self.webhook = Webhook()
        self.readings: dict[str, dict[int, dict[str, Any]]] = {}
        """By signal and window: what Trunkline said."""
        self.marks: dict[int, str] = {}
        """By window: what happened in it."""
        self.began = 0
        """The first window."""
        self.comparable = range(0)
        """Windows in which the old version saw what the new one will see."""
        self._unseen_from = 0
        self._chapters = count(first)
        self._camera: Camera | None = None

    @property
    def camera(self) -> Camera:
        """What sends pictures; it begins with ``open_shop``."""
        assert self._camera is not None
        return self._camera

    @property
    def version(self) -> int:
        """Of the release that serves; 0 where none does."""
        return int((self.world.status().get("serving") or {}).get("version") or 0)

    def chapter(self, title: str) -> None:
        screen.chapter(next(self._chapters), title)

    def settle(self) -> None:
        """Tell the agent how often to look and whom to tell. Call it before the agent starts."""
        (self.world.folder / "alerts.txt").write_text(self.webhook.url + "\n")
        settings = self.world.folder / "trunkline.toml"
        settings.write_text(settings.read_text() + SETTINGS)

    def text(self) -> str:
        """Give the ModelSpec, with short windows where the story is short."""
        text = self.file.read_text()
        for old, new in (SHORT if self.short else {}).items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    def release(self, trained: Path | None) -> None:
        """Begin with nothing, or what was ``trained`` in another story, and end with the first version serving."""
        world = self.world
        world.clean()
        world.trunkline("init", ".")
        self.settle()
        if trained is not None:
            for kind in TRAINED:
                shutil.copytree(trained / "store" / kind, world.folder / "store" / kind, dirs_exist_ok=True)
            say(f"The store has what was trained in {trained.name}: the same inputs never train twice.")
        train, golden = pictures.write(world.folder / "pictures", live=True)
        text = self.text()
        for part, folder in (("TRAIN", train), ("GOLDEN", golden)):
            words = ("data", "add", str(folder), "--task", "classify", "--name", f"digits-{part.lower()}", "--json")
            found = json.loads(world.trunkline(*words, show=False))
            say(f"{found['images']} pictures in store://digits-{part.lower()}")
            text = text.replace(f"{part}_DIGEST", found["digest"])
        world.git("clone", "--quiet", "models.git", "work")
        world.git("switch", "--quiet", "--create", "digits")
        file = world.clone / MODEL_FILE
        file.parent.mkdir()
        file.write_text(text)
        world.trunkline("check", str(file.relative_to(world.folder)))
        world.git("add", "--all")
        world.git("commit", "--quiet", "--message", "Describe the digits model")
        number = world.open("digits")
        world.trunkline("plan", "--pr", str(number))
        world.trunkline("pr", "merge", str(number))
        world.start_agent()
        self.merge("promote", "train, evaluate, export, judge", show=False)
        self.wait("v1 loads and proves itself", lambda: self.version == 1, 60)

    def open_shop(self) -> None:
        """Let the camera send pictures, from the next window on."""
        folder = self.world.folder / "pictures/live"
        every = load(folder)
        self.met, self.unseen = every[0::2], every[1::2]
        self._camera = Camera(self.world.server(), self.window, self.met)
        self.began = self.camera.now + 1
        self.camera.start()

    def stop(self) -> None:
        """End the camera, the webhook, the agent and all it started."""
        if self._camera is not None:
            self._camera.stop()
        self.webhook.stop()
        self.world.stop()

    def wait(self, what: str, done: Callable[[], bool], seconds: float = 240) -> None:
        """Wait for something, and write down meanwhile what Trunkline says of each window."""

        def look() -> bool:
            self.follow()
            return done()

        self.world.wait(what, look, seconds)

    def follow(self) -> None:
        """Write down what `trunkline signals` knows now; it forgets old windows."""
        file = self.world.folder / ".trunkline/readings/default.digits.json"
        try:
            told = json.loads(file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        for signal in told.get("signals", []):
            kept = self.readings.setdefault(signal["name"], {})
            for reading in signal["windows"]:
                kept[round(reading["start"] / self.window)] = reading

    def judged(self, since: int, judgement: str) -> list[int]:
        """Give the windows from ``since`` on in which the signal was judged so."""
        told = self.readings.get(self.signal, {})
        return sorted(window for window, each in told.items() if window >= since and each["judgement"] == judgement)

    def state(self) -> dict[str, Any]:
        """Give how the signal stands, as the status says."""
        return next((each for each in self.world.status().get("signals", []) if each["name"] == self.signal), {})

    def points(self, signal: str, windows: Sequence[int]) -> list[Point]:
        """Give what was said and what was true, window by window."""
        told = self.readings.get(signal, {})
        every = []
        for window in windows:
            each = told.get(window, {})
            value = each.get("value") if each.get("judgement") != "Inconclusive" else None
            low, high = (each.get(side) if value is not None else None for side in ("low", "high"))
            every.append(Point(self.camera.accuracy(window), value, low, high))
        return every

    def shown(self) -> tuple[list[int], dict[int, str]]:
        """Give the windows to draw, without most of those that passed while a model was trained, and what to mark.

        Marks are by place in the list.
        """
        every = range(self.began, self.camera.now)
        left_out = range(self.comparable.start + WAITING, self.comparable.stop - WAITING)
        windows = [window for window in every if window not in left_out]
        marks = {windows.index(window): what for window, what in self.marks.items() if window in windows}
        if left_out:
            marks[windows.index(left_out.stop)] = f"{len(left_out)} windows of training are left out"
        return windows, dict(sorted(marks.items()))

    def accuracy(self, windows: Sequence[int]) -> float:
        """Give the true accuracy over windows."""
        right, asked = (sum(counts[window] for window in windows) for counts in (self.camera.right, self.camera.asked))
        return right / asked

    def mark(self, what: str) -> None:
        """Remember that something happened now."""
        self.marks[self.camera.now] = what

    def quiet(self, windows: int) -> None:
        """Wait until so many windows from now on were good."""
        since = self.camera.now + 1
        self.wait(f"{windows} windows of traffic", lambda: len(self.judged(since, "Passing")) >= windows, 120)
        self.wait("the signal is quiet", lambda: self.state().get("state") == "Quiet", 60)

    def fires(self, since: int) -> list[int]:
        """Wait until the signal fires; give the windows that failed. It fires before any label exists."""
        world = self.world
        self.wait(f"{self.signal} fires", lambda: self.state().get("state") == "Firing", 240)
        self.mark("fires")
        failed = self.judged(since, "Failing")
        assert failed, self.readings.get(self.signal)
        world.trunkline("signals", "digits")
        self.wait("somebody is told", lambda: self.webhook.about(self.signal) is not None, 60)
        say(f"[bold]the webhook got:[/] {self.webhook.about(self.signal)}")
        self.wait("the trigger waits for labels", lambda: world.condition("Triggered").get("reason") == "LabelsWanted")
        assert not world.status().get("proposals"), world.status()["proposals"]
        proved(f"{world.condition('Triggered')['message']}; no pull request yet")
        return failed

    def label(self, enough: int) -> int:
        """Let a person label what was kept, and bring it back as a data set; give how many pictures."""
        world = self.world
        kept = lambda: len([key for key in world.records("kept/") if key.endswith(".json")])  # noqa: E731
        self.wait(f"{enough} pictures are kept", lambda: kept() >= enough, 120)
        world.trunkline("labels", "export", "digits")
        labelled = self._look_at_each(world.folder / "labels/digits")
        world.trunkline("labels", "import", "digits")
        self.camera.pictures, self._unseen_from = self.unseen, self.camera.now + 1
        return labelled

    def _look_at_each(self, queue: Path) -> int:
        """Move each picture to the class that is truly in it, as a person would who looks at it; give how many."""
        every = sorted((queue / "todo").rglob("*.png"))
        for picture in every:
            truth = self.camera.label(picture.read_bytes())
            assert truth is not None, f"{picture} was never sent"
            picture.rename(queue / "done" / truth / picture.name)
        return len(every)

    def merge(self, intent: str, what: str, *, show: bool = True) -> None:
        """Wait for a proposal, and merge it as a person."""
        world = self.world
        self.wait(what, lambda: world.proposal(intent) is not None, 300)
        number = world.proposal(intent)
        if show:
            world.trunkline("pr", "show", str(number))
        world.trunkline("pr", "merge", str(number))

    def learn(self) -> None:
        """Merge the new data, wait for the better model, merge it, and see it serve; no request may fail."""
        before = self.version
        self.merge("bump-data", "Trunkline looks at the new data and asks")
        self.wait("train, evaluate, export, judge", lambda: self.world.proposal("promote") is not None, 300)
        self.comparable = range(self._unseen_from, self.camera.now)
        self.merge("promote", "the proposal", show=False)
        self.wait("it loads and proves itself", lambda: self.version > before, 60)
        now, answered = self.version, self.camera.answers
        self.mark(f"v{now}")
        self.wait("it answers", lambda: answered[now] > 0, 30)
        assert not self.camera.failures, self.camera.failures[:3]
        self.wait("live traffic is compared with before", self._judged_live, 60)
        say(f"live gate: {self.world.condition('LiveGate')['message']}")
        proved(f"{sum(answered.values())} requests meanwhile, by v{before} and v{now}; 0 failed")

    def _judged_live(self) -> bool:
        return self.world.condition("LiveGate").get("reason") == "LiveGatePassed"

    def look_back(self) -> None:
        self.chapter("What git says about it, to whoever asks in a year")
        world = self.world
        world.wait("nothing is left to do", lambda: world.condition("Ready").get("status") == "True", 180)
        world.trunkline("history", "digits")
        told = world.trunkline("verify-history", "--deep", "--strict", "--require-pull-request")
        assert "nothing is wrong" in told, told
        releases = len(json.loads(world.trunkline("history", "--json", show=False)))
        proved(f"{releases} releases, proved anew")
