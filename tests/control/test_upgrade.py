"""What an earlier version stored is read: this one goes on where that one stopped.

``tests/fixtures/stored`` holds every object of a story, as that version left it. They are never
edited; a version that stores something else adds its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from phasegate.adapters.kinds import HTTP_ROUTE
from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.control import kinds
from phasegate.rollout import revision

from tests.control.simulation import Simulation
from tests.control.world import KEY

STORED = Path(__file__).parents[1] / "fixtures" / "stored"
MOMENTS = sorted(path.stem for path in STORED.glob("*.json"))


def stored(moment: str) -> Simulation:
    """The cluster as the earlier version left it, at that time."""
    left: Mapping[str, Any] = json.loads((STORED / f"{moment}.json").read_text())
    sim = Simulation()
    sim.clock.freeze(left["seconds"])
    sim.cluster.load(left["objects"])
    return sim


def workloads(sim: Simulation) -> dict[str, Any]:
    """What would restart pods or name another revision, if it were another than before."""
    found = {
        item["metadata"]["name"]: item["spec"]["template"]
        for item in sim.cluster.all(kinds.DEPLOYMENT)
    }
    return found | {
        f"revision {item['metadata']['name']}": (item["revision"], item["data"])
        for item in sim.cluster.all(kinds.CONTROLLER_REVISION)
    }


def gates(sim: Simulation) -> list[tuple[str, str]]:
    """The transitions of the one attempt."""
    (record,) = sim.cluster.all(kinds.AGENT_ROLLOUT)
    return [(gate["decision"], gate["fromPhase"]) for gate in record["status"]["gates"]]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_nothing_restarts_and_no_revision_is_made(moment: str) -> None:
    sim = stored(moment)
    before, generation = workloads(sim), sim.object["metadata"]["generation"]
    rollouts = sim.status["rollouts"]
    async with sim.running():
        await sim.run(5)
        assert workloads(sim) == before
        assert sim.object["metadata"]["generation"] == generation
        assert sim.status["rollouts"] == rollouts
        assert sim.wrong == []
        assert set(sim.results) == {"ok"}


@pytest.mark.parametrize("moment", [m for m in MOMENTS if m != "half-rolledback"])
async def test_the_route_stays_as_it_is(moment: str) -> None:
    sim = stored(moment)
    before = sim.cluster.all(HTTP_ROUTE)[0]["spec"]
    async with sim.running():
        await sim.run(5)
        assert sim.cluster.all(HTTP_ROUTE)[0]["spec"] == before


@pytest.mark.parametrize("moment", ["dark", "canary"])
async def test_a_running_attempt_goes_on_with_its_evidence_and_skips_and_repeats_nothing(
    moment: str,
) -> None:
    sim = stored(moment)
    before, phase = gates(sim), sim.status["phase"]
    async with sim.running():
        await sim.run(3)
        judgement = sim.store.judgement(KEY)
        assert judgement is not None
        assert judgement.candidate_calls > 300  # in three seconds there were 150 at most
        await sim.run(10)
        assert sim.status["phase"] == phase
        assert gates(sim) == before
        await sim.until_phase("Stable", most=900)
        told = gates(sim)
        assert told[: len(before)] == before
        assert [decision for decision, _ in told[len(before) :]].count("Stable") == 1
        assert len(set(told)) == len(told)


async def test_a_pause_is_still_a_pause() -> None:
    sim = stored("paused")
    async with sim.running():
        await sim.run(200)
        assert sim.status["phase"] == "Canary"
        assert sim.status["message"].startswith("paused by alice")
        sim.act("resume", "Resume", sim.status["candidateRevision"])
        await sim.until_phase("Full")


async def test_a_rollback_of_which_only_the_route_was_written_is_completed() -> None:
    sim = stored("half-rolledback")
    bad = sim.status["candidateRevision"]
    assert "rollback" not in sim.status
    async with sim.running():
        await sim.run(5)
        assert sim.status["phase"] == "RolledBack"
        assert sim.status["rollback"]["revision"] == bad
        assert sim.status["rollback"]["trigger"] == "error-rate"
        assert gates(sim)[-1] == ("RolledBack", "canary-20")
        assert sim.plan is not None
        assert sim.plan.percent(bad) == 0


@pytest.mark.parametrize("moment", ["stable", "promoted", "rolledback"])
async def test_what_rests_goes_on_resting(moment: str) -> None:
    sim = stored(moment)
    before = sim.status
    async with sim.running():
        await sim.run(30)
        sim.cluster.calls.clear()
        await sim.run(60)
        assert sim.cluster.calls == []
        kept = ("phase", "stableRevision", "previousRevision", "rejectedRevisions", "rollback")
        assert {n: sim.status.get(n) for n in kept} == {n: before.get(n) for n in kept}


def test_a_fixed_spec_keeps_its_revisions_hash() -> None:
    spec = AgentDeploymentSpec.model_validate(
        {
            "agent": {
                "version": "2.4.0",
                "systemPromptFrom": {"configMapKeyRef": {"name": "prompts", "key": "support"}},
                "model": {
                    "provider": "openai",
                    "name": "gpt-4o-2024-11-20",
                    "parameters": {"temperature": "0.2"},
                },
                "tools": [{"name": "crm", "digest": f"sha256:{'a' * 64}"}],
                "sideEffects": "DryRun",
            },
            "template": {
                "metadata": {"labels": {"team": "care"}},
                "spec": {
                    "containers": [
                        {
                            "name": "agent",
                            "image": "example.com/agent:1",
                            "envFrom": [{"configMapRef": {"name": "settings"}}],
                            "resources": {"requests": {"cpu": 0.5, "memory": "1Gi"}},
                        }
                    ]
                },
            },
            "replicas": 3,
            "service": {"port": 8080},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "lab"}]}},
        }
    )
    config_maps = {
        "prompts": {"data": {"support": "Be kind. Grüße!"}},
        "settings": {"data": {"LIMIT": "10"}},
    }
    assert revision.build(spec, config_maps).hash == "98eefe43cb"
