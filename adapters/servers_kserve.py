"""Serving by KServe: one InferenceService for each model, with our server in it.

A revision that cannot load never gets requests, so the last good one goes on answering. A canary is the newest
revision, which gets its share by ``canaryTrafficPercent``. To let one go, its place is taken by what serves already,
which gets no requests either until it is loaded: only then is the share dropped. So requests never reach what was
given up, whenever this process dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from adapters.kserve_status import Told, mode_of, of_deployment
from adapters.kubernetes_api import CONFIG_MAP, DEPLOYMENT, INFERENCE_SERVICE, POD, Kind, KubernetesApi, Object
from adapters.kubernetes_children import Children
from adapters.kubernetes_kserve import (
    KNATIVE,
    STANDARD,
    TEMPLATE,
    Memory,
    inference_service,
    kserve_labels,
    kserve_name,
    memory_map,
    predictor,
)  # fmt: skip
from adapters.kubernetes_pods import MODEL, Owners, PodStyle, selector
from adapters.kubernetes_serving import FILE, SERVE, VERSION, Failure, style_digest
from adapters.kubernetes_verdicts import answering, failure, hindrance
from specs.errors import Stalled, Transient
from specs.modelspec import ModelKey
from specs.names import model_of_serving_name, serving_name
from specs.serving_facts import CanaryState, Rejected, ServingState, ServingTarget, Share

Lookup = Callable[[str, str], Object | None]
"""Looks up an object by namespace and name, in a cache that may be a little behind."""
_MOST = 99
"""Per cent that a canary gets at most: of one that had all, KServe would forget what served before."""


class KServeServers:
    """Serves releases by InferenceServices named ``kserve-<model>`` in the namespace of the model.

    ``mode`` is how KServe runs new ones, Knative or Standard; it cannot be changed for those that are there.
    """

    def __init__(
        self, api: KubernetesApi, owners: Owners, style: PodStyle, *, mode: str = KNATIVE,
        inferences: Lookup | None = None, deployments: Lookup | None = None,
        took: Callable[[Object], None] = lambda found: None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Without ``inferences`` and ``deployments`` the API is asked each time; ``took`` gets what was written."""
        self._api = api
        self._children = Children(api, owners)
        self._style = style
        self._style_digest = style_digest(style)
        self._mode = mode
        self._inferences = inferences or (lambda namespace, name: api.get(INFERENCE_SERVICE, namespace, name))
        self._deployments = deployments or (lambda namespace, name: api.get(DEPLOYMENT, namespace, name))
        self._took = took
        self._clock = clock

    def state(self, name: str) -> ServingState | None:
        """Give what answers, what is asked for, and why that failed; None where nothing of ours is there."""
        key = ModelKey(*model_of_serving_name(name))
        found = self._inferences(key.namespace, kserve_name(key.name))
        if found is None or not self._children.mine(found, key, SERVE):
            return None
        held = self._api.get(CONFIG_MAP, key.namespace, kserve_name(key.name))
        memory = Memory.of(held) if held is not None and self._children.mine(held, key, SERVE) else None
        return self._state(name, key, found, memory or Memory())

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask KServe for a target, or for another share of it; no-op where that is asked for already.

        Stalled ``BackendMissing`` where the cluster has no KServe, ``CanaryUnsupported`` for what it cannot split.
        """
        key = ModelKey(*model_of_serving_name(target.name))
        owner = self._children.owner(key)
        if not self._api.serves(INFERENCE_SERVICE):
            text = "the cluster knows no InferenceServices (serving.kserve.io/v1beta1): install KServe 0.16 or later"
            raise Stalled("BackendMissing", f"{text}, or set spec.serving.backend to Deployment")
        live = self._children.live(INFERENCE_SERVICE, owner, kserve_name(key.name))
        held = self._children.live(CONFIG_MAP, owner, kserve_name(key.name))
        before = None if live is None else Memory.of(held) or self._guessed(live, key)
        mode = (mode_of(live) if live is not None else "") or self._mode
        made = predictor(owner, self._style, target, mode)
        told = Told.of(live, before) if live is not None and before is not None else None
        _refuse(target, mode, told)
        memory = self._next(target, str(made["annotations"][TEMPLATE]), told, live)
        memory = self._remembering(memory, target, rejected, key, told)
        if held is None or Memory.of(held) != memory:
            manifest = memory_map(owner, memory)
            if held is not None:  # whoever comes second looks again
                manifest["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"]
            self._children.apply(CONFIG_MAP, manifest, held)
        manifest = inference_service(owner, made, mode, _percent(memory))
        written = self._children.apply(INFERENCE_SERVICE, manifest, live)
        self._took(written)
        return self._state(target.name, key, written, memory)

    def withdraw(self, name: str, *, but: Collection[Kind] = ()) -> None:
        """Delete all that serves a model, unless it is somebody else's; no-op where it is gone."""
        del but  # nothing of it is used by other backends
        key = ModelKey(*model_of_serving_name(name))
        self._children.remove(CONFIG_MAP, key, kserve_name(key.name), SERVE)
        if self._api.serves(INFERENCE_SERVICE):
            self._children.remove(INFERENCE_SERVICE, key, kserve_name(key.name), SERVE)

    def names(self) -> Sequence[str]:
        """Give the models that have an InferenceService of ours, in all namespaces, sorted."""
        if not self._api.serves(INFERENCE_SERVICE):
            return []
        found = self._api.names(INFERENCE_SERVICE, labels=selector(component=SERVE))
        keys = [(str(m["namespace"]), str(m["labels"].get(MODEL, ""))) for m in found]
        return sorted({serving_name(*key) for key in keys if key[1]})

    def _state(self, name: str, key: ModelKey, found: Object, memory: Memory) -> ServingState:
        told = Told.of(found, memory)
        standard = mode_of(found) == STANDARD
        child = self._deployments(key.namespace, f"{kserve_name(key.name)}-predictor") if standard else None
        rollout = of_deployment(child, told) if standard else told.rollout
        verdict, words, canary = rollout.latched, "", _canary(told)
        settled = told.is_ours and (rollout.settled if standard else told.alone and not memory.beside_file)
        if settled:
            release, count = rollout.asked, rollout.available
        else:
            pods = self._pods(key)
            answer, count = answering(rollout, told.answering(pods))
            release = answer or told.asleep_release()
            fresh = None if rollout.proven else failure(rollout, pods) or told.verdict
            verdict = fresh or verdict
            words = "" if verdict else hindrance(rollout, pods) or told.words
        asked = memory.beside if canary else memory.release
        return ServingState(
            name, ready=release != (None, None), version=release[0], file=release[1], url=_url(told, name),
            failed_file=verdict.file if verdict else None, failure=verdict.words if verdict else words,
            asked=asked[1], asked_version=asked[0], shape=self._shape(told), options=memory.options,
            replicas=(min(count, rollout.wanted), rollout.wanted) if standard else None, rejected=memory.rejected,
            canary=canary,
        )  # fmt: skip

    def _shape(self, told: Told) -> str:
        """Give the digest of its shape; none where there is something to be done once more."""
        back = bool(told.memory.beside_file) and not told.memory.has_canary and told.loaded
        bent = not told.is_ours or told.memory.style != self._style_digest or back
        bent = bent or told.percent != _percent(told.memory)
        return "" if bent else told.memory.shape

    def _next(self, target: ServingTarget, template: str, told: Told | None, live: Object | None) -> Memory:
        """Say what is asked for from now on."""
        fresh = Memory(str(target.version), target.file, target.shape.digest, self._style_digest,
                       target.options.digest, template, _newest(live, template))  # fmt: skip
        if told is None:
            return fresh
        old = told.memory
        same = old.template == template
        fresh = replace(fresh, before=old.before) if same else fresh
        asked = (target.version, target.file)
        if target.share is not None and asked != (old.beside if old.beside_file else old.release):
            return self._shared(fresh, target.share, told)
        if old.has_canary and asked == old.release:
            return fresh  # it serves alone from now on
        if old.beside_file and not (same and told.loaded and not old.has_canary):
            return replace(fresh, beside_version=old.beside_version, beside_file=old.beside_file)
        return fresh

    def _shared(self, fresh: Memory, share: Share, told: Told) -> Memory:
        """Let a release be a canary beside what serves."""
        old = told.memory
        if old.beside_file:
            beside = old.beside_version, old.beside_file
        elif told.alone:
            beside = old.version, old.file
        else:
            raise Transient("RolloutUnderWay", f"v{old.version} does not serve alone yet; the canary comes after it")
        step, weight = str(share.step), str(share.weight)
        unchanged = (old.version, old.file, old.step, old.weight) == (fresh.version, fresh.file, step, weight)
        since = old.since if unchanged else str(self._clock())
        return replace(fresh, beside_version=beside[0], beside_file=beside[1], step=step, weight=weight, since=since)

    def _remembering(
        self, fresh: Memory, target: ServingTarget, rejected: Rejected | None, key: ModelKey, told: Told | None
    ) -> Memory:
        """Add what failed: until a newer version is asked for; and what was rejected: until another target is."""
        same = told is not None and told.memory.release == (target.version, target.file)
        given_up = (told.memory.rejected if told is not None and same else None) or rejected  # the first verdict stays
        failed = None if told is None else self._failed(told, target, key, same=same)
        fresh = replace(fresh, failed_file=failed.file, failure=failed.words) if failed else fresh
        return replace(fresh, rejected_file=given_up.file, rejection=given_up.failure) if given_up else fresh

    def _failed(self, told: Told, target: ServingTarget, key: ModelKey, *, same: bool) -> Failure | None:
        version = told.memory.release[0]
        if same:
            return told.latched
        if version is None or target.version > version:
            return None
        return None if told.loaded else failure(told.rollout, self._pods(key)) or told.verdict

    def _guessed(self, live: Object, key: ModelKey) -> Memory:
        """Remember again what can be seen, where somebody deleted the ConfigMap: a canary stays one."""
        wanted = live["spec"].get("predictor") or {}
        notes = wanted.get("annotations") or {}
        memory = Memory(str(notes.get(VERSION, "")), str(notes.get(FILE, "")), template=str(notes.get(TEMPLATE, "")))
        if wanted.get("canaryTrafficPercent") is None:
            return memory
        told = Told.of(live, memory)
        answer, _ = answering(told.rollout, told.answering(self._pods(key)))
        if answer is None or answer == memory.release:
            raise Transient("RolloutUnderWay", f"nobody knows what serves beside the canary of {key}; looking again")
        return replace(memory, beside_version=str(answer[0] or ""), beside_file=answer[1] or "")

    def _pods(self, key: ModelKey) -> Sequence[Object]:
        return self._api.list(POD, key.namespace, labels=kserve_labels(key.name))


