"""Status in a cluster: one write where it says something new, and nothing of what came with the answer is lost."""

from __future__ import annotations

import uuid

import yaml

from adapters.kubernetes_api import MODEL_SPEC, KubernetesApi
from controller.informer import Change, Informer
from controller.statuses_kubernetes import ClusterStatuses
from specs.digests import desired_digest
from specs.modelspec import ModelKey
from specs.status import ModelStatus
from tests.support.apiserver import ApiServer
from tests.support.place import SPEC


def test_a_spec_that_changed_under_a_write_is_told(api_server: ApiServer) -> None:
    """The answer to a write may be the first to show somebody's edit, and the watch then brings nothing newer.

    So the model must be looked at again because of the answer; else it waits for the resync.
    """
    api_server.install_modelspecs()
    key = ModelKey(f"status-{uuid.uuid4().hex[:8]}", "digits")
    path = f"/apis/trunkline.dev/v1alpha1/namespaces/{key.namespace}/modelspecs/{key.name}"
    text = SPEC.replace("TRAIN", "sha256:" + "a" * 64).replace("GOLDEN", "sha256:" + "b" * 64)
    api_server.apply(path, yaml.safe_load(text)).raise_for_status()
    informer, told = Informer(lambda: 0.0), list[Change]()
    statuses = ClusterStatuses(KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig)), informer, told.append)
    informer.saw(MODEL_SPEC, None, api_server.get(path))

    assert statuses.write(key, ModelStatus(observed_generation=1, summary="v1 answers"))
    assert not statuses.write(key, ModelStatus(observed_generation=1, summary="v1 answers"))
    assert told == []  # our own change is no news

    edited = api_server.merge(path, {"spec": {"training": {"nonce": "again"}}})
    assert statuses.write(key, ModelStatus(observed_generation=1, summary="waits for its sync"))
    assert told == [Change(key, desired=True)]
    live = informer.model(key)
    assert live is not None
    assert (live.generation, live.digest) == (2, desired_digest(edited["spec"]))
    assert informer.saw(MODEL_SPEC, "MODIFIED", edited) is None  # what the watch brings then is old
