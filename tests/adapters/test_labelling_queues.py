"""The three labelling queues: whatever is killed, lost or done twice, each picture is there, and comes back, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from adapters.labelling_cvat import CvatQueue
from adapters.labelling_folder import FolderQueue
from adapters.labelling_http import LabellingAccess
from adapters.labelling_labelstudio import LabelStudioQueue
from specs.errors import Stalled, Transient, TrunklineError
from specs.label_records import AskedRecord
from tests.support import cvat_server, labelstudio_server
from tests.support.cvat_server import Cvat
from tests.support.labelstudio_server import LabelStudio, choice, rectangle
from tests.support.rest_server import Asked, RestServer, serving
from tests.support.to_label import Kind, question

NAMES = ["green", "red"]
HALF = {"x": 25.0, "y": 25.0, "width": 50.0, "height": 50.0}


class Bench(Protocol):
    """A queue with people at it."""

    queue: Any
    service: RestServer | None

    def ids(self) -> list[str]:
        """Give the ids of all pictures that are there, as often as they are."""

    def guesses(self, id_: str) -> list[str]:
        """Give the classes that people see as the model's guess."""

    def say(self, id_: str, *names: str) -> None:
        """Say as a person what is in a picture (for boxes: in its middle), and that it is done."""


class FolderBench:
    service = None

    def __init__(self, task: Kind, folder: Path) -> None:
        self.task, self.folder = task, folder
        self.queue = FolderQueue(folder, "shapes", task)

    def ids(self) -> list[str]:
        return sorted(path.stem for path in self.folder.rglob("*.png"))

    def guesses(self, id_: str) -> list[str]:
        if self.task == "classify":
            return [path.parent.name for path in self.folder.glob(f"todo/*/{id_}.png")]
        lines = (self.folder / f"todo/labels/{id_}.txt").read_text().splitlines()
        return [NAMES[int(line.split()[0])] for line in lines]

    def say(self, id_: str, *names: str) -> None:
        (found,) = (self.folder / "todo").glob(f"*/{id_}.png")
        kind = "images"
        if self.task == "classify":
            (kind,) = names
        else:
            lines = "".join(f"{NAMES.index(name)} 0.5 0.5 0.5 0.5\n" for name in names)
            (self.folder / f"done/labels/{id_}.txt").write_text(lines)
        (self.folder / "done" / kind).mkdir(exist_ok=True)
        found.rename(self.folder / "done" / kind / found.name)


class StudioBench:
    def __init__(self, task: Kind, service: LabelStudio, access: LabellingAccess) -> None:
        self.task, self.service = task, service
        self.queue = LabelStudioQueue(service.url, "shelf pictures", "shapes", task, access)

    def ids(self) -> list[str]:
        return sorted(task["data"]["trunkline"] for task in self.service.tasks.values())

    def guesses(self, id_: str) -> list[str]:
        task = next(each for each in self.service.tasks.values() if each["data"]["trunkline"] == id_)
        kind = "choices" if self.task == "classify" else "rectanglelabels"
        return [name for each in task["predictions"] for one in each["result"] for name in one["value"][kind]]

    def say(self, id_: str, *names: str) -> None:
        if self.task == "classify":
            self.service.work(id_, choice(*names))
        else:
            self.service.work(id_, *(rectangle(name, 25, 25, 50, 50) for name in names))


class CvatBench:
    def __init__(self, task: Kind, service: Cvat, access: LabellingAccess) -> None:
        self.task, self.service = task, service
        self.queue = CvatQueue(service.url, "shelf pictures", "shapes", task, access)

    def ids(self) -> list[str]:
        frames = [each["name"] for task in self.service.tasks.values() for each in task["frames"]]
        return sorted(name.removesuffix(".png") for name in frames)

    def guesses(self, id_: str) -> list[str]:
        task, number = self.service.frame(id_)
        told = [*task["annotations"]["tags"], *task["annotations"]["shapes"]]
        return [self.service.labels[each["label_id"]]["name"] for each in told if each["frame"] == number]

    def say(self, id_: str, *names: str) -> None:
        self.service.draw(id_, *names, points=(8, 8, 24, 24))
        self.service.complete(id_)


def access(service: RestServer, folder: Path, secret: str = "") -> LabellingAccess:
    """Let us in."""
    known = labelstudio_server.LEGACY if isinstance(service, LabelStudio) else cvat_server.TOKEN
    (folder / "token").write_text(f"{secret or known}\n")
    return LabellingAccess((service.url.removeprefix("http://"),), folder / "token")


