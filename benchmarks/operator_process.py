"""The operator as it is shipped, for the benchmark: its own requests go to the API server itself.

Before kube-testserver stands a gateway that mends watches (tests/support/watch_gateway.py); kopf needs it. What else
went through it would measure the gateway. The variable DIRECT names the kubeconfig without it.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import kopf
import uvloop

from adapters.kubernetes_api import KubernetesApi
from controller import cluster
from controller.operator import install


class DirectApi(KubernetesApi):
    """The API without the gateway."""

    @classmethod
    def connect(cls, **how: Any) -> KubernetesApi:
        """Connect as the file says that DIRECT names."""
        return super().connect(**{**how, "kubeconfig": os.environ["DIRECT"]})


def main() -> None:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    install(registry, lambda: cluster.host(api_type=DirectApi))
    kopf.run(registry=registry, clusterwide=True, standalone=True, loop=uvloop.new_event_loop())  # as `kopf run` does


if __name__ == "__main__":
    main()
