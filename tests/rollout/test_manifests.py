from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.rollout import manifests, revision
from phasegate.rollout.observed import Revision
from phasegate.rollout.route import Mode

from lab.node.spec import expand
from tests.rollout.test_revision import CONFIG_MAPS, META, SPEC, build, json_values


def env_of(built: Revision, mode: Mode = "live") -> dict[str, Any]:
    pod = manifests.deployment(META, built, mode, 2)["spec"]["template"]["spec"]
    return {entry["name"]: entry for entry in pod["containers"][0]["env"]}


def test_a_deployment_comes_out_as_in_every_version_of_the_operator() -> None:
    # Golden: a change here restarts the pods of every agent at the operator's next upgrade.
    built = build()
    labels = {
        "app.kubernetes.io/managed-by": "phasegate",
        "app.kubernetes.io/version": "2.4.0",
        "phasegate.dev/agent": "support",
        "phasegate.dev/mode": "dark",
        "phasegate.dev/revision": "d309d6a64c",
    }
    tools = '[{"digest":"sha256:' + "a" * 64 + '","name":"crm"}]'
    assert manifests.deployment(META, built, "dark", 2) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "support-d309d6a64c-dark",
            "namespace": "team",
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "phasegate.dev/v1alpha1",
                    "kind": "AgentDeployment",
                    "name": "support",
                    "uid": "uid-1",
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "replicas": 2,
            "selector": {
                "matchLabels": {
                    "phasegate.dev/agent": "support",
                    "phasegate.dev/mode": "dark",
                    "phasegate.dev/revision": "d309d6a64c",
                }
            },
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 0,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
            },
            "template": {
                "metadata": {"labels": {"team": "support", **labels}},
                "spec": {
                    "containers": [
                        {
                            "name": "agent",
                            "image": "example.com/agent:1",
                            "envFrom": [{"configMapRef": {"name": "support-d309d6a64c-1"}}],
                            "env": [
                                {"name": "AGENT_NAME", "value": "support"},
                                {"name": "AGENT_REVISION", "value": "d309d6a64c"},
                                {"name": "AGENT_MODE", "value": "dark"},
                                {
                                    "name": "AGENT_SYSTEM_PROMPT",
                                    "value": "You are a support agent. It costs $$5.",
                                },
                                {"name": "AGENT_MODEL_PROVIDER", "value": "openai"},
                                {"name": "AGENT_MODEL", "value": "gpt-4o"},
                                {
                                    "name": "AGENT_MODEL_PARAMETERS",
                                    "value": '{"temperature":"0.2"}',
                                },
                                {"name": "AGENT_TOOLS", "value": tools},
                                {
                                    "name": "OTEL_RESOURCE_ATTRIBUTES",
                                    "value": "service.name=support,service.namespace=team,"
                                    "service.version=2.4.0,phasegate.agent=support,"
                                    "phasegate.revision=d309d6a64c,phasegate.mode=dark",
                                },
                            ],
                        }
                    ],
                    "volumes": [
                        {
                            "name": "kb",
                            "configMap": {
                                "name": "support-d309d6a64c-0",
                                "items": [{"key": "faq.md"}],
                            },
                        }
                    ],
                },
            },
        },
    }


def test_rendering_changes_nothing_of_the_stored_revision() -> None:
    built = build()
    before = copy.deepcopy(built.snapshot)
    manifests.deployment(META, built, "live", 2)
    assert built.snapshot == before


def test_copies_carry_the_content_and_the_pods_read_the_copies() -> None:
    built = build()
    copies = {c["metadata"]["name"]: c for c in manifests.config_map_copies(META, built)}
    assert copies[f"support-{built.hash}-0"]["data"] == {"faq.md": "questions"}
    assert copies[f"support-{built.hash}-1"]["data"] == {"LIMIT": "10"}
    assert all(c["immutable"] for c in copies.values())
    text = json.dumps(manifests.deployment(META, built, "live", 1))
    assert '"settings"' not in text


