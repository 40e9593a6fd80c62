"""``trunkline kube``: what a person needs beside kubectl, with that person's own rights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.text import Text

from adapters.jobs_kubernetes import attempts, forget, pods_of
from adapters.kubernetes_api import JOB, MODEL_SPEC, POD, TRAIN_JOB, KubernetesApi
from adapters.kubernetes_forms import number_of
from adapters.kubernetes_pods import MODEL
from controller.commands.status import board
from controller.console import as_json, console, pick, print_json
from controller.why import why as explain
from specs.errors import Stalled, TrunklineError
from specs.modelspec import ModelKey
from specs.status import ModelStatus

Object = Mapping[str, Any]


@click.group()
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. Default: the current one.")
@click.option("--kubeconfig", metavar="FILE", help="Default: KUBECONFIG, or ~/.kube/config.")
@click.pass_context
def kube(ctx: click.Context, context: str | None, kubeconfig: str | None) -> None:
    """See into models that run in a cluster. Reads with your own rights; only `retry` changes anything.

    \b
    trunkline kube status              every model you may see
    trunkline kube why shelf           what stands in its way, and what to do
    trunkline kube logs train-shelf-…  what a job said
    """
    ctx.obj = lambda: KubernetesApi.connect(kubeconfig=kubeconfig, context=context)


def namespaced(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--namespace``."""
    text = "Look in this namespace only. Default: all that you may see."
    return click.option("-n", "--namespace", default="", metavar="NAME", help=text)(command)


@kube.command()
@click.argument("model", required=False)
@namespaced
@as_json
@click.pass_obj
def status(connect: Callable[[], KubernetesApi], model: str | None, namespace: str, json_: bool) -> None:
    """Show what serves, what is under way and what waits for a person.

    With MODEL (name or namespace/name): all conditions of that one.
    """
    items = sorted((_key(each), _status(each)) for each in connect().list(MODEL_SPEC, namespace))
    if json_:
        chosen = {str(k): s.model_dump(mode="json", by_alias=True, exclude_defaults=True) for k, s in items}
        print_json(chosen[str(pick((k for k, _ in items), model))] if model else chosen)
        return
    if not items:
        console().print("there are no ModelSpecs here; does Argo CD sync them, and to which namespace?")
        return
    console().print(board(items, None, model))


@kube.command()
@click.argument("model")
@namespaced
@as_json
@click.pass_obj
def why(connect: Callable[[], KubernetesApi], model: str, namespace: str, json_: bool) -> None:
    """Say why MODEL is not ready: conditions, jobs, queues and pods, and what you can do about it."""
    api = connect()
    found = {_key(each): each for each in api.list(MODEL_SPEC, namespace)}
    key = pick(found, model)
    labels = {MODEL: key.name}
    kinds = (JOB, TRAIN_JOB) if api.offers(TRAIN_JOB) else (JOB,)
    jobs = [job for kind in kinds for job in api.list(kind, key.namespace, labels=labels)]
    pods = api.list(POD, key.namespace, labels=labels)
    answer = explain(key, found[key], jobs, pods)
    if json_:
        print_json(asdict(answer))
        return
    out = console()
    out.print(Text(answer.headline, "bold"))
    for finding in answer.findings:
        out.print(Text(f"  • {finding}"))
    for advice in answer.advice:
        out.print(Text(f"  → {advice}", "green"))


@kube.command()
@click.argument("job")
@namespaced
@click.pass_obj
def logs(connect: Callable[[], KubernetesApi], job: str, namespace: str) -> None:
    """Print what JOB's last attempt wrote; `kube status MODEL` and `kube why MODEL` name the jobs."""
    api = connect()
    newest = max(attempts(api, namespace, _plain(job)), key=lambda one: number_of(one[1]), default=None)
    if newest is None:
        raise Stalled("NoSuchJob", f"no job {job!r} is in the cluster; finished ones are removed after a day")
    place, name = newest[1]["metadata"]["namespace"], newest[1]["metadata"]["name"]
    pods = pods_of(api, newest)
    if not pods:
        raise Stalled("NoPod", f"job {name} in {place} has no pod (any more); `trunkline kube why` may know more")
    pod = _speaker(pods)
    try:
        click.echo(api.logs(place, pod["metadata"]["name"]), nl=False)
    except TrunklineError as error:
        words = _last_words(pod)
        if not words:
            raise
        click.echo(f"the log itself is gone ({error.reason}); the pod's last words:\n{words}")


@kube.command()
@click.argument("job")
@namespaced
@click.pass_obj
def retry(connect: Callable[[], KubernetesApi], job: str, namespace: str) -> None:
    """Forget the failed attempts of JOB, so that the operator tries it again. Needs the right to delete Jobs."""
    api = connect()
    namespaces = {attempt["metadata"]["namespace"] for _, attempt in attempts(api, namespace, _plain(job))}
    if not namespaces:
        raise Stalled("NoSuchJob", f"no job {job!r} is in the cluster")
    if len(namespaces) > 1:
        raise Stalled("NotUnique", f"job {job!r} is in several namespaces; name one with --namespace")
    forget(api, namespaces.pop(), _plain(job))
    click.echo(f"{job} will be tried again")


def _key(model: Object) -> ModelKey:
    return ModelKey(model["metadata"]["namespace"], model["metadata"]["name"])


def _status(model: Object) -> ModelStatus:
    return ModelStatus.model_validate(model.get("status") or {})


def _plain(job: str) -> str:
    """Give a job's name without what cannot be part of one; attempts after the first end in ``-2`` and so on."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", job):
        raise Stalled("NoSuchJob", f"{job!r} is no job's name")
    return re.sub(r"(-[0-9a-f]{12})-[23]$", r"\1", job)


def _speaker(pods: Sequence[Object]) -> Object:
    """Give the newest pod; of several nodes the first one, which tells how the training goes."""

    def weight(pod: Object) -> tuple[int, str]:
        index = (pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-completion-index", "0")
        return -int(index), str(pod["metadata"].get("creationTimestamp"))

    return max(pods, key=weight)


def _last_words(pod: Object) -> str:
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if "terminated" in state:
                return str(state["terminated"].get("message") or "")
    return ""
