"""A backtest decides what the operator decided, from the same samples, at the same sample's time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from phasegate.api.agentdeployment import AgentDeploymentSpec, Phase, Progress
from phasegate.control import kinds
from phasegate.control.addresses import Party
from phasegate.control.backtest import Backtest, backtest, by_time, replay
from phasegate.control.ports import RawSeries
from phasegate.control.subject import Subject
from phasegate.engine.verdict import Judgement, Reason, Verdict
from phasegate.rollout.judging import evidence_plan
from phasegate.rollout.phases import mirrors, mode_of

from tests.control.world import KEY, PHASES, World, agent

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
Json = dict[str, Any]


async def lived(error_rate: float, until: str) -> tuple[World, list[Json]]:
    """A rollout of a revision that fails so many calls; the gates of its record."""
    world = World()
    async with world.operator():
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Dark")
        world.error_rate[world.status["candidateRevision"]] = error_rate
        await world.until_phase(until)
        await world.run(5)
    return world, world.cluster.all(kinds.AGENT_ROLLOUT)[0]["status"]["gates"]


def subject(world: World, entered: Json) -> Subject:
    """The phase that this gate led to, as it was judged."""
    rollout: Json = world.cluster.all(kinds.AGENT_ROLLOUT)[0]["spec"]
    manifest: Json = agent(agent=NEW)
    spec = AgentDeploymentSpec.model_validate(manifest["spec"])
    phases = [Phase.model_validate(phase) for phase in PHASES]
    phase = next(phase for phase in phases if phase.name == entered["toPhase"])
    plan = evidence_plan(spec, None, Progress(phase=phase, entered_at=time(entered, "at")))
    pods = mode_of(phase, spec)
    party = Party(KEY, rollout["revision"], rollout["fromRevision"], pods, mirrors(phase))
    return Subject("", party, "default", "agent-contract", plan)


async def again(world: World, entered: Json, left: Json, extra: float = 0.0) -> Backtest:
    """The phase between two gates, judged from what the provider kept."""
    until = time(left, "at").timestamp() + extra
    return await backtest(subject(world, entered), world.provider, until)


async def judgement_at(world: World, entered: Json, left: Json) -> Judgement:
    """The last one that rests on the sample on which the decision rested."""
    looks = replay(subject(world, entered), world.provider, time(left, "at").timestamp())
    at = time(left, "evidenceAt").timestamp()
    return [look.judgement async for look in looks if look.judgement.at == at][-1]


def time(gate: Json, field: str) -> datetime:
    return datetime.fromisoformat(gate[field])


def sentences(gate: Json) -> list[tuple[str, str, str]]:
    return [(c["name"], c["verdict"], c["message"]) for c in gate["checks"]]


def said(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(c.check, c.verdict.value, c.message) for c in judgement.checks]


async def test_every_gate_that_was_passed_is_passed_with_the_same_numbers() -> None:
    world, gates = await lived(0.01, "Stable")
    assert [gate["decision"] for gate in gates] == ["Started", "Advanced", "Advanced", "Stable"]
    for entered, left in pairwise(gates):
        judgement = await judgement_at(world, entered, left)
        assert judgement.verdict == Verdict.PASS
        assert said(judgement) == sentences(left)
        assert (await again(world, entered, left)).failed is None


async def test_the_first_pass_lies_between_the_minimum_duration_and_the_decision() -> None:
    world, gates = await lived(0.01, "Stable")
    for entered, left in pairwise(gates):
        found = await again(world, entered, left)
        assert found.passed is not None
        assert found.passed.now - found.plan.start >= found.plan.min_seconds
        assert found.passed.now <= time(left, "at").timestamp()


async def test_a_rollback_is_found_with_the_same_words_at_the_same_sample() -> None:
    world, gates = await lived(0.3, "RolledBack")
    assert gates[-1]["decision"] == "RolledBack"
    found = await again(world, gates[-2], gates[-1], extra=60.0)
    assert found.failed is not None
    assert found.failed.judgement.at == time(gates[-1], "evidenceAt").timestamp()
    assert said(found.failed.judgement) == sentences(gates[-1])
    assert found.failed.judgement.message.endswith(gates[-1]["message"])
    assert found.turns[-1].judgement is found.failed.judgement


async def test_the_timeline_has_changes_only() -> None:
    world, gates = await lived(0.01, "Stable")
    found = await again(world, gates[0], gates[1])
    assert 1 < len(found.turns) < found.looks / 2
    states = [
        (t.judgement.verdict, t.judgement.reason, [(c.check, c.reason) for c in t.judgement.checks])
        for t in found.turns
    ]
    assert all(earlier != later for earlier, later in pairwise(states))
    assert all(turn.changed or turn.judgement.reason for turn in found.turns)


async def test_silence_is_seen_as_soon_as_samples_are_stale() -> None:
    world, gates = await lived(0.01, "Stable")
    found = await again(world, gates[-2], gates[-1], extra=10.0)
    scrapes = [at for samples in world.provider.series.values() for at, _ in samples]
    world.provider.series = {
        labels: [s for s in samples if s[0] <= found.plan.start + 20]
        for labels, samples in world.provider.series.items()
    }
    silent = await again(world, gates[-2], gates[-1], extra=600.0)
    assert max(scrapes) > found.plan.start + 20
    assert silent.turns[-1].judgement.reason == Reason.NO_DATA
    assert silent.turns[-1].now == pytest.approx(found.plan.start + 140, abs=1.1)


def test_series_become_one_reading_for_each_scrape() -> None:
    series = [
        RawSeries("a", {"pod": "x"}, ((1.0, 1.0), (3.0, 2.0))),
        RawSeries("b", {"pod": "x"}, ((1.0, 5.0),)),
    ]

    def shape(found: Sequence[RawSeries]) -> list[tuple[str, tuple[tuple[float, float], ...]]]:
        return [(s.name, s.samples) for s in found]

    assert [(at, shape(found)) for at, found in by_time(series)] == [
        (1.0, [("a", ((1.0, 1.0),)), ("b", ((1.0, 5.0),))]),
        (3.0, [("a", ((3.0, 2.0),))]),
    ]
