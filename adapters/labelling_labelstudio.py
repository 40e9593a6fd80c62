"""A labelling queue in Label Studio: a project, a task for each picture, predictions as pre-labels. By its REST API.

Our tasks carry our id in their data, and are found by it again, so that nothing has to be remembered about them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from adapters.labelling_http import LabellingAccess, Missing, Read, Service, Tick, await_end, chunks
from specs.errors import Stalled, Transient
from specs.label_records import Answer, AskedRecord, Thing, box_between
from specs.modelspec import Task

ID = "trunkline"
"""Of the data of a task of ours: names the picture."""
_CONTROL = {"classify": "Choices", "detect": "RectangleLabels"}
_BATCH = 50
"""Tasks that are made in one request."""
_PAGE = 100
_ACCESS_SECONDS = 60.0
"""For which an access token is used; it holds for some minutes."""


class LabelStudioQueue:
    """The project named ``project`` of the Label Studio at ``url``. Errors as ``labelling_http.Service`` has them."""

    def __init__(self, url: str, project: str, model: str, task: Task, access: LabellingAccess) -> None:
        self.place = self.recorded = f"project {project} of {url}"
        self._project, self._model, self._task = project, model, task
        self._access_token: tuple[float, str] | None = None
        self._asking = threading.Lock()
        self._service = Service(url, access, self._who)

    def send(self, asked: Sequence[AskedRecord], names: Sequence[str], read: Read, tick: Tick) -> None:
        """Make tasks for pictures that have none, in the order in which people should see them; ``tick`` after each.

        Whoever does the same at once may make a task twice; both then see that and remove what is too much.
        """
        project = self._found() or self._made(names)
        control, target, image, labels = self._control(project)
        there = {each["data"][ID] for each in self._tasks(project["id"])}
        for part in chunks(asked, _BATCH):
            tasks = []
            for record in part:
                if record.id not in there:
                    place = self._upload(project["id"], record, read(record))
                    tasks.append(_task(record, place, (control, target, image), labels))
                tick()
            if tasks:
                self._import(project["id"], tasks)
        self._settle(project["id"])

    def finished(self, asked: Mapping[str, AskedRecord]) -> tuple[list[Answer], list[str]]:
        """Give the pictures that somebody submitted, and sentences about what cannot be used."""
        project = self._found()
        if project is None:
            raise Stalled("QueueMissing", f"there is no {self.place}; `trunkline labels export` makes it")
        answers: dict[str, Answer] = {}
        problems = []
        for task in self._tasks(project["id"]):
            record = asked.get(task["data"][ID])
            annotation = _newest(task)
            if record is None or annotation is None:
                continue
            told = _things(annotation.get("result") or [], self._task)
            if isinstance(told, str):
                problems.append(f"{self._service.url}/projects/{project['id']}/data?task={task['id']}: {told}")
            else:
                answers.setdefault(record.id, Answer(id=record.id, things=told))
        return list(answers.values()), problems

    # ------------------------------------------------------------------------------------------------ the project
    def _found(self) -> dict[str, Any] | None:
        """Give the oldest project of that name."""
        found, page = [], 1
        while True:
            answer = self._service.get("/api/projects/", page=page, page_size=_PAGE, title=self._project)
            results = answer.get("results", answer) if isinstance(answer, dict) else answer
            found += [each for each in results if each.get("title") == self._project]
            if not (isinstance(answer, dict) and answer.get("next")):
                break
            page += 1
        if not found:
            return None
        whole: dict[str, Any] = self._service.get(f"/api/projects/{min(each['id'] for each in found)}/")
        return whole

    def _made(self, names: Sequence[str]) -> dict[str, Any]:
        made = self._service.send("POST", "/api/projects/", json={
            "title": self._project, "label_config": label_config(self._task, names),
            "description": f"Pictures that {self._model} was not sure about, or was given by chance.",
        })  # fmt: skip
        found = self._found() or made
        if found["id"] != made["id"]:  # somebody was quicker
            self._delete(f"/api/projects/{made['id']}/")
        return found

    def _control(self, project: Mapping[str, Any]) -> tuple[str, str, str, frozenset[str]]:
        """Give the names of control and image, the data's key of the image, and the labels that can be given."""
        wanted = _CONTROL[self._task]
        for name, control in (project.get("parsed_label_config") or {}).items():
            images = [each for each in control.get("inputs", ()) if each.get("type") == "Image"]
            if control.get("type") == wanted and images and control.get("to_name"):
                return name, control["to_name"][0], images[0]["value"], frozenset(control.get("labels", ()))
        text = f"{self.place} has no {wanted} for an Image in its labelling interface; add one, or name another project"
        raise Stalled("LabellingRefused", text)

    # ------------------------------------------------------------------------------------------------ its tasks
    def _tasks(self, project: int) -> list[dict[str, Any]]:
        """Give our tasks, oldest first."""
        found: dict[int, dict[str, Any]] = {}
        page, total, seen = 1, 1, 0
        while seen < total:
            answer = self._service.get("/api/tasks/", project=project, page=page, page_size=_PAGE, fields="all")
            tasks, total = answer.get("tasks", []), int(answer.get("total", 0))
            if not tasks:
                break
            seen, page = seen + len(tasks), page + 1
            found |= {each["id"]: each for each in tasks if isinstance(each.get("data", {}).get(ID), str)}
        return [found[number] for number in sorted(found)]

    def _upload(self, project: int, record: AskedRecord, data: bytes) -> str:
        """Upload a picture, and give the address that tasks name it by."""
        answer = self._service.send(
            "POST", f"/api/projects/{project}/import", params={"commit_to_project": "false"},
            files={"file": (record.file_name, data)},
        )  # fmt: skip
        ids = answer.get("file_upload_ids") or []
        if len(ids) != 1:
            raise Transient("LabellingUnavailable", f"{self.place} did not say where {record.file_name} is now")
        return "/data/" + str(self._service.get(f"/api/import/file-upload/{ids[0]}")["file"]).lstrip("/")

    def _import(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        answer = self._service.send("POST", f"/api/projects/{project}/import", json=list(tasks))
        number = answer.get("import") if isinstance(answer, dict) else None
        if number is None:
            return

        def ask() -> str:
            status = self._service.get(f"/api/projects/{project}/imports/{number}/").get("status", "")
            return {"completed": "finished"}.get(status, str(status))

        if await_end(ask, f"import {number} into {self.place}") == "failed":
            raise Stalled("LabellingRefused", f"import {number} into {self.place} failed; its page says why")

    def _settle(self, project: int) -> None:
        """Of several tasks about one picture, leave one: that which somebody worked on, else the oldest."""
        by_id: dict[str, list[dict[str, Any]]] = {}
        for task in self._tasks(project):
            by_id.setdefault(task["data"][ID], []).append(task)
        for same in by_id.values():
            keep = next((task for task in same if task.get("annotations")), same[0])
            for task in same:
                if task is not keep and not task.get("annotations"):
                    self._delete(f"/api/tasks/{task['id']}/")

    def _delete(self, path: str) -> None:
        try:
            self._service.send("DELETE", path)
        except Missing:
            return  # somebody else saw the same

    def _who(self, secret: str) -> str:
        """Make the header: a personal access token is exchanged for one that holds for some minutes."""
        if secret.count(".") != 2:
            return f"Token {secret}"
        with self._asking:
            known = self._access_token
            if known is None or time.monotonic() - known[0] > _ACCESS_SECONDS:
                answer = self._service.send("POST", "/api/token/refresh/", known=False, json={"refresh": secret})
                known = self._access_token = (time.monotonic(), str(answer.get("access", "")))
        return f"Bearer {known[1]}"


def label_config(task: Task, names: Sequence[str]) -> str:
    """Write the labelling interface of a project that we make."""
    if task == "classify":
        choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in names)
        control = f'<Choices name="label" toName="image" choice="single">{choices}</Choices>'
    else:
        labels = "".join(f"<Label value={quoteattr(name)}/>" for name in names)
        control = f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels>'
    return f'<View><Image name="image" value="$image"/>{control}</View>'


