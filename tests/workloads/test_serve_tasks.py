"""What the server tells about pictures, held against what Ultralytics predicts with the same file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from specs.kept_records import KeptRecord
from specs.modelspec import Task
from tests.support import onnx_models, untrained
from tests.support.inference_server import ServerProcess, running, samples, wait_until
from tests.support.untrained import SIDE, Untrained
from workloads.preprocess import decode, preprocess
from workloads.serve import results
from workloads.serve.query import Query

pytestmark = pytest.mark.ml


class Make(Protocol):
    """What exports a model."""

    def __call__(self, task: Task, *, finished: bool) -> Untrained:
        """Give a model of a task, with finished rows or raw anchors."""


BOX = 0.01
"""Pixels that a side or a key point may be off."""
SCORE = 1e-5
LAYOUTS = [pytest.param(True, id="finished"), pytest.param(False, id="raw")]


def scene(height: int, width: int, seed: int = 0) -> Image.Image:
    """Draw something with edges, colours and noise in it, the same each time."""
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(0, 90, (height, width, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = sorted(rng.integers(0, width, 2).tolist()), sorted(rng.integers(0, height, 2).tolist())
        draw.rectangle((x[0], y[0], x[1], y[1]), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def _deep(picture: Image.Image) -> Image.Image:
    """Give a grey picture of 16 bits."""
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257 - 3)


def _turned() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


PICTURES: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
    "odd.png": ("PNG", scene(91, 133), {}),
    "tall.png": ("PNG", scene(201, 47, 1), {}),
    "tiny.png": ("PNG", scene(7, 9, 2), {}),
    "large.jpg": ("JPEG", scene(301, 517, 3), {"quality": 83}),
    "grey.png": ("PNG", scene(90, 130, 4).convert("L"), {}),
    "clear.png": ("PNG", scene(77, 77, 5).convert("RGBA"), {}),
    "palette.png": ("PNG", scene(80, 120, 6).quantize(64), {}),
    "turned.jpg": ("JPEG", scene(60, 110, 7), _turned()),
    "deep.png": ("PNG", _deep(scene(64, 96, 8)), {}),
    "print.jpg": ("JPEG", scene(70, 99, 9).convert("CMYK"), {}),
}  # fmt: skip


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a picture of each kind."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, (kind, picture, options) in PICTURES.items():
        picture.save(folder / name, kind, **options)
    return folder


def inputs(folder: Path) -> NDArray[np.float32]:
    """Give all pictures of a folder as a detector sees them."""
    files = [(folder / name).read_bytes() for name in PICTURES]
    return np.concatenate([preprocess(decode(data), "detect", (SIDE, SIDE)) for data in files])


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Make:
    """Give what exports a model, once for all tests."""
    folder, usual = tmp_path_factory.mktemp("exports"), inputs(pictures)

    @cache
    def make(task: Task, *, finished: bool) -> Untrained:
        return untrained.export(folder / f"{task}-{finished}", task, finished=finished, usual=usual)

    return make


def told(model: Untrained, picture: Path, query: Query | None = None) -> list[dict[str, Any]]:
    """Give what the server tells about a picture."""
    pixels = decode(picture.read_bytes())
    outputs = model.run(preprocess(pixels, model.task, (SIDE, SIDE)))
    return results.read(model.artifact, outputs, pixels.shape[:2], query or Query())[0]


def both(model: Untrained, picture: Path, **query: Any) -> tuple[list[dict[str, Any]], Any, list[int]]:
    """Give what the server tells, Ultralytics' results, and for each thing told its index there.

    Both must find the same things, with the same classes and scores.
    """
    said = Query(**{"confidence": 0.05, **query})
    options = {"conf": said.confidence, "iou": said.overlap, "max_det": said.most}
    there = model.predict(picture, **options, retina_masks=said.masks == "rle")
    here, found = told(model, picture, said), there.obb if model.task == "obb" else there.boxes
    assert len(here) == len(found) > 0
    scores, kinds = found.conf.numpy(), found.cls.numpy()
    order = []
    for each in here:
        apart = np.where(kinds == each["class"], np.abs(scores - each["confidence"]), 1)
        order.append(int(apart.argmin()))
        assert apart.min() < SCORE
        assert each["name"] == there.names[each["class"]]
    assert sorted(order) == list(range(len(here)))
    return here, there, order


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("task", ["classify", "detect"])
def test_a_file_becomes_the_same_tensor(exported: Make, pictures: Path, task: Task, name: str) -> None:
    """Every kind of picture file is decoded, turned, resized and scaled as by Ultralytics: no difference at all."""
    model = exported(task, finished=task == "classify")
    seen, pixels = model.predict(pictures / name).orig_img, decode((pictures / name).read_bytes())
    np.testing.assert_array_equal(pixels, seen[..., ::-1])
    np.testing.assert_array_equal(preprocess(pixels, task, (SIDE, SIDE)), model.tensor(seen))


@pytest.mark.parametrize("name", ["odd.png", "print.jpg"])
def test_classes(exported: Make, pictures: Path, name: str) -> None:
    """The five likeliest classes are Ultralytics' top five, with its confidences."""
    model = exported("classify", finished=True)
    there = model.predict(pictures / name).probs
    here = told(model, pictures / name)
    assert [each["class"] for each in here] == there.top5
    np.testing.assert_allclose([each["confidence"] for each in here], there.top5conf.numpy(), atol=SCORE)


