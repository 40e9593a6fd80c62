"""Local jobs: real processes that outlive their agent, end in every way, and are never started twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from adapters.jobs_local import LocalJobs
from specs.errors import Stalled, Transient
from specs.facts import JobPhase, JobState
from specs.workorders import EvaluateOrder, TrackOrder
from tests.support.living import alive_with, die_at_line, until

ROOT = Path(__file__).parents[2]
TINY = [sys.executable, "-S", str(ROOT / "tests/support/tiny_workload.py")]
SHELL = ["/bin/sh", "-c", 'echo "$$" >> "$BEGAN"; exec sleep 60', "tiny"]


class Bench:
    """A state folder, a store folder, and agents that share them."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.store = folder / "store"
        self.store.mkdir()

    def agent(self, tiny: str = "exit 0", **settings: object) -> LocalJobs:
        """Give an agent's view whose jobs do what ``tiny`` says."""
        given = {"TINY": tiny, "BENCH": str(self.store), "BEGAN": str(self.store / "began")}
        environment = given | dict(settings.pop("environment", {}))  # type: ignore[call-overload]
        settings = {"command": TINY, "grace": 0.3, **settings}
        return LocalJobs(self.state, str(self.store), environment=environment, **settings)  # type: ignore[arg-type]

    def began(self) -> list[int]:
        """Give the process numbers of all starts."""
        path = self.store / "began"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def alive(self) -> list[int]:
        """Give the numbers of the living processes of this bench's jobs."""
        return alive_with("BENCH", str(self.store))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench that must be left without a process."""
    bench = Bench(tmp_path)
    yield bench
    bench.agent().stop_all(grace=0)
    until(lambda: not bench.alive())


def order(digit: int = 0, deadline: int | None = None) -> EvaluateOrder:
    """Give a work order; another digit gives another job."""
    return EvaluateOrder(
        model="default/digits", commit="c" * 40, subject=f"sha256:{digit:064x}", format="onnx", task="classify",
        golden="sha256:" + "a" * 64, deadline_seconds=deadline,
    )  # fmt: skip


def ended(jobs: LocalJobs, name: str) -> JobState:
    """Wait for the end of a job and give its state."""
    states: list[JobState] = []

    def over() -> bool:
        state = jobs.find(name)
        assert state is not None
        states.append(state)
        return state.phase is JobPhase.ENDED

    until(over)
    return states[-1]


def run(bench: Bench, tiny: str, deadline: int | None = None) -> JobState:
    """Run a job to its end."""
    jobs = bench.agent(tiny)
    assert jobs.start(order(deadline=deadline)).phase is JobPhase.RUNNING
    return ended(jobs, order().job)


def dying_agent(bench: Bench, tiny: str, deadline: int | None = None) -> None:
    """Let an agent in a process of its own start a job and die by SIGKILL."""
    code = (
        "import os, sys; from pathlib import Path; from adapters.jobs_local import LocalJobs\n"
        "from specs.workorders import decode\n"
        "state, store, text, tiny, *command = sys.argv[1:]\n"
        "given = {'TINY': tiny, 'BENCH': store}\n"
        "jobs = LocalJobs(Path(state), store, command=command, environment=given, grace=0.3)\n"
        "jobs.start(decode(text.encode())); os.kill(os.getpid(), 9)"
    )
    text = order(deadline=deadline).encode().decode()
    command = [sys.executable, "-c", code, str(bench.state), str(bench.store), text, tiny, *TINY]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("tiny", "code", "reason", "words"),
    [
        pytest.param("say accuracy 0.99; exit 0", 0, "", "accuracy 0.99", id="done"),
        pytest.param("say no such task; exit 10", 10, "Permanent", "never going to work: no such task", id="hopeless"),
        pytest.param("say oops; exit 3", 3, "Error", "exit code 3: oops", id="error"),
        pytest.param("signal 9", 137, "Killed", "out-of-memory killer", id="killed"),
        pytest.param("signal 15", 143, "Killed", "signal 15", id="terminated"),
        pytest.param("signal 11", 139, "Error", "SIGSEGV", id="crashed"),
        pytest.param("say MemoryError; exit 1", 1, "OutOfMemory", "ran out of memory", id="python-memory"),
        pytest.param("say CUDA out of memory.; signal 9", 137, "OutOfMemory", "out of memory", id="device-memory"),
        pytest.param("exit 124", 124, "Error", "exit code 124", id="124-without-deadline"),
    ],
)
def test_an_end_is_explained(bench: Bench, tiny: str, code: int, reason: str, words: str) -> None:
    """Exit code, reason and last words of an attempt are known after it ended."""
    before = time.time() - 1
    state = run(bench, tiny)
    assert (state.exit_code, state.reason, state.attempts) == (code, reason, 1)
    assert words in state.message
    assert before < state.started <= state.ended < time.time() + 1


def test_unknown_jobs_have_no_state(bench: Bench) -> None:
    """A job that never started has no state, no log, and is not running."""
    jobs = bench.agent()
    assert jobs.find(order().job) is None
    assert jobs.log_path(order().job) is None
    assert jobs.running() == []
    jobs.cancel(order().job)
    jobs.forget(order().job)
    assert not bench.state.exists()


def test_a_job_gets_its_order_and_little_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job sees its order, the store, what was given to it and the allowed variables, but no secret of the agent."""
    monkeypatch.setenv("FORGE_TOKEN", "canary-1")
    monkeypatch.setenv("DATABASE_URL", "postgres://me:canary-2@db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "for the store")
    jobs = bench.agent("report; exit 0", niceness=7, environment={"EXTRA": "yes"})
    jobs.start(order())
    ended(jobs, order().job)
    report = json.loads((bench.store / "report.json").read_text())
    assert "canary" not in json.dumps(report)
    assert report["environment"]["AWS_SECRET_ACCESS_KEY"] == "for the store"
    assert report["environment"]["EXTRA"] == "yes"
    assert report["order"] == json.loads(order().encode())
    assert report["arguments"][:2] == ["--store", str(bench.store)]
    assert report["nice"] == os.nice(0) + 7


def test_last_words_are_fit_to_be_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages carry no escapes, no overwritten progress, no secrets, and are at most 500 characters long."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tOpSeCrEt")
    said = "key tOpSeCrEt at s3://me:pass@host/b\\nepoch 1\\repoch 2\\r\\x1b[31mepoch 3\\x1b[0m\\n\\n\\x07the end"
    state = run(bench, f"say first; say {said}; exit 1")
    assert state.message == "exit code 1: key *** at s3://***@host/b | epoch 3 | the end"
    jobs = bench.agent("say " + "x" * 100_000 + "END; exit 1")
    jobs.start(order(1))
    long = ended(jobs, order(1).job).message
    assert len(long) <= 500
    assert long.endswith("xEND")


