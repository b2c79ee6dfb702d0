"""Who may write what: the admission policies and Roles of config/, tried as several users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pytest
from phasegate.api.rolloutaction import Verb

from tests.lab.api.apiserver import (
    OPERATOR,
    OTHER_REVISION,
    ApiServer,
    Manifest,
    changed,
    good,
)

pytestmark = pytest.mark.lab

GARBAGE_COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
ALL_VERBS = get_args(Verb)


def action(**spec: object) -> Manifest:
    manifest: Manifest = changed(good("RolloutAction"), {"spec": spec})
    return manifest


# --- RolloutAction ---------------------------------------------------------------------------


def test_a_decision_in_ones_own_name_with_the_right_to_it_is_accepted(api: ApiServer) -> None:
    alice = api.bind("alice", "ClusterRole", "phasegate-rollback-owner")
    answer = alice.create(action(actor="alice", verb="Rollback"))
    assert answer.accepted, answer.message


def test_nobody_decides_in_the_name_of_another(api: ApiServer) -> None:
    alice = api.bind("alice", "ClusterRole", "phasegate-rollback-owner")
    answer = alice.create(action(actor="bob", verb="Rollback"))
    assert answer.status == 403
    assert 'spec.actor: must be your own user name, "alice"' in answer.message


def test_nobody_claims_a_group_without_being_in_it(api: ApiServer) -> None:
    alice = api.bind("alice", "ClusterRole", "phasegate-approver")
    claim = action(actor="alice", verb="Approve", actorGroups=["approvers", "legal"])
    member = api.as_user("alice", "approvers")

    refused = member.create(claim)
    assert refused.status == 403
    assert "spec.actorGroups: you are not a member of legal:" in refused.message
    assert not alice.create(claim).accepted
    own = action(actor="alice", verb="Approve", actorGroups=["approvers"])
    assert member.create(own).accepted


@pytest.mark.parametrize(
    ("cluster_role", "allowed"),
    [
        ("phasegate-approver", {"Approve", "Promote", "Reject", "Acknowledge"}),
        (
            "phasegate-rollback-owner",
            {"Rollback", "KillSwitch", "Pause", "Resume", "Reject", "Retry", "Acknowledge"},
        ),
        (
            "phasegate-agent-lead",
            {"Override", "Pause", "Resume", "Rollback", "Retry", "Acknowledge"},
        ),
    ],
)
def test_each_decision_takes_its_own_verb(
    api: ApiServer, cluster_role: str, allowed: set[str]
) -> None:
    alice = api.bind("alice", "ClusterRole", cluster_role)
    for verb in ALL_VERBS:
        past = {"overrides": ["Calendar"], "reason": "it cannot wait until Monday"}
        more = past if verb == "Override" else {}
        answer = alice.create(action(actor="alice", verb=verb, **more), dry_run=True)
        assert answer.accepted == (verb in allowed), (verb, answer.message)
        if verb not in allowed:
            assert f'takes the verb "{verb.lower()}" on agentdeployments' in answer.message


def test_a_right_to_one_agent_is_none_to_another(api: ApiServer) -> None:
    one_agent = ("phasegate.dev", "agentdeployments", "rollback")
    api.grant("alice", one_agent, names=["support-agent"])
    alice = api.grant("alice", ("phasegate.dev", "rolloutactions", "create"))

    assert alice.create(action(actor="alice", agent="support-agent"), dry_run=True).accepted
    assert alice.create(action(actor="alice", agent="sales-agent"), dry_run=True).status == 403


@pytest.mark.parametrize("cluster_role", ["phasegate-viewer", "phasegate-gitops-bot"])
def test_who_looks_or_deploys_takes_no_decisions(api: ApiServer, cluster_role: str) -> None:
    somebody = api.bind("somebody", "ClusterRole", cluster_role)
    assert somebody.create(action(actor="somebody")).status == 403


def test_a_decision_cannot_be_changed_afterwards(api: ApiServer) -> None:
    admin = api
    assert admin.create(action()).accepted
    answer = admin.patch(action(), {"spec": {"revision": OTHER_REVISION}})
    assert answer.status == 422
    assert "spec: Invalid value" in answer.message
    assert "create another RolloutAction" in answer.message


def test_a_decision_is_deleted_by_retention_only(api: ApiServer) -> None:
    assert api.create(action()).accepted
    editor = api.grant("editor", ("phasegate.dev", "rolloutactions", "get delete deletecollection"))
    refused = editor.delete(action())
    assert refused.status == 403
    assert 'it takes the verb "prune" on rolloutactions.phasegate.dev' in refused.message
    pruner = api.grant("pruner", ("phasegate.dev", "rolloutactions", "delete prune"))
    assert pruner.delete(action()).accepted

    assert api.create(action()).accepted
    collector = api.grant(GARBAGE_COLLECTOR, ("phasegate.dev", "rolloutactions", "delete"))
    assert collector.delete(action()).accepted


# --- what only the operator writes -----------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["AgentDeployment", "RollbackPolicy", "RolloutAction", "AgentRollout"]
)
def test_only_the_operator_writes_a_status(api: ApiServer, kind: str) -> None:
    operator = api.as_user(OPERATOR)
    creator = operator if kind == "AgentRollout" else api
    assert creator.create(good(kind)).accepted

    status = {"observedGeneration": 1} if kind == "RollbackPolicy" else {"message": "seen"}
    refused = api.patch(good(kind), {"status": status}, "status")
    assert refused.status == 403
    assert "status: only the operator writes it" in refused.message
    written = operator.patch(good(kind), {"status": status}, "status")
    if kind == "RollbackPolicy":  # of which it tells nothing, so it may not
        assert written.status == 403
        return
    assert written.accepted
    assert operator.get(good(kind)).body["status"].items() >= status.items()


def test_only_the_operator_writes_records(api: ApiServer) -> None:
    # More rights than config/rbac gives it, to see what the kind itself refuses.
    operator = api.grant(OPERATOR, ("phasegate.dev", "agentrollouts", "patch delete"))
    record = good("AgentRollout")
    assert api.create(record).status == 403
    assert operator.create(record).accepted

    relabelled, deleted = (
        api.patch(record, {"metadata": {"labels": {"a": "b"}}}),
        api.delete(record),
    )
    assert (relabelled.status, deleted.status) == (403, 403)
    assert "a record that only the operator writes" in relabelled.message
    assert "the record of an attempt that runs" in deleted.message
    changed_spec = operator.patch(record, {"spec": {"number": 2}})
    assert changed_spec.status == 422
    assert "a new attempt is a new AgentRollout" in changed_spec.message
    assert operator.delete(record).accepted


def test_records_of_ended_attempts_may_be_pruned_by_who_has_the_right(api: ApiServer) -> None:
    operator, record = api.as_user(OPERATOR), good("AgentRollout")
    assert operator.create(record).accepted
    rights = ("phasegate.dev", "agentrollouts", "get patch delete")
    pruner = api.grant("pruner", rights)
    assert pruner.patch(record, {"metadata": {"annotations": {"a": "b"}}}).accepted
    for phase, refused in ((None, True), ("Progressing", True), ("Succeeded", False)):
        if phase is not None:
            assert operator.patch(record, {"status": {"phase": phase}}, "status").accepted
        if refused:
            answer = pruner.delete(record)
            assert answer.status == 403
            assert "the record of an attempt that runs" in answer.message
    assert api.bind("editor", "ClusterRole", "phasegate-edit").delete(record).status == 403
    assert pruner.delete(record).accepted


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "Service", "Deployment", "ControllerRevision", "HTTPRoute"]
)
def test_nobody_takes_what_an_agent_controls_away_from_it(api: ApiServer, kind: str) -> None:
    agent = api.create(good("AgentDeployment"))
    own = owned(child(kind), dict(agent.body))
    assert api.as_user(OPERATOR).create(own).accepted
    controls = {**own["metadata"]["ownerReferences"][0], "controller": False}
    for references in (None, [controls]):
        answer = api.patch(own, {"metadata": {"ownerReferences": references}})
        assert answer.status == 403
        assert "leave its reference in" in answer.message
    assert api.patch(own, {"metadata": {"labels": {"c": "d"}}}).accepted
    assert api.delete(own).accepted


def test_the_garbage_collector_may_clean_up_but_write_no_record(api: ApiServer) -> None:
    # Its rights, as the controller manager of a cluster brings them.
    rights = ("phasegate.dev", "agentrollouts", "get create patch delete")
    collector = api.grant(GARBAGE_COLLECTOR, rights)

    record = good("AgentRollout")
    assert collector.create(record).status == 403
    assert api.as_user(OPERATOR).create(record).accepted
    assert collector.patch(record, {"metadata": {"finalizers": None}}).accepted
    assert collector.delete(record).accepted


def test_the_operator_changes_nothing_that_users_wrote(api: ApiServer) -> None:
    operator = api.as_user(OPERATOR)
    agent = good("AgentDeployment")
    assert api.create(agent).accepted

    changes: tuple[Manifest, ...] = (
        {"spec": {"replicas": 9}},
        {"metadata": {"annotations": {"a": "b"}}},
    )
    for change in changes:
        answer = operator.patch(agent, change)
        assert answer.status == 403
        assert "neither spec nor annotations" in answer.message
    finalizer = {"metadata": {"finalizers": ["phasegate.dev/traffic"]}}
    assert operator.patch(agent, finalizer).accepted
    assert api.delete(agent).accepted
    assert operator.patch(agent, {"metadata": {"finalizers": None}}).accepted
    assert api.get(agent).status == 404


def test_the_operator_may_not_read_secrets_or_delete_what_users_wrote(api: ApiServer) -> None:
    operator = api.as_user(OPERATOR)
    secrets = operator.http.get(
        f"/api/v1/namespaces/{api.namespace}/secrets", headers={"Impersonate-User": OPERATOR}
    )
    assert secrets.status_code == 403
    for kind in ("AgentDeployment", "RollbackPolicy"):
        assert api.create(good(kind)).accepted
        assert operator.delete(good(kind)).status == 403


def owned(manifest: Manifest, agent: Manifest) -> Manifest:
    owner = {
        "apiVersion": agent["apiVersion"],
        "kind": agent["kind"],
        "name": agent["metadata"]["name"],
        "uid": agent["metadata"]["uid"],
        "controller": True,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}


def child(kind: str) -> Manifest:
    """What an agent may own, without an owner."""
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "agent", "image": "agent"}]},
    }
    kinds: Mapping[str, tuple[str, Manifest]] = {
        "ConfigMap": ("v1", {"data": {"a": "b"}}),
        "Service": ("v1", {"spec": {"ports": [{"port": 80}]}}),
        "Deployment": (
            "apps/v1",
            {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}},
        ),
        "ControllerRevision": ("apps/v1", {"revision": 1, "data": {"a": "b"}}),
        "HTTPRoute": ("gateway.networking.k8s.io/v1", {"spec": {"parentRefs": [{"name": "lab"}]}}),
    }
    version, content = kinds[kind]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "thing"}, **content}


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "Service", "Deployment", "ControllerRevision", "HTTPRoute"]
)
def test_the_operator_touches_only_what_belongs_to_an_agent(api: ApiServer, kind: str) -> None:
    operator = api.as_user(OPERATOR)
    agent = api.create(good("AgentDeployment"))
    assert agent.accepted
    foreign = child(kind)
    refused = [operator.create(foreign)]
    assert api.create(foreign).accepted
    change = {"metadata": {"labels": {"c": "d"}}}
    taking_over = {"metadata": owned(foreign, dict(agent.body))["metadata"]}
    if kind != "ControllerRevision":  # which it may not patch at all
        refused += [operator.patch(foreign, change), operator.patch(foreign, taking_over)]
    refused.append(operator.delete(foreign))
    for answer in refused:
        assert answer.status == 403
        assert "only what belongs to an AgentDeployment" in answer.message
    assert api.delete(foreign).accepted

    own = owned(foreign, dict(agent.body))
    assert operator.create(own).accepted
    if kind != "ControllerRevision":
        assert operator.patch(own, change).accepted
        letting_go = operator.patch(own, {"metadata": {"ownerReferences": None}})
        assert letting_go.status == 403
    assert operator.delete(own).accepted


def test_only_the_operator_says_why_a_rollback_was_decided(api: ApiServer) -> None:
    """The route's annotation names who decided: nobody else may put words into their mouth."""
    said = {"metadata": {"annotations": {"phasegate.dev/rollback": '{"by": "bob"}'}}}
    route = child("HTTPRoute")
    owner = api.grant("tenant", ("gateway.networking.k8s.io", "httproutes", "create patch get"))
    assert owner.create(route).accepted
    for answer in (
        owner.patch(route, said),
        owner.create(changed(changed(route, said), {"metadata": {"name": "other"}})),
    ):
        assert answer.status == 403
        assert "the operator's word on why a rollback was decided, and by whom" in answer.message

    agent = api.create(good("AgentDeployment"))
    own = owned(changed(route, {"metadata": {"name": "support-agent"}}), dict(agent.body))
    operator = api.as_user(OPERATOR)
    assert operator.create(changed(own, said)).accepted
    assert owner.patch(own, {"metadata": {"labels": {"a": "b"}}}).accepted
    forged = {"metadata": {"annotations": {"phasegate.dev/rollback": '{"by": "alice"}'}}}
    assert owner.patch(own, forged).status == 403


