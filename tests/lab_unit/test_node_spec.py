"""What a pod's spec means to the node: environment, command, files."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.node.process import Mount
from lab.node.spec import (
    ConfigError,
    ImageError,
    PodFacts,
    References,
    command_line,
    decode,
    environment,
    expand,
    field_value,
    image_repository,
)
from lab.node.volumes import container_mounts, volume_references, write_volumes

FACTS = PodFacts(node_name="lab", host_ip="10.244.0.1", pod_ip="10.244.0.7")
POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"phasegate.dev/mode": "dark", "a": "1"},
    },
    "spec": {"containers": [], "serviceAccountName": "robot"},
}
KNOWN = References({("ConfigMap", "c"): {"a": b"A", "b-c": b"B"}, ("Secret", "s"): {"k": b"K"}})


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, meaning: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == meaning


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.uid", "u"),
        ("metadata.labels['phasegate.dev/mode']", "dark"),
        ("metadata.labels['missing']", ""),
        ("metadata.labels", 'a="1"\nphasegate.dev/mode="dark"'),
        ("status.podIP", "10.244.0.7"),
        ("status.hostIP", "10.244.0.1"),
        ("spec.nodeName", "lab"),
        ("spec.serviceAccountName", "robot"),
    ],
)
def test_fields_of_the_pod_are_known(path: str, value: str) -> None:
    assert field_value(POD, FACTS, path) == value


def test_an_unknown_field_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"spec\.nodeSelector"):
        field_value(POD, FACTS, "spec.nodeSelector")


def test_env_wins_over_env_from_and_sees_what_came_before() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "env": [
            {"name": "FIRST", "value": "$(a)$(LATER)"},
            {"name": "a", "value": "own"},
            {"name": "LATER", "value": "$(a)"},
        ],
    }
    values = environment(POD, container, FACTS, KNOWN)
    assert values == {"a": "own", "b-c": "B", "FIRST": "A$(LATER)", "LATER": "own"}


def _key_reference(kind: str, name: str, key: str, optional: bool) -> dict[str, Any]:
    reference = {"name": name, "key": key, "optional": optional}
    return {"env": [{"name": "V", "valueFrom": {kind: reference}}]}


@pytest.mark.parametrize("kind", ["configMapKeyRef", "secretKeyRef"])
@pytest.mark.parametrize(("name", "key"), [("gone", "k"), ("c", "gone"), ("s", "gone")])
def test_a_missing_key_is_an_error_unless_optional(kind: str, name: str, key: str) -> None:
    assert environment(POD, _key_reference(kind, name, key, True), FACTS, KNOWN) == {}
    with pytest.raises(ConfigError, match=r"not found|couldn't find key"):
        environment(POD, _key_reference(kind, name, key, False), FACTS, KNOWN)


def test_values_of_config_maps_and_secrets_are_decoded() -> None:
    encoded = base64.b64encode(b"\x00x").decode()
    config_map = {"data": {"a": "ä"}, "binaryData": {"b": encoded}}
    assert decode("ConfigMap", config_map) == {"a": "ä".encode(), "b": b"\x00x"}
    assert decode("Secret", {"data": {"s": encoded}}) == {"s": b"\x00x"}


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("phasegate.dev/sample-agent:1.0", "phasegate.dev/sample-agent"),
        ("phasegate.dev/sample-agent", "phasegate.dev/sample-agent"),
        ("localhost:5000/agent", "localhost:5000/agent"),
        ("localhost:5000/agent:2@sha256:abc", "localhost:5000/agent"),
    ],
)
def test_an_images_repository_is_without_tag_and_digest(image: str, repository: str) -> None:
    assert image_repository(image) == repository


def test_the_sample_agent_needs_no_command() -> None:
    container = {"image": "phasegate.dev/sample-agent:2.4", "args": ["$(X)"]}
    assert command_line(container, {"X": "y"}) == (sys.executable, "-m", "lab.agent", "y")


def test_any_image_runs_the_command_the_pod_gives() -> None:
    container = {"image": "example.com/mine:1", "command": ["./run", "$(X)"]}
    assert command_line(container, {"X": "y"}) == ("./run", "y")


def test_an_unknown_image_without_a_command_cannot_be_pulled() -> None:
    with pytest.raises(ImageError, match=r"example\.com/mine:1.*pulls no images"):
        command_line({"image": "example.com/mine:1"}, {})


def _with_volumes(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {**POD, "spec": {"volumes": list(volumes)}}


def test_volumes_become_files(tmp_path: Path) -> None:
    items = [{"key": "a", "path": "deep/er"}]
    labels = {"path": "mode", "fieldRef": {"fieldPath": "metadata.labels['phasegate.dev/mode']"}}
    pod = _with_volumes(
        {"name": "all", "configMap": {"name": "c"}},
        {"name": "some", "projected": {"sources": [{"configMap": {"name": "c", "items": items}}]}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "down", "downwardAPI": {"items": [labels]}},
        {"name": "empty", "emptyDir": {}},
    )
    paths = write_volumes(pod, tmp_path, FACTS, KNOWN)
    assert (paths["all"] / "b-c").read_bytes() == b"B"
    assert (paths["some"] / "deep" / "er").read_bytes() == b"A"
    assert (paths["secret"] / "k").read_bytes() == b"K"
    assert (paths["down"] / "mode").read_bytes() == b"dark"
    assert list(paths["empty"].iterdir()) == []
    assert set(volume_references(pod)) == {("ConfigMap", "c"), ("Secret", "s")}


def test_an_empty_dir_keeps_its_files_over_a_restart(tmp_path: Path) -> None:
    pod = _with_volumes({"name": "empty", "emptyDir": {}})
    (write_volumes(pod, tmp_path, FACTS, KNOWN)["empty"] / "kept").touch()
    assert (write_volumes(pod, tmp_path, FACTS, KNOWN)["empty"] / "kept").exists()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
        ({"secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}}, "key x"),
        ({"nfs": {"server": "x"}}, "nfs is not supported"),
    ],
)
def test_a_volume_that_cannot_be_made_says_why(
    tmp_path: Path, volume: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        write_volumes(_with_volumes({"name": "v", **volume}), tmp_path, FACTS, KNOWN)


def test_service_account_tokens_are_left_out(tmp_path: Path) -> None:
    sources = [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "ca"}}]
    pod = _with_volumes({"name": "token", "projected": {"sources": sources}})
    assert list(volume_references(pod)) == []
    assert write_volumes(pod, tmp_path, FACTS, KNOWN) == {}
    assert container_mounts({"volumeMounts": [{"name": "token", "mountPath": "/t"}]}, {}) == ()


def test_mounts_name_source_and_target() -> None:
    container = {"volumeMounts": [{"name": "v", "mountPath": "/conf/a", "subPath": "a"}]}
    mounts = container_mounts(container, {"v": Path("/state/v")})
    assert mounts == (Mount("/state/v/a", "/conf/a", False),)