def test_a_running_job_is_adopted(bench: Bench) -> None:
    """Starting what runs already changes nothing, whichever agent asks."""
    first, second = bench.agent("sleep 60"), bench.agent("sleep 60")
    assert first.start(order()).phase is JobPhase.RUNNING
    until(bench.began)
    again = second.start(order())
    assert (again.phase, again.attempts) == (JobPhase.RUNNING, 1)
    assert second.running() == [order().job]
    assert second.find(order().job) == again
    assert len(bench.began()) == 1


def test_a_job_survives_its_agent(bench: Bench) -> None:
    """After SIGKILL of the agent the job goes on; the next agent adopts it and learns its exit code."""
    dying_agent(bench, "say still here; await go; exit 7")
    jobs = bench.agent()
    assert jobs.start(order()).phase is JobPhase.RUNNING
    (bench.store / "go").touch()
    state = ended(jobs, order().job)
    assert (state.exit_code, state.attempts, len(bench.began())) == (7, 1, 1)
    assert "still here" in state.message


def test_the_end_is_known_though_no_agent_lived_then(bench: Bench) -> None:
    """A job that ends while no agent lives leaves its exit code behind."""
    dying_agent(bench, "exit 7")
    assert ended(bench.agent(), order().job).exit_code == 7


@pytest.mark.parametrize("tiny", ["sleep 60", "stubborn; sleep 60"], ids=["polite", "stubborn"])
def test_a_deadline_holds_without_an_agent(bench: Bench, tiny: str) -> None:
    """A job past its deadline is ended though its agent is dead, also if it ignores being asked."""
    dying_agent(bench, tiny, deadline=1)
    state = ended(bench.agent(), order().job)
    assert state.reason == "DeadlineExceeded"
    assert "deadline of 1 s" in state.message


