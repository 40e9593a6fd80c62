"""The local model server: a real process, adopted when its agent died, started again when it died itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from adapters import processes
from adapters.servers_local import LocalServers, Patience
from adapters.store import Store
from specs.errors import Stalled, Transient
from specs.serving import ServerOptions
from specs.serving_facts import Rejected, ServingState, ServingTarget
from tests.support.living import alive_with, die_at_line, until

ROOT = Path(__file__).parents[2]
TINY = [sys.executable, "-S", str(ROOT / "tests/support/tiny_server.py")]


class Bench:
    """A state folder, and agents that share it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.folder = self.state / "server"

    def agent(
        self, tiny: str = "", *, command: Sequence[str] = TINY, store: str = "file:///store", port: int = 0,
        patience: Patience = Patience(start=20, restart=0),  # noqa: B008 - frozen
    ) -> LocalServers:  # fmt: skip
        """Give an agent's view of the server."""
        environment = {"TINY": tiny, "BENCH": str(self.state)}
        return LocalServers(self.state, store, command=command, port=port, environment=environment, patience=patience)

    def loads(self) -> list[str]:
        """Give the digests of all loads that were asked for."""
        path = self.folder / "loads"
        return path.read_text().split() if path.exists() else []

    def pid(self) -> int:
        """Give the server's process number."""
        return int(json.loads((self.folder / "address.json").read_text())["pid"])

    def kill(self) -> None:
        """Kill the server and its wrapper, as a power cut would."""
        os.killpg(int((self.folder / "pid").read_text()), signal.SIGKILL)
        # A dying process loses its environment before its files, and so seems gone while it still holds the lock.
        until(lambda: not self.alive() and not processes.held(self.folder / "lock"))

    def alive(self) -> list[int]:
        """Give the numbers of the living processes of this bench's servers."""
        return alive_with("BENCH", str(self.state))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench that must be left without a process."""
    bench = Bench(tmp_path)
    yield bench
    bench.agent().stop(grace=0)
    until(lambda: not bench.alive())


def target(kind: str = "900d", version: int = 1, name: str = "digits") -> ServingTarget:
    """Give a target whose file's digest begins with ``kind``."""
    return ServingTarget(name, version, "sha256:" + "1" * 64, "sha256:" + "2" * 64, "sha256:" + kind.ljust(64, "0"))


def settled(servers: LocalServers, name: str = "digits") -> ServingState | None:
    """Give a model's state once the server answers."""
    answers: list[ServingState | None] = []

    def answered() -> bool:
        try:
            answers.append(servers.state(name))
        except Transient:
            return False
        return True

    until(answered)
    return answers[-1]


def listener(port: int) -> socket.socket:
    """Take a port as soon as it is free: a killed process may have it a moment longer."""
    taken: list[socket.socket] = []

    def take() -> bool:
        with suppress(OSError):
            taken.append(socket.create_server(("127.0.0.1", port)))
        return bool(taken)

    until(take)
    return taken[0]


def test_nothing_is_started_for_nothing(bench: Bench) -> None:
    """Looking and withdrawing start no server where no model was ever asked for."""
    servers = bench.agent()
    assert servers.state("digits") is None
    assert list(servers.names()) == []
    assert servers.url() is None
    servers.withdraw("digits")
    servers.stop()
    assert not bench.state.exists()


def test_a_target_serves(bench: Bench) -> None:
    """A rolled out target is what the server says it serves, at an address that answers."""
    servers = bench.agent()
    state = servers.roll_out(target())
    assert (state.name, state.ready, state.version, state.file) == ("digits", True, 1, target().file)
    assert (state.failed_file, state.failure) == (None, "")
    assert servers.state("digits") == state
    assert servers.names() == ["digits"]
    url = servers.url()
    assert url is not None
    assert state.url == f"{url}/v2/models/digits"
    assert httpx.get(f"{url}/v2/health/live").status_code == 200
    assert servers.state("another") is None


