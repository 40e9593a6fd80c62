"""``trunkline``: the command line. Every command prints for people, or JSON with ``--json``.

Exit codes: 0 done · 1 something must be mended by a person · 2 wrong usage · 3 trouble that may pass, try again.
"""

from __future__ import annotations

import importlib
import sys

import click

from specs.errors import Transient, TrunklineError

COMMANDS = {
    "init": ("controller.commands.init", "init"),
    "check": ("controller.commands.check", "check"),
    "plan": ("controller.commands.plan", "plan"),
    "ci": ("controller.commands.ci", "ci"),
    "agent": ("controller.commands.agent", "agent"),
    "device": ("controller.commands.device", "device"),
    "fleet": ("controller.commands.fleet", "fleet"),
    "down": ("controller.commands.agent", "down"),
    "jobs": ("controller.commands.jobs", "jobs"),
    "logs": ("controller.commands.jobs", "logs"),
    "retry": ("controller.commands.jobs", "retry"),
    "status": ("controller.commands.status", "status"),
    "signals": ("controller.commands.signals", "signals"),
    "tensorboard": ("controller.commands.tensorboard", "tensorboard"),
    "history": ("controller.commands.history", "history"),
    "why": ("controller.commands.lineage", "why"),
    "verify-history": ("controller.commands.verify_history", "verify_history"),
    "bom": ("controller.commands.bom", "bom"),
    "deny": ("controller.commands.deny", "deny"),
    "tuning": ("controller.commands.tuning", "tuning"),
    "reproduce": ("controller.commands.reproduce", "reproduce"),
    "pr": ("controller.commands.pulls", "pulls"),
    "data": ("controller.commands.data", "data"),
    "labels": ("controller.commands.labels", "labels"),
    "alerts": ("controller.commands.alerts", "alerts"),
    "keys": ("controller.commands.signing", "keys"),
    "sign": ("controller.commands.signing", "sign"),
    "verify": ("controller.commands.signing", "verify"),
    "kube": ("controller.commands.kube", "kube"),
    "crds": ("controller.commands.crds", "crds"),
}
"""Command name to where it is, so that each one starts without loading the others."""


class _Lazy(click.Group):
    """Loads a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.command(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 a person must mend something, 2 wrong usage, 3 trouble that may pass.",
)
@click.version_option(package_name="trunkline")
def cli() -> None:
    """What is on trunk is what runs.

    A ModelSpec in git says which model you want: data, training, gates, exports, serving. Trunkline trains, exports
    and serves until the world agrees, and opens a pull request when the file has to change.

    \b
    Start here:    trunkline init, then put a ModelSpec into the repository
    Every day:     trunkline status, trunkline signals, trunkline pr list, trunkline history MODEL
    Before merge:  trunkline check FILE, trunkline plan --pr N
    Afterwards:    trunkline history, trunkline why DIGEST, trunkline verify-history
    In a cluster:  trunkline kube status, trunkline kube why MODEL
    """


def main() -> None:
    """Run the command line; errors are one clear paragraph, never a traceback."""
    try:
        # In this mode click gives the code of a command that ended early back, and None for one that just ended.
        sys.exit(cli(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except TrunklineError as error:
        click.echo(click.style(f"{error.reason}: ", fg="red", bold=True, reset=True) + error.message, err=True)
        sys.exit(3 if isinstance(error, Transient) else 1)


if __name__ == "__main__":
    main()