def wrapper(bench: Bench, job: str) -> int:
    """Give the process number of a job's wrapper."""
    until(bench.began)
    return int((bench.state / f"jobs/{job}/attempts/1/pid").read_text())


def test_a_killed_job_says_so(bench: Bench) -> None:
    """When only the job is killed, its wrapper writes down the signal."""
    jobs = bench.agent("sleep 60")
    jobs.start(order())
    wrapper(bench, order().job)
    os.kill(bench.began()[0], signal.SIGKILL)
    state = ended(jobs, order().job)
    assert (state.exit_code, state.reason) == (137, "Killed")


def test_a_killed_wrapper_does_not_hide_the_job(bench: Bench) -> None:
    """When only the wrapper is killed, the job still counts as running until it ends; its exit code stays unknown."""
    jobs = bench.agent("await go")
    jobs.start(order())
    os.kill(wrapper(bench, order().job), signal.SIGKILL)
    until(lambda: len(bench.alive()) == 1)
    assert jobs.start(order()).phase is JobPhase.RUNNING
    (bench.store / "go").touch()
    state = ended(jobs, order().job)
    assert (state.exit_code, state.reason, len(bench.began())) == (None, "Killed", 1)


def test_wrapper_and_job_killed_together(bench: Bench) -> None:
    """When the whole group is killed, the attempt has ended by being killed, and another one can start."""
    jobs = bench.agent("sleep 60")
    jobs.start(order())
    os.killpg(wrapper(bench, order().job), signal.SIGKILL)
    state = ended(jobs, order().job)
    assert (state.exit_code, state.reason, state.attempts) == (None, "Killed", 1)
    assert jobs.start(order()).attempts == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param("137 4 5", "OutOfMemory", id="kernel-killed-somebody"),
        pytest.param("137 4 4", "Killed", id="kernel-killed-nobody"),
        pytest.param("137 0 0", "Killed", id="kernel-does-not-tell"),
        pytest.param("1 4 5", "Error", id="not-this-job"),
        pytest.param("", "Killed", id="never-written"),
    ],
)
def test_memory_kills_are_told_from_other_kills(bench: Bench, words: str, reason: str) -> None:
    """An attempt killed by signal 9 while the kernel counted a memory kill ran out of memory."""
    attempt = bench.state / f"jobs/{order().job}/attempts/1"
    attempt.mkdir(parents=True)
    (attempt / "pid").write_text("1")
    (attempt / "exit").write_text(words)
    state = bench.agent().find(order().job)
    assert state is not None
    assert state.reason == reason


def test_nothing_of_a_job_outlives_it(bench: Bench) -> None:
    """A process that the job leaves behind, stubborn or not, is gone when the job has ended."""
    state = run(bench, "leave-child; exit 0")
    assert state.exit_code == 0
    until(lambda: not bench.alive())


def test_one_too_many_waits(bench: Bench) -> None:
    """With all places taken a job is queued without any effect, and starts once there is room."""
    jobs = bench.agent("await go", max_parallel=2)
    assert [jobs.start(order(n)).phase for n in (0, 1)] == [JobPhase.RUNNING] * 2
    waiting = bench.agent("exit 0", max_parallel=2).start(order(2))
    assert (waiting.phase, waiting.attempts) == (JobPhase.QUEUED, 0)
    assert jobs.find(order(2).job) is None
    assert not (bench.state / "jobs" / order(2).job).exists()
    assert bench.agent(max_parallel=1).start(order(2)).phase is JobPhase.QUEUED
    (bench.store / "go").touch()
    for n in (0, 1):
        ended(jobs, order(n).job)
    assert jobs.start(order(2)).phase is JobPhase.RUNNING