@pytest.mark.parametrize("name", ["odd.png", "tall.png", "tiny.png", "large.jpg", "turned.jpg"])
def test_boxes(exported: Make, pictures: Path, name: str) -> None:
    """Boxes, classes and scores of raw anchors are Ultralytics' own; finished rows are looked at with key points."""
    here, there, order = both(exported("detect", finished=False), pictures / name)
    given = np.array([list(each["box"].values()) for each in here])
    np.testing.assert_allclose(given, there.boxes.xyxy.numpy()[order], atol=BOX)


@pytest.mark.parametrize("name", ["odd.png", "large.jpg", "turned.jpg"])
def test_key_points(exported: Make, pictures: Path, name: str) -> None:
    """Key points lie in the picture where Ultralytics has them, each with how visible it is."""
    here, there, order = both(exported("pose", finished=True), pictures / name)
    given = np.array([[each["keypoints"][axis] for axis in ("x", "y", "visible")] for each in here])
    np.testing.assert_allclose(given.transpose(0, 2, 1), there.keypoints.data.numpy()[order], atol=BOX)
    np.testing.assert_allclose(
        [list(each["box"].values()) for each in here], there.boxes.xyxy.numpy()[order], atol=BOX
    )  # fmt: skip


@pytest.mark.parametrize("name", ["odd.png", "large.jpg"])
@pytest.mark.parametrize("finished", LAYOUTS)
def test_rotated_boxes(exported: Make, pictures: Path, finished: bool, name: str) -> None:  # noqa: FBT001 - a case
    """Centre, size, angle and corners of rotated boxes are Ultralytics' own, suppression included."""
    here, there, order = both(exported("obb", finished=finished), pictures / name)
    given = np.array([list(each["rotated"].values()) for each in here])
    np.testing.assert_allclose(given, there.obb.xywhr.numpy()[order], atol=BOX)
    corners = np.array([list(each["box"].values()) for each in here]).reshape(-1, 4, 2)
    np.testing.assert_allclose(corners, there.obb.xyxyxyxy.numpy()[order], atol=BOX)


FINE = 4
"""How much larger than the picture outlines are filled."""


