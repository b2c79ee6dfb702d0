"""Manifests of everything an agent owns besides its route: rendered, deterministic, plain dicts.

How a revision is rendered is part of its scheme (`phasegate.rollout.revision`): a manifest of an
existing revision must come out the same from every version of the operator, or an upgrade would
restart the pods of every agent.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from phasegate.api.base import API_VERSION, Meta
from phasegate.rollout.decision import RolloutPlan
from phasegate.rollout.labels import (
    REVISION,
    common_labels,
    owner_reference,
    selector_labels,
    workload_name,
)
from phasegate.rollout.observed import Revision
from phasegate.rollout.route import Mode

PROGRESS_DEADLINE_SECONDS = 600

_VERSION_LABEL = "app.kubernetes.io/version"
_NOT_IN_LABEL = re.compile(r"[^A-Za-z0-9._-]")
_OTEL = "OTEL_RESOURCE_ATTRIBUTES"


def deployment(meta: Meta, revision: Revision, mode: Mode, replicas: int) -> dict[str, Any]:
    """The Deployment of one revision in one mode."""
    selector = selector_labels(meta.name, revision.hash, mode)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(meta, revision, workload_name(meta.name, revision.hash, mode), mode),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "revisionHistoryLimit": 0,  # its template never changes: history is ours
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
            },
            "template": _pod_template(meta, revision, mode),
        },
    }


def revision_service(meta: Meta, revision: Revision, mode: Mode) -> dict[str, Any]:
    """The Service of one revision in one mode: what a backendRef names."""
    name = workload_name(meta.name, revision.hash, mode)
    return _service(meta, revision, mode, _metadata(meta, revision, name, mode))


def stable_service(meta: Meta, revision: Revision) -> dict[str, Any]:
    """The Service of the agent's own name, for callers that do not come through the gateway."""
    metadata = _metadata(meta, revision, meta.name, "live")
    return _service(meta, revision, "live", metadata)


def config_map_name(agent: str, revision: Revision, name: str) -> str:
    """Name of the immutable copy of ConfigMap `name` that belongs to `revision`."""
    index = sorted(revision.snapshot["configMaps"]).index(name)
    return f"{agent}-{revision.hash}-{index}"


def config_map_copies(meta: Meta, revision: Revision) -> tuple[dict[str, Any], ...]:
    """Immutable copies of what the revision's pods read, so that it stays what it was."""
    contents: Mapping[str, Mapping[str, Any]] = revision.snapshot["configMaps"]
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": config_map_name(meta.name, revision, name),
                "namespace": meta.namespace,
                "labels": common_labels(meta.name, revision.hash),
                "ownerReferences": [owner_reference(meta)],
            },
            "immutable": True,
            **contents[name],
        }
        for name in sorted(contents)
    )


def agent_rollout(meta: Meta, plan: RolloutPlan) -> dict[str, Any]:
    """The record of an attempt, without its status."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentRollout",
        "metadata": {
            "name": plan.name,
            "namespace": meta.namespace,
            "labels": common_labels(meta.name, plan.spec.revision),
            "ownerReferences": [owner_reference(meta)],
        },
        "spec": plan.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _metadata(meta: Meta, revision: Revision, name: str, mode: Mode) -> dict[str, Any]:
    labels = selector_labels(meta.name, revision.hash, mode) | common_labels(meta.name)
    return {
        "name": name,
        "namespace": meta.namespace,
        "labels": labels | _version_label(revision),
        "ownerReferences": [owner_reference(meta)],
    }


def _service(
    meta: Meta, revision: Revision, mode: Mode, metadata: dict[str, Any]
) -> dict[str, Any]:
    port = revision.snapshot["service"]["port"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": selector_labels(meta.name, revision.hash, mode),
            "ports": [{"name": "http", "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    }


def _version_label(revision: Revision) -> dict[str, str]:
    """The agent's version as a label value; characters a label cannot have become ``_``."""
    version = _NOT_IN_LABEL.sub("_", revision.snapshot["agent"].get("version", ""))
    version = version[:63].strip("._-")
    return {_VERSION_LABEL: version} if version else {}


def _pod_template(meta: Meta, revision: Revision, mode: Mode) -> dict[str, Any]:
    template: dict[str, Any] = copy.deepcopy(dict(revision.snapshot["template"]))
    metadata = _dict(template.get("metadata"))
    ours = selector_labels(meta.name, revision.hash, mode) | common_labels(meta.name)
    labels = {**_dict(metadata.get("labels")), **_version_label(revision), **ours}
    template["metadata"] = {**metadata, "labels": labels}
    pod = template.get("spec")
    if isinstance(pod, dict):
        _use_copies(meta, revision, pod)
        for container in _dicts(pod.get("containers")):
            container["env"] = _env(meta, revision, mode, container.get("env"))
    return template


