"""What people said about the random share reaches the server that had answered, each once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import onnx_models
from tests.support.inference_server import publish, running, samples, wait_until
from tests.support.rest_server import Asked, Refused, RestServer, serving
from tests.support.to_label import Kind, Shelf
from tests.support.typed import said


class Told(RestServer):
    """A model server, as far as truths go: it counts each request that it knows once."""

    def __init__(self) -> None:
        super().__init__()
        self.truths: dict[str, Any] = {}
        self.unknown: set[str] = set()

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Take one truth."""
        assert (asked.verb, asked.path) == ("POST", "/models/shapes/truth")
        request = asked.json.pop("request")
        if request in self.unknown:
            raise Refused(404, {"error": f"nothing is known of request {request}"})
        counted = request not in self.truths
        self.truths.setdefault(request, asked.json)
        return 200, {"request": request, "counted": counted}


@pytest.fixture
def server() -> Iterator[Told]:
    """Give a server that remembers everything."""
    with serving(Told()) as told:
        yield told


def labelled(folder: Path, task: Kind, **why: Any) -> Shelf:
    """Give a place where pictures were kept for reasons, and people are done with all of them."""
    folder.mkdir(exist_ok=True)
    shelf = Shelf(folder, task)
    for request, reason in why.items():
        shelf.keep(request, why=reason)
    shelf.labels("export", "shapes")
    queue = shelf.folder / "labels/shapes"
    kind = "green" if task == "classify" else "images"
    (queue / "done" / kind).mkdir(exist_ok=True)
    for path in list(queue.glob("todo/*/*.png")):
        path.rename(queue / "done" / kind / path.name)
    return shelf


def test_only_the_random_share_is_told_and_once(server: Told, tmp_path: Path) -> None:
    """Other pictures were chosen because the model was weak there; they say nothing about all traffic."""
    shelf = labelled(tmp_path, "classify", one=["random"], two=["uncertain"], three=["random", "uncertain"])
    told = shelf.labels("import", "shapes", "--server", server.url)
    assert server.truths == {"one": {"label": "green"}, "three": {"label": "green"}}
    assert told["truths"] == {"counted": 2, "refused": 0, "waiting": 0, "why": ""}
    asked = len(server.asked)
    assert shelf.labels("import", "shapes", "--server", server.url)["truths"]["counted"] == 0
    assert len(server.asked) == asked


def test_boxes_are_told_in_pixels(server: Told, tmp_path: Path) -> None:
    """The server counts in pixels of the upright picture; what people see is in parts of it."""
    shelf = labelled(tmp_path, "detect", one=["random"])
    shelf.labels("import", "shapes", "--server", server.url)
    assert server.truths == {"one": {"boxes": [{"name": "red", "box": {"x1": 8, "y1": 4, "x2": 24, "y2": 20}}]}}


def test_a_server_that_is_down_is_told_later(server: Told, tmp_path: Path) -> None:
    """The pictures are learnt from all the same, and the next import tells; without a server that is said."""
    shelf = labelled(tmp_path, "classify", one=["random"], two=["random"])
    assert "name one with --server URL" in said(shelf.folder, "labels", "import", "shapes")
    assert shelf.newest()[1].images == 8
    server.fate = lambda _: 503
    told = shelf.labels("import", "shapes", "--server", server.url)["truths"]
    assert (told["counted"], told["waiting"]) == (0, 2)
    assert "503" in told["why"] or "cannot be told now" in told["why"]
    server.fate = lambda asked: "lose" if asked.json["request"] == "two" else None
    told = shelf.labels("import", "shapes", "--server", server.url)["truths"]
    assert told["waiting"] >= 1
    server.fate = lambda _: None
    shelf.labels("import", "shapes", "--server", server.url)
    assert server.truths == {"one": {"label": "green"}, "two": {"label": "green"}}
    asked = len(server.asked)
    assert shelf.labels("import", "shapes", "--server", server.url)["truths"]["waiting"] == 0
    assert len(server.asked) == asked


def test_what_a_server_forgot_is_not_told_for_ever(server: Told, tmp_path: Path) -> None:
    """A request that it does not know any more is refused once, said, and left alone."""
    shelf = labelled(tmp_path, "classify", one=["random"], two=["random"])
    server.unknown = {"one"}
    text = said(shelf.folder, "labels", "import", "shapes", "--server", server.url)
    assert "told the truth about 1 request of the random share; it could not use 1" in text
    asked = len(server.asked)
    shelf.labels("import", "shapes", "--server", server.url)
    assert len(server.asked) == asked


def test_what_a_real_server_kept_is_labelled_and_told_to_it(tmp_path: Path) -> None:
    """A live request's picture goes to people and into the data set; its truth counts for the version that answered."""
    shelf = Shelf(tmp_path, "classify")
    with running(tmp_path) as server:  # its store is the place's
        target = publish(server, 1).target(3) | {"options": {"labelling": {"randomPercent": 100.0}}}
        assert server.load("shapes", target).status_code == 200
        headers = {"Content-Type": "image/png", "Trunkline-Request": "belt-7"}
        picture = onnx_models.picture(1)
        assert server.http.post("/models/shapes/predict", content=picture, headers=headers).status_code == 200
        wait_until(lambda: any(key.endswith(".json") for key in server.store.list("kept/")))
        (id_,) = shelf.labels("export", "shapes")["exported"]
        (found,) = (shelf.folder / "labels/shapes/todo").glob(f"*/{id_}.png")
        assert found.read_bytes() == picture
        found.rename(shelf.folder / "labels/shapes/done/green" / found.name)
        told = shelf.labels("import", "shapes", "--server", server.url)
        assert (told["dataset"]["added"], told["truths"]["counted"]) == ([id_], 1)
        assert samples(server)["trunkline_truth_total", "shapes", "wrong", "3"] == 1
