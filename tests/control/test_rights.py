"""The operator asks for its own rights, and says what does not work without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from phasegate.api.errors import ClusterError
from phasegate.control.rights import (
    AGAIN,
    AGENT_RIGHTS,
    CLUSTER_RIGHTS,
    RightsCheck,
    lease_rights,
    price_right,
)

from tests.control.fakes import VirtualClock, settle

EVENTS = "not allowed to create events.events.k8s.io: no events are written"


class ApiServer:
    """Allows all but what is missing, and may not answer."""

    def __init__(self) -> None:
        self.missing: set[tuple[str, str]] = set()
        self.asked: list[Mapping[str, Any]] = []
        self.down = False

    async def create(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.down:
            raise ClusterError("down")
        asked = manifest["spec"]["resourceAttributes"]
        self.asked.append(asked)
        return {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.missing}}


def check(server: ApiServer, clock: VirtualClock, *namespaces: str | None) -> RightsCheck:
    rights = (*AGENT_RIGHTS, *CLUSTER_RIGHTS, *lease_rights("phasegate"))
    return RightsCheck(server, clock, rights, namespaces or (None,), "phasegate-system")


@asynccontextmanager
async def running(rights: RightsCheck) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(rights.run())
    await settle()
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_price_table_is_asked_for_where_it_is() -> None:
    server, clock = ApiServer(), VirtualClock()
    server.missing = {("get", "configmaps")}
    right = price_right("finance", "model-prices")
    rights = RightsCheck(server, clock, [right], ["team-a", "team-b"], "phasegate-system")
    async with running(rights):
        (asked,) = server.asked
        assert (asked["namespace"], asked["name"]) == ("finance", "model-prices")
        assert rights.problem is not None
        assert "not allowed to get configmaps model-prices in namespace finance" in rights.problem


async def test_with_all_rights_it_asks_once_and_says_nothing() -> None:
    server, clock = ApiServer(), VirtualClock()
    rights = check(server, clock)
    async with running(rights) as task:
        await task
    assert rights.problem is None
    assert len(server.asked) == len(AGENT_RIGHTS) + len(CLUSTER_RIGHTS) + 3


async def test_what_is_missing_is_said_once_and_asked_for_until_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, clock = ApiServer(), VirtualClock()
    server.missing = {("create", "events")}
    rights = check(server, clock)
    with caplog.at_level(logging.INFO):
        async with running(rights) as task:
            assert (rights.problem or "").startswith(EVENTS)
            server.asked.clear()
            await clock.advance(AGAIN * 3)
            assert [asked["resource"] for asked in server.asked] == ["events"] * 3
            server.missing.clear()
            await clock.advance(AGAIN)
            assert task.done()
    assert rights.problem is None
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [message[: len(EVENTS)] for message in errors] == [EVENTS]


async def test_a_probe_names_some_of_many_and_how_many_more() -> None:
    server, clock = ApiServer(), VirtualClock()
    server.missing = {(verb, "deployments") for verb in ("create", "patch", "delete", "watch")}
    rights = check(server, clock)
    async with running(rights):
        assert (rights.problem or "").endswith("apply config/rbac; and 1 more")


async def test_each_namespace_is_asked_about_and_named() -> None:
    server, clock = ApiServer(), VirtualClock()
    server.missing = {("list", "pods")}
    rights = check(server, clock, "team-a", "team-b")
    async with running(rights):
        assert "list pods in namespace team-a: nobody can say why" in (rights.problem or "")
        assert "list pods in namespace team-b" in (rights.problem or "")
    where = {asked.get("namespace") for asked in server.asked if asked["resource"] == "gateways"}
    assert where == {None}  # once for the cluster


async def test_a_subresource_and_a_name_are_asked_for_as_such() -> None:
    server, clock = ApiServer(), VirtualClock()
    async with running(check(server, clock)) as task:
        await task
    status = [a for a in server.asked if a.get("subresource") == "status"]
    assert {a["resource"] for a in status} == {
        "agentdeployments",
        "agentrollouts",
        "rolloutactions",
    }
    leases = {(a["verb"], a.get("name")) for a in server.asked if a["resource"] == "leases"}
    assert leases == {("create", None), ("get", "phasegate"), ("patch", "phasegate")}


async def test_an_api_server_that_does_not_answer_is_no_missing_right() -> None:
    server, clock = ApiServer(), VirtualClock()
    server.down = True
    rights = check(server, clock)
    async with running(rights) as task:
        assert rights.problem is None
        server.down = False
        await clock.advance(AGAIN)
        assert task.done()
    assert server.asked
