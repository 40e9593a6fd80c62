"""The process that a container of the process kubelet is: its command, its environment, its folders, its end."""

from __future__ import annotations

import base64
import os
import random
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.apiserver import DIES_WITH_US

Object = dict[str, Any]
_MESSAGE_BYTES = 2048
_MESSAGE_LINES = 80


class ContainerProcess:
    """One start of a container, in a session of its own, with all that it says in ``log``.

    OSError where there is no such program.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self._log = log
        self._message = folder / "termination-log"
        self._message.unlink(missing_ok=True)
        if shutil.which(command[0], path=environment.get("PATH", "")) is None:
            raise FileNotFoundError(command[0])  # what goes before the command would say it in its own way
        with log.open("wb") as words:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, *command], env=dict(environment), cwd=folder, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def code(self) -> int | None:
        """Give the exit code as a container runtime would, 128 + n after signal n; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Signal the process and all that it started in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def finish(self) -> None:
        """Kill what is left of it."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def last_words(self, code: int, policy: str) -> str:
        """Give the termination message, as the container's policy says."""
        if self._message.exists():
            return self._message.read_text(errors="replace")[:4096]
        if policy != "FallbackToLogsOnError" or code == 0:
            return ""
        tail = self._log.read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
        return "".join(tail.splitlines(keepends=True)[-_MESSAGE_LINES:])


def an_address() -> str:
    """Give an address of this machine that nobody else uses: all of 127.0.0.0/8 is its own."""
    third = random.SystemRandom()
    return f"127.{third.randint(1, 254)}.{third.randint(0, 255)}.{third.randint(1, 254)}"


class Surroundings:
    """What a container of a pod finds on this machine, where it believes to be alone on its own.

    It has an address of its own, as every pod has: the one after ``--host`` becomes ``host``, ports stay what they are.
    Paths in emptyDir volumes (but ``/tmp``, which becomes TMPDIR) and of ConfigMaps become paths in ``folder``.
    """

    def __init__(self, pod: Object, folder: Path) -> None:
        self._pod = pod
        self.folder = folder
        self.container: Object = pod["spec"]["containers"][0]
        self.host = an_address()
        words = [*self.container.get("command", ()), *self.container.get("args", ())]
        self.port = next((int(after) for word, after in pairwise(words) if word == "--port"), 0)
        empty = {volume["name"] for volume in pod["spec"].get("volumes", ()) if "emptyDir" in volume}
        mounts = self.container.get("volumeMounts", ())
        self._folders = {
            mount["mountPath"]: folder / mount["name"]
            for mount in mounts if mount["name"] in empty and mount["mountPath"] != "/tmp"
        }  # fmt: skip
        self._maps = {
            folder / volume["name"]: str(volume["configMap"]["name"])
            for volume in pod["spec"].get("volumes", ()) if "configMap" in volume
        }  # fmt: skip
        self._folders |= {
            mount["mountPath"]: folder / mount["name"] for mount in mounts if folder / mount["name"] in self._maps
        }
        for place in (*self._folders.values(), folder / "tmp"):
            place.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """Host and port of its server."""
        return f"{self.host}:{self.port}"

    def command(self) -> list[str]:
        """Give the command line, made fit for this machine."""
        words = [*self.container.get("command", ()), *self.container.get("args", ())]
        found = [self._local(word) for word in words]
        for place, word in enumerate(words[:-1]):
            if word == "--host":
                found[place + 1] = self.host
        return found

    def environment(self, base: Mapping[str, str], sources: Mapping[str, Object]) -> dict[str, str]:
        """Give all variables. ``sources`` are the Secrets and ConfigMaps of envFrom, by kind and name."""
        found = {**base, "TMPDIR": str(self.folder / "tmp"), "HOSTNAME": self._pod["metadata"]["name"]}
        for name, source in sources.items():
            texts = source.get("data", {})
            secret = name.startswith("secret")
            found |= {key: base64.b64decode(value).decode() if secret else value for key, value in texts.items()}
        for variable in self.container.get("env", ()):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            found[variable["name"]] = self._field(field) if field else self._local(variable.get("value", ""))
        return found

    def project(self, find: Callable[[str], Object | None]) -> None:
        """Let ConfigMap volumes hold what ``find`` gives for their names now, each file whole at any time."""
        for place, name in self._maps.items():
            texts: dict[str, str] = (find(name) or {}).get("data") or {}
            for known in place.iterdir():
                if known.name not in texts:
                    known.unlink()
            for key, text in texts.items():
                file = place / key
                if not file.exists() or file.read_text() != text:
                    whole = self.folder / f"{key}.part"
                    whole.write_text(text)
                    whole.replace(file)

    def sources(self) -> list[tuple[str, str]]:
        """Give (plural, name) of the Secrets and ConfigMaps that the environment needs."""
        kinds = {"secretRef": "secrets", "configMapRef": "configmaps"}
        return [(kinds[kind], source[kind]["name"]) for source in self.container.get("envFrom", ())
                for kind in kinds if kind in source]  # fmt: skip

    def describe(self) -> str:
        """Give the command line for people."""
        return shlex.join(self.command())

    def _field(self, path: str) -> str:
        if path == "status.podIP":
            return self.host
        value: Any = self._pod
        for part in path.split("."):
            value = value[part]
        return str(value)

    def _local(self, word: str) -> str:
        for path, folder in self._folders.items():
            if word == path or word.startswith(f"{path}/"):
                return str(folder) + word.removeprefix(path)
        return word
