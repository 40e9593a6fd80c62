"""Events: one for each transition, and none for what was to be expected."""

from __future__ import annotations

from typing import Any, Literal

from adapters.kubernetes_api import EVENT, MODEL_SPEC, KubernetesApi
from controller.events import Events, changed
from controller.informer import Informer
from specs.modelspec import ModelKey
from specs.status import Condition, ConditionType, ModelStatus
from tests.support.apiserver import ApiServer

KEY = ModelKey("event-test", "shelf")
Flag = Literal["True", "False"]


def status(*conditions: tuple[ConditionType, Flag, str]) -> ModelStatus:
    """Give a status with these conditions."""
    made = [Condition(type=t, status=s, reason=r, message=f"{r} it is") for t, s, r in conditions]
    return ModelStatus(conditions=made)


TRAINING = status((ConditionType.DATA_READY, "True", "DataVerified"), (ConditionType.TRAINED, "False", "Training"))
TRAINED = status((ConditionType.DATA_READY, "True", "DataVerified"), (ConditionType.TRAINED, "True", "RunSucceeded"))


def test_what_changed_is_told() -> None:
    """A condition with another status or reason; another message alone is no transition."""
    assert [c.reason for c in changed(TRAINING, TRAINED)] == ["RunSucceeded"]
    reworded = [c.model_copy(update={"message": "m"}) for c in TRAINING.conditions]
    assert changed(TRAINING, TRAINING.model_copy(update={"conditions": reworded})) == []


def test_what_is_good_from_the_beginning_is_no_news() -> None:
    """The first look at a model tells what is under way, not that its data is there; that it went wrong is told."""
    assert [c.reason for c in changed(ModelStatus(), TRAINING)] == ["Training"]
    broken = status((ConditionType.DATA_READY, "False", "DataMissing"))
    assert [c.reason for c in changed(TRAINING, broken)] == ["DataMissing"]
    assert [c.reason for c in changed(broken, TRAINED)] == ["DataVerified"]


def test_ready_repeats_nobody() -> None:
    """Ready and Reconciling say what another condition says; Stalled is told, as a warning."""
    every = [(t, "True", "X") for t in (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)]
    assert [c.type for c in changed(ModelStatus(), status(*every))] == [ConditionType.STALLED]  # type: ignore[arg-type]


def test_the_same_transition_told_twice_is_one_event(api_server: ApiServer) -> None:
    """Killed between event and status, the next pass tells it again: by its name it is there already."""
    api = KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig))
    informer = Informer(lambda: 0.0)
    metadata = {"namespace": KEY.namespace, "name": KEY.name, "uid": "u1", "resourceVersion": "1", "generation": 1}
    informer.saw(MODEL_SPEC, None, {"metadata": metadata, "spec": {}})
    events = Events(api, informer)
    for _ in range(2):
        events.tell(KEY, TRAINING, TRAINED)
    events.tell(KEY, TRAINED, status((ConditionType.STALLED, "True", "GateFailed")))
    found: list[dict[str, Any]] = sorted(api.list(EVENT, KEY.namespace), key=lambda each: str(each["reason"]))
    assert [(e["type"], e["reason"], e["message"]) for e in found] == [
        ("Warning", "GateFailed", "GateFailed it is"), ("Normal", "RunSucceeded", "RunSucceeded it is"),
    ]  # fmt: skip
    assert found[0]["involvedObject"]["uid"] == "u1"


def test_an_event_that_cannot_be_posted_stops_nothing(api_server: ApiServer) -> None:
    """Events are for people; a model does not wait for them."""
    api = KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig))
    informer = Informer(lambda: 0.0)
    metadata = {"namespace": "No Such", "name": "x", "uid": "u", "resourceVersion": "1"}
    informer.saw(MODEL_SPEC, None, {"metadata": metadata})
    Events(api, informer).tell(ModelKey("No Such", "x"), TRAINING, TRAINED)