def _use_copies(meta: Meta, revision: Revision, pod: dict[str, Any]) -> None:
    """Make a pod spec read the revision's own copies instead of the user's ConfigMaps.

    One that was optional and absent stays absent for this revision, whatever is created later.
    """
    present = revision.snapshot["configMaps"]
    absent = f"{meta.name}-{revision.hash}-absent"

    def rename(ref: object) -> None:
        if isinstance(ref, dict) and isinstance(ref.get("name"), str):
            known = ref["name"] in present
            ref["name"] = config_map_name(meta.name, revision, ref["name"]) if known else absent

    for container in (*_dicts(pod.get("initContainers")), *_dicts(pod.get("containers"))):
        for source in _dicts(container.get("envFrom")):
            rename(source.get("configMapRef"))
        for entry in _dicts(container.get("env")):
            rename(_dict(entry.get("valueFrom")).get("configMapKeyRef"))
    for volume in _dicts(pod.get("volumes")):
        rename(volume.get("configMap"))
        for source in _dicts(_dict(volume.get("projected")).get("sources")):
            rename(source.get("configMap"))


def _env(meta: Meta, revision: Revision, mode: Mode, given: object) -> list[Any]:
    """A container's environment. Ours wins: what AGENT_REVISION says must be true."""
    ours = _agent_env(meta, revision, mode)
    own = {entry["name"] for entry in ours}
    kept = [
        entry
        for entry in (given if isinstance(given, list) else [])
        if not isinstance(entry, dict) or entry.get("name") not in own
    ]
    attributes = next((e for e in kept if isinstance(e, dict) and e.get("name") == _OTEL), None)
    if attributes is None:
        kept.append({"name": _OTEL, "value": _resource_attributes(meta, revision, mode, "")})
    elif "valueFrom" not in attributes:  # one that comes from elsewhere cannot be extended
        text = str(attributes.get("value") or "")
        attributes["value"] = _resource_attributes(meta, revision, mode, text)
    # First ours, so that the user's own values may refer to them: $(AGENT_REVISION).
    return [*ours, *kept]


def _agent_env(meta: Meta, revision: Revision, mode: Mode) -> list[dict[str, Any]]:
    agent = revision.snapshot["agent"]
    values = {"AGENT_NAME": meta.name, "AGENT_REVISION": revision.hash, "AGENT_MODE": mode}
    if "systemPrompt" in agent:
        values["AGENT_SYSTEM_PROMPT"] = agent["systemPrompt"]
    if "model" in agent:
        values["AGENT_MODEL_PROVIDER"] = agent["model"]["provider"]
        values["AGENT_MODEL"] = agent["model"]["name"]
        values["AGENT_MODEL_PARAMETERS"] = _json(agent["model"].get("parameters", {}))
    if "tools" in agent:
        values["AGENT_TOOLS"] = _json(agent["tools"])
    # Kubernetes expands $(NAME) in values; $$ is how a dollar sign stays one.
    env: list[dict[str, Any]] = [
        {"name": name, "value": value.replace("$", "$$")} for name, value in values.items()
    ]
    if "systemPromptFrom" in agent:
        ref = agent["systemPromptFrom"]["configMapKeyRef"]
        name = config_map_name(meta.name, revision, ref["name"])
        source = {"name": name, "key": ref["key"]}
        env.append({"name": "AGENT_SYSTEM_PROMPT", "valueFrom": {"configMapKeyRef": source}})
    return env


def _resource_attributes(meta: Meta, revision: Revision, mode: Mode, given: str) -> str:
    """OpenTelemetry resource attributes, percent-encoded; a user's own stay except for our names."""
    ours = {"phasegate.agent": meta.name, "phasegate.revision": revision.hash}
    ours["phasegate.mode"] = mode
    defaults = {
        "service.name": meta.name,
        "service.namespace": meta.namespace,
        "service.version": revision.snapshot["agent"].get("version") or revision.hash,
    }
    pairs = [pair for pair in given.split(",") if pair.strip()]
    keys = {pair.partition("=")[0].strip() for pair in pairs}
    kept = [pair for pair in pairs if pair.partition("=")[0].strip() not in ours]
    added = {**{k: v for k, v in defaults.items() if k not in keys}, **ours}
    return ",".join([*kept, *(f"{k}={quote(v, safe='')}" for k, v in added.items())])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    """The mappings of a list that a user wrote: the API server judges the rest."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def revision_of(manifest: Mapping[str, Any]) -> str | None:
    """The revision a child belongs to, by its label."""
    labels: Mapping[str, str] = manifest["metadata"].get("labels") or {}
    return labels.get(REVISION)
