"""What is promised about chance: the boundary, gates, and what lies between fine and breached."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import numpy as np
from phasegate.engine.checks import CheckSpec
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.selectors import Selector

from bench.judgement import worlds
from bench.judgement.engine import Outcome, chances, plan, run
from bench.judgement.shapes import (
    CALLS,
    Cell,
    Make,
    Scale,
    Table,
    absolute_errors,
    error_checks,
    latency,
    mean,
    relative_errors,
)
from bench.judgement.worlds import Traffic, World

# --- boundary validity -----------------------------------------------------------------------------


def _validity_cases() -> Iterator[tuple[str, Traffic, Sequence[CheckSpec], Make]]:
    """Truth exactly where "still fine" ends."""
    usual, even = Traffic(10, 0.05, 6), Traffic(4, 0.3, 6)
    yield (
        *("errors at 1.1x the baseline", usual, relative_errors(1.1)),
        lambda c, t: worlds.errors(c, t, 0.022, 0.02),
    )
    yield (
        *("errors at 1.1x, 30 % of the calls", even, relative_errors(1.1)),
        lambda c, t: worlds.errors(c, t, 0.33, 0.30),
    )
    yield (
        *("errors at the limit of 5 %", usual, absolute_errors(0.05)),
        lambda c, t: worlds.errors(c, t, 0.05, 0.01),
    )

    def shared(chance: np.random.Generator, traffic: Traffic) -> World:
        rate = worlds.bursts(chance, traffic, 0.01, 0.3, 60, 1.0)
        return worlds.errors(chance, traffic, np.minimum(1, 1.1 * rate), rate)

    yield "errors at 1.1x, bursts that both have", usual, relative_errors(1.1), shared
    yield (
        *("p95 at the limit of 3 s", usual, latency(3.0, None)),
        lambda c, t: worlds.latencies(c, t, 3.0 / np.exp(0.7 * 1.6449), 0.4),
    )
    slower = Relative(1.15001, 1.15, 2.0)
    yield (
        *("p95 at 1.15x the baseline", usual, latency(None, slower)),
        lambda c, t: worlds.latencies(c, t, 0.8 * 1.15, 0.8),
    )
    yield (
        *("cost at 1.25x the baseline", usual, mean(Relative(1.25001, 1.25, 4.0))),
        lambda c, t: worlds.sums(c, t, worlds.lognormal, 0.025, 0.02),
    )
    yield (
        *("score at 0.975x", usual, mean(Relative(0.97499, 0.975, 0.8), score=True)),
        lambda c, t: worlds.sums(c, t, worlds.scores, 0.78, 0.8),
    )


def validity(scale: Scale) -> Table:
    """How often a candidate that is exactly as bad as is tolerated is rolled back."""
    rows: list[tuple[Cell, ...]] = []
    for row, (name, traffic, checks, make) in enumerate(_validity_cases()):
        shares = []
        for alpha in (0.05, 0.01):
            failed = 0
            for chance in chances("valid", row, scale.runs, scale.seed):
                settings = plan(checks, traffic.hours, alpha)
                failed += run(settings, make(chance, traffic)).failed is not None
            shares.append(failed / scale.runs)
        rows.append((name, *shares))
    return Table(
        "validity",
        "Boundary: truth exactly at what is tolerated",
        f"share of {scale.runs} phases of 6 h that were rolled back; it must not exceed the "
        "false rollback rate",
        ("truth", "at 5 %", "at 1 %"),
        tuple(rows),
    )


# --- gates and the grey zone -----------------------------------------------------------------------


def gates(scale: Scale) -> Table:
    """A gate on reviewed accuracy: pass above 90 %, rollback below 85 %; up to 500 reviews."""
    check = RatioCheck(
        *("accuracy", "accuracy", CALLS, Selector("errors")),
        limit=Bound(0.15, above=True),
        gate=Bound(0.10, above=False),
    )
    rows: list[tuple[Cell, ...]] = []
    for row, accuracy in enumerate((0.97, 0.95, 0.93, 0.92, 0.90, 0.88, 0.85, 0.80)):
        outcomes: list[Outcome] = []
        fifty, any_fifty = 0, 0
        for chance in chances("gates", row, scale.runs, scale.seed):
            wrong = (chance.random(500) > accuracy).astype(float)
            world = World(np.arange(1.0, 501) * 60)
            world.columns["candidate", "calls", ""] = np.ones(500)
            world.columns["candidate", "errors", ""] = wrong
            outcomes.append(_first(run(plan((check,), 500 / 60), world, judge_every=1)))
            fifty += wrong[:50].mean() < 0.10
            sums = np.convolve(wrong, np.ones(50), "valid")
            any_fifty += bool((sums > 7.5).any())
        rules = (fifty / scale.runs, any_fifty / scale.runs)
        rows.append((f"{accuracy:.0%}", *_shares(outcomes, 60.0, "{:.0f}"), *rules))
    return Table(
        "gates",
        "A gate on accuracy: passes above 90 %, rolled back below 85 %",
        f"{scale.runs} candidates, up to 500 reviews each; beside it a rule that looks at 50 reviews "
        'once, and one that takes "any 50 reviews below 85 %" literally',
        (
            "truth",
            "Pass",
            "Fail",
            "undecided",
            "reviews",
            "50 reviews: pass",
            "any 50: rolled back",
        ),
        tuple(rows),
    )


def _first(outcome: Outcome) -> Outcome:
    """What came first: a phase that has passed is over."""
    passed, failed = outcome.passed, outcome.failed
    if passed is not None and (failed is None or passed < failed):
        return Outcome(None, passed, "", passes_at_end=True)
    return outcome


def _shares(outcomes: Sequence[Outcome], unit: float, form: str) -> tuple[float, float, float, str]:
    """Pass, Fail, neither, and the median time to one of the first two."""
    passed = [o.passed for o in outcomes if o.passed is not None]
    failed = [o.failed for o in outcomes if o.failed is not None]
    runs = len(outcomes)
    decided = passed + failed
    middle = form.format(statistics.median(decided) / unit) if decided else "—"
    return len(passed) / runs, len(failed) / runs, 1 - len(decided) / runs, middle


def grey(scale: Scale) -> Table:
    """What becomes of candidates between fine and breached; they do not change all phase long."""
    traffic = Traffic(10, 0.05, 12)
    cases: list[tuple[str, Sequence[CheckSpec], Make]] = []
    for times in (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5):
        cases.append(
            (
                f"{times:g}x the baseline's 1 %",
                error_checks(),
                lambda c, t, r=times: worlds.errors(c, t, 0.01 * r, 0.01),  # type: ignore[misc]
            )
        )
    wide = RatioCheck(
        *("errors", "errors", CALLS, Selector("errors")),
        limit=Bound(0.05, above=True),
        gate=Bound(0.03, above=False),
        severe=0.5,
    )
    for rate in (0.02, 0.03, 0.04, 0.05, 0.055, 0.06, 0.08):
        cases.append(
            (
                f"{rate:.1%}",
                (wide,),
                lambda c, t, r=rate: worlds.errors(c, t, r, 0.01),  # type: ignore[misc]
            )
        )
    rows: list[tuple[Cell, ...]] = []
    for row, (name, checks, make) in enumerate(cases):
        found = []
        for chance in chances("grey", row, scale.runs, scale.seed):
            settings = plan(checks, traffic.hours)
            found.append(_first(run(settings, make(chance, traffic), judge_every=4)))
        rows.append((name, *_shares(found, 60.0, "{:.0f} min")))
    return Table(
        "grey",
        "The grey zone: constant truths between fine and breached",
        f"{scale.runs} phases of 12 h at 10 calls/s, 5 % of them to the candidate; what came first. "
        "Multiples: baseline {tolerate: 1.1, worseBy: 1.5}, a Pass excludes 2x. Rates: gate 3 %, "
        "rollback 5 %, the baseline at 1 %",
        ("truth", "Pass", "Fail", "undecided", "median time to either"),
        tuple(rows),
    )
