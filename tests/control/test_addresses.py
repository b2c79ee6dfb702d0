"""Whose is a series: for every source, from labels to agent and arm, and never to another tenant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from phasegate.control.addresses import Address, Party, Role, reader, rivals, selector
from phasegate.control.ports import Key
from phasegate.engine.sources import SOURCES
from phasegate.engine.sources.base import Identity
from phasegate.rollout.labels import workload_name
from phasegate.rollout.route import Mode

NEW, OLD = "aaaaaaaaaa", "bbbbbbbbbb"
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(min_size=1, max_size=20)


def party(
    namespace: str = "team",
    name: str = "support",
    mode: Mode = "live",
    *,
    mirrored: bool = False,
    slots: tuple[str, ...] = (OLD, NEW),
) -> Party:
    return Party(Key(namespace, name), NEW, OLD, mode, mirrored, slots)


def identity(source: str) -> Identity:
    return SOURCES[source].identity


def labels(
    source: str, key: Key, revision: str, mode: Mode = "live", slot: int = 0
) -> dict[str, str]:
    """What the emitter writes on a series of this revision (docs of each; see engine/sources)."""
    workload = workload_name(key.name, revision, mode)
    envoy = f"httproute/{key.namespace}/{key.name}/rule/0/backend/{slot}"
    traefik = (
        f"httproute-{key.namespace}-{key.name}-gw-infra-my-gw-1-ep-web-0-1c0cf64bde37d9d0df06"
        f"-svc-{key.namespace}-{workload}-80@kubernetesgateway"
    )
    return {
        "agent-contract": {
            "namespace": key.namespace, "agent": key.name, "revision": revision, "mode": mode,
        },
        "otel-genai": {
            "namespace": key.namespace, "agent": key.name, "revision": revision, "mode": mode,
        },
        "istio": {
            "destination_workload_namespace": key.namespace,
            "destination_workload": workload,
            "reporter": "destination",
        },
        "linkerd": {
            "backend_namespace": key.namespace, "backend_name": workload, "backend_kind": "Service",
        },
        "envoy-gateway": {"envoy_cluster_name": envoy},
        "traefik": {"service": traefik},
        "litellm": {
            "api_key_alias": f"{key.namespace}/{key.name}", "metadata_agent_revision": revision,
        },
        "agentgateway": {
            "agent_namespace": key.namespace, "agent_name": key.name, "agent_revision": revision,
        },
    }[source]  # fmt: skip


def roles(source: str, who: Party) -> Mapping[Address, Role]:
    return who.addresses(identity(source))


def role_of(source: str, who: Party, found: Mapping[str, str]) -> Role | None:
    return roles(source, who).get(reader(identity(source)).address(found) or ())


EVERY = pytest.mark.parametrize("source", sorted(SOURCES))


@EVERY
def test_candidate_and_baseline_are_told_apart(source: str) -> None:
    who = party()
    assert role_of(source, who, labels(source, who.key, NEW, slot=1)) == "candidate"
    assert role_of(source, who, labels(source, who.key, OLD, slot=0)) == "baseline"


@EVERY
def test_another_revision_or_agent_is_nobodys(source: str) -> None:
    who = party()
    assert role_of(source, who, labels(source, who.key, "cccccccccc", slot=2)) is None
    for other in (Key("team", "billing"), Key("other", "support")):
        assert role_of(source, who, labels(source, other, NEW, slot=1)) is None
    assert role_of(source, who, {}) is None


@EVERY
def test_the_query_finds_the_series_and_binds_the_namespace(source: str) -> None:
    who = party()
    query = selector({"calls"}, identity(source), roles(source, who))
    assert matches(query, labels(source, who.key, NEW, slot=1), "calls")
    assert matches(query, labels(source, who.key, OLD, slot=0), "calls")
    assert not matches(query, labels(source, who.key, OLD, slot=0), "other")
    assert not matches(query, labels(source, Key("other", "support"), NEW, slot=1), "calls")


@EVERY
@given(namespace=NAMES, name=NAMES, other_namespace=NAMES, other=NAMES)
def test_series_never_cross_namespaces_unless_the_source_says_so(
    source: str, namespace: str, name: str, other_namespace: str, other: str
) -> None:
    assume(namespace != other_namespace)
    who, stranger = party(namespace, name), Key(other_namespace, other)
    for slot, revision in enumerate((OLD, NEW)):
        for mode in ("live", "dark"):
            found = role_of(source, who, labels(source, stranger, revision, mode, slot))
            assert found is None or rivals(identity(source), who.key, [other_namespace])


AMBIGUOUS = [(Key("a", "b-c"), Key("a-b", "c")), (Key("a-b", "c"), Key("a", "b-c"))]


@EVERY
@pytest.mark.parametrize(("mine", "theirs"), AMBIGUOUS)
def test_names_that_run_together_do_not_cross_tenants(source: str, mine: Key, theirs: Key) -> None:
    who = party(mine.namespace, mine.name)
    crossed = any(
        role_of(source, who, labels(source, theirs, revision, slot=slot))
        for slot, revision in enumerate((OLD, NEW))
    )
    assert crossed == bool(rivals(identity(source), mine, [mine.namespace, theirs.namespace]))
    assert crossed == (source == "traefik")


def test_a_name_made_to_look_like_anothers_is_read_in_two_ways_and_dropped() -> None:
    who = party("a", "c")
    crafted = (
        f"httproute-a-c-gw-x-gw-infra-g-ep-web-0-hash-svc-evil-svc-a-c-{NEW}-80@kubernetesgateway"
    )
    assert role_of("traefik", who, {"service": crafted}) is None


def test_namespaces_without_a_common_beginning_are_no_rivals() -> None:
    key = Key("team-a", "support-agent")
    assert rivals(identity("traefik"), key, ["team-a", "team-b", "support", "t"]) == []
    assert rivals(identity("traefik"), key, ["team", "team-a-support"]) == [
        "team",
        "team-a-support",
    ]


def test_where_a_gateway_mirrors_the_copies_are_the_candidates() -> None:
    who = party(mode="dark", mirrored=True, slots=(OLD, OLD))
    copies = {"envoy_cluster_name": "httproute/team/support/rule/0-mirror-0"}
    assert role_of("envoy-gateway", who, copies) == "candidate"
    for slot in (0, 1):
        assert role_of("envoy-gateway", who, labels("envoy-gateway", who.key, OLD, slot=slot)) == (
            "baseline"
        )


def test_a_reviewers_header_route_is_neither() -> None:
    reviewer = {"envoy_cluster_name": "httproute/team/support/rule/1/backend/0"}
    assert role_of("envoy-gateway", party(), reviewer) is None


def test_slots_follow_the_route() -> None:
    swapped = party(slots=(NEW, OLD))
    assert role_of("envoy-gateway", swapped, labels("envoy-gateway", swapped.key, "", slot=0)) == (
        "candidate"
    )
    assert roles("envoy-gateway", party(slots=())) == {}


def test_pods_of_another_mode_are_the_candidates_for_late_labels_only() -> None:
    who = party()
    for mode in ("dark", "shadow"):
        assert (
            role_of("agent-contract", who, labels("agent-contract", who.key, NEW, mode)) == "late"
        )
    assert role_of("agent-contract", who, labels("agent-contract", who.key, OLD, "dark")) is None


def test_a_series_reported_by_the_wrong_end_does_not_count_twice() -> None:
    who = party()
    twice = labels("istio", who.key, NEW) | {"reporter": "source"}
    assert role_of("istio", who, twice) is None


# --- the query -----------------------------------------------------------------------------------

_MATCHER = re.compile(r'(\w+)(=~|=)"((?:[^"\\]|\\.)*)"')


def matchers(query: str) -> list[tuple[str, str, str]]:
    """A selector's conditions, their strings read as Prometheus does."""
    found = _MATCHER.findall(query)
    assert "{" + ",".join(f'{n}{op}"{text}"' for n, op, text in found) + "}" == query
    return [
        (name, op, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), text))
        for name, op, text in found
    ]


