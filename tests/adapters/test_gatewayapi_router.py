from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from phasegate.adapters.routers.capabilities import Features
from phasegate.adapters.routers.gatewayapi import GatewayApiRouter
from phasegate.adapters.routers.httproute import render
from phasegate.api.errors import ClusterError, Conflict, InvalidSpec, NotFound, Refused
from phasegate.control.ports import Cluster, Kind
from phasegate.rollout.route import Deactivation, Mirror, only, split

from tests.adapters.agents import CANDIDATE, STABLE, agent

CANARY = split(STABLE, CANDIDATE, 5, None)
ENVOY = "gateway.envoyproxy.io/gatewayclass-controller"


@dataclass
class Routes:
    """The part of an API server that the router talks to; `down` breaks calls for a kind."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Mapping[str, Any]:
        self.calls.append(f"get {kind.plural}")
        if kind.plural in self.down:
            raise ClusterError("down")
        found = self.objects.get((kind.kind, name))
        if found is None:
            raise NotFound(f'{kind.plural} "{name}" not found')
        return copy.deepcopy(found)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> None:
        self.calls.append(f"delete {kind.plural}")
        live = self.objects.get((kind.kind, name))
        if live is not None and live["metadata"]["uid"] == uid:
            del self.objects[(kind.kind, name)]

    async def create(self, manifest: dict[str, Any]) -> Mapping[str, Any]:
        self.calls.append(f"create {manifest['kind']}")
        if manifest["kind"] in self.down:
            raise NotFound("the server could not find the requested resource")
        if (manifest["kind"], manifest["metadata"]["name"]) in self.objects:
            raise Conflict("already exists")
        return await self.apply(manifest)

    async def apply(self, manifest: dict[str, Any]) -> Mapping[str, Any]:
        self.calls.append(f"apply {manifest['kind']}")
        key = (manifest["kind"], manifest["metadata"]["name"])
        live = self.objects.get(key)
        wanted = manifest["metadata"].get("uid")
        if wanted is not None and (live is None or live["metadata"]["uid"] != wanted):
            raise Conflict("uid mismatch")
        uid = live["metadata"]["uid"] if live else f"uid-{len(self.calls)}"
        self.objects[key] = copy.deepcopy(manifest)
        self.objects[key]["metadata"]["uid"] = uid
        return copy.deepcopy(self.objects[key])


@pytest.fixture
def routes() -> Routes:
    gateway = {"metadata": {"name": "lab"}, "spec": {"gatewayClassName": "envoy"}}
    gateway_class = {"metadata": {"name": "envoy"}, "spec": {"controllerName": ENVOY}}
    return Routes({("Gateway", "lab"): gateway, ("GatewayClass", "envoy"): gateway_class})


def router(
    routes: Routes, configured: Mapping[str, Features] | None = None, now: list[float] | None = None
) -> GatewayApiRouter:
    clock = now or [0.0]
    return GatewayApiRouter(
        cast(Cluster, routes), configured=configured, monotonic=lambda: clock[0]
    )


def writes(routes: Routes) -> int:
    return sum(call.startswith("apply") for call in routes.calls)


async def test_before_the_first_write_there_is_no_route_but_the_gateway_is_known(
    routes: Routes,
) -> None:
    seen = await router(routes).observe(agent())
    assert seen.plan is None
    assert not seen.programmed
    assert seen.capabilities.mirror
    assert seen.capabilities.mirror_percent


async def test_what_was_written_is_what_is_seen(routes: Routes) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    assert (await mine.observe(agent())).plan == CANARY


async def test_a_plan_that_is_in_place_is_not_written_again(routes: Routes) -> None:
    mine = router(routes)
    for _ in range(3):
        await mine.observe(agent())
        await mine.write(agent(), CANARY)
    assert writes(routes) == 1


async def test_a_route_is_removed_once(routes: Routes) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    for _ in range(2):
        await mine.remove(agent())
        assert (await mine.observe(agent())).plan is None
    assert routes.calls.count("delete httproutes") == 1


async def test_a_route_that_is_somebody_elses_is_never_removed(routes: Routes) -> None:
    other = render(agent(), CANARY)
    other["metadata"] |= {"uid": "u9", "ownerReferences": []}
    routes.objects[("HTTPRoute", agent()["metadata"]["name"])] = other
    await router(routes).remove(agent())
    assert ("HTTPRoute", agent()["metadata"]["name"]) in routes.objects


async def test_nor_by_an_operator_that_has_just_started(routes: Routes) -> None:
    await router(routes).observe(agent())
    for _ in range(2):
        restarted = router(routes)
        await restarted.observe(agent())
        await restarted.write(agent(), CANARY)
    assert writes(routes) == 1


async def test_changed_hostnames_are_written_though_the_split_is_the_same(routes: Routes) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    await mine.write(agent(hostnames=["a.example.com"]), CANARY)
    assert routes.objects["HTTPRoute", "support"]["spec"]["hostnames"] == ["a.example.com"]


async def test_a_route_that_somebody_changed_is_set_right(routes: Routes) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    backends = routes.objects["HTTPRoute", "support"]["spec"]["rules"][0]["backendRefs"]
    backends[1]["weight"] = 1_000_000
    seen = await mine.observe(agent())
    assert seen.plan != CANARY
    await mine.write(agent(), CANARY)
    assert (await mine.observe(agent())).plan == CANARY


async def test_a_write_is_one_call_when_the_route_was_observed(routes: Routes) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    routes.calls.clear()
    await mine.write(agent(), only(STABLE, CANARY))
    assert routes.calls == ["apply HTTPRoute"]


async def test_a_route_that_lost_its_owner_is_told_as_that(routes: Routes) -> None:
    mine = router(routes)
    await mine.write(agent(), CANARY)
    del routes.objects["HTTPRoute", "support"]["metadata"]["ownerReferences"]
    seen = await mine.observe(agent())
    assert seen.plan is None
    assert "has lost its ownerReference" in seen.message
    with pytest.raises(Refused, match="delete it, and it is made again"):
        await mine.write(agent(), CANARY)


async def test_a_foreign_route_is_reported_and_never_written(routes: Routes) -> None:
    foreign = render(agent(uid="another"), CANARY)
    foreign["metadata"]["uid"] = "theirs"
    routes.objects["HTTPRoute", "support"] = foreign
    seen = await router(routes).observe(agent())
    assert seen.plan is None
    assert "shop/support" in seen.message
    assert "does not belong" in seen.message
    with pytest.raises(Refused, match="delete it"):
        await router(routes).write(agent(), CANARY)
    assert writes(routes) == 0


async def test_a_route_that_was_replaced_since_it_was_seen_is_looked_at_again(
    routes: Routes,
) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    routes.objects["HTTPRoute", "support"]["metadata"]["uid"] = "another"
    with pytest.raises(Conflict):
        await mine.write(agent(), only(STABLE, CANARY))
    await mine.write(agent(), only(STABLE, CANARY))
    assert (await mine.observe(agent())).plan == only(STABLE, CANARY)


async def test_a_missing_gateway_is_named(routes: Routes) -> None:
    del routes.objects["Gateway", "lab"]
    seen = await router(routes).observe(agent())
    assert "There is no Gateway gateway/lab" in seen.message
    assert not seen.capabilities.mirror


async def test_a_missing_gateway_class_is_named(routes: Routes) -> None:
    del routes.objects["GatewayClass", "envoy"]
    assert "GatewayClass envoy" in (await router(routes).observe(agent())).message


async def test_nothing_about_the_gateway_stands_before_a_rollback(routes: Routes) -> None:
    now = [0.0]
    mine = router(routes, now=now)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    routes.down |= {"gateways", "gatewayclasses"}
    now[0] = 3600.0
    seen = await mine.observe(agent())
    assert seen.capabilities.mirror, "what was known last counts"
    await mine.write(agent(), only(STABLE, seen.plan))
    assert (await mine.observe(agent())).plan == only(STABLE, CANARY)


async def test_filters_stay_as_they_are_while_the_gateway_cannot_be_asked(routes: Routes) -> None:
    first = router(routes)
    await first.observe(agent())
    await first.write(agent(), CANARY)
    routes.down |= {"gateways", "gatewayclasses"}
    restarted = router(routes)
    await restarted.observe(agent())
    await restarted.write(agent(), only(STABLE, CANARY))
    backends = routes.objects["HTTPRoute", "support"]["spec"]["rules"][0]["backendRefs"]
    assert all("filters" in backend for backend in backends)


async def test_a_gateway_is_asked_once_in_a_while_not_every_time(routes: Routes) -> None:
    now = [0.0]
    mine = router(routes, now=now)
    for now[0] in (0.0, 1.0, 59.0):
        await mine.observe(agent())
    assert routes.calls.count("get gatewayclasses") == 1
    now[0] = 61.0
    await mine.observe(agent())
    assert routes.calls.count("get gatewayclasses") == 2


async def test_the_administrators_word_reaches_route_and_decision(routes: Routes) -> None:
    mine = router(routes, {ENVOY: Features(source="the operator's configuration")})
    seen = await mine.observe(agent())
    assert not seen.capabilities.mirror
    await mine.write(agent(), replace(CANARY, mirror=Mirror(CANDIDATE, "dark", 100)))
    backends = routes.objects["HTTPRoute", "support"]["spec"]["rules"][0]["backendRefs"]
    assert not any("filters" in backend for backend in backends)


class Strict(Routes):
    """An API server that refuses a route for this host."""

    async def apply(self, manifest: dict[str, Any]) -> Mapping[str, Any]:
        if "bad.example.com" in manifest["spec"].get("hostnames", ()):
            self.calls.append("refused")
            raise Refused("spec.hostnames: an admission webhook does not want it")
        return await super().apply(manifest)


async def test_what_is_refused_of_the_users_part_does_not_hold_up_the_split(
    routes: Routes,
) -> None:
    strict = Strict(routes.objects)
    one = router(strict)
    await one.write(agent(), CANARY)
    await one.observe(agent())
    edited = agent()
    edited["spec"]["traffic"]["gatewayAPI"]["hostnames"] = ["bad.example.com"]
    back = split(STABLE, CANDIDATE, 0, CANARY)
    await one.write(edited, back)
    seen = await one.observe(edited)
    assert seen.plan == back
    with pytest.raises(Refused, match="does not want it"):
        await one.write(edited, back)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "text",
        [],
        {},
        {"service": 8080, "traffic": "none"},
        {"traffic": {"gatewayAPI": {"parentRefs": "lab"}}},
        {"traffic": {"gatewayAPI": {"parentRefs": [{"name": "lab"}], "matches": [1]}}},
    ],
)
async def test_a_spec_of_another_schema_does_not_hold_up_the_split(
    routes: Routes, spec: object
) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), CANARY)
    broken = {**agent(), "spec": spec}
    assert (await mine.observe(broken)).plan == CANARY
    back = split(STABLE, CANDIDATE, 0, CANARY)
    await mine.write(broken, back)
    assert (await mine.observe(broken)).plan == back
    assert routes.objects[("HTTPRoute", "support")]["spec"]["parentRefs"][0]["name"] == "lab"


async def test_a_spec_of_another_schema_without_a_route_is_told_by_its_field(
    routes: Routes,
) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.traffic\.gatewayAPI"):
        await router(routes).write({**agent(), "spec": "text"}, CANARY)


OFF = replace(
    CANARY, off=Deactivation("alice", "wrong answers", datetime(2026, 11, 1, 12, tzinfo=UTC))
)


def instead(routes: Routes) -> dict[str, Any]:
    """The rule that a deactivated agent's requests meet."""
    name = agent()["metadata"]["name"]
    found: dict[str, Any] = routes.objects[("HTTPRoute", name)]["spec"]["rules"][1]
    return found


