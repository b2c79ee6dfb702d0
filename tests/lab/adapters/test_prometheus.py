"""The provider on real stores: Prometheus and VictoriaMetrics give the same answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise

import httpx
import pytest
from phasegate.adapters.prometheus import Limits, PrometheusProvider
from phasegate.api.errors import ProviderError, TooMuchData
from phasegate.control.addresses import Party, selector
from phasegate.control.ports import Key, RawSeries
from phasegate.control.sampler import LOOK_AHEAD, OVERLAP, TOGETHER
from phasegate.engine.sources import SOURCES

from lab.errors import BuildFailed
from tests.lab.adapters.stores import COMMANDS, Store, clock, running

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    try:
        with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
            yield started
    except BuildFailed as error:
        pytest.skip(str(error))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
def provider(store: Store, client: httpx.AsyncClient) -> PrometheusProvider:
    return PrometheusProvider("default", client, url=store.url)


def counted(found: Sequence[RawSeries]) -> int:
    return sum(len(series.samples) for series in found)


async def some(
    provider: PrometheusProvider, name: str, least: int = 4
) -> tuple[float, float, Sequence[RawSeries]]:
    """A range with at least so many samples in it: start, end, what was found."""
    began = clock()
    while True:
        end = clock()
        found = await provider.raw(name, end - 30, end)
        if counted(found) >= least:
            return end - 30, end, found
        assert end - began < 30, f"{name}: {found}"


async def test_raw_samples_carry_their_own_scrape_times(provider: PrometheusProvider) -> None:
    start, end, found = await some(provider, "up")
    for series in found:
        times = [at for at, _ in series.samples]
        assert series.name == "up"
        assert times == sorted(set(times))
        assert all(start < at <= end for at in times)
        assert all(0.5 < later - at < 1.5 for at, later in pairwise(times))


async def test_adjoining_ranges_give_every_sample_exactly_once(
    provider: PrometheusProvider,
) -> None:
    start, end, samples = await some(provider, "up")
    whole = counted(samples)
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
    start, newest, _ = await some(provider, "up", least=20)
    end = newest - 5  # younger samples may become visible between the two readings
    whole = await provider.raw("up", start, end)
    assert counted(whole) > 0
    monkeypatch.setattr("phasegate.adapters.prometheus.CHUNK", 0.7)
    pieces = await provider.raw("up", start, end)

    def as_set(found: Sequence[RawSeries]) -> set[tuple[object, ...]]:
        return {(tuple(sorted(series.labels.items())), series.samples) for series in found}

    assert as_set(pieces) == as_set(whole)


async def test_a_scrape_is_there_within_the_overlap_and_the_future_is_empty(
    store: Store, provider: PrometheusProvider
) -> None:
    await some(provider, "up")
    began, seen, latest = clock(), list[float](), 0.0
    while len(seen) < 5:
        now = clock()
        for series in await provider.raw("up", now - 30, now + LOOK_AHEAD):
            at = series.samples[-1][0]
            assert at <= now + 1
            if latest and at > latest:
                seen.append(now - at)
            latest = max(latest, at)
        assert now - began < 40
    print(f"{store.name}: a scrape is visible after {min(seen):.3f} to {max(seen):.3f} s")  # noqa: T201
    assert max(seen) < OVERLAP


async def test_an_expression_has_a_value_at_one_time(provider: PrometheusProvider) -> None:
    at = clock()
    (found,) = await provider.instant("vector(42)", at)
    ((scraped, value),) = found.samples
    assert value == 42
    assert scraped == pytest.approx(at, abs=1.001)
    assert await provider.instant("nothing_of_this_name", at) == []
    assert await provider.instant("vector(0) / vector(0)", at) == []


async def test_an_expression_has_values_at_regular_times_up_to_now(
    store: Store, provider: PrometheusProvider
) -> None:
    store.target.text = "depth 7\n"
    while True:
        _, _, raw = await some(provider, "depth")
        end = clock() // 5 * 5
        if raw[0].samples[0][0] < end:
            break
    (found,) = await provider.stepped("max(depth)", end - 20, end, 5.0)
    times = [at for at, _ in found.samples]
    assert set(times) <= {end - 20, end - 15, end - 10, end - 5, end}
    assert times[-1] == end or clock() - end < 3
    assert {value for _, value in found.samples} == {7.0}


async def test_the_newest_step_is_as_new_as_the_samples(
    store: Store, provider: PrometheusProvider
) -> None:
    """No store may leave out the last half minute: a threshold would be that late."""
    store.target.text = "fresh 1\n"
    _, _, found = await some(provider, "fresh", least=6)
    newest = found[0].samples[-1][0]
    (stepped,) = await provider.stepped("fresh", newest - 3, newest, 1.0)
    at, value = stepped.samples[-1]
    assert at == pytest.approx(newest, abs=0.01)
    assert value == 1


async def test_a_target_that_goes_leaves_no_samples_that_are_none(
    store: Store, provider: PrometheusProvider
) -> None:
    store.target.text = "gone_total 3\n"
    await some(provider, "gone_total")
    store.target.text = None
    began, down = clock(), list[RawSeries]()
    while not any(value == 0 for series in down for _, value in series.samples):
        down = list(await provider.raw("up", began, clock()))
        assert clock() - began < 20
    _, _, found = await some(provider, "gone_total")
    assert {value for series in found for _, value in series.samples} == {3.0}
    store.target.text = ""


async def test_a_restart_shows_as_a_counter_that_falls(
    store: Store, provider: PrometheusProvider
) -> None:
    store.target.text = "reset_total 9\n"
    await some(provider, "reset_total", least=2)
    store.target.text = "reset_total 1\n"
    began = clock()
    while True:
        _, _, found = await some(provider, "reset_total", least=2)
        values = [value for series in found for _, value in series.samples]
        if values[-1] == 1:
            break
        assert clock() - began < 20
    assert values == sorted(values, reverse=True)
    assert set(values) == {9.0, 1.0}


async def test_one_query_for_as_many_agents_as_are_asked_for_together(
    store: Store, provider: PrometheusProvider
) -> None:
    store.target.text = "".join(
        f'calls_total{{agent="support-agent-{n}",revision="aaaaaaaaaa",mode="live"}} 1\n'
        for n in range(TOGETHER)
    )
    identity = SOURCES["agent-contract"].identity
    people = [
        Party(Key("team", f"support-agent-{n}"), "aaaaaaaaaa", f"{n:010d}", "live")
        for n in range(TOGETHER)
    ]
    addresses = [at for who in people for at in who.addresses(identity)]
    names = ["calls_total", "agent_requests_total", "agent_request_duration_seconds_bucket"]
    query = selector(names, identity, addresses)
    assert len(query) < 16_384, "VictoriaMetrics refuses longer queries unless told otherwise"
    _, _, found = await some(provider, query, least=TOGETHER)
    assert len(found) == TOGETHER


async def test_mistakes_in_a_query_are_errors_without_its_text(
    store: Store, provider: PrometheusProvider
) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider.instant("secret_metric{", clock())
    assert str(caught.value).startswith("metrics provider default: HTTP 4")
    assert "secret" not in str(caught.value)


async def test_an_answer_that_is_too_large_is_none(
    store: Store, client: httpx.AsyncClient, provider: PrometheusProvider
) -> None:
    start, end, _ = await some(provider, "up")
    limited = PrometheusProvider("default", client, url=store.url, limits=Limits(max_series=1))
    with pytest.raises(TooMuchData, match="more than 1 series"):
        await limited.raw('{__name__=~"up|scrape_.*"}', start, end)
    limited = PrometheusProvider("default", client, url=store.url, limits=Limits(max_bytes=100))
    with pytest.raises(TooMuchData, match="longer than 100 bytes"):
        await limited.raw('{__name__=~"up|scrape_.*"}', start, end)


async def test_one_query_may_ask_for_many_metrics(provider: PrometheusProvider) -> None:
    start, end, _ = await some(provider, "up")
    found = await provider.raw('{__name__=~"up|scrape_duration_seconds"}', start, end)
    assert {series.name for series in found} == {"up", "scrape_duration_seconds"}


@pytest.mark.parametrize(("skew", "side"), [(300.0, "behind"), (-300.0, "ahead of")])
async def test_a_clock_that_is_minutes_off_is_noticed(
    store: Store, client: httpx.AsyncClient, skew: float, side: str
) -> None:
    other = PrometheusProvider("default", client, url=store.url, clock=lambda: clock() + skew)
    with pytest.raises(ProviderError, match=rf"its clock is (299|300|301) s {side} the operator's"):
        await other.raw("up", clock() - 30, clock())
