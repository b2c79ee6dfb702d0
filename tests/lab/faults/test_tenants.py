"""What a tenant tries with a token of its own: it reaches its own namespace, and what it may there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.faults import FaultProxy, OperatorProcess
from lab.faults.listener import Listener
from tests.lab.faults.scene import a_namespace
from tests.lab.main_job.cluster import Api, Refusal, until
from tests.lab.main_job.manifests import (
    BETTER_PROMPT,
    FULL,
    NAME,
    agent,
    container,
    hostname,
    longer,
    policy,
    template,
)
from tests.lab.main_job.story import Story, condition_of, says

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
ROLES = ("phasegate-gitops-bot", "phasegate-rollback-owner")


@dataclass(frozen=True)
class Town:
    """Two namespaces with an operator for both; alice may everything that people may, in hers."""

    alice: Api
    admin: Api
    """In alice's namespace."""
    neighbour: Api
    """As admin, in the other one."""
    story: Story
    """Of the neighbour's agent, which is stable."""
    listener: Listener
    operator: OperatorProcess


@pytest.fixture(scope="module")
def town(
    quiet_lab: Lab, quiet_admin: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    folder: Path = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(a_namespace(quiet_lab)) for _ in range(2))
        alice = stack.enter_context(Api.of(quiet_lab, "alice")).within(ours)
        for role in ROLES:
            bind(quiet_admin.within(ours), role)
        until("alice's roles are in force", lambda: allowed(alice))
        proxy = stack.enter_context(FaultProxy(quiet_lab, folder))
        listener = stack.enter_context(Listener(quiet_lab.prometheus_url))
        operator = OperatorProcess(
            quiet_lab,
            folder,
            kubeconfig=proxy.kubeconfig,
            namespaces=[ours, theirs],
            config={"providers": {"default": {"url": listener.url}}},
        )
        stack.enter_context(operator)
        neighbour = quiet_admin.within(theirs)
        story = stack.enter_context(Story.begin(quiet_lab, neighbour, folder))
        story.stable(longer(FULL))
        yield Town(alice, quiet_admin.within(ours), neighbour, story, listener, operator)


def bind(api: Api, role: str) -> None:
    subject = {"kind": "User", "name": "alice", "apiGroup": RBAC}
    reference = {"kind": "ClusterRole", "name": role, "apiGroup": RBAC}
    binding = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
    api.create("rolebindings", binding)


def allowed(alice: Api) -> bool:
    """Whether alice may create an agent, and take one back, by now."""
    wanted = (("agentdeployments", "create"), ("agentdeployments", "rollback"))
    for resource, verb in wanted:
        asked = {"group": "phasegate.dev", "resource": resource, "verb": verb}
        review = {"spec": {"resourceAttributes": {**asked, "namespace": alice.namespace}}}
        if not alice.create("selfsubjectaccessreviews", review)["status"]["allowed"]:
            return False
    return True


def mine(town: Town, name: str = "mine", **spec: Any) -> Json:
    """An agent of alice's, with a host name of its own."""
    manifest = agent(f"{name}.{town.alice.namespace}", longer(FULL), **spec)
    manifest["metadata"]["namespace"] = town.alice.namespace
    manifest["metadata"]["name"] = name
    return manifest


def refused(status: int, words: str, act: Callable[[], object]) -> None:
    with pytest.raises(Refusal) as caught:
        act()
    assert caught.value.status == status, caught.value
    assert words in str(caught.value)


def stalled(town: Town, name: str) -> str:
    """Why alice's agent does not go on, once it is told."""

    def told() -> str | None:
        found = town.alice.get("agentdeployments", name)
        stalls = says(found, "Stalled") == "True"
        return str(condition_of(found, "Stalled")["message"]) if stalls else None

    return until(f"{name} is stalled", told)