# --- authors ---------------------------------------------------------------------------------


def test_who_may_not_make_pods_makes_none_through_a_template(api: ApiServer) -> None:
    tenant = api.as_user("tenant")
    answer = tenant.create(good("AgentDeployment"))
    assert answer.status == 403
    assert "spec.template: it makes pods, and you may not create Deployments" in answer.message


def test_who_may_not_make_pods_may_still_change_the_rest(api: ApiServer) -> None:
    tenant = api.as_user("tenant")
    agent = good("AgentDeployment")
    assert api.create(agent).accepted

    assert tenant.patch(agent, {"spec": {"replicas": 3}}).accepted
    container = {"name": "agent", "image": "evil"}
    template = {"spec": {"template": {"spec": {"containers": [container]}}}}
    assert tenant.patch(agent, template).status == 403
    assert api.bind("tenant", "ClusterRole", "phasegate-gitops-bot").patch(agent, template).accepted


def test_who_may_not_make_routes_makes_none_through_an_agent(api: ApiServer) -> None:
    tenant = api.grant("tenant", ("apps", "deployments", "create"))
    agent = good("AgentDeployment")
    answer = tenant.create(agent)
    assert answer.status == 403
    assert "spec.traffic: it makes a route, and you may not create HTTPRoutes" in answer.message

    assert api.create(agent).accepted
    assert tenant.patch(agent, {"spec": {"replicas": 3}}).accepted
    traffic = {"spec": {"traffic": {"gatewayAPI": {"hostnames": ["bank.example.com"]}}}}
    assert tenant.patch(agent, traffic).status == 403
    allowed = api.bind("tenant", "ClusterRole", "phasegate-gitops-bot")
    assert allowed.patch(agent, traffic).accepted