def _refuse(target: ServingTarget, mode: str, told: Told | None) -> None:
    """Say no to a share that KServe cannot give. Where nothing serves yet, shares have no meaning."""
    if target.share is None or told is None:
        return
    if target.share.mirror:
        text = "KServe cannot send copies of requests to a canary: use weight instead of mirror in the steps"
        raise Stalled("CanaryUnsupported", f"{text} of spec.serving.strategy.canary, or backend Deployment")
    if mode == STANDARD:
        text = "in its Standard mode KServe splits traffic for its own runtimes only, not for a server like ours"
        raise Stalled("CanaryUnsupported", f"{text}: leave spec.serving.strategy.canary out, or let Knative run it")


def _percent(memory: Memory) -> int | None:
    """Give ``canaryTrafficPercent``: none where nothing serves beside the newest revision."""
    if memory.has_canary:
        return min(int(memory.weight or 0), _MOST)
    return 0 if memory.beside_file else None


def _canary(told: Told) -> CanaryState | None:
    memory = told.memory
    if not memory.has_canary or memory.release[0] is None:
        return None
    share = Share(int(memory.step), int(memory.weight or 0))
    since = float(memory.since or 0) if told.in_force(min(share.weight, _MOST)) else 0.0
    return CanaryState(memory.release[0], memory.file, share, ready=told.loaded, since=since)


def _newest(live: Object | None, template: str) -> str:
    """Name the newest revision that is of another template; none where the template is written already."""
    if live is None or ((live["spec"].get("predictor") or {}).get("annotations") or {}).get(TEMPLATE) == template:
        return ""
    parts = (live.get("status") or {}).get("components") or {}
    return str((parts.get("predictor") or {}).get("latestCreatedRevision") or "")


def _url(told: Told, name: str) -> str:
    return f"{told.url}/v2/models/{name}" if told.url else ""