def test_a_config_map_that_was_absent_stays_absent_for_this_revision() -> None:
    def relax(spec: dict[str, Any]) -> None:
        spec["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["optional"] = True

    built = build(relax, {"kb": CONFIG_MAPS["kb"]})
    pod = manifests.deployment(META, built, "live", 1)["spec"]["template"]["spec"]
    ref = pod["containers"][0]["envFrom"][0]["configMapRef"]
    assert ref == {"name": f"support-{built.hash}-absent", "optional": True}


def test_a_prompt_from_a_config_map_is_read_from_the_copy() -> None:
    def move(spec: dict[str, Any]) -> None:
        del spec["agent"]["systemPrompt"]
        spec["agent"]["systemPromptFrom"] = {"configMapKeyRef": {"name": "p", "key": "text"}}

    built = build(move, CONFIG_MAPS | {"p": {"data": {"text": "Be kind."}}})
    source = env_of(built)["AGENT_SYSTEM_PROMPT"]["valueFrom"]["configMapKeyRef"]
    assert source == {"name": f"support-{built.hash}-1", "key": "text"}


def test_ours_wins_over_what_a_template_says_about_revision_and_mode() -> None:
    def lie(spec: dict[str, Any]) -> None:
        spec["template"]["spec"]["containers"][0]["env"] = [
            {"name": "AGENT_MODE", "value": "live"},
            {"name": "AGENT_REVISION", "value": "none"},
            {"name": "FAULT_ERROR_RATE", "value": "0.5"},
        ]

    built = build(lie)
    env = env_of(built, "shadow")
    assert env["AGENT_MODE"]["value"] == "shadow"
    assert env["AGENT_REVISION"]["value"] == built.hash
    assert env["FAULT_ERROR_RATE"]["value"] == "0.5"


def test_a_users_resource_attributes_are_kept_and_ours_added() -> None:
    def given(spec: dict[str, Any]) -> None:
        value = "deployment.environment=prod,service.name=mine,phasegate.mode=lie"
        spec["template"]["spec"]["containers"][0]["env"] = [
            {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": value}
        ]

    value = env_of(build(given))["OTEL_RESOURCE_ATTRIBUTES"]["value"]
    pairs = dict(pair.split("=") for pair in value.split(","))
    assert pairs["deployment.environment"] == "prod"
    assert pairs["service.name"] == "mine"
    assert pairs["phasegate.mode"] == "live"


@pytest.mark.parametrize(
    ("version", "label"), [("2.4.0", "2.4.0"), ("v1 (beta)", "v1__beta"), ("---", None), ("", None)]
)
def test_any_version_becomes_a_valid_label_or_none(version: str, label: str | None) -> None:
    built = build(lambda s: s["agent"].update(version=version))
    labels = manifests.revision_service(META, built, "live")["metadata"]["labels"]
    assert labels.get("app.kubernetes.io/version") == label


def test_the_stable_service_selects_live_pods_of_the_stable_revision_only() -> None:
    built = build()
    service = manifests.stable_service(META, built)
    assert service["metadata"]["name"] == "support"
    assert service["spec"]["selector"] == {
        "phasegate.dev/agent": "support",
        "phasegate.dev/revision": built.hash,
        "phasegate.dev/mode": "live",
    }


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200))
def test_every_prompt_reaches_the_process_as_it_was_written(prompt: str) -> None:
    value = env_of(build(lambda s: s["agent"].update(systemPrompt=prompt)))["AGENT_SYSTEM_PROMPT"]
    assert expand(value["value"], {"FOO": "expanded", "AGENT_NAME": "x"}) == prompt


@given(json_values)
def test_a_template_of_any_shape_renders(template: Any) -> None:
    spec = AgentDeploymentSpec.model_validate(
        {**SPEC, "template": {"spec": template, "metadata": template}}
    )
    built = revision.build(spec, CONFIG_MAPS)
    once = manifests.deployment(META, built, "live", 1)
    assert once == manifests.deployment(META, built, "live", 1)
    assert once["spec"]["template"]["metadata"]["labels"]["phasegate.dev/revision"] == built.hash
