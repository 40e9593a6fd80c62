"""``trunkline bom``: the bill of materials of a release."""

from __future__ import annotations

import click

from controller.commands.lineage import wanted
from controller.console import print_json, settings
from controller.past import pulls, release, told
from reconcilers.bom import bom as document


@click.command()
@click.argument("target", metavar="MODEL[@vN]")
def bom(target: str) -> None:
    """Print the bill of materials of a release, the newest unless @vN is given: CycloneDX 1.6 JSON.

    Its machine-learning-model carries a model card: task, architecture, data sets, metrics with confidence intervals.
    Exports, data sets and a base model are its parts; commit, evidence and pull request its pedigree and references.
    The same release always gives the same document.
    """
    found = settings()
    model, version = wanted(target)
    past = told(found, model)
    event = release(past, version)
    asked, _ = pulls(found, [event.step])
    url = next((pull.url for pull in asked or () if pull.merge_commit == event.step.sha), "")
    print_json(document(event, pull_url=url))
