"""Revisions: what makes an agent behave as it does, in one canonical form.

A revision is the user's input only: ``agent``, the pod template, the service's port and the content
of every ConfigMap those refer to. Nothing the operator adds is part of it, so an operator upgrade
never makes a new revision. The canonical form and the way it is rendered into pods
(`phasegate.rollout.manifests`) belong to a numbered scheme, stored with each revision: a change of
either is a new scheme, and stored revisions keep theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import ValidationError

from phasegate.api.agentdeployment import Agent, AgentDeploymentSpec
from phasegate.api.base import Meta, StatusModel, lenient
from phasegate.api.errors import InvalidSpec
from phasegate.api.traffic import Service
from phasegate.rollout.labels import AGENT, REVISION, common_labels, owner_reference
from phasegate.rollout.observed import Revision

SCHEME = 1
MAX_SNAPSHOT = 1_000_000
"""Bytes of canonical JSON; above it a ControllerRevision does not fit into the API server's store."""
MAX_PROMPT = 120_000
"""Bytes of a system prompt: Linux gives one environment variable 128 KiB."""

_TEMPLATE_METADATA = ("labels", "annotations")


class ConfigMapMissing(InvalidSpec):
    """A ConfigMap, or a key of one, that the revision needs is not there."""


@dataclass(frozen=True, slots=True)
class ConfigMapUse:
    """A ConfigMap that a revision depends on. ``keys`` is None when all of it counts."""

    name: str
    keys: frozenset[str] | None
    required: frozenset[str]
    """Keys without which the pods cannot start."""
    optional: bool
    """Whether the pods can start without the ConfigMap."""
    field: str
    """Where the reference stands in the AgentDeployment, for messages."""


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no white space, UTF-8; strings are taken as they are."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def digest_of(snapshot: Mapping[str, Any]) -> str:
    """``sha256:…`` of a snapshot in canonical form."""
    seed = f"phasegate-revision-{SCHEME}\n".encode()
    return "sha256:" + hashlib.sha256(seed + canonical(snapshot)).hexdigest()


def hash_of(digest: str) -> str:
    """The ten characters of a digest that name a revision's children."""
    return digest.removeprefix("sha256:")[:10]


def config_map_uses(spec: AgentDeploymentSpec) -> tuple[ConfigMapUse, ...]:
    """Every ConfigMap the revision depends on, once per name, in order of name."""
    uses: dict[str, ConfigMapUse] = {}
    for use in _references(spec):
        uses[use.name] = _merged(uses.get(use.name), use)
    return tuple(uses[name] for name in sorted(uses))


def build(spec: AgentDeploymentSpec, config_maps: Mapping[str, Mapping[str, Any]]) -> Revision:
    """The revision that `spec` describes, given the ConfigMaps (by name) as they are now.

    Raises ConfigMapMissing when a ConfigMap or key that is not optional is missing, InvalidSpec when
    the prompt or the whole is larger than Kubernetes can carry.
    """
    contents = {}
    for use in config_map_uses(spec):
        content = _content(use, config_maps.get(use.name))
        if content is not None:
            contents[use.name] = content
    snapshot: dict[str, Any] = {
        # Fields at their default are left out, so that a field added later changes no digest.
        "agent": spec.agent.model_dump(
            mode="json", by_alias=True, exclude_defaults=True, exclude_none=True
        ),
        "template": _template(spec.template),
        "service": {"port": spec.service.port},
        "configMaps": contents,
    }
    _check_size(snapshot)
    digest = digest_of(snapshot)
    return Revision(hash=hash_of(digest), digest=digest, snapshot=snapshot)


def numbered(revision: Revision, number: int) -> Revision:
    """The same revision, as the agent's `number`-th."""
    return replace(revision, number=number)


def system_prompt(snapshot: Mapping[str, Any]) -> str | None:
    """The system prompt of a revision, wherever it came from."""
    agent = snapshot["agent"]
    if "systemPrompt" in agent:
        return str(agent["systemPrompt"])
    source = agent.get("systemPromptFrom", {}).get("configMapKeyRef")
    if source is None:
        return None
    data = snapshot["configMaps"].get(source["name"], {}).get("data", {})
    content: str | None = data.get(source["key"])
    return content


def to_manifest(meta: Meta, revision: Revision) -> dict[str, Any]:
    """The ControllerRevision that stores `revision`; its data never changes once created."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta.name}-{revision.hash}",
            "namespace": meta.namespace,
            "labels": common_labels(meta.name, revision.hash),
            "ownerReferences": [owner_reference(meta)],
        },
        "revision": revision.number,
        "data": {
            "scheme": SCHEME,
            "digest": revision.digest,
            "snapshot": revision.snapshot,
        },
    }


def from_manifest(manifest: Mapping[str, Any]) -> Revision | None:
    """The revision that a ControllerRevision stores; None if it is not one of ours.

    What it stores must be what its digest says: whoever put something else in its place may not
    have been allowed to run it.
    """
    data = _mapping(manifest.get("data"))
    labels = manifest["metadata"].get("labels") or {}
    digest, snapshot = data.get("digest"), data.get("snapshot")
    if data.get("scheme") != SCHEME or not isinstance(digest, str) or AGENT not in labels:
        return None
    if not isinstance(snapshot, Mapping) or labels.get(REVISION) != hash_of(digest):
        return None
    if digest_of(snapshot) != digest or not _is_sound(snapshot):
        return None
    return Revision(hash_of(digest), digest, snapshot, int(manifest.get("revision", 0)))


class _Snapshot(StatusModel):
    """What every snapshot of ours has."""

    agent: Annotated[Agent, lenient(Agent)]
    template: dict[str, Any]
    service: Annotated[Service, lenient(Service)]
    config_maps: dict[str, dict[str, Any]]


def _is_sound(snapshot: Mapping[str, Any]) -> bool:
    """Whether pods can be made from it: a digest can be computed of anything."""
    try:
        found = _Snapshot.model_validate(snapshot)
    except ValidationError:
        return False
    source = found.agent.system_prompt_from
    return source is None or source.config_map_key_ref.name in found.config_maps


def _template(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template without what pods do not get: of its metadata, labels and annotations count."""
    metadata = _mapping(template.get("metadata"))
    kept = {key: metadata[key] for key in _TEMPLATE_METADATA if metadata.get(key)}
    spec = template.get("spec") or {}
    return {"metadata": kept, "spec": spec} if kept else {"spec": spec}


