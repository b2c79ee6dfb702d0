"""The API server fails in every way it can; users are taken back from a bad candidate all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import httpx
import pytest

from lab import Lab
from lab.faults import Answer, Cut, Expire, Hang, Match, Silence
from tests.lab.faults.rollout import ROUTES, STATUSES, WATCHES, Canary, canary
from tests.lab.main_job.cluster import Api, Refusal, until
from tests.lab.main_job.manifests import NAME
from tests.lab.main_job.story import seconds

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]

LONGEST_WAIT = 5.0
"""Seconds between two tries to take traffic back."""
BUSY = 3.0
"""Seconds of patience with a machine that is busy with other tests."""


ROUTE_FAULTS = (
    Answer(500, "etcdserver: leader changed"),
    Answer(429, "too many requests", {"Retry-After": "60"}),
    Answer(409, "the object has been modified"),
)
STATUS_FAULTS = (Answer(500), Answer(409), Answer(429, "busy", {"Retry-After": "1"}))


@pytest.fixture(scope="module")
def agent(
    quiet_lab: Lab, quiet_admin: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Canary]:
    with canary(quiet_lab, quiet_admin, tmp_path_factory.mktemp("canary")) as agent:
        yield agent


def tries(agent: Canary, since: float) -> list[float]:
    """When route writes arrived at the proxy."""
    return [seen.at for seen in agent.proxy.seen if ROUTES(seen) and seen.at > since]


def test_a_route_that_cannot_be_written_is_tried_for_ever_and_told_truly(agent: Canary) -> None:
    agent.begin()
    began = agent.proxy.seen[-1].at
    with agent.proxy.rule(ROUTES, ROUTE_FAULTS[0]):  # from before it is needed
        agent.spoil()
        for fault in ROUTE_FAULTS:
            with agent.proxy.rule(ROUTES, fault) as refused:
                assert "route still at 40%" in agent.says(fault.message)
                until("it is tried again", lambda rule=refused: rule.hits >= 3)  # type: ignore[misc]
                assert agent.exposed()
        assert not agent.events("TrafficSafe")
    rollback = agent.until_safe()
    times = tries(agent, began)
    assert max(later - one for one, later in pairwise(times)) < LONGEST_WAIT + BUSY
    assert seconds(rollback["decidedAt"]) < seconds(rollback["safeAt"])
    until("it is told that users are safe", lambda: agent.events("TrafficSafe"))


def test_a_status_that_cannot_be_written_does_not_hold_up_the_route(agent: Canary) -> None:
    candidate = agent.begin()
    with agent.proxy.rule(STATUSES, STATUS_FAULTS[0]):
        agent.spoil()
        until("traffic is taken back", lambda: not agent.exposed())
        for fault in STATUS_FAULTS:
            with agent.proxy.rule(STATUSES, fault) as refused:
                until("a status is refused", lambda rule=refused: rule.hits)  # type: ignore[misc]
        status = agent.scene.api.get("agentdeployments", NAME)["status"]
        assert status["phase"] == "Canary"
        assert not agent.events("TrafficSafe")
    rollback = agent.until_safe()
    number = int(str(rollback["rollout"]).rpartition("-")[2])
    assert agent.story.rollout(number, "RolledBack")["spec"]["revision"] == candidate


@contextmanager
def denied_by_admission(api: Api, words: str) -> Iterator[None]:
    """Nobody may change a route of this namespace, as a policy of the cluster's says."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
    name = f"deny-{api.namespace}"
    rule = {
        "apiGroups": ["gateway.networking.k8s.io"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["httproutes"],
    }
    where = {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": words}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": where},
        },
    }
    for plural, body in (("ies", policy), ("ybindings", binding)):
        api.http.post(f"{path}{plural}", json=body).raise_for_status()
    try:
        yield
    finally:
        for plural in ("ybindings", "ies"):
            api.http.delete(f"{path}{plural}/{name}").raise_for_status()


def test_an_admission_policy_that_denies_the_route_is_told_and_outlasted(agent: Canary) -> None:
    agent.begin()
    api, words = agent.scene.api, "routes are frozen this week"

    def refused() -> bool:
        try:
            api.patch("httproutes", NAME, {"metadata": {"labels": {"probe": "x"}}})
        except Refusal as refusal:
            return words in str(refusal)
        return False

    with denied_by_admission(api, words):
        until("the policy is in force", refused)
        agent.spoil()
        assert "route still at 40%" in agent.says(words)
        assert agent.exposed()
        assert not agent.events("TrafficSafe")
    agent.until_safe()


def test_watches_that_fall_silent_do_not_hold_up_a_rollback(agent: Canary) -> None:
    agent.begin()
    with agent.proxy.rule(WATCHES, Silence()):
        agent.spoil()
        agent.until_safe()


