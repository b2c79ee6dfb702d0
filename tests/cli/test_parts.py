"""How a process takes over: what is bad comes first, and nothing is waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from phasegate.adapters.config import OperatorConfig
from phasegate.adapters.mirror import Scope
from phasegate.adapters.telemetry import Telemetry
from phasegate.adapters.watching import Page
from phasegate.api.errors import ClusterError
from phasegate.cli.parts import SYNC_PATIENCE, Connections, Parts, Setting
from phasegate.control import kinds
from phasegate.control.ports import Key
from phasegate.engine.verdict import Judgement, Verdict

from tests.control.fakes import FakeCluster, VirtualClock, settle
from tests.rollout.world import judged

KEYS = [Key("team", name) for name in ("a", "b", "c")]


class Source:
    """Lists three agents, and nothing of what it refuses or never answers."""

    def __init__(self) -> None:
        self.refused = self.silent = ""

    async def page(self, scope: Scope, *, limit: int = 250, proceed: str = "") -> Page:
        if scope.kind.plural == self.refused:
            raise ClusterError("forbidden")
        if scope.kind.plural == self.silent:
            await asyncio.Event().wait()
        keys = KEYS if scope.kind == kinds.AGENT_DEPLOYMENT else []
        names = [{"namespace": key.namespace, "name": key.name} for key in keys]
        items = [{"metadata": {**name, "resourceVersion": "1"}} for name in names]
        return Page(items, "1", "")

    async def watch(self, scope: Scope, version: str) -> AsyncIterator[Any]:
        yield None
        await asyncio.Event().wait()


class Process:
    def __init__(self) -> None:
        self.clock, self.source = VirtualClock(), Source()
        cluster = FakeCluster(self.clock)
        self.parts = Parts(
            Setting(OperatorConfig(), (), 1, "me"),
            Connections(cluster, cluster, self.source),
            Telemetry(),
            self.clock,
        )
        self.tasks: list[asyncio.Task[Any]] = []

    async def watch(self) -> None:
        self.tasks += [asyncio.ensure_future(part) for part in self.parts.watch()]
        await settle(100)


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    await made.parts.close()


async def test_a_new_leader_begins_with_what_is_known_to_be_bad(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judgement(key: Key) -> Judgement | None:
        return judged(Verdict.FAIL) if key == KEYS[2] else None

    await process.watch()
    monkeypatch.setattr(process.parts._evidence, "judgement", judgement)
    for part in process.parts.lead():
        part.close()
    queue = process.parts._queue
    async with asyncio.timeout(5):
        bad = await queue.get(urgent_only=True)
        queue.done(bad)
    assert bad == KEYS[2]
    assert len(queue) == len(KEYS) - 1


async def test_a_kind_that_cannot_be_listed_is_not_waited_for(process: Process) -> None:
    process.source.refused = "services"
    await process.watch()
    async with asyncio.timeout(1):
        await process.parts.synced()


async def test_who_has_stood_by_for_long_leads_at_once(process: Process) -> None:
    process.source.silent = "services"
    await process.watch()
    process.clock.freeze(SYNC_PATIENCE)
    async with asyncio.timeout(1):
        await process.parts.synced()
