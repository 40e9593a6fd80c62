"""CVAT, as far as projects, tasks and jobs go: a real HTTP server with state, after its published API.

Data comes in the three requests of its upload protocol and is taken in behind the answer; jobs are pieces of a task,
and people complete them. What it cannot show is what the description does not say.
"""

from __future__ import annotations

import re
from typing import Any

from tests.support.pictures import SIDE
from tests.support.rest_server import Asked, Refused, RestServer

TOKEN = "c0ffee" * 6 + "c0ff"
PERSONAL = "cvat-pat.Zm9vYmFy"


class Cvat(RestServer):
    """Projects, labels, tasks, jobs; and the people who label."""

    def __init__(self) -> None:
        super().__init__()
        self.projects: dict[int, dict[str, Any]] = {}
        self.labels: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.jobs: dict[int, dict[str, Any]] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self._number = 0

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Route a request."""
        if asked.headers.get("authorization") not in (f"Token {TOKEN}", f"Bearer {PERSONAL}", "Basic YW5uOmh1c2g="):
            raise Refused(401, {"detail": f"no {asked.headers.get('authorization')}"})
        for verb, pattern, method in self._ROUTES:
            match = re.fullmatch(pattern, asked.path)
            if match and verb == asked.verb:
                return method(self, asked, *match.groups())  # type: ignore[no-any-return]
        raise Refused(404, {"detail": "Not found."})

    def complete(self, *ids: str, state: str = "completed") -> None:
        """Set the jobs with these pictures to a state, as a person."""
        for job in self.jobs.values():
            names = [each["name"] for each in self.tasks[job["task_id"]]["frames"]]
            if any(id_ in name for id_ in ids for name in names[job["start_frame"] : job["stop_frame"] + 1]):
                job["state"] = state

    def frame(self, id_: str) -> tuple[dict[str, Any], int]:
        """Give task and number of a picture's frame."""
        return next((task, number) for task in self.tasks.values()
                    for number, each in enumerate(task["frames"]) if id_ in each["name"])  # fmt: skip

    def draw(self, id_: str, *names: str, points: tuple[float, ...] = (0, 0, 16, 16), **more: Any) -> None:
        """Say what is in a picture, instead of what was said before: boxes, or tags where the labels are tags."""
        task, number = self.frame(id_)
        labels = {each["name"]: each for each in self.labels.values() if each["project_id"] == task["project_id"]}
        told = task["annotations"]
        for kind in ("tags", "shapes"):
            told[kind] = [each for each in told[kind] if each["frame"] != number]
        for name in names:
            common = {"id": self._next(), "frame": number, "label_id": labels[name]["id"], "source": "manual"}
            if labels[name]["type"] == "tag":
                told["tags"].append(common)
            else:
                told["shapes"].append({**common, "type": "rectangle", "points": list(points), "rotation": 0, **more})

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _list(self, of: dict[int, dict[str, Any]], asked: Asked) -> tuple[int, Any]:
        wanted = {name: value for name, value in asked.query.items() if name not in ("page", "page_size")}
        found = [each for each in of.values() if all(str(each.get(name)) == wanted[name] for name in wanted)]
        page, size = int(asked.query.get("page", 1)), int(asked.query.get("page_size", 10))
        part = [{k: v for k, v in each.items() if k not in ("frames", "annotations", "staged")} for each in found]
        more = f"?page={page + 1}" if page * size < len(found) else None
        return 200, {"count": len(found), "next": more, "results": part[(page - 1) * size : page * size]}

    def _make_project(self, asked: Asked) -> tuple[int, Any]:
        number = self._next()
        self.projects[number] = {"id": number, "name": asked.json["name"]}
        for each in asked.json["labels"]:
            label = self._next()
            self.labels[label] = {"id": label, "project_id": number, **each}
        return 201, self.projects[number]

    def _make_task(self, asked: Asked) -> tuple[int, Any]:
        number = self._next()
        self.tasks[number] = {
            "id": number, "size": 0, "frames": [], "staged": None, "state": "empty",
            "annotations": {"version": 0, "tags": [], "shapes": [], "tracks": []}, **asked.json,
        }  # fmt: skip
        return 201, {"id": number, "name": asked.json["name"]}

    def _task(self, number: str) -> dict[str, Any]:
        if int(number) not in self.tasks:
            raise Refused(404, {"detail": "Not found."})
        return self.tasks[int(number)]

    def _drop(self, asked: Asked, kind: str, number: str) -> tuple[int, Any]:
        of = self.tasks if kind == "tasks" else self.projects
        if of.pop(int(number), None) is None:
            raise Refused(404, {"detail": "Not found."})
        self.jobs = {key: job for key, job in self.jobs.items() if job["task_id"] in self.tasks}
        return 204, None

    def _data(self, asked: Asked, number: str) -> tuple[int, Any]:
        task = self._task(number)
        if "upload-start" in asked.headers:
            if task["size"]:
                raise Refused(400, "Adding more data is not supported")
            task["staged"] = {}
            return 202, None
        if task["staged"] is None:
            raise Refused(400, "no upload was started")
        if "upload-multiple" in asked.headers:
            assert asked.fields == {"image_quality": "95"}
            task["staged"] |= dict(asked.files.values())
            return 200, None
        name = f"action=create&target=task&id={number}"
        self.requests[name] = {"status": "queued", "task": task}
        return 202, {"rq_id": name}

    def _request(self, asked: Asked, name: str) -> tuple[int, Any]:
        request = self.requests[name]
        if request["status"] == "queued":
            request["status"] = "finished"
            self._fill(request["task"])
            return 200, {"id": name, "status": "started", "message": ""}
        return 200, {"id": name, "status": request["status"], "message": ""}

    def _fill(self, task: dict[str, Any]) -> None:
        if task["size"]:
            return
        names = sorted(task["staged"])
        task["frames"] = [{"name": name, "width": SIDE, "height": SIDE, "related_files": 0} for name in names]
        task["size"], task["staged"] = len(names), None
        for start in range(0, len(names), task["segment_size"]):
            job = self._next()
            stop = min(start + task["segment_size"], len(names)) - 1
            self.jobs[job] = {
                "id": job, "task_id": task["id"], "start_frame": start, "stop_frame": stop, "state": "new",
                "stage": "annotation", "type": "annotation", "parent_job_id": None,
            }  # fmt: skip

    def _meta(self, asked: Asked, number: str) -> tuple[int, Any]:
        task = self._task(number)
        return 200, {"frames": task["frames"], "size": task["size"], "deleted_frames": task.get("deleted", [])}

    def _annotations(self, asked: Asked, number: str) -> tuple[int, Any]:
        task = self._task(number)
        if asked.verb == "PUT":
            given = asked.json
            allowed = {each["id"] for each in self.labels.values() if each["project_id"] == task["project_id"]}
            shapes = [*given["tags"], *given["shapes"]]
            if not all(each["label_id"] in allowed and each["frame"] < task["size"] for each in shapes):
                raise Refused(400, "label_id or frame is invalid")
            task["annotations"] = given
        return 200, task["annotations"]

    def _of_job(self, asked: Asked, number: str) -> tuple[int, Any]:
        job = self.jobs[int(number)]
        told = self._task(job["task_id"])["annotations"]
        inside = range(job["start_frame"], job["stop_frame"] + 1)
        return 200, {kind: [each for each in told[kind] if each["frame"] in inside] for kind in ("tags", "shapes")} | {
            "version": 0, "tracks": told["tracks"],
        }  # fmt: skip

    _ROUTES = (
        ("GET", r"/api/projects", lambda self, asked: self._list(self.projects, asked)),
        ("POST", r"/api/projects", _make_project), ("DELETE", r"/api/(projects|tasks)/(\d+)", _drop),
        ("GET", r"/api/labels", lambda self, asked: self._list(self.labels, asked)),
        ("GET", r"/api/tasks", lambda self, asked: self._list(self.tasks, asked)), ("POST", r"/api/tasks", _make_task),
        ("POST", r"/api/tasks/(\d+)/data/", _data), ("GET", r"/api/tasks/(\d+)/data/meta", _meta),
        ("GET", r"/api/requests/(.+)", _request),
        ("GET", r"/api/jobs", lambda self, asked: self._list(self.jobs, asked)),
        ("GET", r"/api/tasks/(\d+)/annotations/", _annotations),
        ("PUT", r"/api/tasks/(\d+)/annotations/", _annotations),
        ("GET", r"/api/jobs/(\d+)/annotations/", _of_job),
    )  # fmt: skip
