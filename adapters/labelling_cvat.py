"""A labelling queue in CVAT: a project, a task for each batch of pictures, the model's guesses as annotations. By REST.

Pictures are uploaded under names that carry our ids, and are found by them again. A job that somebody set to
``completed`` is done with; what is in it then is the truth.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from adapters.labelling_http import LabellingAccess, Missing, Read, Service, Tick, await_end, chunks
from specs.digests import digest_of
from specs.errors import Stalled, Transient
from specs.label_records import LABEL_ID_PATTERN, Answer, AskedRecord, Thing, box_between
from specs.modelspec import Task

_ID = re.compile(rf"(?:.*/)?({LABEL_ID_PATTERN[1:-1]})\.[a-z]+")
_BATCH, _JOB = 100, 25
"""Pictures in a task, and in each of its jobs."""
_PAGE = 100
_QUALITY = 95
"""Of what people see, 0 to 100."""
_ROUNDS = 4
_JSON = {"Accept": "application/vnd.cvat+json, application/json"}


@dataclass(frozen=True)
class _Frame:
    """A picture of ours in a task of the project."""

    id: str
    task: int
    number: int
    width: int
    height: int


class CvatQueue:
    """The project named ``project`` of the CVAT at ``url``. Errors as ``labelling_http.Service`` has them."""

    def __init__(self, url: str, project: str, model: str, task: Task, access: LabellingAccess) -> None:
        self.place = self.recorded = f"project {project} of {url}"
        self._project, self._model, self._task = project, model, task
        self._service = Service(url, access, _who)

    def send(self, asked: Sequence[AskedRecord], names: Sequence[str], read: Read, tick: Tick) -> None:
        """Upload pictures that are not there yet, with what the model made of them; ``tick`` after each.

        Whoever does the same at once may upload one twice; both then see that and remove what is too much, and begin
        anew with what went with it.
        """
        project = self._found() or self._made(names)
        labels = {label["name"]: label["id"] for label in self._pages("/api/labels", project_id=project)}
        left = list(asked)
        for _ in range(_ROUNDS):
            there = {frame.id for frame in self._frames(project)}
            missing = [record for record in left if record.id not in there]
            for _ in range(len(left) - len(missing)):
                tick()
            left = missing
            for part in chunks(left, _BATCH):
                self._upload(project, part, read)
            self._settle(project, {record.id: record for record in asked}, labels)
            if not left:
                return
        raise Transient("LabellingUnavailable", f"{self.place} does not keep what is uploaded; look there, try again")

    def finished(self, asked: Mapping[str, AskedRecord]) -> tuple[list[Answer], list[str]]:
        """Give the pictures of jobs that are completed, and sentences about what cannot be used."""
        project = self._found()
        if project is None:
            raise Stalled("QueueMissing", f"there is no {self.place}; `trunkline labels export` makes it")
        names = {label["id"]: label["name"] for label in self._pages("/api/labels", project_id=project)}
        frames: dict[int, dict[int, _Frame]] = {}
        for frame in self._frames(project):
            if frame.id in asked:
                frames.setdefault(frame.task, {})[frame.number] = frame
        answers: dict[str, Answer] = {}
        problems = []
        for task, by_number in sorted(frames.items()):
            for frame, told in self._told(task, by_number, names):
                if isinstance(told, str):
                    problems.append(f"{self._service.url}/tasks/{task}, {frame.id}: {told}")
                else:
                    answers.setdefault(frame.id, Answer(id=frame.id, things=told))
        return list(answers.values()), problems

    # ------------------------------------------------------------------------------------------------ looking
    def _found(self) -> int | None:
        found = [each["id"] for each in self._pages("/api/projects", name=self._project)
                 if each.get("name") == self._project]  # fmt: skip
        return min(found, default=None)

    def _pages(self, path: str, **parameters: str | int) -> Iterator[dict[str, Any]]:
        page = 1
        while True:
            answer = self._service.get(path, **parameters, page=page, page_size=_PAGE)
            yield from answer.get("results", ())
            if not answer.get("next"):
                return
            page += 1

    def _tasks(self, project: int) -> list[dict[str, Any]]:
        """Give the project's tasks, oldest first."""
        found = {each["id"]: each for each in self._pages("/api/tasks", project_id=project)}
        return [found[number] for number in sorted(found)]

    def _frames(self, project: int) -> list[_Frame]:
        """Give our pictures, those of older tasks first."""
        return [frame for task in self._tasks(project) if task.get("size") for frame in self._frames_of(task["id"])]

    def _frames_of(self, task: int) -> list[_Frame]:
        try:
            meta = self._service.get(f"/api/tasks/{task}/data/meta")
        except Missing:
            return []  # removed meanwhile
        return [
            _Frame(match[1], task, number, int(each["width"]), int(each["height"]))
            for number, each in enumerate(meta.get("frames") or ())
            if (match := _ID.fullmatch(str(each.get("name", "")))) is not None
        ]

    # ------------------------------------------------------------------------------------------------ sending
    def _made(self, names: Sequence[str]) -> int:
        kind = "tag" if self._task == "classify" else "rectangle"
        labels = [{"name": name, "type": kind, "attributes": []} for name in names]
        made = int(self._service.send("POST", "/api/projects", json={"name": self._project, "labels": labels})["id"])
        found = self._found() or made
        if found != made:  # somebody was quicker
            self._delete(f"/api/projects/{made}")
        return found

    def _upload(self, project: int, records: Sequence[AskedRecord], read: Read) -> None:
        """Make a task of a batch. One that a killed export made and did not fill is taken up again."""
        name = f"{self._model}: {len(records)} pictures, {digest_of([record.id for record in records])[7:19]}"
        empty = [each for each in self._tasks(project) if each.get("name") == name and not each.get("size")]
        task = empty[0] if empty else self._service.send(
            "POST", "/api/tasks", json={"name": name, "project_id": project, "segment_size": _JOB}
        )  # fmt: skip
        where = f"/api/tasks/{task['id']}/data/"
        files = {f"client_files[{i}]": (each.file_name, read(each)) for i, each in enumerate(records)}
        try:
            self._service.send("POST", where, headers={"Upload-Start": ""})
            sent = {"image_quality": str(_QUALITY)}
            self._service.send("POST", where, headers={"Upload-Multiple": ""}, data=sent, files=files)
            rq_id = str(self._service.send("POST", where, headers={"Upload-Finish": ""}, data=sent)["rq_id"])
        except (Missing, Stalled) as error:
            if error.reason != "LabellingRefused":
                raise
            return  # somebody fills it, or removed it: what is missing then is seen in the next round

        request = f"/api/requests/{quote(rq_id, safe='')}"

        def ask() -> str:
            return str(self._service.get(request).get("status", ""))

        if await_end(ask, f"task {task['id']} in {self.place}") == "failed":
            said = str(self._service.get(request).get("message", ""))
            raise Stalled("LabellingRefused", f"task {task['id']} in {self.place} could not be filled: {said[:300]}")

    def _settle(self, project: int, asked: Mapping[str, AskedRecord], labels: Mapping[str, int]) -> None:
        """Remove tasks with pictures that older ones have; write guesses where a task has none and nobody began."""
        seen: set[str] = set()
        for task in self._tasks(project):
            frames = self._frames_of(task["id"]) if task.get("size") else []
            ours = {frame.id for frame in frames}
            wanted = [frame for frame in frames if frame.id in asked]
            untouched = bool(wanted) and self._is_untouched(task["id"])
            if ours & seen and untouched:
                self._delete(f"/api/tasks/{task['id']}")
                continue
            seen |= ours
            if untouched and len(wanted) == len(frames):  # else somebody who knows of all of them is about to
                with suppress(Missing):  # somebody else removed it
                    self._guess(f"/api/tasks/{task['id']}", self._guesses(wanted, asked, labels))

    def _guess(self, task: str, guesses: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write guesses where nothing is said yet."""
        if any(guesses.values()) and not _given(self._annotations(task)):
            content = {"version": 0, "tracks": [], **guesses}
            self._service.send("PUT", f"{task}/annotations/", json=content, headers=_JSON)

    def _is_untouched(self, task: int) -> bool:
        return all(job.get("state", "new") == "new" for job in self._jobs(task))

    def _guesses(
        self, frames: Sequence[_Frame], asked: Mapping[str, AskedRecord], labels: Mapping[str, int]
    ) -> dict[str, list[dict[str, Any]]]:
        tags, shapes = [], []
        for frame in frames:
            for thing in asked[frame.id].guesses:
                if thing.name not in labels:
                    continue
                common = {"frame": frame.number, "label_id": labels[thing.name], "attributes": [], "source": "auto"}
                if thing.box is None:
                    tags.append(common)
                    continue
                sides = (frame.width, frame.height) * 2
                points = [part * side for part, side in zip(thing.box.corners, sides, strict=True)]
                shapes.append({**common, "type": "rectangle", "points": points, "occluded": False, "rotation": 0})
        return {"tags": tags, "shapes": shapes}

    def _delete(self, path: str) -> None:
        with suppress(Missing):  # somebody else saw the same
            self._service.send("DELETE", path)

    # ------------------------------------------------------------------------------------------------ fetching
    def _jobs(self, task: int) -> list[dict[str, Any]]:
        jobs = self._pages("/api/jobs", task_id=task)
        return [job for job in jobs if job.get("type", "annotation") == "annotation" and not job.get("parent_job_id")]

    def _annotations(self, of: str) -> dict[str, Any]:
        found: dict[str, Any] = self._service.get(f"{of}/annotations/")
        return found

    def _told(
        self, task: int, frames: Mapping[int, _Frame], names: Mapping[int, str]
    ) -> Iterator[tuple[_Frame, list[Thing] | str]]:
        for job in self._jobs(task):
            if job.get("state") != "completed":
                continue
            inside = {n: f for n, f in frames.items() if job["start_frame"] <= n <= job["stop_frame"]}
            if inside:
                given = self._annotations(f"/api/jobs/{job['id']}")
                removed = set(self._service.get(f"/api/tasks/{task}/data/meta").get("deleted_frames") or ())
                for number, frame in inside.items():
                    if number not in removed:
                        yield frame, self._things(frame, given, names)

    def _things(self, frame: _Frame, given: Mapping[str, Any], names: Mapping[int, str]) -> list[Thing] | str:
        """Read what is said about a frame; a sentence where it says what the data set has no place for."""
        tags = [each for each in given.get("tags", ()) if each["frame"] == frame.number]
        shapes = [each for each in given.get("shapes", ()) if each["frame"] == frame.number]
        if any(track for track in given.get("tracks", ())):
            return "it has tracks, and only single shapes are read"
        if self._task == "classify":
            if len(tags) != 1:
                return f"it has {len(tags)} tags, and it must be one"
            return [Thing(name=names.get(tags[0]["label_id"], "?"))]
        things = []
        for shape in shapes:
            if shape.get("type") != "rectangle" or shape.get("rotation"):
                kind = "box that is turned" if shape.get("type") == "rectangle" else str(shape.get("type"))
                return f"it has a {kind}; only upright boxes are read"
            sides = (frame.width, frame.height) * 2
            box = box_between(*(point / side for point, side in zip(shape["points"], sides, strict=True)))
            if box is None:
                return "a box has no extent, or lies outside of the picture"
            things.append(Thing(name=names.get(shape["label_id"], "?"), box=box))
        return things


def _given(annotations: Mapping[str, Any]) -> bool:
    return any(annotations.get(kind) for kind in ("tags", "shapes", "tracks"))


def _who(secret: str) -> str:
    """Make the header: user and password, an old token of 40 hexadecimal digits, or a personal access token."""
    if ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    return f"Token {secret}" if re.fullmatch(r"[0-9a-f]{40}", secret) else f"Bearer {secret}"
