"""What the sampler asks, how often, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from phasegate.api.agentdeployment import Phase
from phasegate.api.errors import ProviderError, TooMuchData
from phasegate.control.history import SPAN, STEP, dispersions, history_query
from phasegate.control.ports import Key, RawSeries
from phasegate.control.sampler import TOGETHER
from phasegate.engine.verdict import Reason
from phasegate.rollout.observed import PolicySeen
from phasegate.rollout.route import RoutePlan, Slot

from tests.control.fakes import settle
from tests.control.sampling import EVERY_KIND, NEW, OLD, Agents, Sampling, at, observed, seconds
from tests.control.world import KEY, FakeProvider

CANARY = Phase(name="canary-20", type="Canary", weight=20, min_duration="120s", min_samples=20)
ERRORS: dict[str, Any] = {"metrics": [{"name": "error-rate", "rollback": {"above": "20%"}}]}
DEPTH: dict[str, Any] = {
    "metrics": [
        {"name": "depth", "threshold": {"query": "depth", "for": "20s"}, "rollback": {"above": "9"}}
    ]
}


async def run(sampling: Sampling, agents: Agents, first: int, last: int) -> None:
    for second in range(first, last + 1):
        await sampling.clock.advance(1)
        agents.serve(at(second))
        await sampling.look()


def track(sampling: Sampling, count: int, policy: dict[str, Any] = ERRORS) -> None:
    for n in range(count):
        key = Key("team", f"agent-{n}")
        sampling.store.track(key, *observed(policy, phase=CANARY, key=key))


# --- how much is asked ---------------------------------------------------------------------------


async def test_a_thousand_agents_are_four_queries_a_look() -> None:
    sampling = Sampling(ERRORS, CANARY, FakeProvider())
    sampling.store.forget(KEY)
    track(sampling, 4 * TOGETHER)
    for attempt in sampling.store.attempts():
        attempt.read_until = attempt.newest = at(0)
    await sampling.sampler.look()
    assert len(sampling.provider.queries) == 4


async def test_agents_that_share_a_query_ask_it_once() -> None:
    sampling = Sampling(DEPTH, CANARY, FakeProvider())
    track(sampling, 20, DEPTH)
    for attempt in sampling.store.attempts():
        attempt.read_until = attempt.newest = at(0)
    await sampling.clock.advance(8)
    await sampling.sampler.look()
    await settle()
    assert sampling.provider.asked == ["depth"]
    assert {a.asked_until["depth"] for a in sampling.store.attempts()} == {at(5)}


async def test_a_query_that_fails_says_so_in_its_own_check_only() -> None:
    provider = FakeProvider()
    sampling = Sampling(EVERY_KIND, CANARY, provider)
    agents = Agents(provider, 1)
    await run(sampling, agents, 1, 30)

    async def refused(query: str, start: float, end: float, step: float) -> Sequence[RawSeries]:
        raise ProviderError("metrics provider default: HTTP 400 (bad_data)")

    provider.stepped = refused  # type: ignore[method-assign]
    await run(sampling, agents, 31, 60)
    assert sampling.attempt.troubles == {"depth": "metrics provider default: HTTP 400 (bad_data)"}
    judgement = sampling.attempt.judgement
    assert judgement is not None
    assert judgement.at == at(60)


# --- one agent with too many series --------------------------------------------------------------


class Crowded(FakeProvider):
    """Refuses every query that one agent is part of."""

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        found = await super().raw(selector, start, end)
        if "agent-7" in selector:
            raise TooMuchData("metrics provider default: more than 9 series")
        return found


async def test_too_many_series_of_one_agent_cost_nobody_else_the_evidence() -> None:
    sampling = Sampling(ERRORS, CANARY, Crowded())
    sampling.store.forget(KEY)
    track(sampling, 10)
    for attempt in sampling.store.attempts():
        attempt.read_until = attempt.newest = at(0)
    await sampling.clock.advance(5)
    await sampling.sampler.look()
    asked = len(sampling.provider.queries)
    assert asked <= 10
    troubles = {a.key.name: a.trouble for a in sampling.store.attempts() if a.trouble}
    assert troubles == {"agent-7": "metrics provider default: more than 9 series"}
    assert all(a.read_until == at(5) for a in sampling.store.attempts() if a.key.name != "agent-7")
    for second in range(6, 11):
        await sampling.clock.advance(1)
        await sampling.sampler.look()
        await settle()
        assert sampling.store.attempts()[0].read_until == at(second)
    # One for all others each second, and two tries of the one beside them.
    assert len(sampling.provider.queries) - asked <= 5 + 2


# --- whose samples -------------------------------------------------------------------------------


async def test_reviews_that_arrive_in_pods_of_another_phase_count_but_their_calls_do_not() -> None:
    provider = FakeProvider()
    policy = {
        "metrics": [
            {"name": "accuracy", "rollback": {"below": "50%"}},
            {"name": "error-rate", "rollback": {"above": "20%"}},
        ]
    }
    sampling = Sampling(policy, CANARY, provider)
    agents = Agents(provider, 1)
    await run(sampling, agents, 1, 40)
    live = sampling.attempt.judgement
    agents.mode = "dark"
    await run(sampling, agents, 41, 100)
    judgement = sampling.attempt.judgement
    assert live is not None
    assert judgement is not None
    before, after = live.checks[0], judgement.checks[0]
    assert before.check == after.check == "accuracy"
    assert after.total > before.total
    assert judgement.candidate_calls == live.candidate_calls
    calls = [c.total for j in (live, judgement) for c in j.checks if c.check == "error-rate"]
    assert calls[0] == calls[1]


async def test_pods_of_another_phase_are_no_sign_of_life() -> None:
    provider = FakeProvider()
    sampling = Sampling(
        {"metrics": [{"name": "accuracy", "rollback": {"below": "50%"}}]}, CANARY, provider
    )
    agents = Agents(provider, 1)
    await run(sampling, agents, 1, 20)
    for labels in [k for k in provider.series if ("mode", "live") in k and ("revision", NEW) in k]:
        del provider.series[labels]
    agents.mode = "dark"
    for second in range(21, 150):
        await sampling.clock.advance(1)
        agents.serve(at(second))
        for labels in [k for k in provider.series if ("revision", NEW) in k]:
            if ("mode", "live") in labels:
                del provider.series[labels]
        await sampling.look()
    judgement = sampling.attempt.judgement
    assert judgement is not None
    assert not judgement.candidate_fresh
    assert judgement.reason == Reason.NO_DATA


async def test_agents_whose_names_run_together_get_nothing_and_are_told() -> None:
    sampling = Sampling(ERRORS, CANARY, FakeProvider())
    sampling.store.forget(KEY)
    traefik = ERRORS | {"source": "traefik"}
    for key in (Key("a", "b-c"), Key("a-b", "c")):
        for _ in range(2):  # the first of them does not know the second yet
            sampling.store.track(key, *observed(traefik, phase=CANARY, key=key))
    mine, theirs = sampling.store.attempts()
    sampling.store.track(mine.key, *observed(traefik, phase=CANARY, key=mine.key))
    await sampling.sampler.look()
    assert sampling.provider.queries == []
    assert "cannot tell this agent's series from those of namespace a-b" in (mine.trouble or "")
    assert "cannot tell this agent's series from those of namespace a;" in (theirs.trouble or "")


async def test_a_route_that_changes_hands_begins_the_evidence_anew_and_one_unread_does_not() -> (
    None
):
    sampling = Sampling(ERRORS, CANARY, FakeProvider())
    envoy = ERRORS | {"source": "envoy-gateway"}
    seen, status = observed(envoy, phase=CANARY)

    def through(*revisions: str) -> None:
        slots = (Slot(revisions[0], 80), Slot(revisions[1], 20)) if revisions else None
        route = replace(seen.route, plan=None if slots is None else RoutePlan(slots))
        sampling.store.track(KEY, replace(seen, route=route), status)

    through(OLD, OLD)
    before = sampling.attempt
    assert set(before.subject.addresses.values()) == {"baseline"}
    through(OLD, NEW)
    during = sampling.attempt
    assert during is not before
    assert during.subject.plan.lasting
    assert sorted(during.subject.addresses.values()) == ["baseline", "candidate"]
    through()
    assert sampling.attempt is during


async def test_what_is_judged_is_compiled_once_while_nothing_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampling = Sampling(ERRORS, CANARY, FakeProvider())
    compiled: list[object] = []

    def count(*arguments: object) -> None:
        compiled.append(arguments)

    monkeypatch.setattr("phasegate.control.subject.evidence_plan", count)
    for _ in range(5):
        sampling.store.track(KEY, *observed(ERRORS, phase=CANARY))
    assert compiled == []


async def test_a_policy_that_cannot_be_used_keeps_what_was_judged() -> None:
    sampling = Sampling(ERRORS, CANARY, FakeProvider())
    before = sampling.attempt
    seen, status = observed(ERRORS, phase=CANARY)
    gone = replace(seen, policy=PolicySeen(None, "RollbackPolicy strict does not exist"))
    sampling.store.track(KEY, gone, status)
    assert sampling.attempt is before


# --- the baseline's past -------------------------------------------------------------------------


def past(*, bursts: bool) -> list[RawSeries]:
    """A day of calls of two pods; failures either spread evenly or all in a few blocks."""
    found = []
    for pod in ("a", "b"):
        where = {
            "namespace": "team",
            "agent": "support",
            "revision": OLD,
            "mode": "live",
            "pod": pod,
        }
        good, bad = list[tuple[float, float]](), list[tuple[float, float]]()
        calls = failures = 0.0
        for n in range(int(SPAN / STEP) + 1):
            failed = (100.0 if n % 20 == 0 else 0.0) if bursts else 5.0
            calls, failures = calls + 95, failures + failed
            good.append((at(0) - SPAN + n * STEP, calls))
            bad.append((at(0) - SPAN + n * STEP, failures))
        for outcome, samples in (("success", good), ("error", bad)):
            labels = where | {"outcome": outcome}
            found.append(RawSeries("agent_requests_total", labels, tuple(samples)))
    return found


def test_failures_in_bursts_are_overdispersed_and_even_ones_are_not() -> None:
    subject = Sampling(ERRORS, CANARY, FakeProvider()).attempt.subject
    assert dispersions(subject, past(bursts=False)) == ()
    ((check, phi),) = dispersions(subject, past(bursts=True))
    assert check == "error-rate"
    assert phi > 5


def test_gaps_restarts_and_new_pods_are_no_bursts() -> None:
    subject = Sampling(ERRORS, CANARY, FakeProvider()).attempt.subject
    torn = []
    for number, series in enumerate(past(bursts=False)):
        samples = [s for n, s in enumerate(series.samples) if not 100 <= n < 130]
        base = samples[60][1]
        samples = samples[:60] + [(t, v - base) for t, v in samples[60:]]
        torn.append(replace(series, samples=tuple(samples[40 if number >= 2 else 0 :])))
    assert dispersions(subject, torn) == ()


def test_the_past_is_the_baselines_alone() -> None:
    subject = Sampling(ERRORS, CANARY, FakeProvider()).attempt.subject
    query = history_query(subject)
    assert query is not None
    assert OLD in query
    assert NEW not in query
    others = [
        replace(series, labels={**series.labels, "revision": NEW}) for series in past(bursts=True)
    ]
    assert dispersions(subject, others) == ()


class Remembering(FakeProvider):
    """Knows the past; may be out of order for questions about it."""

    forgetful = False

    async def stepped(
        self, query: str, start: float, end: float, step: float
    ) -> Sequence[RawSeries]:
        self.asked.append(query)
        if self.forgetful:
            raise ProviderError("metrics provider default: HTTP 503")
        assert (end - start, step) == (SPAN, STEP)
        return past(bursts=True)


async def test_a_phase_begins_with_one_look_at_the_past_and_a_restart_keeps_it() -> None:
    provider = Remembering()
    sampling = Sampling(ERRORS, CANARY, provider)
    agents = Agents(provider, 1)
    await run(sampling, agents, 1, 90)
    assert len(provider.asked) == 1
    found = sampling.attempt.evidence.dump()["dispersion"]
    assert [check for check, _ in found] == ["error-rate"]
    sampling.start()
    await run(sampling, agents, 91, 95)
    assert len(provider.asked) == 1
    assert sampling.attempt.evidence.dump()["dispersion"] == found


async def test_without_the_past_it_goes_on_as_if_calls_were_independent() -> None:
    provider = Remembering()
    provider.forgetful = True
    sampling = Sampling(ERRORS, CANARY, provider)
    await run(sampling, Agents(provider, 1), 1, 30)
    assert list(sampling.attempt.evidence.dump()["dispersion"]) == []
    judgement = sampling.attempt.judgement
    assert judgement is not None
    assert judgement.candidate_calls > 0
    assert sampling.attempt.trouble is None


# --- how samples arrive --------------------------------------------------------------------------


class Slow(FakeProvider):
    """Samples become visible some seconds after they were scraped (remote write)."""

    delay = 45.0
    clock = 0.0

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        return await super().raw(selector, start, min(end, self.clock - self.delay))


async def test_samples_that_arrive_late_are_all_counted() -> None:
    provider = Slow()
    sampling = Sampling(ERRORS, CANARY, provider)
    agents = Agents(provider, 1)
    for second in seconds(200):
        await sampling.clock.advance(1)
        agents.serve(at(second))
        provider.clock = at(second)
        await sampling.look()
    judgement = sampling.attempt.judgement
    assert judgement is not None
    assert judgement.at == at(155)
    counted = sum(
        dict(samples)[at(155)]
        for labels, samples in provider.series.items()
        if ("__name__", "agent_requests_total") in labels and ("revision", NEW) in labels
    )
    assert judgement.candidate_calls == counted


# --- one agent that makes every query fail -------------------------------------------------------


class Poisoned(FakeProvider):
    """Fails every query that some agents are part of: too many samples, or too slow."""

    poison: frozenset[str] = frozenset({"agent-7"})

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        found = await super().raw(selector, start, end)
        if any(name in selector for name in self.poison):
            raise ProviderError("metrics provider default: HTTP 422 (execution)")
        return found


def poisoned(poison: set[str], *, read_until: int = 0) -> Sampling:
    """Ten agents at a provider at which some fail."""
    provider = Poisoned()
    provider.poison = frozenset(poison)
    sampling = Sampling(ERRORS, CANARY, provider)
    sampling.store.forget(KEY)
    track(sampling, 10)
    for attempt in sampling.store.attempts():
        attempt.read_until = attempt.newest = at(read_until)
    return sampling


def seen_at(sampling: Sampling, second: int) -> set[str]:
    attempts = sampling.store.attempts()
    return {a.key.name for a in attempts if a.read_until == at(second)}


async def test_an_agent_whose_series_fail_every_query_blinds_nobody_else() -> None:
    sampling = poisoned({"agent-7"})
    everybody = {f"agent-{n}" for n in range(10)}
    for second in range(1, 6):
        await sampling.clock.advance(1)
        await sampling.sampler.look()
        await settle()
        assert seen_at(sampling, second) == everybody - {"agent-7"}


async def test_agents_behind_one_that_cannot_be_read_catch_up() -> None:
    sampling = poisoned({"agent-0"}, read_until=-100)
    await sampling.clock.advance(1)
    await sampling.sampler.look()
    await settle()
    assert seen_at(sampling, 1) == {f"agent-{n}" for n in range(1, 10)}


async def test_a_tenant_with_many_such_agents_blinds_nobody_for_long() -> None:
    poison = {f"agent-{n}" for n in (0, 1, 2, 7, 8)}
    sampling = poisoned(poison)
    for _ in range(70):
        await sampling.clock.advance(1)
        await sampling.sampler.look()
        await settle()
    assert seen_at(sampling, 70) == {f"agent-{n}" for n in range(10)} - poison


async def test_a_provider_that_is_down_is_asked_little_and_everybody_goes_on_after_it() -> None:
    everybody = {f"agent-{n}" for n in range(10)}
    sampling = poisoned(everybody)
    for _ in range(90):
        before = len(sampling.provider.queries)
        await sampling.clock.advance(1)
        await sampling.sampler.look()
        await settle()
        assert len(sampling.provider.queries) - before <= 3
    assert not any(a.isolated for a in sampling.store.attempts())
    assert all(a.trouble for a in sampling.store.attempts())
    assert isinstance(sampling.provider, Poisoned)
    sampling.provider.poison = frozenset()
    for _ in range(12):
        await sampling.clock.advance(1)
        await sampling.sampler.look()
        await settle()
    assert seen_at(sampling, 102) == everybody