def _task(
    record: AskedRecord, place: str, named: tuple[str, str, str], labels: frozenset[str]
) -> dict[str, Any]:
    control, target, image = named
    result = [
        _result(record, thing) | {"id": str(number), "from_name": control, "to_name": target}
        for number, thing in enumerate(record.guesses) if thing.name in labels
    ]  # fmt: skip
    prediction = {"model_version": f"v{record.version}", "score": record.score, "result": result}
    return {
        "data": {image: place, ID: record.id, "why": ", ".join(record.why), "release": record.version},
        **({"predictions": [prediction]} if result else {}),
    }


def _result(record: AskedRecord, thing: Thing) -> dict[str, Any]:
    if thing.box is None:
        return {"type": "choices", "value": {"choices": [thing.name]}}
    left, top, _, _ = thing.box.corners
    value = {
        "x": left * 100, "y": top * 100, "width": thing.box.width * 100, "height": thing.box.height * 100,
        "rotation": 0, "rectanglelabels": [thing.name],
    }  # fmt: skip
    return {
        "type": "rectanglelabels", "original_width": record.width, "original_height": record.height,
        "image_rotation": 0, "value": value, "score": thing.score,
    }  # fmt: skip


def _newest(task: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the annotation that was submitted or changed last; None where nobody did, or all skipped the picture."""
    good = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
    return max(good, key=lambda each: (str(each.get("updated_at", "")), each.get("id") or 0), default=None)


def _things(result: Sequence[Mapping[str, Any]], task: Task) -> list[Thing] | str:
    """Read an annotation; a sentence where it says what the data set has no place for."""
    things = []
    for each in result:
        kind, value = str(each.get("type", "")), each.get("value") or {}
        if kind == "choices" and task == "classify":
            things += [Thing(name=str(name)) for name in value.get("choices", ())]
        elif kind == "rectanglelabels" and task == "detect":
            if value.get("rotation"):
                return "a box is turned; draw it upright"
            box = _box(value)
            if box is None or len(value.get("rectanglelabels", ())) != 1:
                return "a box has no label, more than one, or lies outside of the picture"
            things.append(Thing(name=str(value["rectanglelabels"][0]), box=box))
        elif kind.endswith("labels"):
            return f"it has {kind}, and only {'choices' if task == 'classify' else 'rectanglelabels'} are read"
    if task == "classify" and len(things) != 1:
        return f"{len(things)} classes are chosen, and it must be one"
    return things


def _box(value: Mapping[str, Any]) -> Any:
    try:
        x, y, width, height = (float(value[side]) / 100 for side in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        return None
    return box_between(x, y, x + width, y + height)
