"""A model whose trainings show themselves in MLflow: while they run, whole afterwards, and what is released."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "01-digits"))  # the same pictures, the same person, the same screen

import pictures  # noqa: E402
from board import Board  # noqa: E402
from screen import chapter, proved, say  # noqa: E402
from tracker import Tracker, seldom  # noqa: E402
from world import MODEL_FILE, World  # noqa: E402

SHORT = 20
"""Pictures of each digit that are left for a short demo."""


class Demo:
    """The story, chapter by chapter; every claim it prints is checked first."""

    def __init__(self, folder: Path, *, short: bool, mlflow: str) -> None:
        self.world = World(folder)
        self.tracker = Tracker(folder / "mlflow", mlflow)
        self.short = short

    def tell(self) -> None:
        self.prepare()
        self.train()
        self.release()
        self.meddle()
        if not self.short:
            self.do_without()
        self.look_at_the_board()

    def prepare(self) -> None:
        chapter(1, "An MLflow server, and a ModelSpec that names it")
        world = self.world
        world.clean()
        self.tracker.start()
        proved(f"MLflow answers at {self.tracker.url}")
        world.trunkline("init", ".")
        with (world.folder / "trunkline.toml").open("a") as settings:
            settings.write('\n[tracking]\nhosts = ["127.0.0.1"]\npoll = 1.0\n')
        train, golden = pictures.write(world.folder / "pictures")
        if self.short:
            self._thin(train, golden)
        text = (HERE / "digits.yaml").read_text().replace("TRACKING_URI", self.tracker.url)
        for part, folder in (("TRAIN", train), ("GOLDEN", golden)):
            text = text.replace(f"{part}_DIGEST", self._add(folder, f"digits-{part.lower()}"))
        world.git("clone", "--quiet", "models.git", "work")
        world.git("switch", "--quiet", "--create", "digits")
        (world.clone / MODEL_FILE).parent.mkdir()
        (world.clone / MODEL_FILE).write_text(text)
        world.git("add", "--all")
        world.git("commit", "--quiet", "--message", "Describe the digits model")
        world.trunkline("pr", "merge", str(world.open("digits")))

    @staticmethod
    def _thin(*folders: Path) -> None:
        for each in (each for folder in folders for each in folder.iterdir()):
            for picture in sorted(each.iterdir())[SHORT:]:
                picture.unlink()

    def _add(self, folder: Path, name: str) -> str:
        words = ("data", "add", str(folder), "--task", "classify", "--name", name, "--json")
        return str(json.loads(self.world.trunkline(*words, show=False))["digest"])

    def train(self) -> None:
        chapter(2, "It trains, and MLflow shows it while it does")
        world, tracker = self.world, self.tracker
        world.start_agent()
        shown = seldom(lambda: bool(tracker.runs() and self._curve(0)))
        world.wait("train until the first epoch is in MLflow", shown)
        proved(f"{len(self._curve(0))} of 4 epochs are on {tracker.page(tracker.runs()[0])}")
        world.wait("train, measure, mirror", lambda: self._is_mirrored(0))
        run = tracker.runs()[0]
        data = {each.dataset.name: each.dataset.digest for each in run.inputs.dataset_inputs}
        assert [step for step, _ in self._curve(0)] == [1, 2, 3, 4], self._curve(0)
        assert data.keys() == {"default/digits:train", "default/digits:golden"}, data
        proved(f"params: {len(run.data.params)}, lr0 {run.data.params['lr0']}; curves: {len(run.data.metrics)}")
        proved(f"on golden: {run.data.metrics['golden/metrics/accuracy_top1']:.3f}; data sets: {data}")
        files = [each.path for each in tracker.client().list_artifacts(run.info.run_id)]
        proved(f"files: {', '.join(files)}")
        world.trunkline("status", "digits")

    def _curve(self, number: int) -> list[tuple[int, float]]:
        run = self.tracker.runs()[number]
        found = self.tracker.client().get_metric_history(run.info.run_id, "metrics/accuracy_top1")
        return sorted((each.step, each.value) for each in found)

    def _is_mirrored(self, number: int) -> bool:
        return len(self.world.records("tracks/")) > number

    def release(self) -> None:
        chapter(3, "A person merges the release; only then is it registered")
        assert self.tracker.champion() is None
        proved("MLflow has no registered model: what is proposed is not released")
        self._merge(1)
        self.world.wait("register v1", seldom(lambda: self._is_champion(1)), 60)
        found = self._champion()
        digest = found.tags["trunkline.weights"]
        assert digest == self.world.status()["candidate"]
        proved(f"digits@champion is version {found.version}: release v1, weights {digest[:19]}…, source {found.source}")

    def _merge(self, version: int) -> None:
        world = self.world
        world.wait(f"work until Trunkline proposes v{version}", lambda: world.proposal("promote") is not None)
        world.trunkline("pr", "merge", str(world.proposal("promote")))
        serves = lambda: (world.status().get("serving") or {}).get("version") == version  # noqa: E731
        world.wait(f"v{version} loads and proves itself", serves, 60)

    def _champion(self) -> Any:
        found = self.tracker.champion()
        assert found is not None
        return found

    def _is_champion(self, release: int) -> bool:
        found = self.tracker.champion()
        return found is not None and found.tags.get("trunkline.release") == str(release)

    def meddle(self) -> None:
        chapter(4, "Somebody takes the alias away in MLflow: nothing happens, but that it comes back")
        world = self.world
        before = world.status()["serving"]
        self.tracker.client().delete_registered_model_alias("digits", "champion")
        assert self.tracker.champion() is None
        back = seldom(lambda: self._is_champion(1) and bool(self._told()))
        world.wait("the alias is put back, and the log tells", back, 60)
        assert world.status()["serving"] == before
        proved(f"the agent's log: {self._told()[-1].partition(': ')[2]}")

    def _told(self) -> list[str]:
        """Give the lines of the agent's log about the alias."""
        lines = (self.world.folder / "agent.log").read_text(errors="replace").splitlines()
        return [line for line in lines if "somebody removed the alias" in line]

    def do_without(self) -> None:
        chapter(5, "MLflow is gone. A pull request changes the training all the same")
        world = self.world
        self.tracker.stop()
        world.trunkline("pr", "merge", str(world.propose("seed", {"seed: 7": "seed: 8"}, "Try another seed")))
        self._merge(2)
        ready = world.condition("Ready")
        assert ready["status"] == "True", ready
        proved("trained, measured, proposed, merged, serving: v2, without a mirror")
        say(f"  Tracked: {world.condition('Tracked')['message']}")
        self.tracker.start()
        world.wait("MLflow is back; the mirror catches up by itself", seldom(lambda: self._is_champion(2)), 180)
        assert len(self.tracker.runs()) == 2
        assert [step for step, _ in self._curve(1)] == [1, 2, 3, 4]
        proved(f"two runs, each point once; digits@champion is version {self._champion().version}: release v2")

    def look_at_the_board(self) -> None:
        chapter(5 if self.short else 6, "The same runs in TensorBoard, from the store")
        say("trunkline tensorboard digits")
        with Board(self.world.folder, "digits") as board:
            runs = board.runs()
            assert [run.partition("-")[0] for run in runs] == (["v1"] if self.short else ["v1", "v2"]), runs
            for number, run in enumerate(runs):
                curve = board.curve(run, "metrics/accuracy_top1")
                assert [(step, round(value, 5)) for step, value in curve] == [
                    (step, round(value, 5)) for step, value in self._curve(number)
                ], curve
                assert board.has_graph(run)
                proved(f"{run}: {len(curve)} epochs, the last one {curve[-1][1]:.3f}; as MLflow has them")
            drawn = board.pictures(runs[0])
            assert {"results", "confusion_matrix", "val_batch0_pred"} <= set(drawn), drawn
            proved(f"{len(drawn)} pictures and the layers of the network at {board.url}")

    def stop(self) -> None:
        self.world.stop()
        self.tracker.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="Show trainings in MLflow.")
    parser.add_argument("--short", action="store_true", help="fewer pictures, and no outage")
    folder = Path(".demo/04-mlflow-tensorboard")
    parser.add_argument("--folder", type=Path, default=folder, help="where to work; emptied first")
    parser.add_argument("--mlflow", default="", help="a server that runs already; it is not stopped, so: --short")
    parser.add_argument("--keep-running", action="store_true", help="leave agent, server and MLflow running at the end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    demo = Demo(options.folder.resolve(), short=options.short or bool(options.mlflow), mlflow=options.mlflow)
    try:
        demo.tell()
    except KeyboardInterrupt:
        say("\nstopped; nothing is left running")
        return 130
    else:
        say(f"\n[bold green]done.[/] Everything is in {options.folder}.")
        if options.keep_running:
            say(f"MLflow: {demo.tracker.url}")
        return 0
    finally:
        if not options.keep_running:
            demo.stop()


if __name__ == "__main__":
    sys.exit(main())
