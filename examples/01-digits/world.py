"""The demo's surroundings: a folder with everything in it, the agent as a process, and a person who uses git."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import screen

from adapters.store import Store
from specs.records import Progress, progress_key

_PERSON = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.com", "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip
MODEL_FILE = "models/digits.yaml"


class World:
    """One folder; everything the demo makes is below it, every process it starts is known to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "work"
        self.store = Store(str(folder / "store"))
        self._agent: subprocess.Popen[bytes] | None = None

    def clean(self) -> None:
        """Stop what an earlier demo left, and remove its folder."""
        if (self.folder / "trunkline.toml").exists():
            self.trunkline("down", show=False, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def trunkline(self, *words: str, show: bool = True, check: bool = True) -> str:
        """Run a ``trunkline`` command as a person would, and show it."""
        width = str(screen.console.width)
        environment = {**os.environ, **_PERSON, "COLUMNS": width}
        if screen.console.is_terminal:
            environment["FORCE_COLOR"] = "1"
        if "--json" in words:
            environment.pop("FORCE_COLOR", None)
        done = subprocess.run(
            [sys.executable, "-m", "controller.cli", *words], cwd=self.folder, env=environment, capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip
        if show:
            screen.command(["trunkline", *words], done.stdout + done.stderr)
        if check and done.returncode != 0:
            raise RuntimeError(f"trunkline {' '.join(words)} failed: {done.stderr}")
        return done.stdout

    def git(self, *words: str, show: bool = False) -> str:
        """Run git in the person's clone."""
        done = subprocess.run(
            ["git", *words], cwd=self.clone if self.clone.exists() else self.folder, env={**os.environ, **_PERSON},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if show:
            screen.command(["git", *words], "\n".join(done.stdout.splitlines()[:1]))
        if done.returncode != 0:
            raise RuntimeError(f"git {' '.join(words)} failed: {done.stderr}")
        return done.stdout.strip()

    def start_agent(self) -> None:
        """Start ``trunkline agent`` in the background, its words in a log."""
        with (self.folder / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "controller.cli", "agent", "--interval", "0.5"], cwd=self.folder, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def alive(self) -> None:
        """Raise where the agent has ended, with its last words."""
        if self._agent is not None and self._agent.poll() is not None:
            words = (self.folder / "agent.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the agent ended with {self._agent.returncode}:\n{words}")

    def stop(self) -> None:
        """Stop agent, jobs and server: nothing stays behind."""
        if self._agent is not None and self._agent.poll() is None:
            self._agent.send_signal(signal.SIGTERM)
            try:
                self._agent.wait(15)
            except subprocess.TimeoutExpired:
                self._agent.kill()
                self._agent.wait()
        self._agent = None
        if (self.folder / "trunkline.toml").exists():
            self.trunkline("down", show=False, check=False)

    def propose(self, branch: str, change: dict[str, str], subject: str) -> int:
        """Change the ModelSpec on a branch, as a person: edit, commit, push, open. Gives the number."""
        self.git("fetch", "--quiet", "origin")
        self.git("switch", "--quiet", "--create", branch, "origin/main")
        file = self.clone / MODEL_FILE
        text = file.read_text()
        for old, new in change.items():
            if text.count(old) != 1:
                raise RuntimeError(f"{MODEL_FILE} should say {old!r} once")
            text = text.replace(old, new)
        file.write_text(text)
        self.git("commit", "--quiet", "--all", "--message", subject)
        screen.command(["git", "diff", "main"], self.git("diff", "--unified=0", "origin/main", "--", MODEL_FILE))
        return self.open(branch)

    def open(self, branch: str) -> int:
        """Push a branch and open a pull request."""
        self.git("push", "--quiet", "origin", branch)
        return int(self.trunkline("pr", "open", branch).split()[0].lstrip("#"))

    def status(self) -> dict[str, Any]:
        """Give the model's status, or an empty one."""
        file = self.folder / ".trunkline/status/default.digits.json"
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return found

    def server(self) -> str:
        """Give the inference server's address."""
        url: str = self.status()["serving"]["url"]
        return url.partition("/v2/")[0]

    def condition(self, type_: str) -> dict[str, Any]:
        """Give one condition of the model, or an empty one."""
        return next((c for c in self.status().get("conditions", []) if c["type"] == type_), {})

    def jobs(self) -> list[Progress]:
        """Tell how far the running jobs are."""
        texts = [self.store.read(progress_key(job)) for job in self.status().get("jobs", [])]
        return [Progress.decode(text) for text in texts if text]

    def wait(self, what: str, done: Any, seconds: float = 240) -> None:
        """Wait for something about the model, showing the jobs on the way."""
        screen.wait(what, done, self.jobs, self.alive, seconds)

    def records(self, prefix: str) -> set[str]:
        """Give the store's keys below a prefix."""
        return set(self.store.list(prefix))

    def proposal(self, intent: str) -> int | None:
        """Give the number of the open proposal of an intent."""
        found = [p["number"] for p in self.status().get("proposals", []) if p["intent"] == intent]
        return found[0] if found else None
