"""What a forecast says is what the engine then does, within a third, and it says what cannot work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.engine.amounts import Amount
from phasegate.engine.checks import CheckSpec
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.forecast import CheckForecast, Setting, Usual, foresee
from phasegate.engine.forecast.rates import first_edge, share_above
from phasegate.engine.forecast.walks import first_passage
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.kinds.threshold import ThresholdCheck
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import Verdict

SCRAPE = 15.0
TOLERANCE = 1.35
"""Median of simulated rollouts to the forecast, and the other way round."""
CALLS, ERRORS = Selector("calls"), Selector("errors")
ERROR_RATE = RatioCheck(
    *("errors", "errors", CALLS, ERRORS),
    limit=Bound(0.05, above=True),
    gate=Bound(0.05, above=False),
    relative=Relative(1.5, 1.1, 2.0, 0.005),
    severe=0.5,
)
COST = MeanCheck(
    *("cost", "cost", Amount.of(Selector("usd")), Amount.of(CALLS)),
    relative=Relative(3.0, 1.25, 4.0),
)
EDGES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.9, 2.4, 3, 3.75, 4.7, 5.9, 7.4, 9.2, 11.5, 15, 30)
LATENCY = QuantileCheck(
    *("latency", "latency", Selector("lat"), 0.95),
    limit=Bound(3.0, above=True),
    relative=Relative(1.5, 1.15, 2.0),
)

Calls = Callable[[np.random.Generator, int], dict[str, float]]
"""So many calls: what they add to each counter."""


def plan(check: CheckSpec, hours: float) -> EvidencePlan:
    return EvidencePlan(
        phase="p",
        start=0.0,
        planned_seconds=hours * 3600,
        alpha=0.01,
        beta=0.05,
        min_samples=50,
        min_seconds=0.0,
        stale_seconds=120.0,
        checks=(check,),
        volume=CALLS,
    )


class Arms:
    """Counters of both arms, one pod each, scraped at the same moments."""

    def __init__(self, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self._totals: dict[tuple[Arm, str], float] = {}

    def answer(self, arm: Arm, mean: float, calls: Calls) -> None:
        """About so many calls."""
        for name, amount in calls(self._chance, int(self._chance.poisson(mean))).items():
            self._totals[arm, name] = self._totals.get((arm, name), 0.0) + amount

    def scrape(self, at: float) -> list[Series]:
        """One sample of every series."""
        batch = []
        for (arm, name), total in self._totals.items():
            base, _, edge = name.partition("|")
            labels = (("le", edge), ("pod", arm)) if edge else (("pod", arm),)
            batch.append(Series(arm, base, labels, ((at, total),)))
        return batch


@dataclass(frozen=True)
class World:
    """A check, calls a second of both arms, what calls are like as a rule."""

    check: CheckSpec
    hours: float
    candidate: float
    baseline: float
    usual: Calls

    def until(self, verdict: Verdict, calls: Calls, onset: int, seed: int) -> float:
        """Seconds from the onset (a number of scrapes) to the verdict, the candidate's being so."""
        evidence, arms = Evidence(plan(self.check, self.hours)), Arms(seed)
        for step in range(-1, round(2 * self.hours * 3600 / SCRAPE)):
            at = step * SCRAPE
            arms.answer("baseline", self.baseline * SCRAPE, self.usual)
            if step > 0:
                now = calls if step > onset else self.usual
                arms.answer("candidate", self.candidate * SCRAPE, now)
            evidence.ingest(arms.scrape(at))
            if step > onset and evidence.judge(at).verdict == verdict:
                return (step - onset) * SCRAPE
        raise AssertionError(f"no {verdict} within {2 * self.hours:.1f} h")

    def failures(self, calls: Calls, runs: int) -> list[float]:
        """How long each of some rollouts took, which were healthy for a third of the phase."""
        onset = round(self.hours * 3600 / SCRAPE / 3)
        return sorted(self.until(Verdict.FAIL, calls, onset, seed) for seed in range(runs))

    def passes(self, runs: int) -> list[float]:
        """How long each of some healthy rollouts took."""
        return sorted(self.until(Verdict.PASS, self.usual, 0, seed) for seed in range(runs))

    def forecast(self, usual: Usual) -> CheckForecast:
        """What is said about it beforehand."""
        setting = Setting(
            plan(self.check, self.hours).settings, self.candidate, self.baseline, SCRAPE, None
        )
        return foresee(self.check, setting, usual)


def failing(error_rate: float) -> Calls:
    return lambda chance, calls: {
        "calls": float(calls),
        "errors": float(chance.binomial(calls, error_rate)),
    }


