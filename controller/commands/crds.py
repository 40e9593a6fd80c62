"""``trunkline crds``: the CustomResourceDefinition."""

from __future__ import annotations

import click


@click.command()
def crds() -> None:
    """Print the CustomResourceDefinition of ModelSpec.

    \b
    trunkline crds | kubectl apply --server-side -f -
    """
    from specs.crd import crd_yaml  # only this command needs it

    click.echo(crd_yaml(), nl=False)