Make = Callable[[Kind], Bench]


@pytest.fixture(params=["folder", "label studio", "cvat"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Give a maker of one kind of queue for a task."""
    if request.param == "folder":
        yield lambda task: FolderBench(task, tmp_path / "queue")
    elif request.param == "label studio":
        with serving(LabelStudio()) as studio:
            yield lambda task: StudioBench(task, studio, access(studio, tmp_path))
    else:
        with serving(Cvat()) as cvat:
            yield lambda task: CvatBench(task, cvat, access(cvat, tmp_path))


def questions(task: Kind, *requests: str, **more: Any) -> tuple[list[AskedRecord], dict[str, bytes]]:
    """Give what people are asked, and the pictures by digest."""
    both = [question(task, request, **more) for request in requests]
    return [record for record, _ in both], {record.picture: picture for record, picture in both}


def send(made: Bench, asked: Sequence[AskedRecord], pictures: dict[str, bytes]) -> int:
    """Send; give how many ticks there were."""
    ticks: list[None] = []
    made.queue.send(asked, NAMES, lambda record: pictures[record.picture], lambda: ticks.append(None))
    return len(ticks)


def said(made: Bench, asked: Sequence[AskedRecord]) -> tuple[dict[str, list[str]], list[str]]:
    """Give what people are done with: classes by id, and problems."""
    answers, problems = made.queue.finished({record.id: record for record in asked})
    return {each.id: [thing.name for thing in each.things] for each in answers}, problems


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_pictures_go_with_guesses_and_come_back_with_the_truth(bench: Make, task: Kind) -> None:
    """What the model thought is where people work; what they are done with comes back, and nothing else."""
    made = bench(task)
    asked, pictures = questions(task, "a", "b", "c")
    assert send(made, asked, pictures) == 3
    assert made.ids() == sorted(each.id for each in asked)
    assert made.guesses(asked[0].id) == ["red"]
    assert said(made, asked) == ({}, [])
    made.say(asked[0].id, "green")
    made.say(asked[1].id, *([] if task == "detect" else ["red"]))
    if isinstance(made, CvatBench):  # its jobs are completed as a whole
        made.service.complete(asked[2].id, state="in progress")
        assert said(made, asked) == ({}, [])
        made.service.draw(asked[2].id, "red")
        made.service.complete(asked[2].id)
        assert said(made, asked)[0].pop(asked[2].id) == ["red"]
    found, problems = said(made, asked[:2])
    assert found == {asked[0].id: ["green"], asked[1].id: [] if task == "detect" else ["red"]}
    assert problems == []
    if task == "detect":
        answers, _ = made.queue.finished({asked[0].id: asked[0]})
        assert answers[0].things[0].box.corners == pytest.approx((0.25, 0.25, 0.75, 0.75))


def test_what_is_there_is_not_sent_again(bench: Make) -> None:
    """Twice is once, in whatever state a picture is; what is new comes along."""
    made = bench("classify")
    asked, pictures = questions("classify", "a", "b", "c")
    send(made, asked[:2], pictures)
    made.say(asked[0].id, "green")
    before = len(made.service.effects) if made.service else 0
    assert send(made, asked[:2], pictures) == 2
    assert made.service is None or len(made.service.effects) == before
    assert send(made, asked, pictures) == 3
    assert made.ids() == sorted(each.id for each in asked)
    assert said(made, asked)[0][asked[0].id] == ["green"]


@pytest.mark.parametrize("fate", ["refuse", "lose"])
@pytest.mark.parametrize("kind", ["label studio", "cvat"])
def test_killed_at_any_request_and_sent_again(kind: str, fate: Any, tmp_path: Path) -> None:
    """Each request that changes something fails before or after it was done: the next export leaves everything once."""
    for at in range(20):
        with serving(LabelStudio() if kind == "label studio" else Cvat()) as service:
            made: Bench = (
                StudioBench("detect", service, access(service, tmp_path)) if isinstance(service, LabelStudio)
                else CvatBench("detect", service, access(service, tmp_path))
            )  # fmt: skip
            asked, pictures = questions("detect", "a", "b")

            def dying(request: Asked, service: RestServer = service, at: int = at) -> Any:
                return fate if request.verb != "GET" and len(service.effects) == at + 1 else None

            service.fate = dying
            try:
                send(made, asked, pictures)
            except TrunklineError as error:
                assert isinstance(error, Transient), error  # noqa: PT017
                service.fate = lambda _: None
                send(made, asked, pictures)
            assert made.ids() == sorted(each.id for each in asked), at
            assert [made.guesses(each.id) for each in asked] == [["red"], ["red"]], at
            assert len(getattr(service, "projects")) == 1, at  # noqa: B009
            if len(service.effects) <= at:
                return
    pytest.fail("it never ended")


@pytest.mark.parametrize("kind", ["folder", "label studio", "cvat"])
def test_two_send_at_once(kind: str, tmp_path: Path) -> None:
    """Both have looked before either of them put anything there: each picture is there once in the end."""
    service: RestServer = Cvat() if kind == "cvat" else LabelStudio()
    both = threading.Barrier(2)
    met = threading.local()

    def before(request: Asked) -> None:
        if request.verb == "POST" and not getattr(met, "once", False) and not both.broken:
            met.once = True  # each connection has a thread of its own
            try:
                both.wait(20)
            except threading.BrokenBarrierError:
                pytest.fail("they did not meet")

    with serving(service):
        service.before = before
        made = {
            "folder": lambda: FolderBench("detect", tmp_path / "queue"),
            "label studio": lambda: StudioBench("detect", service, access(service, tmp_path)),  # type: ignore[arg-type]
            "cvat": lambda: CvatBench("detect", service, access(service, tmp_path)),  # type: ignore[arg-type]
        }[kind]
        benches: list[Bench] = [made(), made()]
        asked, pictures = questions("detect", "a", "b", "c")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: send(benches[one], asked[one:], pictures), range(2)))
        service.before = lambda _: None
        send(benches[0], asked, pictures)
        assert benches[0].ids() == sorted(each.id for each in asked)
        assert all(benches[0].guesses(each.id) == ["red"] for each in asked)


def test_a_task_that_somebody_removes_meanwhile_is_made_again(tmp_path: Path) -> None:
    """Between two looks a task can vanish, as where two export at once: its pictures are put there anew."""
    with serving(Cvat()) as cvat:
        made = CvatBench("detect", cvat, access(cvat, tmp_path))
        asked, pictures = questions("detect", "a", "b")

        def remove(request: Asked) -> None:
            if request.path.endswith("/annotations/"):
                cvat.before = lambda _: None
                cvat.tasks.clear()

        cvat.before = remove
        assert send(made, asked, pictures) == 2
        assert made.ids() == sorted(each.id for each in asked)
        assert all(made.guesses(each.id) == ["red"] for each in asked)


def test_an_answer_that_no_data_set_has_a_place_for_is_told(bench: Make) -> None:
    """A turned box, several classes, none at all: a sentence names the picture, and the others come back."""
    made = bench("detect")
    asked, pictures = questions("detect", "a", "b")
    send(made, asked, pictures)
    made.say(asked[1].id, "green")
    if isinstance(made, StudioBench):
        made.service.work(asked[0].id, rectangle("red", 1, 1, 5, 5, rotation=30))
    elif isinstance(made, CvatBench):
        made.service.draw(asked[0].id, "red", rotation=30.0)
    else:
        made.say(asked[0].id)
        (made.folder / f"done/labels/{asked[0].id}.txt").write_text("1 2 3 4 5\n")  # type: ignore[attr-defined]
    found, problems = said(made, asked)
    assert found == {asked[1].id: ["green"]}
    assert len(problems) == 1
    assert made.service is None or "upright" in problems[0]


def test_skipped_and_corrected(tmp_path: Path) -> None:
    """In Label Studio what was skipped is not done, and of two annotations the one that was changed last counts."""
    with serving(LabelStudio(asynchronous=True)) as studio:
        made = StudioBench("classify", studio, access(studio, tmp_path, labelstudio_server.PERSONAL))
        asked, pictures = questions("classify", "a", "b")
        send(made, asked, pictures)
        studio.work(asked[0].id, choice("red"), cancelled=True)
        studio.work(asked[1].id, choice("green"), when="2026-11-26T13:00:00Z")
        studio.work(asked[1].id, choice("red"), when="2026-11-26T12:00:00Z")
        assert said(made, asked) == ({asked[1].id: ["green"]}, [])
        studio.work(asked[0].id, choice("red", "green"))
        assert "2 classes are chosen" in said(made, asked)[1][0]
        assert studio.authorized == {"", f"Bearer {labelstudio_server.ACCESS}"}


def test_projects_of_people_are_used_as_they_are(tmp_path: Path) -> None:
    """An interface with names and keys of its own fits; one without boxes is refused with what is missing."""
    with serving(LabelStudio()) as studio:
        config = (
            '<View><Image name="photo" value="$picture"/><RectangleLabels name="things" toName="photo">'
            '<Label value="red"/></RectangleLabels></View>'
        )
        made = StudioBench("detect", studio, access(studio, tmp_path))
        asked, pictures = questions("detect", "a")
        project = {"id": 7, "title": "shelf pictures", "parsed_label_config": labelstudio_server.parsed(config)}
        studio.projects[7] = project
        send(made, asked, pictures)
        (task,) = studio.tasks.values()
        assert task["data"]["picture"].startswith(f"/data/upload/{project['id']}/")
        assert task["predictions"][0]["result"][0]["from_name"] == "things"
        assert task["predictions"][0]["score"] == 0.4
        studio.projects[project["id"]]["parsed_label_config"] = {}
        with pytest.raises(Stalled, match="no RectangleLabels"):
            send(made, asked, pictures)


def test_pages_are_turned(tmp_path: Path) -> None:
    """More pictures than fit on one page are all found again."""
    with serving(LabelStudio()) as studio:
        made = StudioBench("classify", studio, access(studio, tmp_path))
        asked, pictures = questions("classify", *(str(number) for number in range(130)))
        send(made, asked, pictures)
        before = len(studio.effects)
        send(made, asked, pictures)
        assert len(studio.effects) == before
        assert len(made.ids()) == 130


@pytest.mark.parametrize("kind", ["label studio", "cvat"])
def test_tokens_go_to_listed_hosts_only_and_into_no_error(kind: str, tmp_path: Path) -> None:
    """A host that settings do not list is never spoken to; a refusal that quotes the token is told without it."""
    service: RestServer = LabelStudio() if kind == "label studio" else Cvat()
    maker: Any = StudioBench if kind == "label studio" else CvatBench
    asked, pictures = questions("classify", "a")
    with serving(service):
        with pytest.raises(Stalled, match=r"hosts of \[labelling\]"):
            maker("classify", service, LabellingAccess(("labels.example.com",), tmp_path / "token"))
        assert service.asked == []
        made = maker("classify", service, access(service, tmp_path, "hush-hush"))
        with pytest.raises(Stalled) as refused:
            send(made, asked, pictures)
        assert refused.value.reason == "LabellingUnauthorized"
        assert "hush" not in refused.value.message
        made = maker("classify", service, access(service, tmp_path))
        service.fate = lambda _: 503
        with pytest.raises(Transient, match="503"):
            send(made, asked, pictures)
    with pytest.raises(Transient) as away:
        send(made, asked, pictures)
    assert away.value.reason == "LabellingUnavailable"


def test_ways_in_to_cvat(tmp_path: Path) -> None:
    """An old token, a personal one, and a user with a password."""
    with serving(Cvat()) as cvat:
        for secret in (cvat_server.TOKEN, cvat_server.PERSONAL, "ann:hush"):
            made = CvatBench("classify", cvat, access(cvat, tmp_path, secret))
            with pytest.raises(Stalled) as missing:
                said(made, [])
            assert missing.value.reason == "QueueMissing"
        assert {each.partition(" ")[0] for each in cvat.authorized} == {"Token", "Bearer", "Basic"}


def test_numbers_in_a_folder_keep_their_meaning(tmp_path: Path) -> None:
    """Classes that come later are added at the end of classes.txt, also where a person added one before."""
    made = FolderBench("detect", tmp_path / "queue")
    asked, pictures = questions("detect", "a", "b")
    send(made, asked[:1], pictures)
    classes = tmp_path / "queue/classes.txt"
    classes.write_text(classes.read_text() + "blue\n")
    made.queue.send(asked, ["black", "green", "red"], lambda record: pictures[record.picture], lambda: None)
    assert classes.read_text().split() == ["green", "red", "blue", "black"]
    assert (tmp_path / f"queue/todo/labels/{asked[1].id}.txt").read_text().startswith("1 ")
    assert "classes.txt decides" in (tmp_path / "queue/data.yaml").read_text()
    assert "move" in (tmp_path / "queue/README.txt").read_text().lower()


def test_names_that_are_no_folders_are_no_paths(tmp_path: Path) -> None:
    """A class that is called like a path puts nothing outside of the queue."""
    made = FolderBench("classify", tmp_path / "queue")
    asked, pictures = questions("classify", "a", predictions=[{"name": "../../x", "confidence": 0.3}])
    made.queue.send(asked, ["../../x"], lambda record: pictures[record.picture], lambda: None)
    assert [path.parent.name for path in tmp_path.rglob("*.png")] == ["unsorted"]