def costing(mean: float) -> Calls:
    """Log-normal with a coefficient of variation of one."""
    sigma = math.sqrt(math.log(2))
    return lambda chance, calls: {
        "calls": float(calls),
        "usd": float(chance.lognormal(math.log(mean) - sigma * sigma / 2, sigma, calls).sum()),
    }


def taking(median_seconds: float) -> Calls:
    """Log-normal, as a histogram sees it."""

    def calls(chance: np.random.Generator, count: int) -> dict[str, float]:
        took = chance.lognormal(math.log(median_seconds), 0.7, count)
        buckets = {f"lat_bucket|{edge:g}": float((took <= edge).sum()) for edge in EDGES}
        return {"calls": float(count), "lat_bucket|+Inf": float(count), **buckets}

    return calls


def survivors(median_seconds: float) -> tuple[tuple[float, float], ...]:
    """Share of such calls above each edge."""
    normal = statistics.NormalDist(math.log(median_seconds), 0.7)
    return tuple((edge, 1 - normal.cdf(math.log(edge))) for edge in EDGES)


def agree(forecast: float | None, simulated: list[float]) -> None:
    """Within the tolerance, and a scrape: nothing is seen between two of them."""
    assert forecast is not None
    found = statistics.median(simulated)
    assert forecast / TOLERANCE - SCRAPE <= found <= forecast * TOLERANCE + SCRAPE, (
        forecast,
        sorted(simulated),
    )


def caught(found: CheckForecast, words: str) -> float | None:
    return next(catch.seconds for catch in found.catches if words in catch.what)


@pytest.mark.parametrize(
    ("what", "error_rate", "usual", "candidate", "baseline", "hours"),
    [
        ("every call", 1.0, 0.01, 0.2, 3.8, 2),
        ("every call", 1.0, 0.01, 0.02, 1.98, 6),
        ("beyond the limit", 0.0625, 0.01, 0.2, 3.8, 4),
        ("beyond the limit", 0.0625, 0.01, 1.0, 19.0, 2),
        ("twice", 0.08, 0.04, 1.0, 9.0, 3),
    ],
)
def test_regressions_of_a_ratio_are_found_when_it_says(
    what: str, error_rate: float, usual: float, candidate: float, baseline: float, hours: float
) -> None:
    world = World(ERROR_RATE, hours, candidate, baseline, failing(usual))
    forecast = caught(world.forecast(Usual(rate=usual)), what)
    agree(forecast, world.failures(failing(error_rate), 15))


@pytest.mark.parametrize(("usual", "calls"), [(0.01, 0.5), (0.01, 1.0), (0.03, 1.0)])
def test_a_healthy_ratio_passes_when_it_says(usual: float, calls: float) -> None:
    world = World(ERROR_RATE, 3.0, calls, 9 * calls, failing(usual))
    said = world.forecast(Usual(rate=usual)).passes
    assert said is not None
    found = world.passes(61)
    assert 0.3 <= share_within(found, said.usual) <= 0.7
    assert 0.75 <= share_within(found, said.slow) <= 1.0


def share_within(found: list[float], seconds: float) -> float:
    """How many of them took no longer, to the next scrape."""
    return sum(took <= seconds + SCRAPE for took in found) / len(found)


@pytest.mark.parametrize(("times", "calls"), [(2.0, 0.2), (3.0, 0.2), (2.0, 1.0)])
def test_slower_answers_are_found_when_it_says(times: float, calls: float) -> None:
    world = World(LATENCY, 3.0, calls, 9 * calls, taking(0.9))
    forecast = caught(world.forecast(Usual(above=survivors(0.9))), f"{times:g}x")
    agree(forecast, world.failures(taking(0.9 * times), 9))


@pytest.mark.parametrize("calls", [0.05, 0.5])
def test_dearer_calls_are_found_when_it_says(calls: float) -> None:
    world = World(COST, 4.0, calls, 9 * calls, costing(0.02))
    forecast = caught(world.forecast(Usual(mean=0.02, spread=1.0)), "4x")
    agree(forecast, world.failures(costing(0.08), 9))


# --- what cannot work ------------------------------------------------------------------------------


def foreseen(
    check: CheckSpec, usual: Usual, most: float | None = None, **rates: float
) -> CheckForecast:
    settings = plan(check, 1.0).settings
    candidate, baseline = rates.get("candidate", 1.0), rates.get("baseline", 9.0)
    return foresee(check, Setting(settings, candidate, baseline, SCRAPE, most), usual)


def test_without_traffic_nothing_can_be_decided() -> None:
    found = foreseen(ERROR_RATE, Usual(rate=0.01), candidate=0.0)
    assert found.passes is None
    assert "no call" in found.never
    assert "no call" in foreseen(ERROR_RATE, Usual(rate=0.01, per_call=0.0)).never