@pytest.mark.soak
def test_a_persons_act_is_seen_within_35_s_when_the_open_watches_are_dead(agent: Canary) -> None:
    candidate = agent.begin()
    agent.proxy.rule(WATCHES, Silence()).remove()  # new ones work
    action = agent.story.act("Rollback", candidate)
    until("taken back", lambda: not agent.exposed(), 35 + BUSY)
    assert agent.story.outcome(action)["outcome"] == "Accepted"
    agent.until_safe()


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_a_persons_act_is_seen_though_every_watch_is_silent_for_5_minutes(agent: Canary) -> None:
    candidate = agent.begin()
    with agent.proxy.rule(WATCHES, Silence()):
        opened = agent.proxy.count(WATCHES)
        until("watches are opened anew", lambda: agent.proxy.count(WATCHES) > opened + 3, 100)
        action = agent.story.act("Rollback", candidate)
        until("taken back", lambda: not agent.exposed(), 150)
        assert agent.story.outcome(action)["outcome"] == "Accepted"
    agent.until_safe(100)


def test_a_storm_of_expired_watches_costs_a_bounded_number_of_lists(agent: Canary) -> None:
    agent.begin()
    before = len(agent.proxy.seen)
    with agent.proxy.rule(WATCHES, Expire()) as expired:
        until("a storm", lambda: expired.hits >= 10)
        agent.spoil()
        agent.until_safe()
        storm = agent.proxy.seen[before:]
    lasted = storm[-1].at - storm[0].at
    kinds = {seen.plural for seen in storm if seen.verb == "watch"}
    for plural in kinds:
        lists = [seen for seen in storm if (seen.verb, seen.plural) == ("list", plural)]
        streams = 2 if plural == "configmaps" else 1  # ours, and the metadata of others'
        assert len(lists) <= streams * (6 + 2 * lasted), plural


@contextmanager
def without(lab: Lab, part: str, api: Api) -> Iterator[None]:
    """The lab without one of its parts, and until the API server answers again."""
    lab.part("stop", part)
    try:
        yield
    finally:
        lab.part("start", part)
        until("the API server answers", lambda: answers(api))


def answers(api: Api) -> bool:
    try:
        return bool(api.get("agentdeployments", NAME))
    except (Refusal, httpx.HTTPError):
        return False


def test_a_restarted_api_server_finds_the_rollout_as_it_was_and_the_operator_at_work(
    agent: Canary,
) -> None:
    candidate = agent.begin()
    number = len(agent.scene.api.list("agentrollouts"))
    with without(agent.scene.lab, "kube-apiserver", agent.scene.api):
        agent.spoil()
    rollback = agent.until_safe()
    assert rollback["revision"] == candidate
    assert len(agent.scene.api.list("agentrollouts")) == number


@pytest.mark.soak
def test_a_rollback_found_while_etcd_is_away_is_done_when_it_is_back(agent: Canary) -> None:
    agent.begin()
    with without(agent.scene.lab, "etcd", agent.scene.api):
        agent.spoil()
        until("the operator is refused", lambda: troubles(agent) > 0)
    agent.until_safe()


def troubles(agent: Canary) -> float:
    metric, operator = "phasegate_api_requests_total", agent.scene.operator
    codes = ("timeout", "unreachable", "500", "503", "504")
    return sum(operator.metric(metric, code=code) for code in codes)


@pytest.mark.soak
def test_an_api_server_that_hangs_for_30_s_costs_no_more_than_those(agent: Canary) -> None:
    agent.begin()
    patience = 30.0
    before = agent.scene.operator.metric("phasegate_api_requests_total", code="timeout")
    with agent.proxy.rule(Match(), Hang()):
        agent.spoil()
        until(
            "calls time out again and again",
            lambda: (
                agent.scene.operator.metric("phasegate_api_requests_total", code="timeout")
                >= before + patience / LONGEST_WAIT
            ),
            patience * 2 + BUSY,
        )
        assert agent.exposed()
    until("taken back", lambda: not agent.exposed(), LONGEST_WAIT + BUSY)
    agent.until_safe()


def test_an_operator_that_was_cut_off_takes_traffic_back_once_it_is_not(agent: Canary) -> None:
    agent.begin()
    with agent.proxy.rule(Match(), Cut()) as cut:
        agent.spoil()
        until("many calls fail", lambda: cut.hits >= 6)
        assert agent.exposed()
    until("taken back", lambda: not agent.exposed(), LONGEST_WAIT + BUSY)
    agent.until_safe()


def test_nobody_else_got_an_error_in_all_this(agent: Canary) -> None:
    # What has no revision was answered by the gateway: it counts as well.
    others = [a for a in agent.users.answers if a.revision not in agent.candidates]
    assert len(others) > 1000
    assert [a for a in others if a.status != 200] == []
    assert "bug in a pass" not in agent.scene.operator.log
    assert "Traceback" not in agent.scene.operator.log
