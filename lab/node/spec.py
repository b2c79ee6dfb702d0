"""What a container's spec means on this node: image, command, environment. Pure functions."""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.node.client import Json

SAMPLE_AGENT = "phasegate.dev/sample-agent"
PROJECT_ROOT = Path(__file__).resolve().parents[2]

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class ConfigError(LabError):
    """A container's spec names something that is not there (CreateContainerConfigError)."""


class ImageError(LabError):
    """The node has no program for this image (ErrImagePull)."""


@dataclass(frozen=True)
class PodFacts:
    """What only the node knows about a pod."""

    node_name: str
    host_ip: str
    pod_ip: str


@dataclass(frozen=True)
class References:
    """The ConfigMaps and Secrets a pod needs, decoded, by kind and name; None: not there."""

    found: Mapping[tuple[str, str], Mapping[str, bytes] | None]

    def data(self, kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
        """Return the data of one object, empty if optional and absent, else ConfigError."""
        data = self.found.get((kind, name))
        if data is None and not optional:
            raise ConfigError(f'{kind.lower()} "{name}" not found')
        return data or {}


def decode(kind: str, item: Json) -> dict[str, bytes]:
    """Return the data of a ConfigMap or Secret object as bytes by key."""
    if kind == "Secret":
        return {key: base64.b64decode(text) for key, text in (item.get("data") or {}).items()}
    texts = {key: text.encode() for key, text in (item.get("data") or {}).items()}
    binary = item.get("binaryData") or {}
    return texts | {key: base64.b64decode(text) for key, text in binary.items()}


def env_references(container: Json) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of every ConfigMap and Secret in a container's environment."""
    for source in container.get("envFrom") or ():
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                yield kind, source[field]["name"]
    for entry in container.get("env") or ():
        value_from = entry.get("valueFrom") or {}
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if field in value_from:
                yield kind, value_from[field]["name"]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace $(NAME) as Kubernetes does: unknown names stay, $$ is a literal dollar."""

    def replacement(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        return values.get(match.group(1), match.group())

    return _REFERENCE.sub(replacement, text)


def field_value(pod: Json, facts: PodFacts, path: str) -> str:
    """Return what a fieldRef means. Raises ConfigError for a path this node does not know."""
    metadata, spec = pod["metadata"], pod["spec"]
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path in known:
        return str(known[path])
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = (metadata.get(path.removeprefix("metadata.")) or {}).items()
        return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs))
    raise ConfigError(f"fieldPath {path} is not supported by the lab's node")


def environment(
    pod: Json, container: Json, facts: PodFacts, references: References
) -> dict[str, str]:
    """Return the variables a container asks for, in Kubernetes' order of precedence."""
    values: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        values |= _env_from(source, references)
    for entry in container.get("env") or ():
        value = _env_value(pod, entry, facts, references, values)
        if value is not None:
            values[entry["name"]] = value
    return values


def _env_from(source: Json, references: References) -> dict[str, str]:
    prefix, values = source.get("prefix", ""), {}
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if field in source:
            data = references.data(
                kind, source[field]["name"], source[field].get("optional", False)
            )
            values = {
                prefix + key: text.decode("utf-8", "replace")
                for key, text in data.items()
                if _ENV_NAME.fullmatch(prefix + key)
            }
    return values


def _env_value(
    pod: Json, entry: Json, facts: PodFacts, references: References, before: Mapping[str, str]
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value", ""), before)
    if "fieldRef" in source:
        return field_value(pod, facts, source["fieldRef"]["fieldPath"])
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if field in source:
            name, key = source[field]["name"], source[field]["key"]
            optional = source[field].get("optional", False)
            data = references.data(kind, name, optional)
            if key in data:
                return data[key].decode("utf-8", "replace")
            if optional:
                return None
            raise ConfigError(
                f"couldn't find key {key} in {kind} {pod['metadata']['namespace']}/{name}"
            )
    raise ConfigError(
        f"env {entry['name']}: {next(iter(source))} is not supported by the lab's node"
    )


def base_environment(pod: Json, scratch: Path) -> dict[str, str]:
    """Return what an image would bring: PATH (this Python first), HOME, TMPDIR, HOSTNAME."""
    inherited = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {
        "PATH": f"{Path(sys.executable).parent}:{inherited}",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "HOSTNAME": pod["metadata"]["name"],
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def image_repository(image: str) -> str:
    """Return an image name without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def command_line(container: Json, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the program and arguments of a container.

    There are no images here: the sample agent's name stands for its program, any other image
    needs a ``command``, which is run from this machine's own files. Raises ImageError otherwise.
    """
    image = container.get("image", "")
    command = [expand(word, values) for word in container.get("command") or ()]
    arguments = [expand(word, values) for word in container.get("args") or ()]
    if not command:
        if image_repository(image) != SAMPLE_AGENT:
            raise ImageError(
                f'Failed to pull image "{image}": the lab pulls no images; it knows '
                f"{SAMPLE_AGENT}:<any tag>, and runs any other image's command if the pod gives one"
            )
        command = [sys.executable, "-m", "lab.agent"]
    return (*command, *arguments)


def is_sample_agent(container: Json) -> bool:
    """Tell whether a container runs the lab's own sample agent."""
    return image_repository(container.get("image", "")) == SAMPLE_AGENT