def test_grpc_is_spoken_where_it_is_asked_for(bench: Bench) -> None:
    """The server is told to speak gRPC by an agent that has a port for it, and by no other."""
    bench.agent().roll_out(target())
    said = [Path(f"/proc/{bench.pid()}/cmdline").read_bytes().split(b"\0")]
    bench.agent().stop()
    environment, patience = {"TINY": "", "BENCH": str(bench.state)}, Patience(restart=0)
    asking = LocalServers(
        bench.state, "file:///store", command=TINY, environment=environment, patience=patience, grpc_port=8001
    )  # fmt: skip
    asking.roll_out(target())
    said.append(Path(f"/proc/{bench.pid()}/cmdline").read_bytes().split(b"\0"))
    asking.stop()
    assert [b"--grpc-port" in arguments for arguments in said] == [False, True]
    assert said[1][said[1].index(b"--grpc-port") + 1] == b"8001"


def test_what_serves_is_not_loaded_again(bench: Bench) -> None:
    """Asking for what serves already changes nothing; the same file as another version is another target."""
    servers = bench.agent()
    first = servers.roll_out(target())
    assert bench.agent().roll_out(target()) == first
    assert bench.loads() == [target().file]
    assert servers.roll_out(target(version=2)).version == 2
    assert len(bench.loads()) == 2


def test_one_server_serves_all_models(bench: Bench) -> None:
    """Models share one process, and one can go while the other stays."""
    servers = bench.agent()
    servers.roll_out(target(name="digits"))
    pid = bench.pid()
    servers.roll_out(target("900e", name="retail.shelf"))
    assert servers.names() == ["digits", "retail.shelf"]
    servers.withdraw("digits")
    assert servers.names() == ["retail.shelf"]
    assert servers.state("digits") is None
    assert bench.pid() == pid
    servers.withdraw("digits")


def test_a_failing_load_keeps_what_serves(bench: Bench) -> None:
    """Where a target fails, the one before stays ready, and the failure is told until another one is asked for."""
    servers = bench.agent()
    servers.roll_out(target())
    state = servers.roll_out(target("bad", version=2))
    assert (state.ready, state.version, state.file) == (True, 1, target().file)
    assert (state.failed_file, state.failure) == (target("bad").file, "self-test failed")
    assert bench.agent().state("digits") == state
    healed = servers.roll_out(target("900e", version=3))
    assert (healed.version, healed.failed_file, healed.failure) == (3, None, "")


def test_what_is_made_of_a_file_is_asked_for(bench: Bench) -> None:
    """The server is told what to make of the file, and another format of the same file is another load."""
    servers = bench.agent()
    servers.roll_out(target())
    made = replace(target(), build="openvino")
    assert servers.roll_out(made).build == "openvino"
    assert servers.roll_out(made) == servers.state("digits")
    assert servers.roll_out(target()).build in (None, "")
    assert len(bench.loads()) == 3


def test_only_what_was_made_of_it_is_given_up(bench: Bench) -> None:
    """A file that the server dies of while it makes one format of it is tried again where another is asked for."""
    servers = bench.agent()
    dead = replace(target("dead"), build="engine")
    for _ in range(2):
        with suppress(Transient):
            servers.roll_out(dead)
    state = settled(servers)
    assert state is not None
    assert (state.failed_file, state.failed_build) == (dead.file, "engine")
    assert state.has_failed(dead)
    assert not state.has_failed(target("dead"))
    loads = len(bench.loads())
    with suppress(Transient):
        servers.roll_out(target("dead"))
    assert len(bench.loads()) == loads + 1


def test_a_first_load_that_fails(bench: Bench) -> None:
    """Where the very first target fails, nothing is ready, and the failure is told."""
    state = bench.agent().roll_out(target("bad"))
    assert (state.ready, state.file, state.failed_file) == (False, None, target("bad").file)


