"""Records while memory knows an older state of them: what was recorded is never rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from phasegate.api.errors import ClusterError, NotFound
from phasegate.control import kinds
from phasegate.control.ports import Kind, Manifest

from tests.control.fakes import FakeCluster
from tests.control.simulation import Simulation
from tests.control.stories import QUIET, SHORT, candidate, running, serving, taken_back
from tests.control.test_loop import bad_canary
from tests.control.world import KEY, World


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


def decided(sim: Simulation, name: str) -> str | None:
    """The outcome of a person's decision, once it has one."""
    found = {item["metadata"]["name"]: item for item in sim.cluster.all(kinds.ROLLOUT_ACTION)}
    outcome: str | None = (found[name].get("status") or {}).get("outcome")
    return outcome


async def test_a_decision_is_answered_once_its_attempts_record_has_it_and_recorded_once() -> None:
    sim = Simulation()
    async with sim.running():
        await serving(sim)
        mine = await candidate(sim, *SHORT)
        await running(sim, "Canary")
        sim.cluster.fate = lambda call: (
            ClusterError("500: etcd is away")
            if (call.verb, call.plural) == ("patch-status", "agentrollouts")
            else None
        )
        sim.act("pause", "Pause", mine)
        await sim.until("held", lambda: "hold" in (sim.status.get("progress") or {}))
        await sim.run(10)
        assert decided(sim, "pause") is None
        sim.cluster.fate = lambda call: None
        await sim.until("answered", lambda: decided(sim, "pause") == "Accepted", 90)
        (record,) = sim.cluster.all(kinds.AGENT_ROLLOUT)
        assert [(act["verb"], act["by"]) for act in record["status"]["actions"]] == [
            ("Pause", "alice")
        ]
        assert sim.altered() == []


async def test_the_next_attempt_names_the_end_of_the_record_before_it() -> None:
    sim = Simulation()
    async with sim.running():
        await serving(sim)
        bad = await candidate(sim, *SHORT)
        await running(sim, "Canary")
        sim.error_rate[bad] = 1.0
        await taken_back(sim)
        sim.error_rate[bad] = 0.0
        sim.act("again", "Retry", bad)
        await sim.until("again", lambda: sim.status.get("rollouts") == 2)
        await running(sim, "Canary")
        first, second = (item for item in sim.cluster.all(kinds.AGENT_ROLLOUT))
        ends = {
            name: f"{first['status'][name][-1]['seq']}:{first['status'][name][-1]['hash']}"
            for name in ("gates", "actions", "incidents", "notices")
            if first["status"].get(name)
        }
        assert second["spec"]["previous"] == {"name": first["metadata"]["name"], **ends}
        assert ends.keys() >= {"gates", "actions", "incidents"}
        assert sim.altered() == []


async def test_what_somebody_altered_is_not_covered_up_by_what_is_written_after_it() -> None:
    sim = Simulation()
    async with sim.running():
        await serving(sim)
        bad = await candidate(sim, *SHORT)
        await running(sim, "Canary")
        await sim.run(2)
        (record,) = sim.cluster.all(kinds.AGENT_ROLLOUT)
        status, name = record["status"], record["metadata"]["name"]
        known = sim.status["record"]["gates"]
        status["gates"][0] |= {"by": "mallory", "hash": "0" * 64}
        sim.cluster.set_status(kinds.AGENT_ROLLOUT, KEY.namespace, name, status)
        sim.error_rate[bad] = 1.0
        await taken_back(sim)
        await sim.run(QUIET)
        found = sim.altered()
        assert any("entry 1 does not fit its hash" in what for what in found)
        assert sim.status["record"]["gates"] == known  # the record contradicts it for good
        assert len(sim.cluster.all(kinds.AGENT_ROLLOUT)[0]["status"]["gates"]) == 2
