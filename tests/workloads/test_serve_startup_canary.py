"""A server that is told at its start what shall serve beside what: as pods are, with the share in a file."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.digests import hex_of
from tests.support.inference_server import INFER, REQUEST, ServerProcess, wait_until
from tests.support.onnx_models import Published
from tests.workloads.test_serve_startup import (
    Start,
    begin,
    health,
    last_line,
    plain,
    shelf,
    slow,
    until_ready,
    untrue,
)  # fmt: skip

__all__ = ["begin", "shelf"]
NOTHING = {"step": 0, "weight": 0, "mirror": 0}


def told(stable: Published, canary: Published, name: str = "digits") -> str:
    """Give the JSON that tells a server to serve version 7, and version 8 beside it."""
    return json.dumps({"name": name, **stable.target(7), "canary": canary.target(8)})


def canary(server: ServerProcess) -> dict[str, Any]:
    """Give what the server says about its canary."""
    entry: dict[str, Any] = server.models()["digits"]["canary"]
    return entry


def answers(server: ServerProcess, number: int = 10) -> list[str]:
    """Give the version of each of so many answers."""
    return [server.http.post(INFER, json=REQUEST).json()["model_version"] for _ in range(number)]


def test_ready_once_both_are(begin: Start, shelf: Store) -> None:
    """What serves answers as soon as it is loaded; ready is told once the canary is loaded, too."""
    server = begin(told(plain(shelf), slow(shelf)))
    seen = []
    while (now := health(server, "ready"))[0] != 200:
        seen.append(now[1].get("error"))
    assert "version 8 of digits, beside version 7, is being loaded" in seen
    assert (canary(server)["version"], canary(server)["ready"], canary(server)["share"]) == (8, True, NOTHING)
    assert set(answers(server)) == {"7"}
    assert server.load("digits", plain(shelf, 3).target(9) | {"share": NOTHING}).status_code == 403


def test_the_share_comes_from_a_file(begin: Start, shelf: Store, tmp_path: Path) -> None:
    """What the file tells holds within a second or two; nothing where it is about another version or is wrong."""
    file = tmp_path / "share" / "share.json"
    server = begin(told(plain(shelf), plain(shelf, 2)), "--share-file", str(file))
    until_ready(server)
    assert canary(server)["share"] == NOTHING
    first = canary(server)["since"]

    def is_share(share: dict[str, int]) -> bool:
        return bool(canary(server)["share"] == share)

    file.parent.mkdir()
    for text, share in (
        ({"version": 8, "step": 1, "weight": 50, "mirror": 0}, {"step": 1, "weight": 50, "mirror": 0}),
        ({"version": 9, "step": 2, "weight": 60, "mirror": 0}, NOTHING),
        ({"version": 8, "step": 2, "mirror": 100}, {"step": 2, "weight": 0, "mirror": 100}),
        ({"version": 8, "step": 2, "weight": 300}, NOTHING),
    ):  # fmt: skip
        file.with_suffix(".new").write_text(json.dumps(text))
        file.with_suffix(".new").replace(file)
        wait_until(partial(is_share, share))
        assert canary(server)["since"] > first
        if share["weight"]:
            assert sorted(answers(server)) == ["7"] * 5 + ["8"] * 5


def test_a_canary_that_can_never_serve_ends_a_new_server(begin: Start, shelf: Store, tmp_path: Path) -> None:
    """Never ready, exit code 10, and the last line names the canary's file and why: other pods serve meanwhile."""
    stable, bad = plain(shelf, 2), untrue(shelf)
    server = begin(told(stable, bad))
    assert server.process is not None
    assert server.process.wait(60) == 10
    line = last_line(tmp_path)
    assert line.startswith(f"trunkline: CanaryFailed: {bad.file}: ")
    assert len(line) > len(f"trunkline: CanaryFailed: {bad.file}: ") + 20, "a sentence"
    again = begin(told(stable, bad))
    assert again.process is not None
    assert again.process.wait(60) == 10, "started again it is as hopeless"


def test_trouble_with_the_canary_is_waited_out(begin: Start, shelf: Store, tmp_path: Path) -> None:
    """While the canary cannot be had the server answers and is not ready; once it can, it is."""
    stable, new = plain(shelf), plain(shelf, 2)
    record = next(path for path in (tmp_path / "store/artifacts").rglob("*") if hex_of(new.file) in path.name)
    kept = record.read_bytes()
    record.unlink()
    record.symlink_to(record)  # a loop: whoever opens it gets an error
    server = begin(told(stable, new))
    wait_until(lambda: "cannot be loaded now" in health(server, "ready")[1].get("error", ""))
    assert "version 8" in health(server, "ready")[1]["error"]
    assert set(answers(server, 3)) == {"7"}
    record.unlink()
    record.write_bytes(kept)
    until_ready(server)
    assert canary(server)["ready"] is True


def test_started_again_it_has_both(begin: Start, shelf: Store, tmp_path: Path) -> None:
    """A container that died has what serves and its canary again, with its share and since, while the store is gone.

    Where the canary cannot come back, what serves goes on, ready: it was ready with it before.
    """
    file = tmp_path / "share.json"
    file.write_text(json.dumps({"version": 8, "step": 1, "weight": 50, "mirror": 0}))
    models = plain(shelf), plain(shelf, 2)
    first = begin(told(*models), "--share-file", str(file))
    until_ready(first)
    before = first.models()
    first.end(signal.SIGKILL)
    (tmp_path / "store").rename(tmp_path / "gone")
    again = begin(told(*models), "--share-file", str(file))
    until_ready(again)
    assert again.models() == before
    again.end(signal.SIGKILL)
    (again.state / "cache" / hex_of(models[1].file)).unlink()
    third = begin(told(*models), "--share-file", str(file))
    until_ready(third)
    entry = third.models()["digits"]
    assert (entry["version"], entry["ready"], entry["canary"]) == (7, True, None)
    assert entry["failure"]
