"""A real Prometheus as a metrics provider. Its series are its own: `up` and counters of itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import httpx
import pytest
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.api.errors import ProviderError
from phasegate.control.ports import RawSeries

from lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
def provider(lab: Lab, client: httpx.AsyncClient) -> PrometheusProvider:
    return PrometheusProvider("default", client, url=lab.prometheus_url)


def now() -> float:
    return time.time()  # noqa: TID251


async def some_up(provider: PrometheusProvider) -> tuple[float, float, int]:
    """A range in which something was scraped: start, end, samples in it."""
    while True:
        end = now()
        found = await provider.raw("up", end - 30, end)
        if sum(len(series.samples) for series in found) >= 4:
            return end - 30, end, sum(len(series.samples) for series in found)


async def test_raw_samples_carry_their_own_scrape_times(provider: PrometheusProvider) -> None:
    start, end, _ = await some_up(provider)
    for series in await provider.raw("up", start, end):
        times = [at for at, _ in series.samples]
        assert series.name == "up"
        assert times == sorted(set(times))
        assert all(start < at <= end for at in times)


async def test_adjoining_ranges_give_every_sample_exactly_once(
    provider: PrometheusProvider,
) -> None:
    start, end, whole = await some_up(provider)
    samples = await provider.raw("up", start, end)
    # Cut exactly at scrape times, where an open or closed end matters.
    cuts = [start, *sorted({at for series in samples for at, _ in series.samples})[:5], end]
    found: list[tuple[str, float, float]] = []
    for begin, until in pairwise(cuts):
        for series in await provider.raw("up", begin, until):
            found += [(series.labels["instance"], *sample) for sample in series.samples]
    assert len(found) == len(set(found)) == whole


async def test_a_long_gap_is_read_in_pieces(
    provider: PrometheusProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, end, _ = await some_up(provider)
    whole = await provider.raw("up", start, end)
    monkeypatch.setattr("phasegate.adapters.prometheus.CHUNK", 0.7)
    pieces = await provider.raw("up", start, end)

    def as_set(found: Sequence[RawSeries]) -> set[tuple[object, ...]]:
        return {(tuple(sorted(series.labels.items())), series.samples) for series in found}

    assert as_set(pieces) == as_set(whole)


async def test_an_expression_has_a_value_at_one_time(provider: PrometheusProvider) -> None:
    at = now()
    (found,) = await provider.instant("vector(42)", at)
    ((scraped, value),) = found.samples
    assert value == 42
    assert scraped == pytest.approx(at, abs=0.002)
    assert await provider.instant("nothing_of_this_name", at) == []
    assert await provider.instant("vector(0) / vector(0)", at) == []


async def test_mistakes_in_a_query_are_errors_without_its_text(
    provider: PrometheusProvider,
) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider.instant("secret_metric{", now())
    assert str(caught.value) == "metrics provider default: HTTP 400 (bad_data)"


async def test_an_answer_that_was_cut_off_is_no_answer(
    lab: Lab, client: httpx.AsyncClient, provider: PrometheusProvider
) -> None:
    start, end, _ = await some_up(provider)
    limited = PrometheusProvider("default", client, url=lab.prometheus_url, max_series=1)
    with pytest.raises(ProviderError, match="not whole"):
        await limited.raw('{__name__=~"up|scrape_.*"}', start, end)


async def test_one_query_may_ask_for_many_metrics(provider: PrometheusProvider) -> None:
    start, end, _ = await some_up(provider)
    found = await provider.raw('{__name__=~"up|scrape_duration_seconds"}', start, end)
    assert {series.name for series in found} == {"up", "scrape_duration_seconds"}
