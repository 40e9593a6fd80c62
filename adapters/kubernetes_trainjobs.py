"""Attempts at trainings as TrainJobs of Kubeflow Trainer: any number of nodes, as a training runtime has them.

The runtime brings the pods, and what tells the processes of each other; its job and its container must be called
``node``, as in all runtimes that come with Trainer. All that Trainer lets be changed of them is made as it is in a Job.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.kubernetes_api import TRAIN_JOB, Object
from adapters.kubernetes_endings import unix
from adapters.kubernetes_forms import ATTEMPT, JOB_LABEL, PROCESSES, attempt_metadata, attempt_template
from adapters.kubernetes_pods import Owner, PodStyle
from specs.placement import Placement
from specs.training import RuntimeRef, TrainJob
from specs.workorders import AnyOrder

MANAGER = "trunkline.dev/operator"
"""Whose changes of the runtime these are; Kueue and others have their own."""
NODE = "node"
"""Name of the runtime's job, and of its container."""
VARIABLES_FOLDER = "/etc/trunkline/variables"
VARIABLES = "TRUNKLINE_VARIABLES"
"""Variable: a folder whose files are variables as well. A runtime takes no Secret as variables, but as a volume."""
DEFAULT_RUNTIME = "torch-distributed"
_LONGEST = 52
"""Of a name: to that of a pod are added the job, two numbers and hyphens, and it is a host's name."""


class TrainJobForm:
    """An attempt as a TrainJob."""

    kind = TRAIN_JOB

    def manifest(self, order: AnyOrder, owner: Owner, style: PodStyle, placement: Placement, number: int) -> Object:
        """See Form."""
        asked = placement.train_job or TrainJob()
        metadata = attempt_metadata(order, owner, placement, number, _LONGEST)
        template = attempt_template(order, style, placement, metadata)
        (container,) = template["spec"]["containers"]
        spec: Object = {
            "runtimeRef": _runtime(asked.runtime_ref or RuntimeRef(name=DEFAULT_RUNTIME)),
            "trainer": _trainer(container, asked, placement, style),
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [
                {"name": NODE, "template": {"spec": {"template": _patch(template, container, style)}}},
            ]}}}}],
        }  # fmt: skip
        if order.deadline_seconds is not None:
            spec["activeDeadlineSeconds"] = order.deadline_seconds
        if placement.queue:
            spec["suspend"] = True  # until Kueue admits it
        return {"metadata": metadata, "spec": spec}

    def works(self, attempt: Object) -> bool:
        """See Form: ready is a job all of whose pods are."""
        jobs = (attempt.get("status") or {}).get("jobsStatus") or ()
        return any(job.get("name") == NODE and int(job.get("ready") or 0) > 0 for job in jobs)

    def started(self, attempt: Object) -> float:
        """See Form: a TrainJob has no such time, but says when it was last let go on."""
        for condition in (attempt.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "Suspended":
                return unix(condition.get("lastTransitionTime")) if condition.get("status") == "False" else 0.0
        return unix(attempt["metadata"].get("creationTimestamp"))

    def ended(self, attempt: Object, condition: Object) -> float:  # noqa: ARG002  Jobs have it elsewhere
        """See Form."""
        return unix(condition.get("lastTransitionTime"))

    def pod_labels(self, attempt: Object) -> dict[str, str]:
        """See Form: its pods have our own labels."""
        labels = attempt["metadata"]["labels"]
        return {name: labels[name] for name in (JOB_LABEL, ATTEMPT) if name in labels}

    def own(self, attempt: Object, pods: Sequence[Object]) -> list[Object]:
        """See Form: pods of an earlier TrainJob of that name are older than this one."""
        made = unix(attempt["metadata"].get("creationTimestamp"))
        return [pod for pod in pods if unix(pod["metadata"].get("creationTimestamp")) >= made]


def _runtime(asked: RuntimeRef) -> Object:
    kind = asked.kind or "ClusterTrainingRuntime"
    return {"apiGroup": TRAIN_JOB.api_version.partition("/")[0], "kind": kind, "name": asked.name}


def _trainer(container: Object, asked: TrainJob, placement: Placement, style: PodStyle) -> Object:
    # Trainer says by itself how many processes there are.
    variables = [variable for variable in container["env"] if variable["name"] != PROCESSES]
    if style.secret:
        variables = [{"name": VARIABLES, "value": VARIABLES_FOLDER}, *variables]
    trainer: Object = {
        "image": container["image"], "command": container["command"], "env": variables,
        "numNodes": asked.num_nodes or 1, "numProcPerNode": asked.num_proc_per_node or max(placement.gpus, 1),
    }  # fmt: skip
    if "resources" in container:
        trainer["resourcesPerNode"] = container["resources"]
    return trainer


def _patch(template: Object, container: Object, style: PodStyle) -> Object:
    """Give what is different in the runtime's pods: whose they are, what they may do, and what they reach."""
    spec = template["spec"]
    volumes, mounts = list(spec["volumes"]), list(container["volumeMounts"])
    if style.secret:
        volumes.append({"name": "variables", "secret": {"secretName": style.secret, "defaultMode": 0o440}})
        mounts.append({"name": "variables", "mountPath": VARIABLES_FOLDER, "readOnly": True})
    kept = ("serviceAccountName", "nodeSelector", "terminationGracePeriodSeconds", "securityContext")
    ours = {"name": NODE, "volumeMounts": mounts, "securityContext": container["securityContext"]}
    patched = {field: spec[field] for field in kept if field in spec} | {"volumes": volumes, "containers": [ours]}
    return {"metadata": template["metadata"], "spec": patched}
