"""One real device: its own processes, a real model server, and no network; and what people see of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from controller import wiring
from controller.cli import cli
from controller.device import DeviceAgent
from controller.settings import load
from tests.support import onnx_models
from tests.support.place import ROOT, Place

pytestmark = pytest.mark.xdist_group("agent")
EDGE = "serving: {export: onnx, edge: {waves: [{percent: 50}, {percent: 100}]}}"


class Camera:
    """A device in a folder of its own."""

    def __init__(self, place: Place, name: str) -> None:
        self.folder = place.folder.parent / name
        self.folder.mkdir()
        server = json.dumps(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "workloads.serve"])
        (self.folder / "trunkline.toml").write_text(
            f'repository = "{place.folder}/hub.git"\nstore = "{place.folder}/store"\nstate = "state"\n'
            f'server_command = {server}\n[device]\nname = "{name}"\nlabels = {{line = "a"}}\n'
        )
        self.restart()

    def restart(self) -> DeviceAgent:
        """Begin with a device that has nothing in memory."""
        self.agent = wiring.device(load(self.folder, {}))
        return self.agent

    def kill_server(self) -> None:
        """Kill the model server, as a power cut would."""
        os.killpg(int((self.folder / "state/server/pid").read_text()), signal.SIGKILL)

    def answers(self) -> int | None:
        """Give the version that answers a picture; None where nothing does."""
        try:
            url = json.loads((self.folder / "state/server/address.json").read_text())["url"]
            place, kind = f"{url}/models/digits/predict", {"Content-Type": "image/png"}
            answer = httpx.post(place, content=onnx_models.picture(), headers=kind, trust_env=False)
        except (OSError, httpx.HTTPError):
            return None
        return int(answer.json()["version"]) if answer.is_success else None

    def stop(self) -> None:
        """End its server."""
        wiring.servers(load(self.folder, {})).stop(grace=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Place, Camera]]:
    """Give a place whose model is for devices, and one device."""
    place = Place(tmp_path / "place", at_once=True)
    place.write(place.spec(("serving: {export: onnx}", EDGE)))
    camera = Camera(place, "cam-1")
    try:
        yield place, camera
    finally:
        camera.stop()
        place.stop()


def until(look: Callable[[], object], true: Callable[[], object], seconds: float = 60) -> None:
    """Look until something is so."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        look()


def test_a_device_goes_on_without_a_network_after_its_machine_was_started_again(world: tuple[Place, Camera]) -> None:
    """With neither git nor store, and all of its processes killed, the last release answers; later it catches up."""
    place, camera = world
    place.forge().merge(place.proposed().number)

    def both() -> None:
        place.passes()
        camera.agent.once()

    until(both, lambda: camera.answers() == 1)
    until(both, lambda: place.reason("Fleet") == "FleetServing")
    assert place.app.servers.names() == (), "nothing serves where the devices are looked after"

    for name in ("hub.git", "store"):
        (place.folder / name).rename(place.folder / f"{name}.away")
        (place.folder / name).touch()  # a folder store would be made anew
    camera.kill_server()
    camera.restart()
    until(camera.agent.once, lambda: camera.answers() == 1)
    for name in ("hub.git", "store"):
        (place.folder / name).unlink()
        (place.folder / f"{name}.away").rename(place.folder / name)

    place.change("epochs: 8", "epochs: 9")
    place.forge().merge(place.proposed().number)
    until(both, lambda: camera.answers() == 2)
    until(both, lambda: place.reason("Fleet") == "FleetServing")

    shown = CliRunner().invoke(cli, ["fleet", "digits"], env={"TRUNKLINE_CONFIG": str(place.folder / "trunkline.toml")})
    assert shown.exit_code == 0, shown.output
    assert "default/digits  v2 on 1 devices" in shown.output
    assert "1 of 1 serve v2" in shown.output
    assert "cam-1" in shown.output
    told = CliRunner().invoke(cli, ["fleet", "--json"], env={"TRUNKLINE_CONFIG": str(place.folder / "trunkline.toml")})
    data = json.loads(told.output)["default/digits"]
    assert (data["version"], data["states"], data["halt"]) == (2, {"Serving": 1}, None)
    assert [wave["serving"] for wave in data["waves"]] == [1, 1]
