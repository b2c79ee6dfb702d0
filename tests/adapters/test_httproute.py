from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from phasegate.adapters.routers import httproute
from phasegate.api.errors import InvalidSpec
from phasegate.control.parse import owner_of
from phasegate.rollout.route import (
    Backend,
    Deactivation,
    HeaderRoute,
    Mirror,
    RoutePlan,
    only,
    split,
)

from tests.adapters.agents import CANDIDATE, STABLE, UID, agent, gateway_apis, names, plans

CANARY = split(STABLE, CANDIDATE, 5, None)
SHADOW = replace(
    CANARY, mirror=Mirror(CANDIDATE, "shadow", 20), header=HeaderRoute(CANDIDATE, "shadow")
)


def rules(plan: RoutePlan, **gateway_api: Any) -> list[dict[str, Any]]:
    rendered: list[dict[str, Any]] = httproute.render(agent(**gateway_api), plan)["spec"]["rules"]
    return rendered


@given(names, gateway_apis, plans)
def test_a_rendered_route_reads_back_as_what_it_was_rendered_from(
    name: str, gateway_api: dict[str, Any], plan: RoutePlan
) -> None:
    for stamp in (True, False):
        route = httproute.render(agent(name, **gateway_api), plan, stamp=stamp)
        assert httproute.parse(route) == plan


@given(plans, plans)
def test_routes_have_the_same_fingerprint_exactly_when_they_say_the_same(
    one: RoutePlan, other: RoutePlan
) -> None:
    prints = {httproute.fingerprint(httproute.render(agent(), plan)) for plan in (one, other)}
    assert (len(prints) == 1) == (one == other)


@pytest.mark.parametrize("percent", [0, 1, 5, 50, 99, 100])
def test_the_main_rule_always_has_two_backends_that_are_never_at_weight_0(percent: int) -> None:
    backends = rules(split(STABLE, CANDIDATE, percent, None))[0]["backendRefs"]
    assert [b["name"] for b in backends] == [f"support-{STABLE}", f"support-{CANDIDATE}"]
    assert all(b["weight"] > 0 for b in backends)


def test_each_backend_stamps_its_revision_on_the_request() -> None:
    for backend in rules(only(STABLE, None))[0]["backendRefs"]:
        modifier = backend["filters"][0]["requestHeaderModifier"]
        assert modifier == {"set": [{"name": "x-agent-revision", "value": STABLE}]}


def test_no_backend_has_a_filter_where_the_gateway_does_not_know_it() -> None:
    route = httproute.render(agent(), SHADOW, stamp=False)
    assert not httproute.is_stamped(route)
    assert httproute.is_stamped(httproute.render(agent(), SHADOW))


def test_mirror_and_header_route_leave_the_main_rule_where_it_is() -> None:
    main, candidate = rules(SHADOW)
    assert [main["name"], candidate["name"]] == ["main", "candidate"]
    assert main["filters"][0]["requestMirror"]["percent"] == 20
    assert candidate["backendRefs"][0]["name"] == f"support-{CANDIDATE}-shadow"
    assert "filters" not in candidate


def test_a_mirror_of_everything_needs_no_percentage() -> None:
    everything = replace(CANARY, mirror=Mirror(CANDIDATE, "dark", 100))
    assert "percent" not in rules(everything)[0]["filters"][0]["requestMirror"]


def test_the_header_route_takes_only_what_the_agent_gets_at_all() -> None:
    matches = [{"path": {"value": "/v1"}, "headers": [{"name": "x-tenant", "value": "a"}]}, {}]
    main, candidate = rules(SHADOW, matches=matches)
    variant = {"type": "Exact", "name": "x-agent-variant", "value": "candidate"}
    for theirs, ours in zip(main["matches"], candidate["matches"], strict=True):
        assert ours["path"] == theirs["path"]
        assert ours["headers"] == [*theirs.get("headers", []), variant]


def test_a_revision_keeps_the_port_it_was_made_with_when_the_spec_names_another() -> None:
    ports = httproute.ports_of(httproute.render(agent(), only(STABLE, None)))
    edited = agent()
    edited["spec"]["service"]["port"] = 9090
    backends = httproute.render(edited, CANARY, ports=ports)["spec"]["rules"][0]["backendRefs"]
    assert [b["port"] for b in backends] == [8080, 9090]


def test_a_closed_route_keeps_its_backends_and_matches_no_request() -> None:
    route = httproute.render(agent(matches=[{"path": {"value": "/v1"}}, {}]), CANARY)
    closed = httproute.render(agent(), replace(CANARY, closed=True))
    (main,) = closed["spec"]["rules"]
    assert main["backendRefs"] == route["spec"]["rules"][0]["backendRefs"]
    needed = {"type": "Exact", "name": "x-phasegate-closed", "value": UID}
    assert all(needed in match["headers"] for match in main["matches"])
    assert httproute.traffic_of(closed) is None


def test_a_deactivated_agent_keeps_its_backends_and_gets_no_request() -> None:
    word = Deactivation("alice", "wrong answers", datetime(2026, 11, 1, tzinfo=UTC))
    for fallback in (None, Backend("human-desk", 80)):
        plan = replace(CANARY, off=replace(word, fallback=fallback))
        main, instead = rules(plan, matches=[{"path": {"value": "/v1"}}])
        assert main["backendRefs"] == rules(CANARY)[0]["backendRefs"]
        closed = {"type": "Exact", "name": "x-phasegate-closed", "value": UID}
        assert [match["headers"] for match in main["matches"]] == [[closed]]
        assert instead["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1"}}]
        assert [ref["name"] for ref in instead.get("backendRefs", ())] == (
            ["human-desk"] if fallback else []
        )
        assert plan.percent(STABLE) == plan.percent(CANDIDATE) == 0


