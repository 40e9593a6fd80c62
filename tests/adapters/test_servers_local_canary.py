"""The local model server with a version beside what serves, whoever dies meanwhile and whoever else asks."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from adapters.servers_local import LocalServers, Patience
from adapters.store import Store
from specs.errors import Transient
from specs.serving import ServerOptions
from specs.serving_facts import CanaryState, Rejected, ServingState, ServingTarget, Share
from tests.adapters.test_servers_local import Bench, settled, target
from tests.support.living import die_at_line, until

OLD, NEW = target(), target("900e", version=2)
WHY = Rejected(NEW.file, "error rate 0.3 against 0.01")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench that must be left without a process."""
    bench = Bench(tmp_path)
    yield bench
    bench.agent().stop(grace=0)
    until(lambda: not bench.alive())


def part(step: int = 0, weight: int = 0, mirror: int = 0, of: ServingTarget = NEW) -> ServingTarget:
    """Give a target that shall serve beside another, with this share."""
    return replace(of, share=Share(step, weight, mirror))


def beside(state: ServingState | None) -> CanaryState:
    """Give what a state says about the canary, which must be there."""
    assert state is not None
    assert state.canary is not None
    return state.canary


def on_step(bench: Bench, step: int = 1) -> LocalServers:
    """Give an agent whose v2 serves beside v1."""
    servers = bench.agent()
    servers.roll_out(OLD)
    servers.roll_out(part(step, 10))
    return servers


def test_a_canary_goes_its_way(bench: Bench) -> None:
    """It is loaded beside what serves, takes one share after the other, and serves alone in the end."""
    servers = bench.agent()
    alone = servers.roll_out(OLD)
    assert alone.canary is None
    since = 0.0
    for asked in (part(), part(1, mirror=100), part(2, 50)):
        state = servers.roll_out(asked)
        assert replace(state, canary=None) == alone
        canary = beside(state)
        assert (canary.version, canary.file, canary.share, canary.ready) == (2, NEW.file, asked.share, True)
        assert canary.since > since
        since = canary.since
        assert bench.agent().roll_out(asked) == state, "asked again it is no news"
        assert servers.state("digits") == state
    assert len(bench.loads()) == 4
    done = servers.roll_out(NEW)
    assert (done.ready, done.version, done.file, done.canary) == (True, 2, NEW.file, None)
    assert servers.roll_out(part(2, 50)) == done, "what serves is not beside itself"


def test_a_canary_is_given_up(bench: Bench) -> None:
    """Asking for what serves lets it go; why is remembered in the same act, over every death."""
    servers = on_step(bench)
    state = servers.roll_out(OLD, WHY)
    assert (state.version, state.ready, state.canary, state.rejected) == (1, True, None, WHY)
    bench.kill()
    assert settled(bench.agent()) == state
    again = servers.roll_out(part(of=target("900f", version=3)))
    assert (again.rejected, beside(again).version) == (None, 3)


def test_a_canary_that_fails_to_load(bench: Bench) -> None:
    """The failure of the canary is told like any other; what serves serves, and nothing is beside it."""
    servers = bench.agent()
    servers.roll_out(OLD)
    state = servers.roll_out(part(of=target("bad", version=2)))
    assert (state.ready, state.version, state.canary) == (True, 1, None)
    assert (state.failed_file, state.failure) == (target("bad").file, "self-test failed")
    servers.roll_out(OLD)
    with pytest.raises(Transient):
        servers.roll_out(part(of=target("dead", version=3)))
    settled(servers)
    state = servers.roll_out(part(of=target("dead", version=3)))
    assert (state.ready, state.version, state.failed_file) == (True, 1, target("dead").file)
    assert "died 2 times" in state.failure


def test_other_options_reach_both(bench: Bench) -> None:
    """Options are the model's: asked for with a canary they are in force for what serves, too."""
    servers = on_step(bench)
    options = ServerOptions(standby=5)
    state = servers.roll_out(replace(part(1, 10), options=options))
    assert (state.options, beside(state).share) == (options.digest, Share(1, 10))


def test_the_server_dies_with_a_canary(bench: Bench) -> None:
    """Started again it has both, and the share with its since."""
    servers = on_step(bench)
    before = servers.state("digits")
    bench.kill()
    assert settled(bench.agent()) == before
    assert beside(before).share == Share(1, 10)


