"""Somebody else writes our route: put right, told, and bounded; never at the users' expense."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from phasegate.adapters.routers.claims import Claims
from phasegate.adapters.routers.contest import FIGHT, LONGEST_REST, QUIET
from phasegate.adapters.routers.gatewayapi import GatewayApiRouter
from phasegate.adapters.routers.httproute import parse
from phasegate.api.errors import NotFound
from phasegate.control.ports import Cluster, Key, Kind
from phasegate.rollout.route import (
    Backend,
    Deactivation,
    RollbackIntent,
    RoutePlan,
    only,
    split,
    with_intent,
)

from tests.adapters.agents import CANDIDATE, STABLE, agent
from tests.control.fakes import START

CANARY = split(STABLE, CANDIDATE, 5, None)
Change = Callable[[dict[str, Any]], None]
INTENT = RollbackIntent("support-1", CANDIDATE, "canary", "error-rate", "bad", START)


class Server:
    """An API server with one gateway, one route, versions and field managers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.route: dict[str, Any] | None = None
        self.ours: dict[str, Any] = {}
        self.version = 0
        self.writes: list[str] = []

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Mapping[str, Any]:
        if kind.kind == "Gateway":
            return {"metadata": {"name": "lab"}, "spec": {"gatewayClassName": "envoy"}}
        if kind.kind == "GatewayClass":
            controller = "gateway.envoyproxy.io/gatewayclass-controller"
            return {"metadata": {"name": "envoy"}, "spec": {"controllerName": controller}}
        if self.route is None:
            raise NotFound("httproutes not found")
        return copy.deepcopy(self.route)

    async def apply(self, manifest: dict[str, Any]) -> Mapping[str, Any]:
        """Fields that others own and we do not name stay."""
        self.writes.append("apply")
        live = self.route or {"metadata": {"uid": "u1", "managedFields": []}, "spec": {}}
        spec = {**live["spec"], **manifest["spec"]}
        for name in self.ours.get("spec", {}).keys() - manifest["spec"].keys():
            del spec[name]
        notes = dict(live["metadata"].get("annotations") or {})
        for name in self.ours.get("annotations", {}):
            notes.pop(name, None)
        given = manifest["metadata"].get("annotations") or {}
        self.ours = {"spec": manifest["spec"], "annotations": given}
        metadata = {**live["metadata"], **manifest["metadata"], "annotations": {**notes, **given}}
        return self._store({**manifest, "metadata": metadata, "spec": spec})

    async def patch(
        self, kind: Kind, namespace: str, name: str, patch: list[dict[str, Any]]
    ) -> Mapping[str, Any]:
        self.writes.append("patch")
        assert self.route is not None
        route = copy.deepcopy(self.route)
        for operation in patch:
            if operation["path"] == "/spec":
                route["spec"] = copy.deepcopy(operation["value"])
            elif operation["op"] == "remove":
                del route["metadata"]["annotations"]["phasegate.dev/rollback"]
        return self._store(route)

    def edit(self, change: Change, by: str = "gitops") -> None:
        assert self.route is not None
        route = copy.deepcopy(self.route)
        change(route)
        entry = {"manager": by, "time": f"2026-11-01T12:00:{self.version:02d}Z"}
        route["metadata"]["managedFields"] = [entry, {"manager": "phasegate"}]
        self._store(route)

    def _store(self, route: dict[str, Any]) -> Mapping[str, Any]:
        self.version += 1
        route = copy.deepcopy(route)
        route["metadata"]["resourceVersion"] = str(self.version)
        self.route = route
        return copy.deepcopy(route)


def weight(percent: int) -> Change:
    """Gives the candidate so much."""

    def change(route: dict[str, Any]) -> None:
        first, second = route["spec"]["rules"][0]["backendRefs"]
        first["weight"], second["weight"] = 100 - percent, percent

    return change


def hostnames(route: dict[str, Any]) -> None:
    route["spec"]["hostnames"] = ["elsewhere.example.com"]


class Pair:
    """The router and the other writer."""

    def __init__(self, plan: RoutePlan = CANARY) -> None:
        self.server = Server()
        self.router = GatewayApiRouter(
            cast(Cluster, self.server), monotonic=lambda: self.server.now
        )
        self.plan = plan
        self.agent = {**agent(), "status": {"stableRevision": STABLE}}

    async def look(self, after: float = 0.0) -> Any:
        """A pass: observe, write."""
        self.server.now += after
        seen = await self.router.observe(self.agent)
        await self.router.write(self.agent, self.plan)
        return seen

    async def settled(self) -> Pair:
        await self.look()
        assert not (await self.look()).edited
        self.server.writes.clear()
        return self

    async def fight(self, change: Change, edits: int, every: float = 1.0) -> None:
        for _ in range(edits):
            self.server.edit(change)
            await self.look(every)

    @property
    def live(self) -> RoutePlan | None:
        route = self.server.route
        assert route is not None
        return parse(route)


@pytest.fixture
async def pair() -> Pair:
    return await Pair().settled()


async def test_one_change_is_put_right_at_once_and_its_author_is_named(pair: Pair) -> None:
    pair.server.edit(weight(50), by="kubectl-edit")
    seen = await pair.look()
    assert (seen.edited, seen.contested) == ("kubectl-edit", "")
    assert pair.live == CANARY
    seen = await pair.look()
    assert (seen.edited, seen.contested) == ("", "")