async def test_envoy_gateway_refuses_in_words_and_keeps_to_it_while_nobody_answers(
    routes: Routes,
) -> None:
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), OFF)
    assert instead(routes)["filters"][0]["type"] == "ExtensionRef"
    refusal = routes.objects[("HTTPRouteFilter", "support-deactivated")]
    assert refusal["spec"]["directResponse"]["statusCode"] == 503
    restarted = router(routes)
    routes.down |= {"HTTPRouteFilter", "gateways"}
    assert (await restarted.observe(agent())).plan == OFF
    before = writes(routes)
    await restarted.write(agent(), OFF)
    assert writes(routes) == before


async def test_without_envoy_gateways_kinds_it_is_refused_all_the_same(routes: Routes) -> None:
    routes.down.add("HTTPRouteFilter")
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), OFF)
    assert {"filters", "backendRefs"} & instead(routes).keys() == set()
    assert (await mine.observe(agent())).plan == OFF


async def test_no_other_gateway_gets_a_filter_it_does_not_know(routes: Routes) -> None:
    routes.objects[("GatewayClass", "envoy")]["spec"]["controllerName"] = "traefik.io/gateway"
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), OFF)
    assert "filters" not in instead(routes)
    assert "create HTTPRouteFilter" not in routes.calls


async def test_a_refusal_that_is_somebody_elses_is_not_used(routes: Routes) -> None:
    metadata = {"name": "support-deactivated", "uid": "u9"}
    routes.objects[("HTTPRouteFilter", "support-deactivated")] = {"metadata": metadata}
    mine = router(routes)
    await mine.observe(agent())
    await mine.write(agent(), OFF)
    assert "filters" not in instead(routes)


async def test_who_lets_users_in_again_is_corrected_every_time(routes: Routes) -> None:
    mine, now = router(routes), render(agent(), CANARY)
    await mine.observe(agent())
    await mine.write(agent(), OFF)
    before = writes(routes)
    for _ in range(20):
        routes.objects[("HTTPRoute", "support")]["spec"] = now["spec"]
        await mine.observe(agent())
        await mine.write(agent(), OFF)
    assert (await mine.observe(agent())).plan == OFF
    assert writes(routes) == before + 20
