"""The CustomResourceDefinitions in crds/ are those of the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from phasegate.api.crds import AGENT_DEPLOYMENT, KINDS, CustomKind, crd
from phasegate.api.metricrules import WELL_KNOWN
from phasegate.cli.main import main

CRDS = Path(__file__).parents[2] / "crds"
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.kind for kind in KINDS])


def schemas(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all its parts, each with its place."""
    yield at, schema
    for name, child in schema.get("properties", {}).items():
        yield from schemas(child, f"{at}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from schemas(schema[key], f"{at}[]")


def root(kind: CustomKind) -> dict[str, Any]:
    version: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return version


def test_the_files_in_the_repository_are_up_to_date() -> None:
    result = CliRunner().invoke(main, ["crds", "--check", "--out", str(CRDS)])
    assert result.exit_code == 0, result.output


def test_check_names_the_files_that_are_missing_changed_or_left_over(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(main, ["crds", "--out", str(tmp_path)]).exit_code == 0
    assert run(main, ["crds", "--check", "--out", str(tmp_path)]).exit_code == 0

    (tmp_path / "phasegate.dev_agentrollouts.yaml").unlink()
    (tmp_path / "phasegate.dev_agentdeployments.yaml").write_text("changed")
    (tmp_path / "phasegate.dev_leftovers.yaml").write_text("old")
    result = run(main, ["crds", "--check", "--out", str(tmp_path)])
    assert result.exit_code == 1
    for name in ("agentrollouts", "agentdeployments", "leftovers"):
        assert f"phasegate.dev_{name}.yaml" in result.output
    assert "rolloutactions" not in result.output
    assert "phasegate crds --out" in result.output


def test_without_out_all_of_them_are_printed() -> None:
    result = CliRunner().invoke(main, ["crds"])
    printed = list(yaml.safe_load_all(result.output))
    assert printed == [crd(kind) for kind in KINDS]


def test_kustomize_applies_every_file() -> None:
    listed = yaml.safe_load((CRDS / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in CRDS.glob("phasegate.dev_*.yaml"))


@each_kind
def test_a_crd_says_what_the_conventions_ask(kind: CustomKind) -> None:
    definition = crd(kind)
    spec = definition["spec"]
    version = spec["versions"][0]
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert (spec["group"], spec["scope"], version["name"]) == (
        "phasegate.dev",
        "Namespaced",
        "v1alpha1",
    )
    assert spec["names"]["categories"] == ["phasegate"]
    assert "status" in version["subresources"]
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"
    assert root(kind)["required"] == ["spec"]


@each_kind
def test_every_column_and_selectable_field_is_in_the_schema(kind: CustomKind) -> None:
    places = {place for place, _ in schemas(root(kind))}
    for column in kind.columns:
        if not column.path.startswith(".metadata"):
            plain = column.path.split("[?")[0].replace("[*]", "[]")
            assert plain in places, column
    assert set(kind.selectable) <= places


@each_kind
def test_conditions_are_told_apart_by_type(kind: CustomKind) -> None:
    for place, schema in schemas(root(kind)):
        if place.endswith(".conditions"):
            assert schema["x-kubernetes-list-map-keys"] == ["type"]


@each_kind
def test_every_rule_has_a_sentence_and_none_is_for_the_status(kind: CustomKind) -> None:
    for place, schema in schemas(root(kind)):
        for rule in schema.get("x-kubernetes-validations", ()):
            assert len(rule["message"]) > 20, (place, rule)
            assert "\n" not in rule["rule"]
            assert not place.startswith(".status")


def test_only_agent_deployments_scale() -> None:
    scaling = [
        kind for kind in KINDS if "scale" in crd(kind)["spec"]["versions"][0]["subresources"]
    ]
    assert scaling == [AGENT_DEPLOYMENT]


def test_the_docs_of_a_metric_name_all_well_known_names() -> None:
    policy = next(kind for kind in KINDS if kind.kind == "RollbackPolicy")
    places = dict(schemas(root(policy)))
    for name in WELL_KNOWN:
        assert name in places[".spec.metrics[].name"]["description"]
