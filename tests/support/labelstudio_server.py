"""Label Studio, as far as its projects and tasks go: a real HTTP server with state, after its published API.

It has both kinds of tokens, projects with an interface, uploads, tasks with predictions that must fit that interface,
pages, and people. What it cannot show is what the description does not say.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from tests.support.rest_server import Asked, Refused, RestServer

LEGACY = "5ec2e7" * 6 + "5ec2"
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2VjcmV0"
ACCESS = "access-for-minutes"
_CONTROLS = {"RectangleLabels": "Label", "Choices": "Choice", "PolygonLabels": "Label"}


class LabelStudio(RestServer):
    """Projects, tasks, uploads; and the people who label."""

    def __init__(self, *, asynchronous: bool = False) -> None:
        super().__init__()
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.uploads: dict[int, tuple[str, bytes]] = {}
        self.asynchronous = asynchronous
        """Whether imports go on behind the answer, as they do in the Enterprise edition."""
        self.pending: dict[int, tuple[int, list[dict[str, Any]]]] = {}
        self._number = 0

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Route a request."""
        if asked.path == "/api/token/refresh/":
            if asked.json != {"refresh": PERSONAL}:
                raise Refused(401, {"detail": "Token is invalid or expired"})
            return 200, {"access": ACCESS}
        if asked.headers.get("authorization") not in (f"Token {LEGACY}", f"Bearer {ACCESS}"):
            raise Refused(401, {"detail": f"Invalid token {asked.headers.get('authorization', '')}"})
        for verb, pattern, method in self._ROUTES:
            match = re.fullmatch(pattern, asked.path)
            if match and verb == asked.verb:
                return method(self, asked, *map(int, match.groups()))  # type: ignore[no-any-return]
        raise Refused(404, {"detail": "Not found."})

    def work(
        self, id_: str, *result: dict[str, Any], cancelled: bool = False, when: str = "2026-11-26T12:00:00Z"
    ) -> None:
        """Submit (or skip) a picture as a person."""
        for task in self.tasks.values():
            if task["data"].get("trunkline") == id_:
                task["annotations"].append({
                    "id": self._next(), "result": list(result), "was_cancelled": cancelled, "updated_at": when,
                    "completed_by": 1, "task": task["id"],
                })  # fmt: skip
                return
        raise AssertionError(id_)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _list_projects(self, asked: Asked) -> tuple[int, Any]:
        wanted = asked.query.get("title", "").lower()
        found = [each for each in self.projects.values() if wanted in each["title"].lower()]
        return 200, _page(found, asked, "results", "count")

    def _make_project(self, asked: Asked) -> tuple[int, Any]:
        title = asked.json["title"]
        if not 3 <= len(title) <= 50:
            raise Refused(400, {"title": ["Ensure this field has between 3 and 50 characters."]})
        number = self._next()
        self.projects[number] = {
            "id": number, "title": title, "label_config": asked.json.get("label_config", "<View></View>"),
            "parsed_label_config": parsed(asked.json.get("label_config", "<View></View>")),
        }  # fmt: skip
        return 201, self.projects[number]

    def _project(self, asked: Asked, number: int) -> tuple[int, Any]:
        if number not in self.projects:
            raise Refused(404, {"detail": "Not found."})
        return 200, self.projects[number]

    def _drop_project(self, asked: Asked, number: int) -> tuple[int, Any]:
        self._project(asked, number)
        del self.projects[number]
        return 204, None

    def _import(self, asked: Asked, number: int) -> tuple[int, Any]:
        self._project(asked, number)
        if asked.files:
            made = []
            for name, content in asked.files.values():
                upload = self._next()
                self.uploads[upload] = (f"upload/{number}/{upload:08x}-{name}", content)
                made.append(upload)
            assert asked.query.get("commit_to_project") == "false"
            return 201, {"task_count": len(made), "annotation_count": None, "prediction_count": None,
                         "file_upload_ids": made, "could_be_tasks_list": False, "found_formats": {".png": len(made)},
                         "data_columns": ["$undefined$"]}  # fmt: skip
        if self.asynchronous:
            pending = self._next()
            self.pending[pending] = (number, asked.json)
            return 201, {"import": pending}
        self._add(number, asked.json)
        return 201, {"task_count": len(asked.json), "annotation_count": 0, "file_upload_ids": []}

    def _add(self, project: int, tasks: list[dict[str, Any]]) -> None:
        config = self.projects[project]["parsed_label_config"]
        for each in tasks:
            for prediction in each.get("predictions", ()):
                for result in prediction["result"]:
                    control = config.get(result["from_name"])
                    given = result["value"].get(result["type"])
                    if control is None or not set(given) <= set(control["labels"]):
                        raise Refused(400, {"detail": "Validation error", "validation_errors": {"predictions": given}})
            if not set(config) or any(control["inputs"][0]["value"] not in each["data"] for control in config.values()):
                raise Refused(400, {"detail": "the data lacks a variable of the labeling config"})
            number = self._next()
            self.tasks[number] = {"id": number, "project": project, "annotations": [], "predictions": [], **each}

    def _import_state(self, asked: Asked, project: int, number: int) -> tuple[int, Any]:
        waiting = self.pending.pop(number, None)
        if waiting is not None:  # it is seen once before it is done
            self._add(*waiting)
            return 200, {"id": number, "status": "in_progress"}
        return 200, {"id": number, "status": "completed"}

    def _upload(self, asked: Asked, number: int) -> tuple[int, Any]:
        return 200, {"id": number, "file": self.uploads[number][0], "size": len(self.uploads[number][1])}

    def _list_tasks(self, asked: Asked) -> tuple[int, Any]:
        found = [each for each in self.tasks.values() if str(each["project"]) == asked.query["project"]]
        if asked.query.get("fields") != "all":
            found = [{key: value for key, value in each.items() if key != "annotations"} for each in found]
        page = _page(found, asked, "tasks", "total")
        return 200, {**page, "total_annotations": 0, "total_predictions": 0}

    def _drop_task(self, asked: Asked, number: int) -> tuple[int, Any]:
        if self.tasks.pop(number, None) is None:
            raise Refused(404, {"detail": "Not found."})
        return 204, None

    _ROUTES = (
        ("GET", r"/api/projects/", _list_projects), ("POST", r"/api/projects/", _make_project),
        ("GET", r"/api/projects/(\d+)/", _project), ("DELETE", r"/api/projects/(\d+)/", _drop_project),
        ("POST", r"/api/projects/(\d+)/import", _import), ("GET", r"/api/projects/(\d+)/imports/(\d+)/", _import_state),
        ("GET", r"/api/import/file-upload/(\d+)", _upload),
        ("GET", r"/api/tasks/", _list_tasks), ("DELETE", r"/api/tasks/(\d+)/", _drop_task),
    )  # fmt: skip


