"""The benchmark of the engine: worlds are what they say, rules are what their documents say."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.judgement import worlds
from bench.judgement.__main__ import main, show, text
from bench.judgement.engine import chances, history, plan, run
from bench.judgement.rules import RULES, windowed
from bench.judgement.shapes import Table, error_checks
from bench.judgement.worlds import SCRAPE, Traffic, World

STEADY = Traffic(calls=10, weight=0.1, hours=2, diurnal=0.0)


def chance(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def world(calls: Sequence[float], errors: Sequence[float]) -> World:
    """The candidate's scrapes, one after the other; the baseline answers ten times as much, well."""
    found = World(np.arange(1.0, len(calls) + 1) * SCRAPE)
    found.columns["candidate", "calls", ""] = np.array(calls, float)
    found.columns["candidate", "errors", ""] = np.array(errors, float)
    found.columns["baseline", "calls", ""] = 10 * np.array(calls, float)
    found.columns["baseline", "errors", ""] = np.zeros(len(calls))
    return found


def test_both_arms_get_their_share_and_their_rate() -> None:
    made = worlds.errors(chance(), STEADY, 0.1, 0.02)
    calls = {arm: made.columns[arm, "calls", ""].sum() for arm in ("candidate", "baseline")}
    assert calls["candidate"] / sum(calls.values()) == pytest.approx(0.1, rel=0.05)
    assert made.arm("candidate", "errors").sum() / calls["candidate"] == pytest.approx(0.1, rel=0.1)
    assert made.arm("baseline", "errors").sum() / calls["baseline"] == pytest.approx(0.02, rel=0.1)


def test_day_and_night_differ() -> None:
    day = Traffic(100, 0.5, 24, diurnal=0.5)
    calls = worlds.errors(chance(), day, 0.0, 0.0).arm("candidate", "calls")
    hourly = calls.reshape(24, -1).sum(axis=1)
    assert hourly.max() / hourly.min() == pytest.approx(3, rel=0.1)


def test_clusters_keep_the_share_of_bad_calls_but_not_their_independence() -> None:
    past = Traffic(20, 0.05, 24)
    alone = worlds.errors(chance(), past, 0.01, 0.01)
    together = worlds.errors(chance(), past, 0.01, 0.01, cluster=3.0)
    assert history(alone, "errors") == ()
    ((_, phi),) = history(together, "errors")
    assert 3 < phi < 8


def test_buckets_are_cumulative_and_end_with_all_calls() -> None:
    made = worlds.latencies(chance(), STEADY, 0.8, 0.8)
    edges = [*(f"{edge:g}" for edge in worlds.EDGES), "+Inf"]
    counts = np.array([made.columns["baseline", "latency_bucket", edge] for edge in edges])
    assert (np.diff(counts, axis=0) >= 0).all()
    assert (counts[-1] == made.arm("baseline", "calls")).all()
    below = counts[edges.index("0.75")].sum() / counts[-1].sum()
    assert below == pytest.approx(0.463, abs=0.02)  # of a log-normal with median 0.8 and σ 0.7


def test_a_run_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again = ([g.integers(1_000_000) for g in chances("a", 1, 3, 7)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 3
    assert first != [g.integers(1_000_000) for g in chances("a", 2, 3, 7)]
    assert first != [g.integers(1_000_000) for g in chances("b", 1, 3, 7)]


def test_the_time_of_a_fail_does_not_depend_on_how_much_is_fed_at_once() -> None:
    rate = worlds.onset(STEADY, 0.01, 0.3, 1.0)
    made = worlds.errors(chance(3), STEADY, rate, 0.01)
    settings = plan(error_checks(), STEADY.hours)
    slow, fast = run(settings, made, judge_every=1), run(settings, made)
    assert slow.failed is not None
    assert slow.failed > 3600
    assert (fast.failed, fast.message) == (slow.failed, slow.message)


def test_a_rule_fails_after_as_many_failures_as_are_allowed_and_one() -> None:
    every = windowed(SCRAPE, SCRAPE, 3)
    bad = world([10] * 20, [0] * 5 + [1] * 15)
    assert every(bad) == 9 * SCRAPE  # scrapes 6, 7 and 8 are allowed
    assert every(world([10] * 20, [1] * 3 + [0] * 17)) is None
    assert every(world([10] * 20, [1, 0] * 10)) == 7 * SCRAPE  # failures are never taken back


def test_without_calls_a_ratio_is_nan_which_fails_where_nobody_guards_it() -> None:
    empty = world([0] * 20, [0] * 20)
    assert windowed(60, 60, 1)(empty) is None
    assert windowed(60, 60, 1, nan_fails=True)(empty) == 2 * 60


def test_a_window_forgets_and_a_minimum_of_calls_waits() -> None:
    burst = world([10] * 100, [10] * 2 + [0] * 98)
    assert windowed(300, 60, 0)(burst) == 60
    assert windowed(300, 60, 6)(burst) is None  # gone after five minutes
    assert windowed(300, 60, 0, least=50)(burst) == 120  # 80 calls by then


def test_every_rule_finds_a_total_failure_and_the_engine_does_too() -> None:
    broken = world([20] * 400, [0] * 100 + [20] * 300)
    for rule in RULES:
        at = rule.fails(broken)
        assert at is not None, rule.name
        assert at > 100 * SCRAPE, rule.name
    assert run(plan(error_checks(), 2), broken).failed is not None


def test_a_table_is_shown_with_what_it_means() -> None:
    file = io.StringIO()
    table = Table(
        "t", "A title", "what it is about", ("case", "share"), (("one", 0.25), ("two", None))
    )
    show(Console(file=file, width=100), table)
    for words in ("A title", "what it is about", "case", "0.25", "—"):
        assert words in file.getvalue()
    assert [text(cell) for cell in (0.0, 0.0025, 1.0, "x", None)] == ["0", "0.003", "1", "x", "—"]


def test_the_numbers_are_written_with_their_seed(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    assert (
        main(["--quick", "--only", "gates", "--runs", "1", "--jobs", "1", "--json", str(file)]) == 0
    )
    found = json.loads(file.read_text())
    (table,) = found["tables"]
    assert table["name"] == "gates"
    assert len(table["rows"]) == 8
    assert found["scale"]["seed"] > 0
