"""Records while memory knows an older state of them: what was recorded is never rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from phasegate.api.errors import NotFound
from phasegate.control import kinds
from phasegate.control.ports import Kind, Manifest

from tests.control.fakes import FakeCluster
from tests.control.test_loop import bad_canary
from tests.control.world import World


class OldRecords:
    """Reads of everything as it is, and of records as they were until that is found out."""

    def __init__(self, server: FakeCluster) -> None:
        self.server = server
        self.old: Mapping[str, Mapping[str, Any] | None] = {}

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        if kind == kinds.AGENT_ROLLOUT and name in self.old:
            found = self.old[name]
            if found is None:
                raise NotFound(name)
            return found
        return await self.server.get(kind, namespace, name)

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        return await self.server.list(kind, namespace, selector)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)


def gates(world: World) -> list[dict[str, Any]]:
    (record,) = world.cluster.all(kinds.AGENT_ROLLOUT)
    found: list[dict[str, Any]] = record["status"]["gates"]
    return found


@pytest.mark.parametrize("forgotten", [False, True], ids=["older", "none"])
async def test_a_rollback_decided_on_an_old_memory_of_its_record_adds_to_it(
    forgotten: bool,
) -> None:
    world = World()
    memory = OldRecords(world.cluster)
    world.reads = memory
    async with world.operator():
        await bad_canary(world)
        (record,) = world.cluster.all(kinds.AGENT_ROLLOUT)
        before = gates(world)
        assert len(before) > 1
        old = {**record, "status": {**record["status"], "gates": before[:1]}}
        old["metadata"] = {**record["metadata"], "resourceVersion": "1"}
        memory.old = {record["metadata"]["name"]: None if forgotten else old}
        await world.run(10)
        after = gates(world)
        assert after[: len(before)] == before
        assert [gate["decision"] for gate in after[len(before) :]] == ["RolledBack"]


async def test_what_a_rollout_was_judged_by_goes_when_it_was_taken_back() -> None:
    async with World().operator() as world:
        await bad_canary(world)
        await world.run(60)
        (record,) = world.cluster.all(kinds.AGENT_ROLLOUT)
        assert record["status"]["phase"] == "RolledBack"
        assert not {"evidence", "judgedBy"} & set(record["status"])
