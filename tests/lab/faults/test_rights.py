"""The operator with each of its rights taken away says which, and what does not work without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from phasegate.control.rights import (
    AGENT_RIGHTS,
    CLUSTER_RIGHTS,
    Right,
    endpoint_rights,
    lease_rights,
)

from lab import Lab
from lab.cluster.operator import ACCOUNT, NAMESPACE
from lab.faults import FaultProxy, Match, OperatorProcess
from lab.paths import checkout
from tests.lab.faults.scene import Scene, a_namespace, opened
from tests.lab.main_job.cluster import Api, until
from tests.lab.main_job.manifests import BETTER_PROMPT, FULL, longer
from tests.lab.main_job.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

RIGHTS = (*AGENT_RIGHTS, *CLUSTER_RIGHTS, *endpoint_rights(), *lease_rights("phasegate"))
ROLES = {
    "phasegate-operator": "clusterrole",
    "phasegate-environment": "clusterrole",
    "phasegate-endpoint": "clusterrole",
    "phasegate-leader": "role",
}
# Some for every run, all for `make soak`.
FIRST = (
    "patch agentdeployments/status.phasegate.dev",
    "patch httproutes.gateway.networking.k8s.io",
    "create events.events.k8s.io",
    "create tokenreviews.authentication.k8s.io",
    "patch leases.coordination.k8s.io phasegate",
)
Json = dict[str, Any]


def rules_of(role: str) -> list[Json]:
    """What config/rbac gives the role."""
    documents = [
        document
        for file in (checkout() / "config/rbac/base").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
    ]
    (found,) = [d for d in documents if d["kind"].endswith("Role") and named(d) == role]
    rules: list[Json] = found["rules"]
    return rules


def named(document: Json) -> str:
    return str(document.get("metadata", {}).get("name"))


def without(rules: list[Json], right: Right) -> list[Json]:
    """The rules but for one verb on one resource."""
    left = []
    for rule in rules:
        about = right.group in rule["apiGroups"] and right.resource in rule["resources"]
        if not about or right.name not in rule.get("resourceNames", [""]):
            left.append(rule)
        else:
            others = [one for one in rule["resources"] if one != right.resource]
            verbs = [verb for verb in rule["verbs"] if verb != right.verb]
            left += [{**rule, "resources": others}] if others else []
            left += [{**rule, "resources": [right.resource], "verbs": verbs}] if verbs else []
    return left


@contextmanager
def taken(lab: Lab, admin: Api, *rights: Right) -> Iterator[None]:
    """The operator's account without these rights, once that counts."""
    before = {role: rules_of(role) for role in ROLES}
    after = before
    for right in rights:
        after = {role: without(rules, right) for role, rules in after.items()}
    changed = [role for role in ROLES if after[role] != before[role]]
    assert changed
    for role in changed:
        write(lab, role, after[role])
    try:
        for right in rights:
            until(f"{right} is taken", lambda right=right: not may(admin, right))  # type: ignore[misc]
        yield
    finally:
        for role in changed:
            write(lab, role, before[role])
        for right in rights:
            until(f"{right} is given", lambda right=right: may(admin, right))  # type: ignore[misc]


def write(lab: Lab, role: str, rules: list[Json]) -> None:
    kind = ROLES[role]
    where = ("-n", NAMESPACE) if kind == "role" else ()
    change = json.dumps({"rules": rules})
    lab.kubectl("patch", kind, role, *where, "--type=merge", "-p", change)


def may(admin: Api, right: Right, namespace: str = "") -> bool:
    """Whether the operator's account has the right in a namespace, by default in all."""
    resource, _, subresource = right.resource.partition("/")
    asked = {
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "verb": right.verb,
        "name": right.name,
        "namespace": NAMESPACE if right.place == "lease" else namespace,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}",
            "resourceAttributes": {key: value for key, value in asked.items() if value},
        },
    }
    said = admin.http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    return bool(said.json()["status"]["allowed"])


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(right, id=str(right), marks=[] if str(right) in FIRST else pytest.mark.soak)
        for right in RIGHTS
    ],
)
def test_a_right_that_is_missing_is_named_with_what_fails(
    quiet_lab: Lab, quiet_admin: Api, tmp_path: Path, right: Right
) -> None:
    with taken(quiet_lab, quiet_admin, right), FaultProxy(quiet_lab, tmp_path) as proxy:
        options: Json = {"kubeconfig": proxy.kubeconfig, "lease": NAMESPACE, "host": "0.0.0.0"}
        with OperatorProcess(quiet_lab, tmp_path, **options) as operator:
            where = f" in namespace {NAMESPACE}" if right.place == "lease" else ""
            words = f"not allowed to {right}{where}: {right.without}; apply config/rbac"
            until(f"it says {words!r}", lambda: words in operator.log)
            assert not operator.ready()
            assert operator.log.count("not allowed to") == 1
            assert "Traceback" not in operator.log