def test_a_server_outlives_its_agent(bench: Bench) -> None:
    """After SIGKILL of the agent the same process serves on, and the next agent adopts it."""
    code = (
        "import os, sys; from pathlib import Path; from adapters.servers_local import LocalServers\n"
        "from specs.serving_facts import ServingTarget\n"
        "state, file, *command = sys.argv[1:]\n"
        "servers = LocalServers(Path(state), 'file:///store', command=command, environment={'BENCH': state})\n"
        "servers.roll_out(ServingTarget('digits', 1, 'r', 'w', file)); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(bench.state), target().file, *TINY]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    pid = bench.pid()
    servers = bench.agent()
    state = servers.state("digits")
    assert state is not None
    assert state.file == target().file
    servers.roll_out(target("900e", version=2))
    assert bench.pid() == pid


def test_a_dead_server_comes_back(bench: Bench) -> None:
    """A server that died is started again by the next look, at the same address, with its models."""
    servers = bench.agent()
    before = servers.roll_out(target())
    for look in (lambda: servers.state("digits"), servers.names):
        bench.kill()
        with pytest.raises(Transient, match="started again") as wait:
            look()
        assert wait.value.reason == "ServerUnavailable"
        assert settled(servers) == before
    assert bench.loads() == [target().file]


def test_a_server_that_keeps_dying_is_not_started_all_the_time(bench: Bench) -> None:
    """Between two starts there is a pause, in which looking starts nothing."""
    servers = bench.agent(patience=Patience(restart=3600))
    servers.roll_out(target())
    bench.kill()
    for _ in range(3):
        with pytest.raises(Transient):
            servers.state("digits")
    assert bench.alive() == []


def test_a_new_agent_restarts_what_an_old_one_served(bench: Bench) -> None:
    """Where agent and server are both gone, the state folder tells the next agent to serve again."""
    before = bench.agent().roll_out(target())
    bench.agent().stop()
    assert bench.alive() == []
    assert settled(bench.agent()) == before


def test_a_stopped_server_comes_back_at_its_address(bench: Bench) -> None:
    """A server that took its address back when it was stopped politely still gets the same port again."""
    before = bench.agent().roll_out(target())
    bench.agent().stop()
    assert not (bench.folder / "address.json").exists()
    again = bench.agent().roll_out(target("900e", version=2))
    assert again.url == before.url


def test_withdrawing_from_a_dead_server(bench: Bench) -> None:
    """A model that is withdrawn while the server is dead does not come back with it."""
    servers = bench.agent()
    servers.roll_out(target())
    bench.kill()
    servers.withdraw("digits")
    bench.kill()
    assert servers.state("digits") is None
    assert list(servers.names()) == []
    assert bench.alive() == []


def test_a_taken_port_is_named(bench: Bench) -> None:
    """Where another program took the server's port meanwhile, the error names it; then it comes back there."""
    servers = bench.agent()
    before = servers.roll_out(target())
    port = httpx.URL(before.url).port
    assert port is not None
    bench.kill()
    with listener(port):
        for _ in range(2):
            with pytest.raises(Transient, match=f"port {port} of 127.0.0.1 belongs to another program") as taken:
                servers.state("digits")
            assert taken.value.reason == "PortTaken"
        with pytest.raises(Transient, match=str(port)):
            servers.roll_out(target("900e"))
    assert settled(servers) == before


def test_a_given_port_is_used(bench: Bench) -> None:
    """A configured port is the server's port."""
    with listener(0) as free:
        port = free.getsockname()[1]
    assert bench.agent(port=port).ensure() == f"http://127.0.0.1:{port}"


def test_a_server_that_cannot_start_tells_why(bench: Bench) -> None:
    """A server that ends at once is reported with its last words, without waiting for the time-out."""
    with pytest.raises(Transient, match=r"ended as soon as it was started.*no such device") as trouble:
        bench.agent("broken").roll_out(target())
    assert trouble.value.reason == "ServerUnavailable"
    assert bench.loads() == []


def test_a_server_that_never_answers(bench: Bench) -> None:
    """A server that lives but does not answer is waited for until the time-out, then reported; nothing hangs."""
    servers = bench.agent("mute", patience=Patience(start=0.5, restart=0))
    with pytest.raises(Transient, match=r"does not answer 0\.5 s after its start"):
        servers.roll_out(target())
    with pytest.raises(Transient, match="has not said yet where it listens"):
        servers.state("digits")
    assert servers.url() is None


def test_a_frozen_server_is_not_waited_for(bench: Bench) -> None:
    """A server that hangs in the middle is Transient, and answers again once it goes on."""
    servers = bench.agent(patience=Patience(request=0.3))
    before = servers.roll_out(target())
    os.kill(bench.pid(), signal.SIGSTOP)
    with pytest.raises(Transient, match="does not answer"):
        servers.state("digits")
    os.kill(bench.pid(), signal.SIGCONT)
    assert settled(servers) == before


def test_a_target_that_kills_the_server_is_given_up(bench: Bench) -> None:
    """The first death at a load may be chance; after the second the target has failed, and the old one serves."""
    servers = bench.agent()
    servers.roll_out(target())
    with pytest.raises(Transient, match="does not answer"):
        servers.roll_out(target("dead", version=2))
    settled(servers)
    state = bench.agent().roll_out(target("dead", version=2))
    assert (state.ready, state.file, state.failed_file) == (True, target().file, target("dead").file)
    assert "died 2 times" in state.failure
    assert bench.agent().roll_out(target("dead", version=2)) == state
    assert servers.state("digits") == state
    assert bench.loads().count(target("dead").file) == 2
    assert servers.roll_out(target("900e", version=3)).failure == ""


LIVE = Rejected(target("900e").file, "error rate 0.3 against 0.01")


def on_trial(bench: Bench) -> LocalServers:
    """Give an agent whose v2 serves after v1."""
    servers = bench.agent()
    servers.roll_out(target())
    servers.roll_out(target("900e", version=2))
    return servers


def test_what_was_rejected_is_remembered_with_the_fall_back(bench: Bench) -> None:
    """Falling back remembers what was given up and why, for every agent, over every death, until the next release."""
    servers = on_trial(bench)
    state = servers.roll_out(target(), LIVE)
    assert (state.ready, state.version, state.rejected, state.failed_file) == (True, 1, LIVE, None)
    assert servers.roll_out(target()) == state
    bench.kill()
    assert settled(bench.agent()) == state
    options = ServerOptions(standby=5)
    told = servers.roll_out(replace(target(), options=options))
    assert (told.options, told.rejected) == (options.digest, LIVE)
    assert servers.roll_out(target(version=3)).rejected is None
    assert bench.agent().roll_out(target("900e", version=4)).rejected is None


def test_what_was_rejected_is_remembered_where_the_fall_back_fails(bench: Bench) -> None:
    """Where the version before does not load any more, both verdicts are told, and what was given up answers on."""
    servers = on_trial(bench)
    state = servers.roll_out(target("bad", version=1), LIVE)
    assert (state.ready, state.version, state.rejected, state.failed_file) == (True, 2, LIVE, target("bad").file)
    assert bench.agent().state("digits") == state


def test_an_agent_killed_anywhere_in_a_fall_back(bench: Bench) -> None:
    """Whichever line an agent dies at while it falls back: before the note nothing happened, after it all is known."""
    servers, line, died, noted = on_trial(bench), -1, True, False
    while died:
        line += 2
        servers.roll_out(target("900e", version=line + 2))
        died = die_at_line(line, partial(servers.roll_out, target(), LIVE), of="adapters/servers_local.py")
        between = servers.state("digits")
        assert between is not None
        assert between.ready, f"line {line}"
        noted = noted or between.rejected == LIVE
        assert between.rejected == (LIVE if noted else None), f"line {line}"
        assert between.version == line + 2 or noted, f"line {line}"
        done = servers.roll_out(target(), LIVE)
        assert (done.version, done.file, done.rejected) == (1, target().file, LIVE), f"line {line}"
    assert line > 50, "the trace saw too little to mean anything"


def test_a_busy_server_is_asked_again(bench: Bench) -> None:
    """An answer that means "not now" is Transient and no failure of the target."""
    servers = bench.agent()
    servers.roll_out(target())
    with pytest.raises(Transient, match="another load is running"):
        servers.roll_out(target("busy", version=2))
    state = servers.state("digits")
    assert state is not None
    assert (state.version, state.failed_file) == (1, None)


def test_a_lost_answer_is_no_failure(bench: Bench) -> None:
    """A load that takes longer than we wait is Transient; the next look sees that it went well."""
    servers = bench.agent(patience=Patience(load=0.2))
    with pytest.raises(Transient, match="does not answer"):
        servers.roll_out(target("510"))
    until(lambda: servers.names() and (servers.state("digits") or target()).file == target("510").file)
    assert servers.roll_out(target("510")).ready
    assert bench.loads() == [target("510").file]


def test_agents_at_once_start_one_server(bench: Bench) -> None:
    """Many agents that need the server at the same moment end up with the same one."""
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(bench.agent().ensure())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 6
    assert len(set(urls)) == 1
    assert len(bench.alive()) == 2, "one server and its wrapper"


def test_no_secret_reaches_the_server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sees the allowed variables only."""
    monkeypatch.setenv("FORGE_TOKEN", "hush-4711")
    url = bench.agent().ensure()
    assert "hush-4711" not in httpx.get(f"{url}/environment").text


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A b"], ids=repr)
def test_names_cannot_leave_the_folder(bench: Bench, name: str) -> None:
    """A name that is no name is refused before it touches a file or a URL."""
    servers = bench.agent()
    for act in (servers.state, servers.withdraw, lambda n: servers.roll_out(target(name=n))):
        with pytest.raises(Stalled, match="is no name"):
            act(name)
    assert not bench.state.exists()


def test_an_agent_killed_anywhere_in_a_roll_out(bench: Bench) -> None:
    """Whichever line an agent dies at while it rolls out, a model serves all the time, and the next agent finishes."""
    servers = bench.agent()
    servers.roll_out(target("0"))
    pid, line, died = bench.pid(), 0, True
    while died:
        line += 1
        wanted = target(f"{line:04x}", version=line)
        died = die_at_line(line, partial(servers.roll_out, wanted), of="adapters/servers_local.py")
        between = servers.state("digits")
        assert between is not None
        assert between.ready, f"line {line}"
        assert between.version in {line - 1 or 1, line}, f"line {line}"
        done = servers.roll_out(wanted)
        assert (done.ready, done.version, done.file, done.failure) == (True, line, wanted.file, ""), f"line {line}"
        assert bench.loads().count(wanted.file) == 1, f"line {line}"
    assert bench.pid() == pid
    assert line > 50, "the trace saw too little to mean anything"


@pytest.mark.ml
def test_the_real_server(bench: Bench, tmp_path: Path) -> None:
    """The server of workloads/serve loads, refuses, is adopted, comes back after a kill and a stop, and unloads."""
    onnx_models = pytest.importorskip("tests.support.onnx_models")
    store = Store(f"file://{tmp_path / 'store'}")
    models = [onnx_models.publish(store, onnx_models.classifier(seed)) for seed in (0, 1)]
    first, second = (
        ServingTarget("digits", version, m.run, m.weights, m.file) for version, m in enumerate(models, start=1)
    )
    absent = ServingTarget("digits", 9, first.run, first.weights, "sha256:" + "0" * 64)

    def agent() -> LocalServers:
        command = [sys.executable, "-m", "workloads.serve"]
        return bench.agent(
            command=command, store=f"file://{tmp_path / 'store'}", patience=Patience(start=60, restart=0)
        )

    before = agent().roll_out(first)
    assert (before.ready, before.version, before.file) == (True, 1, first.file)
    assert httpx.get(before.url + "/ready").status_code == 200
    refused = agent().roll_out(absent)
    assert (refused.ready, refused.file, refused.failed_file) == (True, first.file, absent.file)
    assert refused.failure
    pid = bench.pid()
    assert agent().roll_out(second).file == second.file
    assert bench.pid() == pid
    bench.kill()
    revived = settled(agent())
    assert revived is not None
    assert (revived.ready, revived.file, revived.url) == (True, second.file, before.url)
    agent().stop()
    assert bench.alive() == []
    assert agent().roll_out(first).url == before.url
    agent().withdraw("digits")
    assert agent().state("digits") is None
    assert list(agent().names()) == []