def filled(outline: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Give what is within an outline."""
    canvas = Image.new("1", (size[1] * FINE, size[0] * FINE))
    if len(outline) > 1:
        ImageDraw.Draw(canvas).polygon([(x * FINE, y * FINE) for x, y in outline.tolist()], fill=1, outline=1)
    return np.asarray(canvas)


def pieces(mask: NDArray[np.uint8]) -> int:
    """Tell of how many parts a mask is."""
    import cv2

    return len(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0])


@pytest.mark.parametrize("name", ["large.jpg", "turned.jpg"])
@pytest.mark.parametrize("finished", LAYOUTS)
def test_outlines_of_masks(exported: Make, pictures: Path, finished: bool, name: str) -> None:  # noqa: FBT001 - a case
    """Polygons are Ultralytics' own: point by point where a mask is in one piece, else in what they enclose."""
    here, there, order = both(exported("segment", finished=finished), pictures / name)
    whole = 0
    for each, index in zip(here, order, strict=True):
        given, wanted = np.stack(list(each["segments"].values()), axis=1), there.masks.xy[index]
        if pieces(there.masks.data[index].byte().numpy()) == 1:
            np.testing.assert_allclose(given, wanted, atol=BOX)
            whole += 1
        else:
            one, other = (filled(outline, there.orig_shape) for outline in (given, wanted))
            assert (one ^ other).sum() <= 0.01 * (one | other).sum() + 4 * FINE**2
    assert 0 < whole < len(here)


def drawn(mask: dict[str, Any]) -> NDArray[np.bool_]:
    """Give the pixels of run lengths, as COCO counts them."""
    height, width = mask["size"]
    bits = np.repeat(np.arange(len(mask["counts"])) % 2 == 1, mask["counts"])
    return bits.reshape(width, height).T


@pytest.mark.parametrize("name", ["odd.png", "tall.png", "large.jpg", "deep.png"])
@pytest.mark.parametrize("finished", LAYOUTS)
def test_run_lengths(exported: Make, pictures: Path, finished: bool, name: str) -> None:  # noqa: FBT001 - a case
    """Run lengths, drawn in the picture's own pixels, are the masks that Ultralytics calls ``retina``, to the pixel."""
    here, there, order = both(exported("segment", finished=finished), pictures / name, masks="rle")
    assert not any("segments" in each for each in here)
    for each, index in zip(here, order, strict=True):
        given, wanted = drawn(each["mask"]), there.masks.data[index].bool().numpy()
        assert (given ^ wanted).sum() <= 1e-3 * wanted.sum() + 1  # sums that are as good as 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, exported: Make) -> Iterator[ServerProcess]:
    """Give a server with a model of each task, named after it."""
    with running(tmp_path_factory.mktemp("serve")) as server:
        for task in ("segment", "pose", "obb"):
            model = exported(task, finished=task == "pose")
            published = onnx_models.publish(
                server.store, model.path.read_bytes(), task=task, side=SIDE,
                changes={"names": model.artifact.names, "kpt_shape": model.artifact.kpt_shape},
            )  # fmt: skip
            options = {"labelling": {"randomPercent": 100}}
            assert server.load(task, {**published.target(), "options": options}).status_code == 200
        yield server


def alike(one: Any, other: Any) -> bool:
    """Whether two answers are the same but for the rounding of another thread count."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other or (isinstance(one, float) and abs(one - other) < BOX)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_over_http(server: ServerProcess, exported: Make, pictures: Path, task: Task) -> None:
    """An upload is answered in the form that its task has; options travel in the query, and wrong ones are refused."""
    model, picture = exported(task, finished=task == "pose"), pictures / "odd.png"
    page, headers = f"/models/{task}/predict", {"Content-Type": "image/png"}
    options = {"conf": "0.3", "iou": "0.5", "max_det": "9"} | ({"masks": "rle"} if task == "segment" else {})
    answer = server.http.post(page, params=options, headers=headers, content=picture.read_bytes())
    assert answer.status_code == 200, answer.text
    wanted = told(model, picture, Query(0.3, 0.5, 9, "rle" if task == "segment" else None))
    assert alike(answer.json()["results"], wanted)
    odd = {"masks": "polygon"} if task != "segment" else {"masks": "png"}
    refused = server.http.post(page, params=odd, headers=headers, content=picture.read_bytes())
    assert (refused.status_code, "masks" in refused.json()["error"]) == (400, True)
    assert samples(server)["trunkline_detections_count", task, "1"] == 1


def kept(server: ServerProcess, task: Task, request: str) -> list[KeptRecord]:
    """Give what was kept of a request."""
    records = [KeptRecord.decode(file.read_bytes()) for file in server.store_path.glob(f"kept/{task}/*/*.json")]
    return [record for record in records if record.request == request]


@pytest.mark.parametrize(("task", "status"), [("segment", 200), ("pose", 200), ("obb", 400)])
def test_the_truth_about_objects(server: ServerProcess, pictures: Path, task: Task, status: int) -> None:
    """Boxes tell the truth about masks and poses, too; about rotated boxes they cannot, and that is said."""
    headers = {"Content-Type": "image/png", "Trunkline-Request": f"of-{task}"}
    answer = server.http.post(f"/models/{task}/predict", headers=headers, content=(pictures / "odd.png").read_bytes())
    best = answer.json()["results"][0]
    truth = {"request": f"of-{task}", "boxes": [{"class": best["class"], "box": best["box"]}]}
    if task == "obb":
        truth["boxes"] = []
        wait_until(lambda: kept(server, task, f"of-{task}"))  # what is known of it
    verdict = server.http.post(f"/models/{task}/truth", json=truth)
    assert verdict.status_code == status, verdict.text
    if status == 200:
        assert (verdict.json()["right"], verdict.json()["counted"]) == (1, True)
    else:
        assert "rotated boxes" in verdict.json()["error"]


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_kept_pictures_say_where_objects_are(server: ServerProcess, pictures: Path, task: Task) -> None:
    """A picture that is kept for people comes with the boxes of all that was found in it."""
    headers = {"Content-Type": "image/png", "Trunkline-Request": f"kept-{task}"}
    answer = server.http.post(f"/models/{task}/predict", headers=headers, content=(pictures / "odd.png").read_bytes())
    wait_until(lambda: kept(server, task, f"kept-{task}"))
    boxes = [each["box"] for each in kept(server, task, f"kept-{task}")[0].predictions]
    assert [each["box"] for each in answer.json()["results"]] == boxes


@pytest.mark.parametrize("task", ["detect", "obb"])
@pytest.mark.parametrize(("overlap", "most"), [(0.2, 300), (0.9, 300), (0.45, 7)])
def test_what_clients_ask_for(exported: Make, pictures: Path, task: Task, overlap: float, most: int) -> None:
    """``iou`` and ``max_det`` mean what they mean to Ultralytics, and change nothing in what is counted."""
    model = exported(task, finished=False)
    here, _, _ = both(model, pictures / "odd.png", overlap=overlap, most=most)
    usual, _, _ = both(model, pictures / "odd.png")
    assert len(here) == most or len(here) != len(usual)
