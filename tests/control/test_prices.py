"""The price table is read from its ConfigMap, and kept when it cannot be read any more."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.api.errors import ClusterError, Refused
from phasegate.control import kinds
from phasegate.control.observe import Observer
from phasegate.control.prices import CACHED_SECONDS, PriceBook
from phasegate.engine.compiling import Context, compile_checks

from tests.control.fakes import FakeCluster, FakeRouter, VirtualClock
from tests.control.world import KEY, agent

TABLE = 'prices: [{{model: gpt-4o, usdPerMillionTokens: {{input: "{}", output: "10"}}}}]'
COST: dict[str, Any] = {
    "source": "otel-genai",
    "metrics": [{"name": "cost-per-call", "rollback": {"above": "0.50"}}],
}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cluster(clock: VirtualClock) -> FakeCluster:
    return FakeCluster(clock)


@pytest.fixture
def book(cluster: FakeCluster, clock: VirtualClock) -> PriceBook:
    return PriceBook(cluster, clock, "phasegate-system", "model-prices", "prices.yaml")


def write(cluster: FakeCluster, text: str) -> None:
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "model-prices", "namespace": "phasegate-system"},
            "data": {"prices.yaml": text},
        }
    )


async def price(book: PriceBook) -> float | None:
    table = await book.table()
    return None if table is None else table.price("gpt-4o", "input", 0.0)


async def test_a_new_price_is_seen_after_a_while(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook
) -> None:
    write(cluster, TABLE.format("2.5"))
    assert await price(book) == pytest.approx(2.5e-6)
    write(cluster, TABLE.format("3"))
    assert await price(book) == pytest.approx(2.5e-6)
    await clock.advance(CACHED_SECONDS)
    assert await price(book) == pytest.approx(3e-6)


async def test_the_same_prices_read_again_are_the_same_table(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook
) -> None:
    write(cluster, TABLE.format("2.5"))
    table = await book.table()
    await clock.advance(CACHED_SECONDS)
    assert await book.table() is table, "nothing has to be compiled again"


DATE = "prices: [{model: gpt-4o, from: 2026-02-30, usdPerMillionTokens: {input: 1}}]"


@pytest.mark.parametrize("text", ["", "prices: []", "prices: [", DATE, "[" * 3000])
async def test_a_table_that_is_none_does_not_replace_one(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook, text: str
) -> None:
    write(cluster, TABLE.format("2.5"))
    await book.table()
    write(cluster, text)
    await clock.advance(CACHED_SECONDS)
    assert await price(book) == pytest.approx(2.5e-6)
    assert book.problem is not None
    assert "prices.yaml in ConfigMap phasegate-system/model-prices" in book.problem
    write(cluster, TABLE.format("3"))
    await clock.advance(CACHED_SECONDS)
    assert await price(book) == pytest.approx(3e-6)
    assert book.problem is None


async def test_it_may_go_away_and_what_was_known_stays(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook
) -> None:
    write(cluster, TABLE.format("2.5"))
    await book.table()
    cluster.remove(kinds.CONFIG_MAP, "phasegate-system", "model-prices")
    await clock.advance(CACHED_SECONDS)
    assert await price(book) == pytest.approx(2.5e-6)
    assert book.problem is not None
    assert book.problem.endswith("does not exist")


@pytest.mark.parametrize("error", [ClusterError("no answer"), Refused("configmaps is forbidden")])
async def test_what_was_known_stays_while_nobody_answers(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook, error: ClusterError
) -> None:
    write(cluster, TABLE.format("2.5"))
    await book.table()
    cluster.broken["get configmaps"] = error
    await clock.advance(CACHED_SECONDS)
    assert await price(book) == pytest.approx(2.5e-6)
    assert book.problem is not None
    assert str(error) in book.problem


async def test_a_table_that_may_not_be_read_is_one_that_is_not_there(
    cluster: FakeCluster, book: PriceBook
) -> None:
    cluster.broken["get configmaps"] = Refused("configmaps is forbidden")
    assert await book.table() is None
    assert book.problem is not None
    assert "configmaps is forbidden" in book.problem


async def test_before_the_first_answer_nobody_can_tell(
    cluster: FakeCluster, book: PriceBook
) -> None:
    cluster.broken["get configmaps"] = ClusterError("no answer")
    with pytest.raises(ClusterError):
        await book.table()


async def seen(cluster: FakeCluster, clock: VirtualClock, book: PriceBook | None) -> Any:
    cluster.put(agent(policyRef={"name": "cost"}))
    cluster.put(
        {
            "apiVersion": "phasegate.dev/v1alpha1",
            "kind": "RollbackPolicy",
            "metadata": {"name": "cost", "namespace": KEY.namespace},
            "spec": COST,
        }
    )
    observer = Observer(cluster, FakeRouter(cluster.writes), clock, prices=book)
    return (await observer.observe(KEY)).observed.policy


async def test_a_policy_that_needs_prices_is_used_with_them(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook
) -> None:
    write(cluster, TABLE.format("2.5"))
    policy = await seen(cluster, clock, book)
    assert policy.problem is None
    assert compile_checks(policy.spec, Context(prices=policy.prices))


async def test_a_policy_that_needs_prices_is_refused_without(
    cluster: FakeCluster, clock: VirtualClock, book: PriceBook
) -> None:
    policy = await seen(cluster, clock, None)
    assert "reports tokens, not money" in policy.problem
    policy = await seen(cluster, clock, book)
    assert "ConfigMap phasegate-system/model-prices does not exist" in policy.problem