def test_who_wrote_a_revision_is_who_says_so(api: ApiServer) -> None:
    right = ("phasegate.dev", "agentdeployments", "create update patch get")
    pods = ("apps", "deployments", "create")
    routes = ("gateway.networking.k8s.io", "httproutes", "create")
    alice, bob = (api.grant(name, right, pods, routes) for name in ("alice", "bob"))
    mine = changed(good("AgentDeployment"), {"spec": {"author": "alice"}})

    refused = bob.create(mine)
    assert refused.status == 403
    assert 'spec.author: must be your own user name, "bob"' in refused.message
    assert alice.create(mine).accepted

    assert bob.patch(mine, {"spec": {"replicas": 3}}).accepted  # no revision of his
    prompt = {"spec": {"agent": {"systemPrompt": "Be brief."}}}
    assert bob.patch(mine, prompt).status == 403
    assert bob.patch(mine, {"spec": {"service": {"port": 9090}}}).status == 403
    assert bob.patch(mine, {"spec": {"author": "carol"}}).status == 403
    assert bob.patch(mine, {"spec": {**prompt["spec"], "author": "bob"}}).accepted
    assert alice.patch(mine, {"spec": {**prompt["spec"], "author": None}}).accepted

    bot = api.bind("bot", "ClusterRole", "phasegate-gitops-bot")
    assert bot.patch(mine, {"spec": {"author": "dave"}}).accepted


