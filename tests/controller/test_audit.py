"""The audit: what the API lists and no watch told."""

from __future__ import annotations

import uuid
from threading import Event

import yaml

from adapters.kubernetes_api import MODEL_SPEC, KubernetesApi
from controller.audit import Audit
from controller.informer import Change, Informer
from specs.modelspec import ModelKey
from tests.support.apiserver import ApiServer
from tests.support.place import SPEC


def test_a_blind_watch_is_told_from_a_late_one(api_server: ApiServer) -> None:
    """Once may be a burst; missed twice in a row is blindness, and one told object ends it."""
    api_server.install_modelspecs()
    namespace = f"audit-{uuid.uuid4().hex[:8]}"
    text = SPEC.replace("TRAIN", "sha256:" + "a" * 64).replace("GOLDEN", "sha256:" + "b" * 64)
    path = f"/apis/trunkline.dev/v1alpha1/namespaces/{namespace}/modelspecs/digits"
    api_server.apply(path, yaml.safe_load(text)).raise_for_status()
    informer, hurry, told = Informer(lambda: 0.0), Event(), list[Change]()
    hurry.set()  # nobody waits for a watch that is not there
    audit = Audit(KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig)), informer, [namespace])
    found = []
    for _ in range(2):
        audit.once(hurry, told.append)
        found.append(audit.missed)
    assert found == [0, 1]
    informer.saw(MODEL_SPEC, None, api_server.get(path))
    audit.once(hurry, told.append)
    assert (audit.missed, told) == (0, [])
    api_server.delete(path)
    audit.once(hurry, told.append)
    assert told == [Change(ModelKey(namespace, "digits"), desired=True, gone=True)]
