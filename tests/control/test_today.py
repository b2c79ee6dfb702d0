"""What an agent is like today is read from counters, and what is not there is said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from phasegate.api.errors import InvalidSpec
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.control.addresses import Party
from phasegate.control.ports import Key, RawSeries
from phasegate.control.subject import Subject
from phasegate.control.today import revisions, today
from phasegate.engine.compiling import compile_checks
from phasegate.engine.evidence import EvidencePlan
from phasegate.engine.sources import SOURCES
from phasegate.rollout.forecast import Traffic

NOW = 2_000_000.0
KEY = Key("shop", "support")
OLD, NEW = "aaaaaaaaaa", "bbbbbbbbbb"
CONTRACT = SOURCES["agent-contract"]
METRICS = (
    {"name": "error-rate", "rollback": {"above": "5%"}},
    {"name": "accuracy", "rollback": {"below": "85%"}},
    {"name": "latency-p95", "rollback": {"above": "3s"}},
    {"name": "cost-per-call", "rollback": {"above": "1"}},
    {"name": "safety-flags", "rollback": {"above": "0"}},
)


@dataclass
class Store:
    """Counters that grow evenly from `born` on, scraped every `scrape` seconds."""

    born: float = NOW - 100_000
    scrape: float = 15.0
    rates: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)
    """Per second, by revision, name and labels."""

    def add(self, revision: str, name: str, rate: float, **labels: str) -> None:
        self.rates[revision, name, tuple(labels.items())] = rate

    def _found(self, query: str, times: Sequence[float]) -> list[RawSeries]:
        wanted = query.partition("{")[0]
        return [
            RawSeries(
                name,
                {
                    **{"namespace": "shop", "agent": "support", "revision": revision},
                    **{"mode": "live", "pod": f"{revision}-0", **dict(labels)},
                },
                tuple((at, rate * (at - self.born)) for at in times if at >= self.born),
            )
            for (revision, name, labels), rate in self.rates.items()
            if wanted in ("", name)
        ]

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        first = math.floor(start / self.scrape) + 1
        times = [n * self.scrape for n in range(first, math.floor(end / self.scrape) + 1)]
        return self._found(selector, times)

    async def instant(self, query: str, at: float) -> Sequence[RawSeries]:
        raise AssertionError("not asked for")

    async def stepped(
        self, query: str, start: float, end: float, step: float
    ) -> Sequence[RawSeries]:
        count = math.floor((end - start) / step) + 1
        return self._found(query, [start + n * step for n in range(count)])


def agent() -> Store:
    """Ten calls a second, 2 % of them bad; one in ten is reviewed, 95 % of these are right."""
    store = Store()
    store.add(OLD, "agent_requests_total", 9.8, outcome="success")
    store.add(OLD, "agent_requests_total", 0.2, outcome="error")
    store.add(OLD, "agent_eval_total", 1.0)
    store.add(OLD, "agent_eval_passed_total", 0.95)
    store.add(OLD, "agent_cost_usd_total", 0.3)
    for edge, below in (("1", 6.0), ("2.5", 9.0), ("5", 9.9), ("+Inf", 10.0)):
        store.add(OLD, "agent_request_duration_seconds_bucket", below, le=edge)
    store.add(NEW, "agent_requests_total", 100.0, outcome="error")
    return store


def subject(*metrics: Mapping[str, object]) -> Subject:
    policy = RollbackPolicySpec.model_validate({"metrics": metrics or METRICS})
    plan = EvidencePlan(
        phase="p",
        start=0.0,
        planned_seconds=3600.0,
        alpha=0.01,
        beta=0.05,
        min_samples=50,
        min_seconds=0.0,
        stale_seconds=120.0,
        checks=compile_checks(policy),
        volume=CONTRACT.calls,
    )
    return Subject("", Party(KEY, "", OLD, "live"), "default", "agent-contract", plan)


async def read(store: Store) -> Traffic:
    return await today(subject(), store, NOW)


async def test_calls_rates_buckets_and_sums_are_those_of_the_revision_that_runs() -> None:
    found = await read(agent())
    assert found.calls == pytest.approx(10.0)
    assert found.scrape_seconds == 15.0
    assert found.usual["error-rate"].rate == pytest.approx(0.02)
    reviewed = found.usual["accuracy"]
    assert reviewed.rate == pytest.approx(0.05)
    assert reviewed.per_call == pytest.approx(0.1)
    edges, shares = zip(*found.usual["latency-p95"].above, strict=True)
    assert edges == (1.0, 2.5, 5.0)
    assert shares == pytest.approx((0.4, 0.1, 0.01))
    assert found.usual["cost-per-call"].mean == pytest.approx(0.03)
    assert not any(usual.absent for usual in found.usual.values())


async def test_a_series_that_is_not_there_is_named() -> None:
    store = agent()
    store.rates = {key: rate for key, rate in store.rates.items() if "eval" not in key[1]}
    absent = (await read(store)).usual["accuracy"].absent
    assert absent == "no series agent_eval_total and agent_eval_passed_total in the last 24.0 h"


async def test_a_counter_that_stands_still_is_told() -> None:
    store = agent()
    store.rates[OLD, "agent_eval_total", ()] = 0.0
    assert "has not counted a call" in (await read(store)).usual["accuracy"].absent


@pytest.mark.parametrize("age", [120.0, 1800.0])
async def test_what_was_born_lately_is_read_more_finely(age: float) -> None:
    store = agent()
    store.born = NOW - age
    found = await read(store)
    assert found.calls == pytest.approx(10.0, rel=0.01)
    assert found.usual["error-rate"].rate == pytest.approx(0.02)


@pytest.mark.parametrize("born", [NOW - 2.0, NOW + 10.0])
async def test_without_calls_there_is_nothing_to_plan_with(born: float) -> None:
    store = agent()
    store.born = born
    with pytest.raises(InvalidSpec, match="--rps"):
        await read(store)


async def test_revisions_are_found_with_what_they_answered() -> None:
    found = await revisions(agent(), CONTRACT, KEY, NOW - 3600, NOW)
    assert found == {OLD: pytest.approx(36_000, rel=0.01), NEW: pytest.approx(360_000, rel=0.01)}


async def test_a_source_without_a_label_for_revisions_asks_for_their_names() -> None:
    with pytest.raises(InvalidSpec, match="say which revisions are meant"):
        await revisions(agent(), SOURCES["envoy-gateway"], KEY, NOW - 3600, NOW)
