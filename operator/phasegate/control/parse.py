"""From objects of the API server to the values a decision rests on. Never raises on what users wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.base import Meta
from phasegate.api.rolloutaction import TAKES_BACK, RolloutActionSpec
from phasegate.control.ports import Manifest
from phasegate.rollout.labels import MODE, REVISION
from phasegate.rollout.observed import ActionSeen, Workload
from phasegate.rollout.route import Mode

MAX_ERRORS = 3
"""Mistakes named in one message; the others come when these are mended."""

_MODES: Mapping[str, Mode] = {"live": "live", "dark": "dark", "shadow": "shadow"}
_START_TROUBLE = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)

M = TypeVar("M", bound=BaseModel)


def meta_of(manifest: Manifest) -> Meta:
    """The part of ``metadata`` that decisions need."""
    metadata = manifest["metadata"]
    deleted = metadata.get("deletionTimestamp")
    return Meta(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 0)),
        resource_version=metadata["resourceVersion"],
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleted=datetime.fromisoformat(deleted) if deleted else None,
        finalizers=tuple(metadata.get("finalizers") or ()),
    )


def spec_of(manifest: Manifest) -> tuple[AgentDeploymentSpec | None, str | None]:
    """The spec of an AgentDeployment, or a sentence that names each field that is wrong."""
    try:
        return AgentDeploymentSpec.model_validate(manifest.get("spec") or {}), None
    except ValidationError as error:
        return None, explain(error, "spec")


def status_of(model: type[M], manifest: Manifest) -> M:
    """The status as `model`. Parts that nobody could have written are left out, not fatal."""
    status = dict(_mapping(manifest.get("status")))
    while True:
        try:
            return model.model_validate(status)
        except ValidationError as error:
            wrong = {item["loc"][0] for item in error.errors() if item["loc"]} & status.keys()
            if not wrong:
                return model.model_validate({})
            status = {key: value for key, value in status.items() if key not in wrong}


def agent_status(manifest: Manifest) -> AgentDeploymentStatus:
    """The status of an AgentDeployment; what is left of an attempt without its revisions is none."""
    status = status_of(AgentDeploymentStatus, manifest)
    known = (status.stable_revision, status.candidate_revision, status.current_rollout)
    if status.progress is not None and None in known:
        return status.model_copy(update={"progress": None, "candidate_revision": None})
    return status


def explain(error: ValidationError, root: str) -> str:
    """Validation errors in one line: field by field, in the words of the check."""
    items = error.errors(include_url=False, include_input=False)
    told = [f"{_path(root, item['loc'])}: {item['msg']}" for item in items[:MAX_ERRORS]]
    if len(items) > MAX_ERRORS:
        told.append(f"and {len(items) - MAX_ERRORS} more")
    return "; ".join(told)


def workloads_of(
    deployments: Iterable[Manifest], pods: Sequence[Manifest], services: Collection[str]
) -> tuple[Workload, ...]:
    """The agent's Deployments; `pods` tell why those that are not ready are not.

    One without its Service (`services`: names of those the agent owns) can get no request, so none
    of its pods counts as ready.
    """
    found = []
    for deployment in deployments:
        labels = deployment["metadata"].get("labels") or {}
        mode = _MODES.get(labels.get(MODE, ""))
        if mode is None or REVISION not in labels:
            continue
        desired = int((deployment.get("spec") or {}).get("replicas", 1))
        ready = int((deployment.get("status") or {}).get("readyReplicas", 0))
        mine = [pod for pod in pods if _same(pod, labels)]
        problem = _problem(deployment, mine) if ready < desired else None
        name = deployment["metadata"]["name"]
        if name not in services:
            ready, problem = 0, f"Service {name} of this agent does not exist (yet)"
        found.append(Workload(labels[REVISION], mode, desired, ready, problem))
    return tuple(sorted(found, key=lambda w: (w.revision, w.mode)))


def owner_of(manifest: Manifest) -> str | None:
    """The uid of the object's controller; Kubernetes allows one."""
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def owned_by(manifest: Manifest, uid: str) -> bool:
    """True when the object's controller is the agent with this uid."""
    return owner_of(manifest) == uid


def lacks_pods(deployment: Manifest) -> bool:
    """True when fewer pods are ready than there should be."""
    desired = int((deployment.get("spec") or {}).get("replicas", 1))
    return int((deployment.get("status") or {}).get("readyReplicas", 0)) < desired


def actions_of(manifests: Iterable[Manifest], agent: str) -> tuple[ActionSeen, ...]:
    """Decisions about `agent` that have no outcome yet, oldest first."""
    found = []
    for manifest in manifests:
        if _mapping(manifest.get("status")).get("outcome"):
            continue
        try:
            spec = RolloutActionSpec.model_validate(manifest.get("spec") or {})
        except ValidationError:
            continue  # of a version that knows other verbs: not ours to judge
        if spec.agent == agent:
            metadata = manifest["metadata"]
            created = datetime.fromisoformat(metadata["creationTimestamp"])
            found.append(ActionSeen(metadata["name"], metadata["uid"], created, spec))
    return tuple(sorted(found, key=_turn))


def _turn(action: ActionSeen) -> tuple[datetime, bool, str]:
    """Of the same second, for no clock tells more, what takes traffic back has the last word."""
    return action.created, action.spec.verb in TAKES_BACK, action.name


def _mapping(value: object) -> Mapping[str, Any]:
    """What should be an object, if it is one: older schemas may have let anything in."""
    return value if isinstance(value, Mapping) else {}


def _path(root: str, location: tuple[int | str, ...]) -> str:
    path = root
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _same(pod: Manifest, labels: Mapping[str, str]) -> bool:
    mine = pod["metadata"].get("labels") or {}
    return all(mine.get(name) == labels.get(name) for name in (REVISION, MODE))


def _problem(deployment: Manifest, pods: Sequence[Manifest]) -> str | None:
    """Why pods are missing, most telling first: not created, cannot start, too late."""
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    by_type = {condition["type"]: condition for condition in conditions}
    failure = by_type.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        return str(failure.get("message") or failure.get("reason"))
    for pod in pods:
        trouble = _trouble(pod)
        if trouble is not None:
            return trouble
    progress = by_type.get("Progressing", {})
    if progress.get("reason") == "ProgressDeadlineExceeded":
        return str(progress.get("message") or progress["reason"])
    return None


def _trouble(pod: Manifest) -> str | None:
    status: Mapping[str, Any] = pod.get("status") or {}
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(group) or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason")
            if reason in _START_TROUBLE:
                words = waiting.get("message") or _last_end(container)
                told = f"container {container.get('name')} is in {reason}"
                return f"{told}: {words}" if words else told
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"no node takes the pod: {condition.get('message', '')}"
    return None


def _last_end(container: Mapping[str, Any]) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    if not ended:
        return ""
    return f"exit code {ended.get('exitCode')} {ended.get('reason', '')}".rstrip()
