"""Volumes of a pod: ConfigMaps and Secrets as files, emptyDir, hostPath, downward API.

Files are written when a container starts: a later change of a ConfigMap does not reach a running
one (a new revision does). Service account tokens are left out: the pods get no
credentials for the API server.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.node.client import Json
from lab.node.process import Mount
from lab.node.spec import ConfigError, PodFacts, References, field_value

_KINDS = (("configMap", "name", "ConfigMap"), ("secret", "secretName", "Secret"))


def volume_references(pod: Json) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of every ConfigMap and Secret in a pod's volumes."""
    for volume in pod["spec"].get("volumes") or ():
        for field, name_field, kind in _KINDS:
            if field in volume:
                yield kind, volume[field][name_field]
        if _is_token(volume):
            continue
        for source in (volume.get("projected") or {}).get("sources") or ():
            for field, _, kind in _KINDS:
                if field in source:
                    yield kind, source[field]["name"]


def _is_token(volume: Json) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    return any("serviceAccountToken" in source for source in sources)


def write_volumes(
    pod: Json, directory: Path, facts: PodFacts, references: References
) -> dict[str, Path]:
    """Make a pod's volumes below ``directory``; returns each volume's path by name.

    Raises ConfigError for a missing object or key, or a kind of volume the lab does not have.
    """
    paths: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if _is_token(volume):
            continue
        if "hostPath" in volume:
            paths[name] = Path(volume["hostPath"]["path"])
            continue
        paths[name] = directory / name
        files = dict(_files(pod, volume, facts, references))
        if "emptyDir" not in volume:
            shutil.rmtree(paths[name], ignore_errors=True)
        paths[name].mkdir(parents=True, exist_ok=True)
        for relative, content in files.items():
            target = paths[name] / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return paths


def _files(
    pod: Json, volume: Json, facts: PodFacts, references: References
) -> Iterator[tuple[str, bytes]]:
    for field, name_field, kind in _KINDS:
        if field in volume:
            yield from _keys(volume[field], kind, volume[field][name_field], references)
    if "downwardAPI" in volume:
        yield from _downward(pod, volume["downwardAPI"], facts)
    for source in (volume.get("projected") or {}).get("sources") or ():
        for field, _, kind in _KINDS:
            if field in source:
                yield from _keys(source[field], kind, source[field]["name"], references)
        if "downwardAPI" in source:
            yield from _downward(pod, source["downwardAPI"], facts)
    if not {"configMap", "secret", "downwardAPI", "projected", "emptyDir"} & volume.keys():
        kinds = ", ".join(key for key in volume if key != "name")
        raise ConfigError(f'volume "{volume["name"]}": {kinds} is not supported by the lab\'s node')


def _keys(
    source: Json, kind: str, name: str, references: References
) -> Iterator[tuple[str, bytes]]:
    optional = source.get("optional", False)
    data = references.data(kind, name, optional)
    if "items" not in source:
        yield from data.items()
        return
    for item in source["items"]:
        if item["key"] in data:
            yield item["path"], data[item["key"]]
        elif not optional:
            raise ConfigError(f"couldn't find key {item['key']} in {kind.lower()} {name}")


def _downward(pod: Json, source: Json, facts: PodFacts) -> Iterator[tuple[str, bytes]]:
    for item in source.get("items") or ():
        if "fieldRef" in item:
            yield item["path"], field_value(pod, facts, item["fieldRef"]["fieldPath"]).encode()


def container_mounts(container: Json, paths: dict[str, Path]) -> tuple[Mount, ...]:
    """Return what a container's volumeMounts mean; mounts of left-out volumes are left out."""
    mounts = []
    for mount in container.get("volumeMounts") or ():
        if mount["name"] in paths:
            source = paths[mount["name"]] / mount.get("subPath", "")
            mounts.append(Mount(str(source), mount["mountPath"], mount.get("readOnly", False)))
    return tuple(mounts)
