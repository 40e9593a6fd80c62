"""``trunkline tensorboard``: the runs of a model in TensorBoard, side by side."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from adapters.store import Store
from controller import wiring
from controller.console import console, settings
from controller.past import told
from reconcilers.trainings import Training, trainings
from specs.errors import Stalled
from specs.records import EVENT_FILE, RunRecord, run_key

_ADDRESS = re.compile(r" at (http://\S+)")


@click.command()
@click.argument("model")
@click.option("--run", "chosen", multiple=True, metavar="RUN",
              help="Show only this one: v3, `candidate`, or the beginning of its inputs digest.")  # fmt: skip
@click.option("--port", default=6006, show_default=True, help="Where TensorBoard listens; 0 takes a free one.")
@click.option("--host", default="localhost", show_default=True, help="On which address.")
@click.option("--open/--no-open", "opens", default=True, help="Whether to open it in the browser.")
def tensorboard(model: str, chosen: tuple[str, ...], port: int, host: str, opens: bool) -> None:
    """Show the runs of MODEL in TensorBoard: released, candidate, and all that were asked for before.

    Curves, pictures and the layers of each training whose spec had `tracking: {tensorboard: true}`. They are brought
    from the store, each one verified, to a folder that TensorBoard reads; Ctrl-C ends it.
    """
    found = settings()
    past = told(found, model)
    (key,) = past.keys
    folder = found.state / "tensorboard" / f"{key.namespace}.{key.name}"
    wanted = [each for each in trainings(past.story, key) if not chosen or any(map(each.is_called, chosen))]
    shown = bring(wiring.store(found), wanted, folder)
    if not shown:
        what = f"run of {key}" if not chosen else f"run of {key} called {', '.join(chosen)}"
        text = f"no {what} has events for TensorBoard; set spec.tracking.tensorboard: true before it trains"
        raise Stalled("NoEvents", text)
    program = _program(folder)
    console().print(f"{', '.join(shown)} in {folder}", soft_wrap=True)
    sys.exit(_serve([program, "--logdir", str(folder), "--host", host, "--port", str(port)], opens=opens))


def bring(store: Store, wanted: Sequence[Training], folder: Path) -> list[str]:
    """Bring the event files that are not there yet, and remove runs that are not wanted; give the names of those shown.

    A run's events never change, so what is there is right.
    """
    shown = []
    for training in wanted:
        text = store.read(run_key(training.inputs_digest))
        digest = RunRecord.decode(text).files.get(EVENT_FILE) if text is not None else None
        if digest is not None:
            target = folder / training.label / EVENT_FILE
            if not target.exists():
                store.fetch_blob(digest, target)
            shown.append(training.label)
    for other in folder.glob("*") if folder.is_dir() else ():
        if other.name not in shown:
            shutil.rmtree(other, ignore_errors=True)
    return shown


def _program(folder: Path) -> str:
    beside = Path(sys.executable).with_name("tensorboard")
    found = str(beside) if beside.exists() else shutil.which("tensorboard")
    if found is None:
        text = f"TensorBoard is not installed here: pip install tensorboard, or point another one at {folder}"
        raise Stalled("TensorBoardMissing", text)
    return found


def _serve(command: Sequence[str], *, opens: bool) -> int:
    """Run TensorBoard to its end, and pass on what it says; give its exit code. It ends with this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout or ():
                click.echo(line, nl=False)
                address = _ADDRESS.search(line)
                if address and opens:
                    click.launch(address[1])
                    opens = False
            return process.wait()
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
