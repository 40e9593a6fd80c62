"""``trunkline alerts``: what a Prometheus must know to ring when a model goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from adapters.source_git import GitSource
from controller import wiring
from controller.commands.check import files_in
from controller.console import settings
from specs import alert_rules
from specs.errors import Stalled
from specs.manifest import load, parse
from specs.modelspec import ModelKey, Spec

_NAME = "trunkline-models"


@click.group()
def alerts() -> None:
    """Rules for Prometheus, made from what ModelSpecs watch."""


@alerts.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--kind", type=click.Choice(["rules", "PrometheusRule"]), default="rules", show_default=True,
              help="A file for Prometheus' rule_files, or an object for the Prometheus operator.")  # fmt: skip
@click.option("--namespace", default="monitoring", show_default=True, help="Of the PrometheusRule.")
@click.option("--name", default=_NAME, show_default=True, help="Of the PrometheusRule.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE",
              help="A label that your Prometheus selects rules by; may be given several times.")  # fmt: skip
def rules(
    files: tuple[Path, ...], kind: Literal["rules", "PrometheusRule"], namespace: str, name: str,
    labels: tuple[str, ...],
) -> None:  # fmt: skip
    """Print alerting rules for all models in FILES (or folders), or on the tracked branch where none are given.

    Prometheus needs the servers' metrics for them, and those of the operator or agent. Make them anew when a spec
    changes: the same specs always give the same text.

    \b
    trunkline alerts rules > trunkline-models.yaml
    trunkline alerts rules models/ --kind PrometheusRule --label release=prometheus | kubectl apply -f -
    """
    models = _written(files) if files else _tracked()
    found = (alert_rules.group_of(key, spec) for key, spec in sorted(models.items()))
    groups = [group for group in found if group is not None]
    if not groups:
        words = "none of these models has spec.monitoring; docs/monitoring.md shows how to watch one"
        raise Stalled("NothingWatched", words)
    if kind == "rules":
        click.echo(alert_rules.as_file(groups), nl=False)
    else:
        pairs = dict(label.partition("=")[::2] for label in labels)
        click.echo(alert_rules.as_manifest(groups, namespace, name, pairs), nl=False)


def _written(files: tuple[Path, ...]) -> dict[ModelKey, Spec]:
    loaded = (each for file in files_in(files) for each in load(file.read_text(encoding="utf-8"), str(file)))
    return {each.model.key: each.model.spec for each in loaded}


def _tracked() -> dict[ModelKey, Spec]:
    found = settings()
    source = GitSource(wiring.repository(found), prefix=found.prefix)
    source.refresh()
    sourced = filter(None, map(source.get, source.keys()))
    return {each.key: parse(each.text, each.path, each.key).model.spec for each in sourced}
