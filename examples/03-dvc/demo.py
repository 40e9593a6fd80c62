"""A commit in a DVC repository travels, through pull requests that people merge, to a model that serves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent / "01-digits"))  # the first example's person, screen and clients

from clients import live_accuracy  # noqa: E402
from data_team import DataTeam  # noqa: E402
from screen import chapter, proved, say  # noqa: E402
from stage import perform  # noqa: E402
from world import MODEL_FILE, World  # noqa: E402

SETTINGS = """
[data]
allow_folders = ["."]   # data repository and remote are folders of this demo
poll = 1.0
"""


class Demo:
    """The story, chapter by chapter; every claim it prints is checked first."""

    def __init__(self, folder: Path, *, short: bool) -> None:
        self.world, self.team = World(folder), DataTeam(folder)
        self.short = short
        self.golden = self.team.clone / "golden"
        self.accuracy: dict[int, float] = {}

    def tell(self) -> None:
        """Run all chapters."""
        self.data()
        self.model()
        self.pin()
        self.release(4, "The data is fetched, looked at and trained on; v1", 1)
        self.more_data()
        self.bump()
        self.release(7, "The same line again, with the new data; v2", 2)
        self.look_back()

    def data(self) -> None:
        chapter(1, "A data repository: pointers in git, pictures in DVC's remote")
        self.world.clean()
        train, golden = self.team.begin()
        say(self.team.git("show", "HEAD:digits.dvc"))
        proved(f"{train} pictures to learn from, {golden} golden ones; git knows their digests only")

    def model(self) -> None:
        chapter(2, "A ModelSpec names branch and path of the data, and no digest")
        world = self.world
        world.trunkline("init", ".")
        settings = world.folder / "trunkline.toml"
        settings.write_text(settings.read_text() + SETTINGS)
        world.git("clone", "--quiet", "models.git", "work")
        world.git("switch", "--quiet", "--create", "digits")
        file = world.clone / MODEL_FILE
        file.parent.mkdir()
        text = (HERE / "digits.yaml").read_text().replace("DATA_REPOSITORY", str(self.team.repository))
        file.write_text(text.replace("epochs: 8", "epochs: 4") if self.short else text)
        world.trunkline("check", str(file.relative_to(world.folder)))
        world.git("add", "--all")
        world.git("commit", "--quiet", "--message", "Describe the digits model")
        number = world.open("digits")
        world.trunkline("plan", "--pr", str(number))
        world.trunkline("pr", "merge", str(number))

    def pin(self) -> None:
        chapter(3, "Trunkline asks to pin what the references stand for; nothing is trained before")
        world = self.world
        world.start_agent()
        self.merge("bump-data", "Trunkline looks into the data repository")
        text = world.git("show", f"origin/main:{MODEL_FILE}")
        assert text.count("digest: ") == 2, text
        assert world.records("runs/") == set()
        proved("commit and digest of training data and golden set stand in the ModelSpec, by a merged pull request")

    def merge(self, intent: str, what: str) -> str:
        """Wait for a proposal, show it, merge it as a person; give the names of the files it brings as evidence."""
        world = self.world
        world.wait(what, lambda: world.proposal(intent) is not None, 900)
        number = world.proposal(intent)
        branch = next(p["branch"] for p in world.status()["proposals"] if p["number"] == number)
        world.git("fetch", "--quiet", "origin")
        files = world.git("diff", "--name-only", f"origin/main...origin/{branch}", "--", "evidence").split()
        world.trunkline("pr", "show", str(number))
        if files:
            say("In the same commit: " + ", ".join(file.rpartition("/")[2] for file in files))
        world.trunkline("pr", "merge", str(number))
        world.git("fetch", "--quiet", "origin")
        return " ".join(files)

    def release(self, number: int, title: str, version: int) -> None:
        chapter(number, f"{title} is proposed, merged, and serves")
        world = self.world
        evidence = self.merge("promote", "import, validate, train, evaluate, export, judge")
        assert f"/v{version}/report.md" in evidence, evidence
        serves = lambda: (world.status().get("serving") or {}).get("version") == version  # noqa: E731
        world.wait(f"v{version} loads and proves itself", serves, 180)
        accuracy, total, versions = live_accuracy(world.server(), self.golden)
        assert versions == {str(version)}, versions
        self.accuracy[version] = accuracy
        proved(f"{total} golden pictures over HTTP: live accuracy {accuracy:.3f}, all answered by v{version}")

    def more_data(self) -> None:
        chapter(5, "Somebody of the data team corrects labels, adds pictures, and pushes. That is all they do")
        corrected, added = self.team.more(4 if self.short else 1)
        say(self.team.git("diff", "--unified=0", "HEAD~1", "--", "digits.dvc"))
        proved(f"{added} pictures are new, {corrected} have another label; models.git was not touched")
        self.changed = corrected, added

    def bump(self) -> None:
        chapter(6, "Trunkline finds it, fetches it, looks at it, and asks whether to train on it")
        world, (corrected, added) = self.world, self.changed
        runs = world.records("runs/")
        evidence = self.merge("bump-data", "fetch what is new, validate, compare with what is trained on now")
        assert "difference.jpg" in evidence, evidence
        assert world.records("runs/") == runs
        title = world.git("log", "--max-count=1", "--format=%B", "origin/main")
        assert f"+{added}" in title, title
        assert f"{corrected} relabelled" in title, title
        proved(f"a pull request said +{added} images, {corrected} relabelled, and showed them; merging it trains")

    def look_back(self) -> None:
        chapter(8, "What git says about it, to whoever asks in a year")
        world = self.world
        world.wait("nothing is left to do", lambda: world.condition("Ready").get("status") == "True", 180)
        lines = ("log", "--first-parent", "--reverse", "--format=%an <- %s", "origin/main")
        world.git("fetch", "--quiet", "origin")
        say(world.git(*lines))
        world.trunkline("data", "list")
        world.trunkline("history", "digits")
        told = world.trunkline("why", "digits@v2")
        pointer = self.team.git("show", "HEAD:digits.dvc")
        digest = pointer.partition("md5: ")[2].split()[0]
        assert digest in told, (digest, told)
        proved(f"from the bytes that serve to DVC's own digest {digest[:12]}…, which the data repository's head names")
        checked = world.trunkline("verify-history", "--deep", "--strict", "--require-pull-request")
        assert "nothing is wrong" in checked, checked
        releases = len(json.loads(world.trunkline("history", "--json", show=False)))
        before, after = self.accuracy[1], self.accuracy[2]
        proved(f"{releases} releases, proved anew; a push to a data repository made {before:.3f} into {after:.3f}")

    def stop(self) -> None:
        self.world.stop()


def main() -> int:
    about = "Let newer data travel from a DVC repository to a serving model."
    return perform(Demo, about, folder=".demo-dvc", short="fewer epochs, fewer pictures")


if __name__ == "__main__":
    sys.exit(main())