# --- another namespace -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("policyRef", {"name": "policy", "namespace": "OTHER"}),
        ("policyRef", {"name": "OTHER/policy"}),
        ("policyRef", {"name": "../../OTHER/rollbackpolicies/policy"}),
        ("policyRef", {"name": "..%2f..%2fOTHER"}),
        ("policyRef", {"name": "policy?x="}),
        ("service", {"port": 8080, "name": "support", "namespace": "OTHER"}),
        ("agent", {"sideEffects": "None", "systemPromptFrom": {"configMapKeyRef": {
            "name": "prompts", "key": "a", "namespace": "OTHER"}}}),
        ("agent", {"sideEffects": "None", "systemPromptFrom": {"configMapKeyRef": {
            "name": "../../OTHER/configmaps/prompts", "key": "a"}}}),
    ],
)  # fmt: skip
def test_a_reference_to_another_namespace_cannot_be_written(
    town: Town, where: str, value: Json
) -> None:
    """With strict validation it is refused; without, the namespace is dropped."""
    text = json.dumps(value).replace("OTHER", town.neighbour.namespace)
    manifest = mine(town, **{where: json.loads(text)})
    with pytest.raises(Refusal) as caught:
        town.alice.create("agentdeployments", manifest)
    assert caught.value.status in (400, 422)
    loose = town.alice.http.post(
        town.alice.path("agentdeployments"),
        json=manifest,
        params={"fieldValidation": "Ignore", "dryRun": "All"},
    )
    if loose.is_success:
        assert "namespace" not in json.dumps(loose.json()["spec"][where])
    else:
        assert loose.status_code == 422


def test_a_tenant_reaches_nothing_of_its_neighbour(town: Town) -> None:
    there = town.alice.within(town.neighbour.namespace)
    before = town.neighbour.get("agentdeployments", NAME)["spec"]
    for act in (
        lambda: there.get("agentdeployments", NAME),
        lambda: there.patch("agentdeployments", NAME, {"spec": {"replicas": 0}}),
        lambda: there.create("agentdeployments", agent(there.namespace)),
        lambda: there.create("rollbackpolicies", policy()),
        lambda: there.patch("httproutes", NAME, {"spec": {"rules": None}}),
        lambda: decide(there, "Rollback", actor="alice"),
    ):
        refused(403, "forbidden", act)
    assert town.neighbour.get("agentdeployments", NAME)["spec"] == before


def decide(api: Api, verb: str, **spec: Any) -> Json:
    manifest = {
        "metadata": {"generateName": "decision-"},
        "spec": {"agent": NAME, "verb": verb, "revision": "0123456789", "reason": "so", **spec},
    }
    return api.create("rolloutactions", manifest)


# --- identity --------------------------------------------------------------------------------


def test_a_decision_cannot_be_forged(town: Town) -> None:
    alice = town.alice
    refused(
        403, "nobody decides in the name of another", lambda: decide(alice, "Rollback", actor="bob")
    )
    refused(
        403,
        "you are not a member of legal",
        lambda: decide(alice, "Rollback", actor="alice", actorGroups=["legal"]),
    )
    refused(403, 'takes the verb "approve"', lambda: decide(alice, "Approve", actor="alice"))
    as_bob = {"Impersonate-User": "bob"}
    answer = alice.http.get(alice.path("agentdeployments"), headers=as_bob)
    assert (answer.status_code, "cannot impersonate" in answer.text) == (403, True)
    made = decide(alice, "Rollback", actor="alice")["metadata"]["name"]
    forged = {"status": {"outcome": "Accepted", "message": "carried out"}}
    url = f"{alice.path('rolloutactions')}/{made}"
    merge = {"Content-Type": "application/merge-patch+json"}
    assert alice.http.patch(f"{url}/status", json=forged, headers=merge).status_code == 403
    assert alice.http.patch(url, json={"spec": {"actor": "bob"}}, headers=merge).status_code == 403
    assert alice.http.delete(url).status_code == 403
    spec = {
        **{"agent": NAME, "number": 7, "revision": "0123456789", "fromRevision": "1234567890"},
        **{"digest": "sha256:" + "0" * 64, "fromDigest": "sha256:" + "1" * 64},
    }
    refused(
        403,
        "agentrollouts",
        lambda: alice.create("agentrollouts", {"metadata": {"name": "r"}, "spec": spec}),
    )
    route = {"metadata": {"name": "r", "annotations": {"phasegate.dev/rollback": '{"by": "bob"}'}}}
    refused(403, "the operator's word", lambda: alice.create("httproutes", {**route, "spec": {}}))


