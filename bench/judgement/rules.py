"""Threshold rules as their documentation has them, for comparison. Times in seconds of the phase.

What peers' rules do was read from their source: a measurement's failure is never taken back, and the
run fails when there are more failures than the limit (Argo Rollouts analysis.go; Flagger
scheduler.go counts failed checks until a new revision).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from phasegate.engine.samples import Arm

from bench.judgement.worlds import SCRAPE, Array, World

LIMIT = 0.05
_Z = 2.5758
"""Two-sided 1 % of the normal distribution."""


@dataclass(frozen=True)
class Rule:
    """A rule by its name; `fails` gives the time at which it rolls back, if it does."""

    name: str
    about: str
    fails: Callable[[World], float | None]


def _window(values: Array, scrapes: int) -> Array:
    """Sums over the latest so many scrapes; fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(0, np.arange(1, len(total)) - scrapes)
    return np.asarray(total[1:] - total[first])


def _rates(world: World, seconds: float, arm: Arm = "candidate") -> tuple[Array, Array]:
    """Calls and bad calls of the trailing window at each scrape."""
    scrapes = max(1, round(seconds / SCRAPE))
    return (
        _window(world.arm(arm, "calls"), scrapes),
        _window(world.arm(arm, "errors"), scrapes),
    )


def _every(seconds: float, count: int) -> npt.NDArray[np.intp]:
    """The scrapes at which is measured."""
    step = max(1, round(seconds / SCRAPE))
    return np.arange(step - 1, count, step)


def _nth(
    world: World, looks: npt.NDArray[np.intp], failed: npt.NDArray[np.bool_], allowed: int
) -> float | None:
    """When the failures are more than allowed."""
    at = np.flatnonzero(np.cumsum(failed) > allowed)
    return float(world.times[looks[at[0]]]) if len(at) else None


def windowed(
    window: float,
    interval: float,
    allowed: int,
    *,
    least: float = 1.0,
    nan_fails: bool = False,
) -> Callable[[World], float | None]:
    """More than `allowed` measurements with bad / calls beyond the limit in a trailing window."""

    def fails(world: World) -> float | None:
        calls, bad = _rates(world, window)
        looks = _every(interval, len(calls))
        n, x = calls[looks], bad[looks]
        failed = np.where(n >= least, x > LIMIT * n, nan_fails & (n == 0))
        return _nth(world, looks, failed, allowed)

    return fails


def ratio_rule(window: float, interval: float, allowed: int) -> Callable[[World], float | None]:
    """The same with twice the baseline's rate as the limit, from 50 calls on."""

    def fails(world: World) -> float | None:
        (n, x), (m, y) = _rates(world, window), _rates(world, window, "baseline")
        looks = _every(interval, len(n))
        enough = (n[looks] >= 50) & (m[looks] > 0)
        failed = enough & (x[looks] * m[looks] > 2 * y[looks] * n[looks])
        return _nth(world, looks, failed, allowed)

    return fails


def z_test(interval: float) -> Callable[[World], float | None]:
    """A two-sided z-test at 1 % on all calls so far, looked at again and again."""

    def fails(world: World) -> float | None:
        n, x = (np.cumsum(world.arm("candidate", name)) for name in ("calls", "errors"))
        m, y = (np.cumsum(world.arm("baseline", name)) for name in ("calls", "errors"))
        looks = _every(interval, len(n))
        n, x, m, y = n[looks], x[looks], m[looks], y[looks]
        with np.errstate(divide="ignore", invalid="ignore"):
            pooled = (x + y) / (n + m)
            error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
            failed = (n >= 50) & ((x / n - y / m) / error > _Z)
        return _nth(world, looks, failed, 0)

    return fails


RULES = (
    Rule(
        "Argo docs",
        "as documented: irate[5m] every 5 min, failureLimit 3, NaN is a failure",
        windowed(SCRAPE, 300, 3, nan_fails=True),
    ),
    Rule("Argo 5m", "rate[5m] every minute, failureLimit 3, NaN guarded", windowed(300, 60, 3)),
    Rule(
        "Argo 30m",
        "rate[30m] every minute, failureLimit 10, from 50 calls on",
        windowed(1800, 60, 10, least=50),
    ),
    Rule(
        "Flagger",
        "rate[1m] every minute, threshold 10, no value is a failure",
        windowed(60, 60, 9, nan_fails=True),
    ),
    Rule("document", "over 5 % in any 30 min, taken literally", windowed(1800, 60, 0)),
    Rule("document ≥ 50", "the same from 50 calls on", windowed(1800, 60, 0, least=50)),
    Rule(
        "ratio 30m",
        "over 2x the baseline in 30 min, failureLimit 10, from 50 calls on",
        ratio_rule(1800, 60, 10),
    ),
    Rule("z-test", "1 %, on all calls so far, every minute", z_test(60)),
)
LEGEND = "; ".join(f"{rule.name}: {rule.about}" for rule in RULES)