def test_free_promql_takes_its_own_right(api: ApiServer) -> None:
    threshold = {"name": "legacy", "threshold": {"query": "up"}, "rollback": {"above": "1"}}
    policy = changed(good("RollbackPolicy"), {"spec": {"metrics": [threshold]}})
    tenant = api.as_user("tenant")

    refused = tenant.create(policy)
    assert refused.status == 403
    assert 'the metric "legacy" has a threshold, which is free PromQL' in refused.message
    trusted = api.grant("trusted", ("phasegate.dev", "rollbackpolicies", "create use-promql"))
    assert trusted.create(policy).accepted


def test_a_query_an_admin_allowed_stays_when_others_change_the_policy(api: ApiServer) -> None:
    threshold = {"name": "legacy", "threshold": {"query": "up"}, "rollback": {"above": "1"}}
    policy = changed(good("RollbackPolicy"), {"spec": {"metrics": [threshold]}})
    assert api.create(policy).accepted
    tenant = api.as_user("tenant")

    assert tenant.patch(policy, {"spec": {"onNoData": {"hold": "20m"}}}).accepted
    other = {**threshold, "threshold": {"query": "secret_metric_of_others"}}
    assert tenant.patch(policy, {"spec": {"metrics": [other]}}).status == 403


def test_nobody_edits_or_deletes_decisions_with_the_shipped_roles(api: ApiServer) -> None:
    assert api.create(action()).accepted
    for cluster_role in ("phasegate-approver", "phasegate-rollback-owner", "phasegate-edit"):
        user = api.bind(f"user-of-{cluster_role}", "ClusterRole", cluster_role)
        assert user.delete(action()).status == 403
        assert user.patch(action(), {"metadata": {"labels": {"a": "b"}}}).status == 403