def test_a_decision_counts_for_an_agent_of_its_own_namespace_only(town: Town) -> None:
    """Both have an agent of the same name; the neighbour's is being rolled out."""
    town.story.prompt(BETTER_PROMPT)
    version = town.story.in_phase("full")
    new = version["status"]["candidateRevision"]
    town.admin.create("rollbackpolicies", policy())
    town.alice.create("agentdeployments", mine(town, NAME))
    action = decide(town.alice, "Rollback", actor="alice", revision=new)["metadata"]["name"]

    def outcome() -> Json | None:
        found: Json = town.alice.get("rolloutactions", action).get("status") or {}
        return found if "outcome" in found else None

    assert until("it is answered", outcome)["outcome"] == "Refused"
    after = town.neighbour.get("agentdeployments", NAME)["status"]
    assert after["candidateRevision"] == new
    assert "rollback" not in after


# --- metrics ---------------------------------------------------------------------------------


def counted(bad: str) -> Json:
    ratio = {"bad": bad, "total": "agent_requests_total"}
    return {"name": "mine", "ratio": ratio, "rollback": {"above": "5%"}}


@pytest.mark.parametrize(
    "series",
    [
        'agent_requests_total{outcome="error"} or vector(1)',
        'agent_requests_total{a="b"}[1d])) or (sum(secret{c="d"}',
        'agent_requests_total{a="b\\"} or secret{c=\\"d"}',
        'agent_requests_total{a="b"}\n# ',
        '{__name__=~".+"}',
        "label_replace(secret)",
    ],
)
def test_no_promql_goes_in_through_a_series(town: Town, series: str) -> None:
    wanted = {"metadata": {"name": "evil"}, "spec": {"metrics": [counted(series)]}}
    refused(
        422, "must be the name of a series", lambda: town.alice.create("rollbackpolicies", wanted)
    )


def test_free_promql_and_addresses_are_refused(town: Town) -> None:
    free = {"name": "free", "threshold": {"query": "secret"}, "rollback": {"above": "1"}}
    refused(
        403,
        "free PromQL",
        lambda: town.alice.create(
            "rollbackpolicies", {"metadata": {"name": "evil"}, "spec": {"metrics": [free]}}
        ),
    )
    for address in ("http://evil.example.com", "//evil", "default@evil", "169.254.169.254"):
        spec = {"prometheus": address, "metrics": [counted("agent_errors_total")]}
        refused(
            422,
            "spec.prometheus",
            lambda spec=spec: town.alice.create(  # type: ignore[misc]
                "rollbackpolicies", {"metadata": {"name": "evil"}, "spec": spec}
            ),
        )


def test_a_policy_asks_about_its_own_namespace_only(town: Town) -> None:
    """A selector that names the neighbour is told, and no query carries it."""
    other = town.neighbour.namespace
    steal = policy(metrics=[counted(f'agent_requests_total{{namespace="{other}"}}')])
    steal["metadata"]["name"] = "steal"
    town.alice.create("rollbackpolicies", steal)
    town.alice.create("agentdeployments", mine(town, "thief", policyRef={"name": "steal"}))
    until("it serves", lambda: says(town.alice.get("agentdeployments", "thief"), "Ready") == "True")
    change = {"spec": {"agent": {"systemPrompt": BETTER_PROMPT}}}
    town.alice.patch("agentdeployments", "thief", change)
    assert "label 'namespace' is set by the operator; leave it out" in stalled(town, "thief")

    honest = {"spec": {"metrics": [counted('agent_requests_total{outcome="error"}')]}}
    town.alice.patch("rollbackpolicies", "steal", honest)
    asked = until("it is asked about", lambda: about(town, town.alice.namespace) or None)
    for query in asked:
        assert "secret" not in query
        assert 'namespace=~"' in query
    credentials = {"authorization", "cookie", "x-scope-orgid"}
    assert not any(credentials & item.headers.keys() for item in town.listener.asked)