def test_without_what_a_rollout_can_do_without_it_goes_on(
    quiet_lab: Lab, quiet_admin: Api, tmp_path: Path
) -> None:
    """No event, no pod, no gateway may be looked at, and people's decisions are not seen."""
    gone = [right for right in RIGHTS if right.resource in ("events", "pods", "gatewayclasses")]
    with taken(quiet_lab, quiet_admin, *gone), opened(quiet_lab, quiet_admin, tmp_path) as scene:
        old = scene.story.stable(longer(FULL))
        scene.story.prompt(BETTER_PROMPT)
        version = scene.story.in_phase("full")
        assert version["status"]["candidateRevision"] != old
        assert "Traceback" not in scene.operator.log
        assert not scene.operator.ready()


@pytest.fixture
def narrow(quiet_lab: Lab, quiet_admin: Api) -> Iterator[Lab]:
    """The lab with the install for some namespaces in the place of the one for all."""
    quiet_lab.kubectl("delete", "clusterrolebinding", "phasegate-operator")
    quiet_lab.kubectl("apply", "-k", str(checkout() / "config/rbac/namespaced"))
    yield quiet_lab
    quiet_lab.kubectl("apply", "-k", str(checkout() / "config/rbac"))
    until("all rights are back", lambda: may(quiet_admin, AGENT_RIGHTS[0]))


def test_an_install_for_some_namespaces_works_there_and_nowhere_else(
    narrow: Lab, quiet_admin: Api, tmp_path: Path
) -> None:
    with a_namespace(narrow) as ours, a_namespace(narrow) as theirs:
        binding = checkout() / "config/rbac/namespaced/binding.yaml"
        narrow.kubectl("apply", "-n", ours, "-f", str(binding))
        with FaultProxy(narrow, tmp_path) as proxy:
            options: Json = {"kubeconfig": proxy.kubeconfig, "namespaces": [ours]}
            api = quiet_admin.within(ours)
            with (
                OperatorProcess(narrow, tmp_path, lease=NAMESPACE, **options) as operator,
                Story.begin(narrow, api, tmp_path) as story,
            ):
                story.stable(longer(FULL))
                until("it has all the rights it needs", operator.ready)
                assert {seen.namespace for seen in proxy.writes if seen.namespace} <= {
                    ours,
                    NAMESPACE,
                }
            for right in AGENT_RIGHTS:
                assert may(quiet_admin, right, ours)
                assert not may(quiet_admin, right, theirs)


def test_what_is_granted_is_used(scene: Scene) -> None:
    """The life of an agent makes use of every right to change something."""
    story = scene.story
    data = {"metadata": {"name": "prompts"}, "data": {"support": "Answer briefly."}}
    scene.api.create("configmaps", data)
    source = {"configMapKeyRef": {"name": "prompts", "key": "support"}}
    spec = {"systemPromptFrom": source, "sideEffects": "DryRun"}
    story.create(longer(FULL), agent=spec, standby={"keepWarm": "0s"})
    story.ready()
    scene.api.patch("configmaps", "prompts", {"data": {"support": BETTER_PROMPT}})
    story.in_phase("full")
    story.act("Rollback", story.watch.seen[-1]["status"]["candidateRevision"])
    story.rolled_back()
    # A third one takes the place of the second, of which nothing is kept then.
    scene.api.patch("configmaps", "prompts", {"data": {"support": "Answer very briefly."}})
    gone = Match(verbs=["delete"], plural="controllerrevisions")
    until("the second is forgotten", lambda: scene.proxy.count(gone) > 0)
    story.act("KillSwitch", story.watch.seen[-1]["status"]["stableRevision"])
    answered = Match(verbs=["create"], plural="httproutefilters")
    until("requests are answered by the gateway", lambda: scene.proxy.count(answered) > 0)
    scene.api.delete("agentdeployments", "support")
    gone = Match(verbs=["delete"], plural="httproutes")
    until("the route is taken away", lambda: scene.proxy.count(gone) > 0)
    used = {(seen.plural, seen.subresource, seen.verb) for seen in scene.proxy.writes}
    for right in AGENT_RIGHTS:
        # An event is patched when it comes again after more than a minute.
        if right.verb in ("get", "list", "watch") or str(right) == "patch events.events.k8s.io":
            continue
        plural, _, subresource = right.resource.partition("/")
        verbs = {"create": ("create", "apply"), "patch": ("patch", "apply")}
        ways = verbs.get(right.verb, (right.verb,))
        assert any((plural, subresource, way) in used for way in ways), f"{right} is never used"
