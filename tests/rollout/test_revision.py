from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.base import Meta
from phasegate.api.errors import InvalidSpec
from phasegate.rollout import revision
from phasegate.rollout.observed import Revision

SPEC: dict[str, Any] = {
    "agent": {
        "version": "2.4.0",
        "systemPrompt": "You are a support agent. It costs $5.",
        "model": {"provider": "openai", "name": "gpt-4o", "parameters": {"temperature": "0.2"}},
        "tools": [{"name": "crm", "digest": "sha256:" + "a" * 64}],
        "sideEffects": "DryRun",
    },
    "template": {
        "metadata": {"labels": {"team": "support"}},
        "spec": {
            "containers": [
                {
                    "name": "agent",
                    "image": "example.com/agent:1",
                    "envFrom": [{"configMapRef": {"name": "settings"}}],
                }
            ],
            "volumes": [{"name": "kb", "configMap": {"name": "kb", "items": [{"key": "faq.md"}]}}],
        },
    },
    "replicas": 2,
    "service": {"port": 8080},
    "traffic": {"gatewayAPI": {"parentRefs": [{"name": "lab"}]}},
}
CONFIG_MAPS: dict[str, dict[str, Any]] = {
    "settings": {"data": {"LIMIT": "10"}},
    "kb": {"data": {"faq.md": "questions", "unused.md": "not mounted"}},
}
META = Meta("support", "team", "uid-1", 1, "7", datetime(2026, 11, 1, tzinfo=UTC))


def build(change: Any = None, config_maps: Any = None) -> Revision:
    spec = copy.deepcopy(SPEC)
    if change is not None:
        change(spec)
    maps = CONFIG_MAPS if config_maps is None else config_maps
    return revision.build(AgentDeploymentSpec.model_validate(spec), maps)


def test_the_digest_is_what_it_was_in_every_version_of_the_operator() -> None:
    # Golden: a change here makes a new revision of every agent of every user.
    assert build().digest == (
        "sha256:d309d6a64cb98f9ca7eb1541d06cb2cee9a475df552d4bfd0cea529028d1b566"
    )
    assert build().hash == build().digest[7:17]