def test_a_route_that_keeps_users_out_by_nobodys_word_is_not_readable() -> None:
    word = Deactivation("alice", "wrong answers", datetime(2026, 11, 1, tzinfo=UTC))
    route = httproute.render(agent(), replace(CANARY, off=word))
    del route["metadata"]["annotations"]
    assert httproute.parse(route) is None


def test_a_route_that_lets_users_in_beside_who_answers_instead_is_not_readable() -> None:
    word = Deactivation("alice", "wrong answers", datetime(2026, 11, 1, tzinfo=UTC))
    route = httproute.render(agent(), replace(CANARY, off=word))
    main, instead = route["spec"]["rules"]
    main["matches"] = instead["matches"]
    assert httproute.parse(route) is None


def test_the_route_belongs_to_the_agent() -> None:
    route = httproute.render(agent(), CANARY)
    assert owner_of(route) == agent()["metadata"]["uid"]
    assert route["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "phasegate",
        "phasegate.dev/agent": "support",
    }


def test_an_agent_without_a_gateway_is_told_which_field_to_fill() -> None:
    lost = agent()
    del lost["spec"]["traffic"]["gatewayAPI"]
    with pytest.raises(InvalidSpec, match=r"spec\.traffic\.gatewayAPI"):
        httproute.render(lost, CANARY)


def _damaged(damage: str) -> dict[str, Any]:
    route = httproute.render(agent(), SHADOW)
    main = route["spec"]["rules"][0]
    match damage:
        case "no rules":
            del route["spec"]["rules"]
        case "other names":
            main["name"] = "mine"
        case "one backend":
            main["backendRefs"].pop()
        case "foreign backend":
            main["backendRefs"][0]["name"] = "support"
        case "rehearsal pods get users":
            main["backendRefs"][0]["name"] += "-dark"
        case "other filter":
            main["filters"][0] = {"type": "URLRewrite", "urlRewrite": {}}
        case "fraction":
            main["filters"][0]["requestMirror"]["fraction"] = {"numerator": 1}
        case "foreign header route":
            route["spec"]["rules"][1]["backendRefs"][0]["name"] = "x"
    return route


@pytest.mark.parametrize(
    "damage",
    [
        "no rules",
        "other names",
        "one backend",
        "foreign backend",
        "rehearsal pods get users",
        "other filter",
        "fraction",
        "foreign header route",
    ],
)
def test_a_route_that_says_what_no_plan_says_is_not_readable(damage: str) -> None:
    assert httproute.parse(_damaged(damage)) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "no JSON", '{"decidedAt": 1}'])
def test_an_unreadable_intent_does_not_hide_the_split(text: str) -> None:
    route = httproute.render(agent(), CANARY)
    route["metadata"]["annotations"] = {"phasegate.dev/rollback": text}
    assert httproute.parse(route) == CANARY


def condition(kind: str, status: str = "True", generation: int = 3) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "reason": "Because",
        "message": "words of the gateway",
    }


def reported(*conditions: dict[str, Any], parent: dict[str, Any] | None = None) -> dict[str, Any]:
    route = httproute.render(agent(), CANARY)
    route["metadata"]["generation"] = 3
    reference = parent or {"name": "lab", "namespace": "gateway"}
    route["status"] = {"parents": [{"parentRef": reference, "conditions": list(conditions)}]}
    return route


def test_a_route_is_in_force_when_every_parent_accepts_this_generation() -> None:
    route = reported(condition("Accepted"), condition("ResolvedRefs"))
    assert httproute.problem_of(route) == ""


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (reported(), "has not looked at the newest change"),
        (reported(condition("Accepted")), "has not looked at the newest change"),
        (
            reported(condition("Accepted", generation=2), condition("ResolvedRefs")),
            "has not looked at the newest change",
        ),
        (
            reported(condition("Accepted", "False"), condition("ResolvedRefs")),
            "Accepted is False (Because): words of the gateway",
        ),
        (
            reported(condition("Accepted"), condition("ResolvedRefs", "False")),
            "ResolvedRefs is False (Because): words of the gateway",
        ),
        (
            reported(
                condition("Accepted"),
                condition("ResolvedRefs"),
                parent={"name": "lab", "namespace": "elsewhere"},
            ),
            "has not reported",
        ),
        (
            reported(
                condition("Accepted"),
                condition("ResolvedRefs"),
                parent={"name": "lab", "namespace": "gateway", "sectionName": "other"},
            ),
            "has not reported",
        ),
    ],
)
def test_otherwise_it_says_why_in_the_gateways_words(route: dict[str, Any], words: str) -> None:
    assert httproute.problem_of(route).startswith("Gateway gateway/lab")
    assert words in httproute.problem_of(route)


def test_a_second_controller_that_refuses_the_route_counts() -> None:
    route = reported(condition("Accepted"), condition("ResolvedRefs"))
    refusal = reported(condition("Accepted", "False"), condition("ResolvedRefs"))
    route["status"]["parents"] += refusal["status"]["parents"]
    assert "Accepted is False" in httproute.problem_of(route)