async def test_who_writes_every_second_is_answered_ever_more_rarely(pair: Pair) -> None:
    await pair.fight(weight(1), 300)
    writes = len(pair.server.writes)
    assert FIGHT <= writes <= FIGHT + 2 + 300 / LONGEST_REST + 3
    seen = await pair.look()
    assert "gitops changes HTTPRoute shop/support again and again" in seen.contested


async def test_what_gives_the_candidate_more_is_corrected_each_time(pair: Pair) -> None:
    for _ in range(100):
        pair.server.edit(weight(50))
        await pair.look(1.0)
        assert pair.live == CANARY
    assert (await pair.look()).contested
    assert len(pair.server.writes) == 100


async def test_a_route_that_cannot_be_read_any_more_is_corrected_if_it_names_the_candidate(
    pair: Pair,
) -> None:
    def third(route: dict[str, Any]) -> None:
        refs = route["spec"]["rules"][0]["backendRefs"]
        refs.append({**refs[1], "weight": 1000})

    for _ in range(10):
        pair.server.edit(third)
        await pair.look(1.0)
        assert pair.live == CANARY


async def test_a_deactivated_agent_is_shut_each_time_that_somebody_opens_it() -> None:
    word = Deactivation("alice", "wrong answers", START, Backend("human-desk", 80))
    pair = await Pair(replace(only(STABLE, None), off=word)).settled()

    def bare(route: dict[str, Any]) -> None:
        (main, _) = route["spec"]["rules"]
        route["spec"]["rules"] = [{"backendRefs": main["backendRefs"][:1]}]

    def beside(route: dict[str, Any]) -> None:
        main, instead = route["spec"]["rules"]
        main["matches"] = instead["matches"]

    for change in (bare, beside):
        for _ in range(FIGHT + 3):
            pair.server.edit(change)
            await pair.look(1.0)
            assert pair.live == pair.plan


async def test_a_rollback_is_written_at_once_in_the_midst_of_a_fight(pair: Pair) -> None:
    await pair.fight(weight(1), 60)
    pair.server.edit(weight(1))
    pair.plan = with_intent(split(STABLE, CANDIDATE, 0, CANARY), INTENT)
    await pair.look(1.0)
    assert pair.live == pair.plan


async def test_a_fight_is_over_a_minute_after_the_last_change(pair: Pair) -> None:
    await pair.fight(weight(1), 20)
    await pair.look(LONGEST_REST)
    assert pair.live == CANARY
    seen = await pair.look(QUIET + 1)
    assert seen.contested == ""
    pair.server.edit(weight(1))
    await pair.look(1.0)
    assert pair.live == CANARY


async def test_nothing_is_kept_of_an_agent_that_is_gone(pair: Pair) -> None:
    told: list[Key] = []
    pair.router._claims = Claims(told.append)
    await pair.fight(weight(50), FIGHT + 1)
    younger = agent("younger")
    younger["metadata"]["creationTimestamp"] = "2026-11-02T12:00:00Z"
    for one in (pair.agent, younger):
        pair.router._claims.note(one)
    assert pair.router._claims.winner(Key("shop", "younger")) == Key("shop", "support")
    told.clear()
    pair.router.forget(Key("shop", "support"))
    assert told == [Key("shop", "younger")]
    assert pair.router._claims.winner(Key("shop", "younger")) is None
    kept = (pair.router._routes, pair.router._left, pair.router._contests._fights)
    assert not any(kept)
    assert not (await pair.look()).contested, "another of its name has no past"


async def test_a_change_that_stays_is_corrected_when_its_rest_is_over(pair: Pair) -> None:
    await pair.fight(weight(1), FIGHT + 1)
    assert pair.live != CANARY
    for _ in range(int(LONGEST_REST)):
        await pair.look(1.0)
    assert pair.live == CANARY


async def test_what_others_added_is_taken_out(pair: Pair) -> None:
    pair.agent["spec"]["traffic"]["gatewayAPI"].pop("hostnames", None)
    await pair.look()
    pair.server.writes.clear()
    pair.server.edit(hostnames)
    await pair.look()
    assert pair.server.route is not None
    assert "hostnames" not in pair.server.route["spec"]
    assert pair.server.writes == ["apply", "patch"]


async def test_a_forged_rollback_is_taken_out(pair: Pair) -> None:
    def forge(route: dict[str, Any]) -> None:
        route["metadata"]["annotations"] = {"phasegate.dev/rollback": "{}", "theirs": "kept"}

    pair.server.edit(forge)
    await pair.look()
    assert pair.server.route is not None
    assert pair.server.route["metadata"]["annotations"] == {"theirs": "kept"}


async def test_what_the_api_server_itself_adds_is_not_fought() -> None:
    pair = Pair()
    store = pair.server._store

    def add_default(route: dict[str, Any]) -> Mapping[str, Any]:
        route["spec"]["useDefaultGateways"] = "None"
        return store(route)

    pair.server._store = add_default  # type: ignore[method-assign]
    await pair.look()
    pair.server.writes.clear()
    for _ in range(10):
        seen = await pair.look(1.0)
        assert not seen.edited
    assert pair.server.writes == []


async def test_a_new_step_is_written_at_once_in_the_midst_of_a_fight(pair: Pair) -> None:
    await pair.fight(weight(1), 60)
    pair.plan = only(STABLE, CANARY)
    await pair.look(1.0)
    assert pair.live == pair.plan