def parsed(config: str) -> dict[str, Any]:
    """Read an interface, as Label Studio tells it parsed."""
    view = ET.fromstring(config)
    images = {each.get("name"): (each.get("value") or "").lstrip("$") for each in view.iter("Image")}
    return {
        str(control.get("name")): {
            "type": kind, "to_name": [control.get("toName")],
            "inputs": [{"type": "Image", "value": images[control.get("toName")]}],
            "labels": [each.get("value") for each in control.iter(label)],
        }
        for kind, label in _CONTROLS.items() for control in view.iter(kind)
    }  # fmt: skip


def rectangle(name: str, x: float, y: float, width: float, height: float, rotation: float = 0) -> dict[str, Any]:
    """Draw a box, in percent."""
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": [name]}
    return {"id": "abc", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": value}


def choice(*names: str) -> dict[str, Any]:
    """Choose classes."""
    return {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": list(names)}}


def _page(found: list[dict[str, Any]], asked: Asked, name: str, count: str) -> dict[str, Any]:
    page, size = int(asked.query.get("page", 1)), int(asked.query.get("page_size", 30))
    part = found[(page - 1) * size : page * size]
    following = f"?page={page + 1}" if page * size < len(found) else None
    return {name: part, count: len(found), **({"next": following} if name == "results" else {})}