def _references(spec: AgentDeploymentSpec) -> Iterator[ConfigMapUse]:
    if spec.agent.system_prompt_from is not None:
        ref = spec.agent.system_prompt_from.config_map_key_ref
        field = "spec.agent.systemPromptFrom.configMapKeyRef"
        key = frozenset({ref.key})
        yield ConfigMapUse(ref.name, key, key, False, field)
    pod = _mapping(spec.template.get("spec"))
    for group in ("initContainers", "containers"):
        for index, container in enumerate(_mappings(pod.get(group))):
            yield from _of_container(container, f"spec.template.spec.{group}[{index}]")
    for index, volume in enumerate(_mappings(pod.get("volumes"))):
        yield from _of_volume(volume, f"spec.template.spec.volumes[{index}]")


def _of_container(container: Mapping[str, Any], field: str) -> Iterator[ConfigMapUse]:
    for index, source in enumerate(_mappings(container.get("envFrom"))):
        ref = _mapping(source.get("configMapRef"))
        yield from _use(ref, None, f"{field}.envFrom[{index}].configMapRef")
    for index, entry in enumerate(_mappings(container.get("env"))):
        ref = _mapping(_mapping(entry.get("valueFrom")).get("configMapKeyRef"))
        keys = frozenset({str(ref.get("key"))})
        yield from _use(ref, keys, f"{field}.env[{index}].valueFrom.configMapKeyRef")


def _of_volume(volume: Mapping[str, Any], field: str) -> Iterator[ConfigMapUse]:
    sources = [(_mapping(volume.get("configMap")), f"{field}.configMap")]
    projected = _mappings(_mapping(volume.get("projected")).get("sources"))
    for index, source in enumerate(projected):
        name = f"{field}.projected.sources[{index}].configMap"
        sources.append((_mapping(source.get("configMap")), name))
    for ref, name in sources:
        items = _mappings(ref.get("items"))
        keys = frozenset(str(item.get("key")) for item in items) if items else None
        yield from _use(ref, keys, name)


def _use(ref: Mapping[str, Any], keys: frozenset[str] | None, field: str) -> Iterator[ConfigMapUse]:
    if isinstance(ref.get("name"), str):
        optional = ref.get("optional") is True
        required = frozenset() if optional or keys is None else keys
        yield ConfigMapUse(ref["name"], keys, required, optional, field)


def _merged(first: ConfigMapUse | None, second: ConfigMapUse) -> ConfigMapUse:
    if first is None:
        return second
    keys = None if first.keys is None or second.keys is None else first.keys | second.keys
    strict = second if first.optional else first
    return ConfigMapUse(
        first.name,
        keys,
        first.required | second.required,
        first.optional and second.optional,
        strict.field,
    )


def _content(use: ConfigMapUse, config_map: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part of a ConfigMap that counts: ``{"data": …, "binaryData": …}`` without empty parts."""
    if config_map is None:
        if use.optional:
            return None
        raise ConfigMapMissing(
            f"{use.field}: ConfigMap {use.name!r} does not exist in this namespace; create it, or "
            "refer to one that does"
        )
    content = {}
    for part in ("data", "binaryData"):
        values = config_map.get(part) or {}
        counted = {k: v for k, v in values.items() if use.keys is None or k in use.keys}
        if counted:
            content[part] = counted
    present = {key for values in content.values() for key in values}
    missing = sorted(use.required - present)
    if missing:
        raise ConfigMapMissing(f"{use.field}: ConfigMap {use.name!r} has no key {missing[0]!r}")
    return content


def _check_size(snapshot: Mapping[str, Any]) -> None:
    prompt = len((system_prompt(snapshot) or "").encode("utf-8", "surrogatepass"))
    if prompt > MAX_PROMPT:
        raise InvalidSpec(
            f"spec.agent.systemPrompt: {prompt:,} bytes; at most {MAX_PROMPT:,} fit into a "
            "container's environment variable. Mount the text from a ConfigMap in the template"
        )
    size = len(canonical(snapshot))
    if size > MAX_SNAPSHOT:
        raise InvalidSpec(
            f"spec: the revision with its ConfigMaps is {size:,} bytes; at most {MAX_SNAPSHOT:,} "
            "can be stored. Move large content into the image"
        )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Sequence[Mapping[str, Any]]:
    """The mappings of a list that a user wrote: nobody has checked its shape yet."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