def matches(query: str, found: Mapping[str, str], name: str) -> bool:
    values = {"__name__": name, **found}
    return all(
        re.fullmatch(text, values.get(label, "")) if op == "=~" else values.get(label, "") == text
        for label, op, text in matchers(query)
    )


def query_for(people: Iterable[Party], source: str = "agent-contract") -> str:
    addresses = [at for who in people for at in roles(source, who)]
    return selector({"calls_total"}, identity(source), addresses)


def test_one_query_names_every_agent() -> None:
    query = query_for([party("a", "x"), party("b", "y.z")])
    assert matches(query, labels("agent-contract", Key("a", "x"), NEW), "calls_total")
    assert matches(query, labels("agent-contract", Key("b", "y.z"), OLD), "calls_total")
    assert not matches(query, labels("agent-contract", Key("b", "y-z"), OLD), "calls_total")


@EVERY
@given(name=TEXTS)
def test_no_name_gets_out_of_the_query_or_matches_another(source: str, name: str) -> None:
    query = query_for([party("team", name)], source)
    mine = labels(source, Key("team", name), NEW, slot=1)
    other = labels(source, Key("team", name + "x"), NEW, slot=1)
    if "\n" not in name:  # `.` is no line end, in RE2 as here; no name has one
        assert matches(query, mine, "calls_total")
    assert not matches(query, other, "calls_total")


def test_a_thousand_agents_are_found_one_look_up_a_series() -> None:
    people = [party(f"ns-{n % 20}", f"agent-{n}") for n in range(1000)]
    owners = {at: (who.key, role) for who in people for at, role in roles("istio", who).items()}
    read = reader(identity("istio"))
    for who in people[::97]:
        at = read.address(labels("istio", who.key, NEW))
        assert owners[at or ()] == (who.key, "candidate")