def mirroring(digit: int = 0) -> TrackOrder:
    """Order the mirror of a run."""
    return TrackOrder(
        model="default/digits", commit="c" * 40, inputs_digest=f"sha256:{digit:064x}", tracking_uri="http://mlflow:5000",
        experiment="x",
    )  # fmt: skip


def test_mirroring_takes_nobodys_place(bench: Bench) -> None:
    """A job that waits for a tracking server keeps no other from starting; of its own kind one runs at a time."""
    jobs = bench.agent("await go")
    assert jobs.start(mirroring()).phase is JobPhase.RUNNING
    assert jobs.start(mirroring(1)).phase is JobPhase.QUEUED
    assert jobs.start(order()).phase is JobPhase.RUNNING
    assert jobs.start(order(1)).phase is JobPhase.QUEUED
    assert jobs.running() == sorted([mirroring().job, order().job])
    (bench.store / "go").touch()
    ended(jobs, mirroring().job)
    assert jobs.start(mirroring(1)).phase is JobPhase.RUNNING


def test_places_are_counted_across_agents(bench: Bench) -> None:
    """Many agents that start different jobs at once never run more than the places allow."""
    found: list[JobPhase] = []

    def start(n: int) -> None:
        found.append(bench.agent(command=SHELL, max_parallel=2).start(order(n)).phase)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(JobPhase.RUNNING) == 2
    assert len(bench.agent().running()) == 2


RACER = """
import sys; from pathlib import Path; from adapters.jobs_local import LocalJobs; from specs.workorders import decode
state, began, places, *command = sys.argv[1:]
jobs = LocalJobs(Path(state), "s", command=command, max_parallel=int(places),
    environment={"BEGAN": began, "BENCH": str(Path(began).parent)})
print("ready", flush=True)
for line in sys.stdin:
    print(jobs.start(decode(line.encode())).phase.value, flush=True)
"""


@pytest.mark.parametrize("places", [1, 3], ids=["one-place", "three-places"])
def test_two_agents_at_once_start_one_process(bench: Bench, places: int) -> None:
    """In every one of many rounds, two agents that start the same job at once bring about one process."""
    command = [sys.executable, "-c", RACER, str(bench.state), str(bench.store / "began"), str(places), *SHELL]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]

    def tell(racer: subprocess.Popen[str], line: str) -> None:
        assert racer.stdin is not None
        racer.stdin.write(line + "\n")
        racer.stdin.flush()

    def hear(racer: subprocess.Popen[str]) -> str:
        assert racer.stdout is not None
        return racer.stdout.readline().strip()

    assert [hear(racer) for racer in racers] == ["ready", "ready"]
    for n in range(1, 21):
        for racer in racers:
            tell(racer, order(n).encode().decode())
        answers = {hear(racer) for racer in racers}
        # The slower one may see the only place taken before it can see by whom.
        assert answers == {"Running"} or (places == 1 and answers == {"Running", "Queued"}), f"round {n}"
        until(lambda n=n: len(bench.began()) >= n)  # type: ignore[misc]
        time.sleep(0.03)  # a second process would need a moment to show up
        bench.agent().stop_all(grace=1)
        assert len(bench.began()) == n
        assert [p.name for p in (bench.state / f"jobs/{order(n).job}/attempts").iterdir()] == ["1"]
    for racer in racers:
        racer.communicate(timeout=20)


def test_a_starter_killed_anywhere_leaves_one_process_or_none(bench: Bench) -> None:
    """Whichever line of start() an agent dies at, the next agent ends up with one process and one attempt."""
    jobs = bench.agent(command=SHELL)
    line, died = 0, True
    while died:
        line += 1
        died = die_at_line(line, partial(jobs.start, order(line)), of="adapters/")
        assert jobs.start(order(line)).phase is JobPhase.RUNNING, f"line {line}"
        until(lambda n=line: len(bench.began()) >= n)  # type: ignore[misc]
        assert jobs.find(order(line).job) is not None
        jobs.stop_all(grace=2)
        assert len(bench.began()) == line, f"started twice when killed at line {line}"
        attempts = bench.state / f"jobs/{order(line).job}/attempts"
        assert [p.name for p in attempts.iterdir()] == ["1"], f"line {line}"
    assert line > 30, "the trace saw too little to mean anything"