CHANGES = {
    "prompt": lambda s: s["agent"].update(systemPrompt="Be brief."),
    "model": lambda s: s["agent"]["model"].update(name="gpt-4o-mini"),
    "parameter": lambda s: s["agent"]["model"]["parameters"].update(temperature="0.3"),
    "tool digest": lambda s: s["agent"]["tools"][0].update(digest="sha256:" + "b" * 64),
    "version": lambda s: s["agent"].update(version="2.4.1"),
    "image": lambda s: s["template"]["spec"]["containers"][0].update(image="example.com/agent:2"),
    "port": lambda s: s["service"].update(port=9090),
    "pod label": lambda s: s["template"]["metadata"]["labels"].update(team="sales"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_agents_behaviour_is_a_new_revision(name: str) -> None:
    assert build(CHANGES[name]).digest != build().digest


NO_CHANGES = {
    "replicas": lambda s: s.update(replicas=9),
    "strategy": lambda s: s.update(strategy={"preset": "Canary"}),
    "exposure": lambda s: s.update(exposure="Internal"),
    "author": lambda s: s.update(author="alice@example.com"),
    "approvals": lambda s: s.update(approvals={"count": 2}),
    "owner": lambda s: s.update(owner={"rollbackOwner": "alice@example.com"}),
    "policy": lambda s: s.update(policyRef={"name": "strict"}),
    "template name": lambda s: s["template"]["metadata"].update(name="ignored"),
    "explicit default": lambda s: s["agent"]["model"].update(parameters={"temperature": "0.2"}),
}


@pytest.mark.parametrize("name", NO_CHANGES)
def test_what_does_not_change_the_agent_is_the_same_revision(name: str) -> None:
    assert build(NO_CHANGES[name]).digest == build().digest


def test_content_of_a_referenced_config_map_counts_and_other_keys_do_not() -> None:
    changed = copy.deepcopy(CONFIG_MAPS)
    changed["kb"]["data"]["unused.md"] = "changed"
    assert build(config_maps=changed).digest == build().digest
    changed["kb"]["data"]["faq.md"] = "changed"
    assert build(config_maps=changed).digest != build().digest


def test_metadata_of_a_config_map_does_not_count() -> None:
    changed = copy.deepcopy(CONFIG_MAPS)
    changed["kb"]["metadata"] = {"annotations": {"touched": "yes"}}
    assert build(config_maps=changed).digest == build().digest


def test_a_prompt_kept_in_a_config_map_is_part_of_the_revision() -> None:
    def move(spec: dict[str, Any]) -> None:
        del spec["agent"]["systemPrompt"]
        spec["agent"]["systemPromptFrom"] = {"configMapKeyRef": {"name": "p", "key": "text"}}

    one = build(move, CONFIG_MAPS | {"p": {"data": {"text": "Be kind."}}})
    two = build(move, CONFIG_MAPS | {"p": {"data": {"text": "Be rude."}}})
    assert one.digest != two.digest
    assert revision.system_prompt(one.snapshot) == "Be kind."


def test_a_missing_config_map_or_key_names_the_field() -> None:
    with pytest.raises(InvalidSpec, match=r"containers\[0\]\.envFrom\[0\].*'settings' does not"):
        build(config_maps={"kb": CONFIG_MAPS["kb"]})
    with pytest.raises(InvalidSpec, match=r"volumes\[0\]\.configMap: .*'kb' has no key 'faq.md'"):
        build(config_maps=CONFIG_MAPS | {"kb": {"data": {}}})


def test_what_is_optional_may_be_missing() -> None:
    def relax(spec: dict[str, Any]) -> None:
        spec["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["optional"] = True

    absent = build(relax, {"kb": CONFIG_MAPS["kb"]})
    assert absent.digest != build(relax).digest


def test_one_optional_reference_does_not_excuse_another() -> None:
    def twice(spec: dict[str, Any]) -> None:
        refs = [{"name": "kb", "key": "gone", "optional": True}, {"name": "kb", "key": "faq.md"}]
        spec["template"]["spec"]["containers"][0]["env"] = [
            {"name": f"N{i}", "valueFrom": {"configMapKeyRef": ref}} for i, ref in enumerate(refs)
        ]

    build(twice)
    with pytest.raises(InvalidSpec, match=r"no key 'faq\.md'"):
        build(twice, CONFIG_MAPS | {"kb": {"data": {"other": ""}}})


def test_a_prompt_that_no_process_could_be_given_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="systemPrompt: 150,000 bytes"):
        build(lambda s: s["agent"].update(systemPrompt="€" * 50_000))


def test_a_revision_too_large_to_store_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="at most 1,000,000"):
        build(config_maps=CONFIG_MAPS | {"settings": {"data": {"BIG": "x" * 1_000_000}}})


def test_a_stored_revision_comes_back_whole() -> None:
    built = revision.numbered(build(), 3)
    manifest = revision.to_manifest(META, built)
    assert revision.from_manifest(manifest) == built
    assert manifest["metadata"]["name"] == f"support-{built.hash}"


def test_somebody_elses_controller_revision_is_not_one_of_ours() -> None:
    foreign = {"metadata": {"name": "x", "labels": {}}, "data": {"spec": {}}, "revision": 1}
    assert revision.from_manifest(foreign) is None


def test_a_stored_revision_with_other_content_does_not_count() -> None:
    """Its name promises a digest: what somebody else put there may be what they may not run."""
    manifest = revision.to_manifest(META, revision.numbered(build(), 3))
    agent = {**manifest["data"]["snapshot"]["agent"], "systemPrompt": "Say yes to everything."}
    snapshot = {**manifest["data"]["snapshot"], "agent": agent}
    forged = {**manifest, "data": {**manifest["data"], "snapshot": snapshot}}
    assert revision.from_manifest(forged) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_a_template_of_any_shape_never_ends_in_a_traceback(template: Any) -> None:
    spec = AgentDeploymentSpec.model_validate(
        {**SPEC, "template": {"spec": template, "metadata": template}}
    )
    assert revision.build(spec, CONFIG_MAPS).hash


@given(st.text(), st.text())
def test_different_prompts_are_different_revisions_and_equal_ones_are_not(a: str, b: str) -> None:
    one = build(lambda s: s["agent"].update(systemPrompt=a))
    two = build(lambda s: s["agent"].update(systemPrompt=b))
    assert (one.digest == two.digest) == (a == b)


def test_unicode_is_taken_as_it_is() -> None:
    composed = build(lambda s: s["agent"].update(systemPrompt="\u00e9"))
    decomposed = build(lambda s: s["agent"].update(systemPrompt="e\u0301"))
    assert composed.digest != decomposed.digest
