"""What config/ ships: least rights, complete, and safe to apply anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.base import SpecModel
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.api.rolloutaction import Verb
from phasegate.control.rights import (
    AGENT_RIGHTS,
    CLUSTER_RIGHTS,
    endpoint_rights,
    lease_rights,
    price_right,
)

CONFIG = Path(__file__).parents[2] / "config"
ROLES = ("Role", "ClusterRole")


def documents(folder: str) -> list[dict[str, Any]]:
    files = sorted((CONFIG / folder).rglob("*.yaml"))
    return [
        document
        for file in files
        if file.name != "kustomization.yaml"
        for document in yaml.safe_load_all(file.read_text())
    ]


RBAC = documents("rbac")
RULES = [(role, rule) for role in RBAC if role["kind"] in ROLES for rule in role["rules"]]


@pytest.mark.parametrize("folder", ["rbac/base", "rbac/people", "admission", "retention"])
def test_a_kustomization_lists_every_file_of_its_folder(folder: str) -> None:
    resources = yaml.safe_load((CONFIG / folder / "kustomization.yaml").read_text())["resources"]
    listed = [name for name in resources if name.endswith(".yaml")]
    files = {path.name for path in (CONFIG / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == files
    assert len(listed) == len(files)


def test_both_installs_stand_on_the_same_base() -> None:
    def listed(folder: str) -> list[str]:
        found = yaml.safe_load((CONFIG / folder / "kustomization.yaml").read_text())
        return [str(name) for name in found["resources"]]

    assert listed("rbac") == ["cluster"]
    assert listed("rbac/cluster") == ["../base", "binding.yaml"]
    assert listed("rbac/namespaced") == [
        "../base",
        "prices.yaml",
    ]  # its binding is applied once per namespace
    wide, found = documents("rbac/cluster"), documents("rbac/namespaced")
    narrow = [o for o in found if o["metadata"]["name"] != "phasegate-prices"]
    assert [o["kind"] for o in wide + narrow] == ["ClusterRoleBinding", "RoleBinding"]
    assert "namespace" not in narrow[0]["metadata"]
    assert [wide[0][part] for part in ("roleRef", "subjects")] == [
        narrow[0][part] for part in ("roleRef", "subjects")
    ]


def granted() -> Iterator[tuple[str, str, str, str]]:
    """What the operator's account has: group, resource, verb, name."""
    roles = {
        binding["roleRef"]["name"]
        for binding in RBAC
        if binding["kind"].endswith("Binding")
        and any(subject["name"] == "phasegate" for subject in binding["subjects"])
    }
    for role, rule in RULES:
        if role["metadata"]["name"] in roles:
            names = rule.get("resourceNames", [""])
            yield from product(rule["apiGroups"], rule["resources"], rule["verbs"], names)


def test_the_operator_has_the_rights_that_it_asks_for_and_no_others() -> None:
    wanted = [*AGENT_RIGHTS, *CLUSTER_RIGHTS, *endpoint_rights(), *lease_rights("phasegate")]
    wanted.append(price_right("phasegate-system", "model-prices"))
    asked = sorted((right.group, right.resource, right.verb, right.name) for right in wanted)
    assert asked == sorted(granted())


def test_no_role_has_wildcards_or_secrets_or_changes_rights() -> None:
    for role, rule in RULES:
        name = role["metadata"]["name"]
        for field in ("apiGroups", "resources", "verbs", "nonResourceURLs"):
            assert not any("*" in value for value in rule.get(field, ())), name
        assert "secrets" not in rule.get("resources", ()), name
        assert not {"rbac.authorization.k8s.io"} & set(rule.get("apiGroups", ())), name
        assert not {"impersonate", "bind", "escalate"} & set(rule["verbs"]), name


def test_the_operator_cannot_make_or_delete_what_users_write() -> None:
    users_kinds = {"agentdeployments", "rollbackpolicies", "rolloutactions"}
    for role, rule in RULES:
        if role["metadata"]["name"] == "phasegate-operator" and users_kinds & {*rule["resources"]}:
            assert not {"create", "update", "delete", "deletecollection"} & set(rule["verbs"])


def test_only_the_account_of_retention_may_delete_records_and_decisions() -> None:
    def deleters(role: dict[str, Any]) -> set[str]:
        kept = {"agentrollouts", "rolloutactions"}
        return {
            resource
            for rule in role["rules"]
            if {"delete", "deletecollection", "prune"} & {*rule["verbs"]}
            for resource in kept & {*rule.get("resources", ())}
        }

    assert not any(deleters(role) for role in RBAC if role["kind"] in ROLES)
    (role,) = [o for o in documents("retention") if o["kind"] in ROLES]
    assert deleters(role) == {"agentrollouts", "rolloutactions"}
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "delete", "prune"}


def test_every_decision_has_its_verb_in_some_role() -> None:
    in_roles = {
        verb
        for _, rule in RULES
        if rule.get("resources") == ["agentdeployments"]
        for verb in rule["verbs"]
    }
    assert {verb.lower() for verb in get_args(Verb)} <= in_roles


def test_free_promql_is_in_no_role() -> None:
    assert not any("use-promql" in rule["verbs"] for _, rule in RULES)


def test_every_policy_is_bound_denies_and_fails_closed() -> None:
    objects = documents("admission")
    policies = [o for o in objects if o["kind"] == "ValidatingAdmissionPolicy"]
    bindings = [o for o in objects if o["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert len(policies) + len(bindings) == len(objects)
    assert sorted(o["metadata"]["name"] for o in policies) == sorted(
        o["spec"]["policyName"] for o in bindings
    )
    for policy in policies:
        assert policy["spec"]["failurePolicy"] == "Fail"
        for validation in policy["spec"]["validations"]:
            assert validation.get("message") or validation.get("messageExpression")
    for binding in bindings:
        assert binding["spec"] == {
            "policyName": binding["metadata"]["name"],
            "validationActions": ["Deny"],
        }


def test_the_samples_are_read_by_the_models() -> None:
    readers: dict[str, type[SpecModel]] = {
        "AgentDeployment": AgentDeploymentSpec,
        "RollbackPolicy": RollbackPolicySpec,
    }
    objects = documents("samples")
    assert {o["kind"] for o in objects} == set(readers)
    for object_ in objects:
        readers[object_["kind"]].model_validate(object_["spec"])
