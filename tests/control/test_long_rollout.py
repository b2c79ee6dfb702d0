"""Fourteen days of one rollout, at ticks of ten seconds: what is stored and remembered stays small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from phasegate.control import kinds
from phasegate.control.evidence_store import MAX_CHECKPOINT

from tests.control.simulation import Simulation
from tests.control.stories import candidate, nothing, running, write
from tests.control.test_loop import policy
from tests.control.world import KEY, FakeProvider

DAYS = 14
TICK = 10.0
REMEMBERED = 600.0
"""Seconds of samples that the simulated Prometheus keeps: the operator has read all before."""
KINDS = (
    {"name": "error-rate", "gate": {"below": "5%"}, "rollback": {"above": "10%"}, "baseline": {}},
    {"name": "cost-per-call", "baseline": {}},
    {"name": "accuracy", "rollback": {"below": "50%"}},
    {"name": "safety-flags", "alert": {"above": "3"}},
    {"name": "depth", "threshold": {"query": "depth", "for": "20s"}, "rollback": {"above": "100"}},
)


class Forgetful(FakeProvider):
    """A Prometheus with a short retention."""

    def count(self, at: float, increments: Mapping[tuple[tuple[str, str], ...], float]) -> None:
        super().count(at, increments)
        for samples in self.series.values():
            while samples and samples[0][0] < at - REMEMBERED:
                del samples[: len(samples) // 2 + 1]


def sizes(sim: Simulation) -> dict[str, int]:
    """What grows if anything does: bytes stored, and entries in memory."""
    (record,) = sim.cluster.all(kinds.AGENT_ROLLOUT)
    (attempt,) = sim.store.attempts()
    return {
        "status": len(json.dumps(sim.status)),
        "record": len(json.dumps(record["status"])) - len(record["status"]["evidence"]["state"]),
        "checkpoint": len(record["status"]["evidence"]["state"]),
        "evidence": len(json.dumps(attempt.evidence.dump())),
        "series": len(attempt.scraped()),
        "queue": len(sim.queue),
        "objects": sum(
            len(sim.cluster.all(kind)) for kind in (kinds.AGENT_ROLLOUT, kinds.DEPLOYMENT)
        ),
    }


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_fourteen_days_of_a_rollout_leave_status_and_state_small() -> None:
    sim = Simulation(every=TICK)
    sim.tick, sim.provider = TICK, Forgetful()
    sim.metrics = sim.provider
    async with sim.running():
        await nothing(sim)
        sim.cluster.put(policy(*KINDS))
        write(sim)
        await sim.until_phase("Stable")
        canary: dict[str, Any] = {"name": "canary", "type": "Canary", "weight": 20}
        long = {**canary, "minDuration": f"{DAYS * 24}h"}
        full = {"name": "full", "type": "Full", "minDuration": "6s"}
        mine = await candidate(sim, long, full, policyRef={"name": "strict"})
        for revision, share in ((mine, 0.2), (str(sim.status["stableRevision"]), 0.8)):
            sim.counting[revision, "agent_cost_usd_total"] = 0.5 * share
            sim.counting[revision, "agent_eval_total"] = 1.0
            sim.counting[revision, "agent_eval_passed_total"] = 0.9
        await running(sim, "Canary")
        seen = []
        for day in range(DAYS):
            writes = len(sim.cluster.calls)
            await sim.clock.advance(timedelta(days=1).total_seconds() - (300 if day == 13 else 0))
            seen.append(sizes(sim) | {"writes": len(sim.cluster.calls) - writes})
            assert sim.status["phase"] == "Canary"
            assert sim.status["candidateRevision"] == mine
        first, last = seen[0], seen[-1]
        assert all(day["checkpoint"] <= MAX_CHECKPOINT for day in seen)
        assert all(day["record"] <= 256 * 1024 for day in seen)
        assert sim.altered() == []
        for name in first:
            assert last[name] <= 1.25 * first[name] + 64, (name, [day[name] for day in seen])
        judgement = sim.store.judgement(KEY)
        assert judgement is not None
        assert judgement.candidate_fresh
        await sim.until_phase("Stable", most=1200)
        assert sim.status["stableRevision"] == mine
        assert set(sim.results) == {"ok"}
