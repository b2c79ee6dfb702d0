"""What decides about a build and a lab before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cluster.crds import load
from lab.errors import LabError
from lab.parts.build import Parts
from lab.parts.toolchain import inspect, wanted
from lab.paths import State, cache_dir, short_path, state_root
from lab.sandbox.forward import Forward


def go(folder: Path, version: str) -> Path:
    """A command that calls itself this version of Go."""
    path = folder / "go"
    path.write_text(f"#!/bin/sh\necho go version {version}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["go1.25.9 linux/amd64", "go1.26.6 linux/amd64", "devel +abc"])
def test_a_go_that_is_too_old_or_unknown_is_not_used(tmp_path: Path, version: str) -> None:
    assert wanted() == (1, 26, 7)
    assert inspect(go(tmp_path, version)) is None


@pytest.mark.parametrize("version", ["go1.26.7 linux/amd64", "go1.27 linux/arm64"])
def test_a_go_that_is_new_enough_is_used(tmp_path: Path, version: str) -> None:
    found = inspect(go(tmp_path, version))
    assert found is not None
    assert found.version == version


def test_a_go_that_does_not_run_is_not_used(tmp_path: Path) -> None:
    assert inspect(tmp_path / "nothing") is None


def test_crds_are_the_shipped_ones_without_their_descriptions(tmp_path: Path) -> None:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "one.yaml").write_text(
        """
kind: CustomResourceDefinition
metadata: {name: ones.example.com}
spec:
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        description: long
        type: object
        properties:
          description: {description: long, type: string}
          list: {type: array, items: {description: long, type: string}}
"""
    )
    (crd,) = load(Parts(tmp_path))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    properties = {
        "description": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string"}},
    }
    assert schema == {"type": "object", "properties": properties}
    (tmp_path / "crds" / "one.yaml").unlink()
    assert load(Parts(tmp_path)) == [crd]  # the second time from the converted copy


def test_directories_follow_the_environment() -> None:
    assert cache_dir({"PHASEGATE_CACHE": "/c"}) == Path("/c")
    assert cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/phasegate")
    assert state_root({"PHASEGATE_LAB_STATE": "/s"}) == Path("/s")
    assert state_root({"XDG_STATE_HOME": "/x"}) == Path("/x/phasegate/lab")


@pytest.mark.parametrize("name", ["", "Up", "a_b", "../x", "-a", "a" * 41])
def test_a_name_that_cannot_be_a_labs_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="not a name for a lab"):
        State.of(name)


def test_a_short_path_names_a_file_in_a_deep_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "file").write_text("here")
    with short_path(deep / "file") as path:
        assert len(path) < 108
        assert Path(path).read_text() == "here"


@pytest.mark.parametrize(
    ("text", "port", "target"),
    [
        ("9090:prometheus", 9090, "10.244.0.1:9090"),
        ("0:gateway", 0, "10.244.0.1:80"),
        ("8080:10.244.0.7:8081", 8080, "10.244.0.7:8081"),
    ],
)
def test_a_forward_leads_from_a_port_to_a_target(text: str, port: int, target: str) -> None:
    assert Forward.parse(text) == Forward(port, target)


@pytest.mark.parametrize("text", ["9090", "x:gateway", "99999:gateway", "80:nowhere", "80:a b:1"])
def test_a_forward_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="HOSTPORT:TARGET"):
        Forward.parse(text)