def test_an_agent_killed_anywhere_in_a_canary(bench: Bench) -> None:
    """Whichever line an agent dies at, v1 serves and the share is the old or the new one; the next agent goes on."""
    servers, line, died = on_step(bench), -1, True
    while died:
        line += 5
        before, wanted = beside(servers.state("digits")).share, part(line + 1, line % 100)
        died = die_at_line(line, partial(servers.roll_out, wanted), of="adapters/server")
        between = servers.state("digits")
        assert (between and (between.ready, between.version)) == (True, 1), f"line {line}"
        assert beside(between).share in (before, wanted.share), f"line {line}"
        done = servers.roll_out(wanted)
        assert beside(done).share == wanted.share, f"line {line}"
        assert servers.roll_out(wanted) == done
    assert line > 50, "the trace saw too little to mean anything"


def test_an_agent_killed_anywhere_in_giving_up(bench: Bench) -> None:
    """Before the note nothing has happened, after it the reason is known, whether or not the canary is gone by then."""
    servers, line, died, noted = on_step(bench), -4, True, False
    while died:
        line += 5
        servers.roll_out(part(line + 3, 10))
        died = die_at_line(line, partial(servers.roll_out, OLD, WHY), of="adapters/server")
        between = servers.state("digits")
        assert between is not None
        assert (between.ready, between.version) == (True, 1), f"line {line}"
        noted = noted or between.rejected == WHY
        assert between.rejected == (WHY if noted else None), f"line {line}"
        assert between.canary is not None or noted, f"line {line}"
        done = servers.roll_out(OLD, WHY)
        assert (done.version, done.rejected, done.canary) == (1, WHY, None), f"line {line}"
    assert line > 50, "the trace saw too little to mean anything"


def test_two_agents_at_once(bench: Bench) -> None:
    """Two that ask for different things at once leave one of them, whole; then asking once more settles it."""
    on_step(bench)
    asked = [part(2, 50), OLD, part(3, mirror=100), OLD]
    threads = [threading.Thread(target=partial(bench.agent().roll_out, each)) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = bench.agent().state("digits")
    assert state is not None
    assert (state.ready, state.version) == (True, 1)
    assert state.canary is None or state.canary.share in (Share(2, 50), Share(3, 0, 100))
    assert beside(bench.agent().roll_out(part(3, mirror=100))).share == Share(3, 0, 100)


def test_an_older_server_is_asked_for_no_canary(bench: Bench) -> None:
    """A server that does not know what a share is would serve the new version alone: it is told instead."""
    servers = bench.agent()
    servers.roll_out(OLD)
    models = bench.folder / "models.json"
    known = json.loads(models.read_text())
    del known["digits"]["canary"]
    models.write_text(json.dumps(known))
    with pytest.raises(Transient, match="older one that knows no canaries"):
        servers.roll_out(part())
    assert bench.loads() == [OLD.file]


@pytest.mark.ml
def test_the_real_server_with_a_canary(bench: Bench, tmp_path: Path) -> None:
    """The server of workloads/serve goes the same way: share, kill, share again, giving up, and serving alone."""
    onnx_models = pytest.importorskip("tests.support.onnx_models")
    store = Store(f"file://{tmp_path / 'store'}")
    models = [onnx_models.publish(store, onnx_models.classifier(seed)) for seed in (0, 1)]
    old, new = (ServingTarget("digits", version, m.run, m.weights, m.file) for version, m in enumerate(models, start=1))
    command = [sys.executable, "-m", "workloads.serve"]
    servers = bench.agent(command=command, store=store.url, patience=Patience(start=60, restart=0))
    servers.roll_out(old)
    state = servers.roll_out(part(1, 50, of=new))
    assert (state.version, beside(state).version, beside(state).ready) == (1, 2, True)
    bench.kill()
    assert settled(servers) == state, "both are back, and the share with its since"
    assert beside(servers.roll_out(part(2, 0, 100, of=new))).share == Share(2, 0, 100)
    given_up = servers.roll_out(old, replace(WHY, file=new.file))
    assert (given_up.version, given_up.canary, given_up.rejected) == (1, None, replace(WHY, file=new.file))
    assert beside(servers.roll_out(part(1, 50, of=new))).ready
    done = servers.roll_out(new)
    assert (done.version, done.ready, done.canary) == (2, True, None)
    assert httpx.get(f"{done.url}/ready").status_code == 200
