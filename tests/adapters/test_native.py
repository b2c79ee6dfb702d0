"""Native histograms become the classic series of the same counts.

`recorded/native-histogram.json` is what Prometheus 3 answered about its own requests
(scrape_native_histograms, schema 3); tests/lab/adapters asks the real one.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.adapters.native import Classic, beside, classic
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.api.errors import ProviderError
from phasegate.engine.evidence import Evidence
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.samples import Series
from phasegate.engine.verdict import Verdict

from tests.engine.agents import START
from tests.engine.latencies import HISTOGRAM, plan

RECORDED = json.loads((Path(__file__).parent / "recorded/native-histogram.json").read_text())
LABELS = {"__name__": "took_seconds", "pod": "a"}


def native(times: Iterable[float], schema: int) -> dict[str, Any]:
    """A sample as the HTTP API writes it: only buckets with calls, in order, numbers as text."""
    counts: dict[int, int] = {}
    zero = 0
    for took in times:
        if took <= 0:
            zero += 1
            continue
        index = math.ceil(math.log2(took) * 2**schema - 1e-9)
        counts[index] = counts.get(index, 0) + 1
    width = 2.0**-schema
    buckets = [
        [0, repr(2 ** ((index - 1) * width)), repr(2 ** (index * width)), str(count)]
        for index, count in sorted(counts.items())
    ]
    if zero:
        buckets.insert(0, [3, "-2.938735877055719e-39", "2.938735877055719e-39", str(zero)])
    times = list(times)
    return {"count": str(len(times)), "sum": repr(sum(times)), "buckets": buckets}


def by_edge(found: Sequence[Classic]) -> dict[float, list[tuple[float, float]]]:
    return {float(labels["le"]): samples for labels, samples in found if "le" in labels}


def named(found: Sequence[Classic], name: str) -> list[tuple[float, float]]:
    (samples,) = [samples for labels, samples in found if labels["__name__"] == name]
    return samples


latencies = st.lists(st.just(0.0) | st.floats(1e-6, 5000), max_size=40)


@given(latencies, st.integers(2, 8))
def test_every_edge_counts_the_calls_at_or_below_it(times: list[float], schema: int) -> None:
    found = classic(LABELS, [[10.0, native(times, schema)]])
    edges = by_edge(found)
    assert len(edges) == 60
    for edge, samples in edges.items():
        exact = 2 ** (round(4 * math.log2(edge)) / 4) if math.isfinite(edge) else edge
        # A call exactly at an edge is in the bucket below it; a float may be off by one rounding.
        low = sum(t <= exact * (1 - 1e-9) for t in times)
        assert low <= samples[0][1] <= sum(t <= exact * (1 + 1e-9) for t in times)
    assert named(found, "took_seconds_count") == [(10.0, len(times))]
    assert named(found, "took_seconds_sum") == [(10.0, sum(times))]


@pytest.mark.parametrize(("schema", "edges"), [(8, 60), (2, 60), (1, 36), (0, 24), (-1, 13)])
def test_coarser_schemas_have_coarser_edges(schema: int, edges: int) -> None:
    found = by_edge(classic(LABELS, [[10.0, native([0.3, 0.7, 2.9, 11.0], schema)]]))
    assert len(found) == edges
    assert found[math.inf] == [(10.0, 4.0)]
    for edge, ((_, count),) in found.items():
        if 0.25 <= edge <= 16:
            assert count == sum(t <= edge for t in (0.3, 0.7, 2.9, 11.0))


def test_edges_do_not_depend_on_where_calls_have_been() -> None:
    points = [[10.0, native([], 3)], [25.0, native([0.7], 3)], [40.0, native([0.7, 90.0], 3)]]
    for samples in by_edge(classic(LABELS, points)).values():
        assert [at for at, _ in samples] == [10.0, 25.0, 40.0]


def test_a_histogram_in_milliseconds_has_edges_in_its_own_range() -> None:
    found = by_edge(classic({"__name__": "took_milliseconds"}, [[1.0, native([2900.0], 3)]]))
    assert found[2048.0] == [(1.0, 0.0)]
    assert found[4096.0] == [(1.0, 1.0)]


def test_borders_of_ones_own_are_not_known_so_there_are_no_buckets() -> None:
    custom = {"count": "3", "sum": "4", "buckets": [[0, "1", "2.5", "2"], [0, "2.5", "+Inf", "1"]]}
    found = classic(LABELS, [[10.0, native([], 3)], [25.0, custom]])
    assert [at for at, _ in named(found, "took_seconds_count")] == [10.0, 25.0]
    for samples in by_edge(found).values():
        assert [at for at, _ in samples] == [10.0]


def test_what_is_scraped_in_both_forms_counts_once() -> None:
    converted = classic(LABELS, [[10.0, native([0.7], 3)]])
    other = classic({**LABELS, "pod": "b"}, [[10.0, native([0.7], 3)]])
    written: Classic = ({"__name__": "took_seconds_bucket", "pod": "a", "le": "1"}, [(10.0, 1.0)])
    kept = beside([*converted, *other], [written])
    names = {(labels["__name__"], labels["pod"]) for labels, _ in kept}
    assert ("took_seconds_bucket", "a") not in names
    assert ("took_seconds_bucket", "b") in names
    assert ("took_seconds_count", "a") in names


def saying(body: Any) -> PrometheusProvider:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    client = httpx.AsyncClient(transport=transport)
    return PrometheusProvider("default", client, url="http://prometheus:9090")


async def test_what_prometheus_answered_comes_as_classic_series() -> None:
    found = await saying(RECORDED).raw("x", 1795268990.0, 1795268993.0)
    edges = {float(s.labels["le"]): s.samples for s in found if "le" in s.labels}
    first, second = 1795268991.969, 1795268992.969
    assert edges[0.000976562] == ((first, 4.0), (second, 4.0))
    assert edges[0.0078125] == ((first, 6.0), (second, 6.0))
    assert edges[0.015625] == ((first, 7.0), (second, 15.0))
    assert edges[0.0625] == ((first, 7.0), (second, 18.0))
    assert edges[math.inf] == ((first, 7.0), (second, 19.0))
    assert {s.labels["handler"] for s in found} == {"/api/v1/query"}
    (total,) = [s for s in found if s.name.endswith("_sum")]
    assert total.samples == ((first, 0.018211161), (second, 0.28052444000000004))


@pytest.mark.parametrize(
    "sample", [{}, {"count": "x", "sum": "1"}, {"count": "1", "sum": "1", "buckets": [[0, "1"]]}]
)
async def test_a_malformed_histogram_is_an_error(sample: dict[str, str]) -> None:
    series = {"metric": LABELS, "histograms": [[11.0, sample]]}
    body = {"status": "success", "data": {"resultType": "matrix", "result": [series]}}
    with pytest.raises(ProviderError, match="not that of a Prometheus API"):
        await saying(body).raw("x", 10, 12)


async def test_a_value_that_is_a_histogram_is_refused_with_the_fix() -> None:
    series = {"metric": LABELS, "histogram": [11.0, native([0.7], 3)]}
    body = {"status": "success", "data": {"resultType": "vector", "result": [series]}}
    with pytest.raises(ProviderError, match="histogram_quantile"):
        await saying(body).instant("x", 11)


def as_series(arm: str, found: Sequence[Classic]) -> list[Series]:
    return [
        Series(
            "candidate" if arm == "candidate" else "baseline",
            labels["__name__"],
            tuple(sorted((key, value) for key, value in labels.items() if key != "__name__")),
            tuple(samples),
        )
        for labels, samples in found
    ]


@pytest.mark.parametrize(("slow", "verdict"), [(1.0, Verdict.PASS), (2.5, Verdict.FAIL)])
def test_the_engine_judges_native_histograms_through_a_restart(
    slow: float, verdict: Verdict
) -> None:
    """The candidate's pod restarts in the middle: its counters begin anew, at every edge."""
    check = QuantileCheck(
        "latency-p95", "latency-p95", HISTOGRAM, 0.95, limit=Bound(3.0, above=True)
    )
    chance = random.Random(3)
    evidence = Evidence(plan(check))
    took: dict[str, list[float]] = {"candidate": [], "baseline": [0.7] * 100}
    evidence.ingest(as_series("baseline", classic(LABELS, [[START - 15, native([0.7] * 100, 3)]])))
    for step in range(1, 121):
        at = START + 15 * step
        if step == 60:
            took["candidate"] = []
        for arm, factor in (("candidate", slow), ("baseline", 1.0)):
            took[arm] += [factor * chance.lognormvariate(-0.36, 0.7) for _ in range(8)]
        batch = [
            series
            for arm, times in took.items()
            for series in as_series(arm, classic(LABELS, [[at, native(times, 3)]]))
        ]
        evidence.ingest(batch)
    judged = evidence.judge(START + 15 * 120)
    (found,) = judged.checks
    assert found.verdict == verdict, found.message
    assert "tested at 3.36 s" in found.message
    if verdict == Verdict.PASS:
        assert found.total == 8 * 120
