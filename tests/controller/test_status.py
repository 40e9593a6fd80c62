"""``trunkline status``: what people read, and what programs read, of what the agent wrote."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from adapters.store import Store
from controller.commands.status import board
from controller.statuses import Statuses
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.records import Progress, progress_key
from specs.status import Condition, ConditionType, JobProgress, ModelStatus, ProposalStatus, Reason, ServingStatus
from tests.support.typed import said, trunkline

KEY = ModelKey("default", "digits")
SHELF = ModelKey("retail", "shelf")
JOB = "train-shelf-0123456789ab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a place in which the agent wrote nothing yet."""
    (tmp_path / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\nstate = "state"\n')
    return tmp_path


def _conditions(*words: tuple[ConditionType, bool, Reason, str]) -> list[Condition]:
    return [Condition(type=t, status="True" if good else "False", reason=r, message=m) for t, good, r, m in words]


SERVES = ModelStatus(
    commit="c" * 40,
    inputs_digest="sha256:" + "1" * 64,
    version=2,
    metrics={"metrics/accuracy_top1": 0.97512},
    serving=ServingStatus(version=2, file="sha256:" + "2" * 64, url="http://127.0.0.1:8000/v2/models/digits"),
    proposals=[ProposalStatus(number=7, intent="promote", branch="b")],
    summary="v2 answers; PullRequestOpen: see [/red] and [bold]",
    conditions=_conditions((ConditionType.READY, True, Reason.AS_DESIRED, "all is [/well]")),
)
WORKS = ModelStatus(
    jobs=[JOB], summary="nothing is released; Training", conditions=_conditions(
        (ConditionType.READY, False, Reason.TRAINING, ""), (ConditionType.RECONCILING, True, Reason.TRAINING, "")),
)  # fmt: skip


def _statuses(folder: Path) -> Statuses:
    statuses = Statuses(folder / "state/status")
    statuses.write(KEY, SERVES)
    statuses.write(SHELF, WORKS)
    return statuses


def _drawn(folder: Path, model: str | None = None) -> str:
    out = Console(record=True, width=220, file=io.StringIO())
    out.print(board(list(Statuses(folder / "state/status").items()), Store(str(folder / "store")), model))
    return out.export_text()


def test_nothing_there_yet(folder: Path) -> None:
    """A newcomer is told what is missing."""
    assert "is `trunkline agent` running" in said(folder, "status")
    assert json.loads(said(folder, "status", "--json")) == {}


def test_the_board_has_a_line_for_each_model(folder: Path) -> None:
    """Ready or not, the release, what serves where, what was proposed, and one line of words, as they are."""
    _statuses(folder)
    lines = _drawn(folder).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["model", "default/digits", "retail/shelf"]
    for word in ("✓", "v2", "v2 at 127.0.0.1:8000", "#7 promote", "see [/red] and [bold]"):
        assert word in " ".join(lines)
    assert "working" in lines[-1]


@pytest.mark.parametrize(
    ("conditions", "word"),
    [
        (_conditions((ConditionType.READY, True, Reason.AS_DESIRED, "")), "✓"),
        (_conditions((ConditionType.READY, False, Reason.SUSPENDED, "")), "✗"),
        (_conditions((ConditionType.READY, False, Reason.TRAINING, ""),
                     (ConditionType.RECONCILING, True, Reason.TRAINING, "")), "working"),
        (_conditions((ConditionType.READY, False, Reason.GATE_FAILED, ""),
                     (ConditionType.RECONCILING, True, Reason.TRAINING, ""),
                     (ConditionType.STALLED, True, Reason.GATE_FAILED, "")), "stalled"),
        ([], "–"),
    ],
    ids=["ready", "not-ready", "working", "stalled", "unknown"],
)  # fmt: skip
def test_one_word_says_how_it_is(folder: Path, conditions: list[Condition], word: str) -> None:
    """What a person must mend outweighs what is under way."""
    Statuses(folder / "state/status").write(KEY, ModelStatus(commit="c", conditions=conditions))
    assert _drawn(folder).splitlines()[1].split()[1] == word


def test_one_model_with_all_its_conditions(folder: Path) -> None:
    """Conditions, reasons and messages in full; metrics; commit and inputs."""
    _statuses(folder)
    for name in ("digits", "default/digits"):
        text = _drawn(folder, name)
        for word in ("release v2", "accuracy_top1 0.9751", "at commit cccccccccccc, inputs 111111111111",
                     "Ready", "AsDesired", "all is [/well]"):  # fmt: skip
            assert word in text
        assert "shelf" not in text


def test_a_running_job_shows_how_far_it_is(folder: Path) -> None:
    """A bar with epochs, time left and numbers; a job that said nothing yet has none."""
    statuses = _statuses(folder)
    assert "epochs" not in _drawn(folder)
    progress = Progress(
        job=JOB, updated="2026-11-24T00:00:00Z", epoch=3, epochs=10, eta_seconds=42.3,
        metrics={"metrics/accuracy_top1": 0.5}
    )  # fmt: skip
    Store(str(folder / "store")).replace(progress_key(JOB), progress.encode())
    for model in (None, "shelf"):
        (line,) = [line for line in _drawn(folder, model).splitlines() if "epochs" in line]
        for word in (JOB, "3/10 epochs", "40 s left", "accuracy_top1 0.5"):
            assert word in line
    statuses.write(SHELF, WORKS.model_copy(update={"jobs": []}))
    assert "epochs" not in _drawn(folder)


def test_a_phase_without_epochs_is_told_without_a_bar(folder: Path) -> None:
    """Fetching data takes its time, too."""
    _statuses(folder)
    progress = Progress(job=JOB, updated="2026-11-24T00:00:00Z", phase="fetching data")
    Store(str(folder / "store")).replace(progress_key(JOB), progress.encode())
    assert any(JOB in line and "fetching data" in line for line in _drawn(folder).splitlines())


def test_json_says_how_far_a_job_is_at_this_moment(folder: Path) -> None:
    """The status that the agent wrote may be a fiftieth of the way behind; the job itself is asked."""
    statuses = _statuses(folder)
    old = JobProgress(job=JOB, phase="training", epoch=98, epochs=100, text="training 98/100 epochs")
    statuses.write(SHELF, WORKS.model_copy(update={"progress": [old]}))
    progress = Progress(job=JOB, updated="2026-11-24T00:00:00Z", phase="training", epoch=99, epochs=100)
    Store(str(folder / "store")).replace(progress_key(JOB), progress.encode())
    (found,) = json.loads(said(folder, "status", "shelf", "--json"))["progress"]
    assert (found["job"], found["epoch"], found["text"]) == (JOB, 99, "training 99/100 epochs")


def test_without_a_store_the_status_says_how_far_jobs_are() -> None:
    """So it is for people who see a cluster's models and not its store."""
    told = JobProgress(
        job=JOB, phase="training", epoch=3, epochs=10, text="training 3/10 epochs", metrics={"metrics/mAP50(B)": 0.5}
    )
    out = Console(record=True, width=220, file=io.StringIO())
    out.print(board([(SHELF, WORKS.model_copy(update={"progress": [told]}))], None))
    (line,) = [line for line in out.export_text().splitlines() if "epochs" in line]
    for word in (JOB, "training 3/10 epochs", "mAP50(B) 0.5"):
        assert word in line


def test_json_is_the_status(folder: Path) -> None:
    """Programs get what the agent wrote, of all models or of one."""
    _statuses(folder)
    every = json.loads(said(folder, "status", "--json"))
    assert list(every) == ["default/digits", "retail/shelf"]
    one = json.loads(said(folder, "status", "digits", "--json"))
    assert one == every["default/digits"]
    assert ModelStatus.model_validate(one) == SERVES


def test_a_name_that_is_not_known_or_not_unique(folder: Path) -> None:
    """The error lists the models that there are."""
    statuses = _statuses(folder)
    result = trunkline(folder, "status", "nothing")
    assert isinstance(result.exception, Stalled)
    assert "'nothing' is not known; there are: default/digits, retail/shelf" in result.exception.message
    statuses.write(ModelKey("retail", "digits"), WORKS)
    result = trunkline(folder, "status", "digits")
    assert isinstance(result.exception, Stalled)
    assert "is not unique" in result.exception.message
    assert "release v2" in said(folder, "status", "default/digits")


def test_a_garbled_status_is_no_traceback(folder: Path) -> None:
    """A cache that was spoilt shows as unknown until the agent writes it again."""
    _statuses(folder)
    (folder / "state/status/retail.shelf.json").write_text("{")
    assert "retail/shelf" in said(folder, "status")
    assert "–" in _drawn(folder, "shelf")