def test_series_that_are_not_there_are_named() -> None:
    assert foreseen(ERROR_RATE, Usual(absent="no series errors")).never == "no series errors"


def test_a_metric_at_its_gate_today_can_never_pass() -> None:
    found = foreseen(ERROR_RATE, Usual(rate=0.05))
    assert found.passes is None
    assert "5.0%" in found.never


def test_samples_that_do_not_come_in_time_are_told_with_the_time_they_take() -> None:
    check = replace(ERROR_RATE, min_samples=500)
    found = foreseen(check, Usual(rate=0.01, per_call=0.1), most=3600.0)
    assert found.never == "500 samples take 83 min, the phase 60 min at most"
    planned = foreseen(check, Usual(rate=0.01, per_call=0.1))
    assert not planned.never
    assert any("longer than the phase is planned for" in note for note in planned.notes)


def test_a_pass_that_does_not_come_in_time_is_told() -> None:
    found = foreseen(ERROR_RATE, Usual(rate=0.01), most=600.0, candidate=0.2)
    assert found.passes is None
    assert "a Pass takes" in found.never


@pytest.mark.parametrize(
    ("edges", "never", "note"),
    [
        ((0.5, 1.0, 2.5), "no bucket edge at or above 3 s (the last one is 2.5 s)", ""),
        ((0.5, 1.0, 2.5, 5.0), "", "no bucket edge at 3 s: calls are counted from 5 s on"),
        ((0.5, 1.0, 3.0), "", ""),
    ],
)
def test_the_missing_edge_of_a_histogram_is_named(
    edges: tuple[float, ...], never: str, note: str
) -> None:
    above = tuple((edge, 0.1 / edge**2) for edge in edges)
    found = foreseen(replace(LATENCY, relative=None), Usual(above=above))
    assert never in found.never
    assert bool(found.never) == bool(never)
    assert note in " ".join(found.notes)


def test_after_the_full_switch_only_levels_are_left() -> None:
    found = foreseen(ERROR_RATE, Usual(rate=0.01), baseline=0.0)
    assert caught(found, "twice") is None
    assert caught(found, "every call") is not None
    assert any("too few calls to compare" in note for note in found.notes)


def test_what_is_not_known_is_assumed_and_said() -> None:
    for check in (ERROR_RATE, LATENCY, COST):
        found = foreseen(check, Usual())
        assert found.passes is not None
        assert any(note.startswith("assumed: ") for note in found.notes)


def test_an_event_is_found_with_its_scrape_and_a_threshold_after_its_time() -> None:
    event = foreseen(EventCheck("flags", "flags", Selector("flags")), Usual())
    assert caught(event, "event number 1") == SCRAPE
    assert event.passes is not None
    legacy = ThresholdCheck("x", "x", "up", for_seconds=300, limit=Bound(1.0, above=True))
    assert caught(foreseen(legacy, Usual(), candidate=0.0), "beyond") == 300 + SCRAPE


@given(
    rate=st.floats(0.001, 0.03),
    calls=st.floats(0.01, 100),
    share=st.floats(0.2, 100),
    factor=st.floats(1.1, 10),
)
def test_more_traffic_is_never_slower(
    rate: float, calls: float, share: float, factor: float
) -> None:
    slow = foreseen(ERROR_RATE, Usual(rate=rate), candidate=calls, baseline=calls * share)
    fast = foreseen(
        ERROR_RATE, Usual(rate=rate), candidate=calls * factor, baseline=calls * factor * share
    )
    assert slow.passes is not None
    assert fast.passes is not None
    assert fast.passes.usual <= slow.passes.usual * (1 + 1e-3)
    for before, after in zip(slow.catches, fast.catches, strict=True):
        if before.seconds is not None:
            assert after.seconds is not None
            assert after.seconds <= before.seconds * 1.1 + SCRAPE


@given(st.floats(0.1, 40))
def test_the_share_above_a_value_falls_from_edge_to_edge(value: float) -> None:
    above = survivors(0.9)
    assert 0 <= share_above(above, value * 1.1) <= share_above(above, value) <= 1
    edge = first_edge(above, value)
    assert edge is None or edge >= value * (1 - 1e-6)


@given(st.floats(0.1, 20), st.floats(0.001, 5), st.floats(0, 20))
def test_the_unlucky_wait_longer(need: float, drift: float, variance: float) -> None:
    half = first_passage(need, drift, variance, 0.5)
    most = first_passage(need, drift, variance, 0.9)
    assert 0 < half <= most * (1 + 1e-3)
    assert half <= need / drift * (1 + 1e-3)