def test_stopping_leaves_no_process(bench: Bench) -> None:
    """After stop_all nothing of any job lives, however stubborn."""
    jobs = bench.agent("stubborn; leave-child; sleep 60", max_parallel=2)
    for n in (0, 1):
        jobs.start(order(n))
    until(lambda: len(bench.began()) == 2)
    assert jobs.stop_all(grace=0.2) == sorted(order(n).job for n in (0, 1))
    assert jobs.running() == []
    until(lambda: not bench.alive())
    assert jobs.stop_all(grace=0.2) == []


def test_being_stopped_is_not_the_jobs_fault(bench: Bench) -> None:
    """An attempt that we stopped does not count; the next one is the first."""
    jobs = bench.agent("say epoch 3; sleep 60")
    jobs.start(order())
    until(lambda: "epoch" in (jobs.log_path(order().job) or Path(os.devnull)).read_text())
    jobs.cancel(order().job)
    state = ended(jobs, order().job)
    assert (state.attempts, state.exit_code, state.reason) == (0, 143, "Cancelled")
    assert "epoch 3" in state.message
    assert jobs.start(order()).attempts == 1


def test_a_number_used_again_is_left_alone(bench: Bench) -> None:
    """Whether a job lives does not hang on process numbers: a stranger with its old number is not it, nor killed."""
    run(bench, "exit 0")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        folder = bench.state / f"jobs/{order().job}"
        for path in (folder / "attempts/1/pid", folder / "lock"):
            path.write_text(f"{stranger.pid}\n")
        jobs = bench.agent()
        assert ended(jobs, order().job).exit_code == 0
        jobs.cancel(order().job)
        jobs.stop_all(grace=0)
        assert stranger.poll() is None
        stranger.kill()


def test_forgetting(bench: Bench) -> None:
    """A forgotten job never was; one that runs cannot be forgotten."""
    jobs = bench.agent("sleep 60")
    jobs.start(order())
    with pytest.raises(Transient, match="runs; cancel it") as refused:
        jobs.forget(order().job)
    assert refused.value.reason == "JobRunning"
    jobs.cancel(order().job)
    jobs.forget(order().job)
    assert jobs.find(order().job) is None
    assert [p.name for p in (bench.state / "jobs").iterdir()] == [".slots"]
    assert jobs.start(order()).attempts == 1


def test_only_the_newest_logs_are_kept(bench: Bench) -> None:
    """Old attempts lose their logs, the newest five keep them."""
    jobs = bench.agent(command=["/bin/sh", "-c", "exit 1", "tiny"])
    for n in range(1, 8):
        jobs.start(order())
        assert ended(jobs, order().job).attempts == n
    logs = sorted(p.parent.name for p in (bench.state / f"jobs/{order().job}/attempts").glob("*/log.txt"))
    assert logs == ["3", "4", "5", "6", "7"]


@pytest.mark.parametrize("name", ["", "..", "../jobs", "a/b", ".slots", "A", "a" * 200, "x\n"], ids=repr)
def test_names_cannot_leave_the_folder(bench: Bench, name: str) -> None:
    """A name that is no name is refused before it touches a file."""
    jobs = bench.agent()
    for act in (jobs.find, jobs.cancel, jobs.forget, jobs.log_path):
        with pytest.raises(Stalled, match="is no name"):
            act(name)


def test_a_missing_program_is_an_end_like_others(bench: Bench) -> None:
    """A command that does not exist ends the attempt with a message that names it."""
    jobs = bench.agent(command=["no-such-program"])
    jobs.start(order())
    state = ended(jobs, order().job)
    assert (state.exit_code, state.reason) == (127, "Error")
    assert "no-such-program" in state.message


def test_trouble_with_the_disk_is_transient(bench: Bench) -> None:
    """Where the state folder cannot be written, the error says where and what to do, and may be tried again."""
    bench.state.write_text("in the way")
    with pytest.raises(Transient, match="free space or mend the rights") as trouble:
        bench.agent().start(order())
    assert trouble.value.reason == "LocalRuntime"
    assert isinstance(trouble.value.__cause__, OSError)
