"""Histograms of both arms: edges, counts over time, quantiles."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.engine.histograms import Edges, History, quantile, quantile_interval
from pydantic import TypeAdapter, ValidationError

EDGES = [0.5, 1.0, 2.0, 4.0, 8.0]
PLACES = list(range(len(EDGES)))
latencies = st.lists(st.floats(0.01, 20), min_size=1, max_size=60)


def vector(times: list[float]) -> list[float]:
    return [float(sum(t <= edge for t in times)) for edge in (*EDGES, math.inf)]


@given(latencies, st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_the_call_with_that_rank(
    times: list[float], q: float
) -> None:
    found = quantile(q, EDGES, vector(times), PLACES)
    call = sorted(times)[max(0, math.ceil(q * len(times) - 1e-9) - 1)]
    above = next((edge for edge in EDGES if call <= edge), math.inf)
    below = max((edge for edge in EDGES if edge < call), default=0.0)
    assert below * (1 - 1e-9) <= found <= above * (1 + 1e-9)
    assert found <= EDGES[-1]


def test_within_a_bucket_a_quantile_is_interpolated_over_the_logarithm() -> None:
    times = [0.4] * 50 + [3.0] * 50
    assert quantile(0.75, EDGES, vector(times), PLACES) == pytest.approx(math.sqrt(2 * 4))
    assert quantile(0.25, EDGES, vector(times), PLACES) == pytest.approx(0.25)


def test_beyond_the_last_edge_nothing_is_known_but_that() -> None:
    assert quantile(0.95, EDGES, vector([1.5] * 10 + [30.0] * 10), PLACES) == 8.0


def test_an_interval_spans_edges_around_the_quantile_and_has_no_end_with_few_calls() -> None:
    chance = random.Random(1)
    times = [chance.lognormvariate(0, 0.7) for _ in range(2000)]
    low, high = quantile_interval(0.9, EDGES, vector(times), PLACES)
    assert (low, high) == (2.0, 4.0)  # p90 is 2.45
    assert quantile_interval(0.9, EDGES, vector(times[:5]), PLACES)[1] is None
    # Clusters make calls worth less.
    assert quantile_interval(0.9, EDGES, vector(times[:150]), PLACES, phi=10.0)[0] <= 1.0


@given(st.lists(st.tuples(latencies, latencies), min_size=1, max_size=120), st.integers(0, 2000))
def test_history_keeps_every_call_in_a_few_rows(
    steps: list[tuple[list[float], list[float]]], start: int
) -> None:
    history = History()
    for i, (own, theirs) in enumerate(steps):
        history.add(15.0 * i, 15.0 * (i + 1), vector(own), vector(theirs))
    found = history.since(0.0)
    assert found is not None
    assert found[0] == 0.0
    assert found[1] == [sum(v) for v in zip(*(vector(own) for own, _ in steps), strict=True)]
    assert found[2] == [sum(v) for v in zip(*(vector(own) for _, own in steps), strict=True)]
    assert len(history.rows) <= 16
    later = history.since(float(start))
    assert later is not None
    calls = sum(len(own) for i, (own, _) in enumerate(steps) if 15.0 * i >= later[0])
    assert later[1][-1] == calls


def test_what_is_recent_is_known_to_a_factor_of_its_age() -> None:
    history = History()
    for i in range(6000):
        history.add(15.0 * i, 15.0 * (i + 1), vector([1.0]), vector([1.0]))
    for age in (15.0, 300.0, 3600.0, 36_000.0):
        found = history.since(90_000.0 - age)
        assert found is not None
        assert 1 / 1.6 <= (90_000.0 - found[0]) / age <= 1.6


def test_history_is_written_short_and_read_back_exactly() -> None:
    codec, history, chance = TypeAdapter(History), History(), random.Random(2)
    for i in range(500):
        times = [chance.lognormvariate(0, 0.7) for _ in range(9)]
        history.add(1e9 + 15.25 * i, 1e9 + 15.25 * (i + 1), vector(times), vector(times * 19))
    text = json.dumps(codec.dump_python(history, mode="json"))
    assert codec.validate_json(text) == history
    assert len(text) < 1000
    with pytest.raises(ValidationError):
        codec.validate_python({"rows": "AAAA", "at": 0.0})


def test_an_edge_that_one_pod_lacks_shows_itself_and_is_left_alone_for_an_hour() -> None:
    edges = Edges()
    for edge in (1.0, 2.0, 4.0):
        edges.learn(edge, "candidate")
    assert edges.vector("candidate", [3.0, 5.0, 6.0, 6.0], 100.0) == ([3.0, 5.0, 6.0, 6.0], False)
    # One pod has edges at 1 and 4 only: its five calls up to 4 s do not show at 2 s.
    assert edges.vector("candidate", [5.0, 2.0, 6.0, 6.0], 115.0) == ([5.0, 5.0, 6.0, 6.0], True)
    assert edges.usable(115.0, "candidate") == [0, 2]
    assert edges.vector("candidate", [5.0, 2.0, 6.0, 6.0], 130.0)[1] is False
    assert edges.usable(130.0 + 3601, "candidate") == [0, 1, 2]


def test_both_arms_share_only_what_both_have() -> None:
    edges = Edges()
    for edge in (1.0, 2.0, 4.0):
        edges.learn(edge, "candidate")
    for edge in (1.0, 3.0, 4.0):
        edges.learn(edge, "baseline")
    assert [edges.values[place] for place in edges.usable(0.0, "baseline")] == [1.0, 3.0, 4.0]
    common = edges.usable(0.0, "candidate", "baseline")
    assert [edges.values[place] for place in common] == [1.0, 4.0]