def about(town: Town, namespace: str) -> list[str]:
    return [item.query for item in town.listener.asked if namespace in item.query]


# --- what is made ----------------------------------------------------------------------------

TRICK = "{0.__class__}{{7*7}}${HOME}$(id)%s<b>\"'`; --"


def test_what_a_tenant_writes_stays_text(town: Town) -> None:
    """Templates, shells and formats find nothing to do; labels and names are the operator's."""
    town.alice.create("rollbackpolicies", {**policy(), "metadata": {"name": "plain"}})
    evil = container({"OTEL_RESOURCE_ATTRIBUTES": "phasegate.agent=support,a=b"})
    spec = {
        "agent": {"version": TRICK, "systemPrompt": TRICK, "sideEffects": "None"},
        "policyRef": {"name": "plain"},
        "template": {
            "metadata": {"labels": {"phasegate.dev/agent": NAME, "phasegate.dev/mode": "live"}},
            **template(evil),
        },
    }
    town.alice.create("agentdeployments", mine(town, "tricks", **spec))
    (made,) = until("it is made", lambda: deployments(town, "tricks") or None)
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels["phasegate.dev/agent"] == "tricks"
    assert set(labels["app.kubernetes.io/version"]) <= set("0.__class__7IdHOMEidsb-_")
    env = {
        entry["name"]: entry["value"]
        for entry in made["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["AGENT_SYSTEM_PROMPT"] == TRICK.replace("$", "$$")
    attributes = env["OTEL_RESOURCE_ATTRIBUTES"].split(",")
    assert "phasegate.agent=tricks" in attributes
    assert "phasegate.agent=support" not in attributes
    assert "49" not in json.dumps(town.alice.get("agentdeployments", "tricks").get("status", {}))


def deployments(town: Town, name: str) -> list[Json]:
    return town.admin.list("deployments", f"phasegate.dev/agent={name}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostnames", ["a b.example.com"]),
        ("hostnames", ["x.example.com\nHost: y"]),
        ("matches", [{"headers": [{"name": "a\r\nb", "value": "c"}]}]),
        ("matches", [{"headers": [{"name": "a", "value": "b\r\nX-Admin: 1"}]}]),
        ("matches", [{"path": {"type": "RegularExpression", "value": "(a+)+$"}}]),
        ("matches", [{"path": {"value": "/a?b"}}]),
        ("backendRefs", [{"name": "support", "namespace": "OTHER"}]),
        ("filters", [{"type": "RequestRedirect"}]),
    ],
)
def test_a_route_says_nothing_that_was_not_meant(town: Town, field: str, value: object) -> None:
    parents = [{"name": "lab", "namespace": "gateway"}]
    traffic = {"parentRefs": parents, "hostnames": [hostname(town.alice.namespace)], field: value}
    with pytest.raises(Refusal) as caught:
        town.alice.create("agentdeployments", mine(town, traffic={"gatewayAPI": traffic}))
    assert caught.value.status in (400, 422)


def test_a_template_makes_no_pods_that_the_namespace_refuses(town: Town) -> None:
    """Pods come from a Deployment of the tenant's namespace, and its Pod Security judges them."""
    town.story.lab.kubectl(
        *("label", "namespace", town.alice.namespace),
        "pod-security.kubernetes.io/enforce=baseline",
    )
    root = template(container(securityContext={"privileged": True}), hostNetwork=True)
    town.alice.create("rollbackpolicies", {**policy(), "metadata": {"name": "any"}})
    town.alice.create(
        "agentdeployments", mine(town, "root", template=root, policyRef={"name": "any"})
    )
    until("it is made", lambda: deployments(town, "root") or None)
    words = stalled(town, "root")
    assert 'violates PodSecurity "baseline' in words
    assert town.admin.list("pods", "phasegate.dev/agent=root") == []


def test_nothing_of_all_that_was_a_surprise(town: Town) -> None:
    """Runs last: the operator met no bug, and the neighbour's agent is as it was."""
    assert "Traceback" not in town.operator.log
    assert "bug in a pass" not in town.operator.log
    assert town.operator.running
