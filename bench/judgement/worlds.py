"""Simulated traffic: what both arms count from scrape to scrape. All randomness is numpy's, seeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from phasegate.engine.samples import Arm

Array = npt.NDArray[np.float64]
Column = tuple[Arm, str, str]
"""Arm, name of the counter, bucket edge (empty for what is no histogram)."""

SCRAPE = 15.0


@dataclass(frozen=True)
class Traffic:
    """Calls a second of all users, the candidate's share, and how long."""

    calls: float
    weight: float
    hours: float
    diurnal: float = 0.5
    """Half the difference between the busiest and the quietest time of a day, as a share."""

    @property
    def scrapes(self) -> int:
        """How many."""
        return round(self.hours * 3600 / SCRAPE)

    @property
    def times(self) -> Array:
        """When they are, in seconds of the phase."""
        return np.arange(1.0, self.scrapes + 1) * SCRAPE

    def means(self) -> tuple[Array, Array]:
        """Expected calls per scrape of candidate and baseline."""
        wave = 1 + self.diurnal * np.sin(2 * np.pi * self.times / 86_400)
        calls: Array = self.calls * SCRAPE * wave
        return calls * self.weight, calls * (1 - self.weight)


@dataclass(frozen=True)
class World:
    """Increments per scrape."""

    times: Array
    columns: dict[Column, Array] = field(default_factory=dict)

    def arm(self, arm: Arm, name: str) -> Array:
        """One counter's increments."""
        return self.columns[arm, name, ""]


Rates = Array | float


def errors(
    chance: np.random.Generator,
    traffic: Traffic,
    candidate: Rates,
    baseline: Rates,
    cluster: float = 1.0,
) -> World:
    """Calls and errors. `cluster`: a failed call is repeated so many times on average."""
    world = World(traffic.times)
    arms: Sequence[tuple[Arm, Array, Rates]] = (
        ("candidate", traffic.means()[0], candidate),
        ("baseline", traffic.means()[1], baseline),
    )
    for arm, mean, rate in arms:
        calls = chance.poisson(mean)
        bad = chance.binomial(calls, np.broadcast_to(np.asarray(rate, float), calls.shape))
        if cluster > 1:
            again = np.where(bad > 0, chance.negative_binomial(np.maximum(bad, 1), 1 / cluster), 0)
            calls, bad = calls + again, bad + again
        world.columns[arm, "calls", ""] = calls.astype(float)
        world.columns[arm, "errors", ""] = bad.astype(float)
    return world


def sums(
    chance: np.random.Generator,
    traffic: Traffic,
    draw: Callable[[np.random.Generator, int, float], Array],
    candidate: Rates,
    baseline: Rates,
) -> World:
    """Calls, and an amount each call adds: `draw(chance, calls, mean)`."""
    world = World(traffic.times)
    arms: Sequence[tuple[Arm, Array, Rates]] = (
        ("candidate", traffic.means()[0], candidate),
        ("baseline", traffic.means()[1], baseline),
    )
    for arm, mean, amount in arms:
        calls = chance.poisson(mean)
        levels = np.broadcast_to(np.asarray(amount, float), calls.shape)
        total = [
            draw(chance, int(n), float(level)).sum() for n, level in zip(calls, levels, strict=True)
        ]
        world.columns[arm, "calls", ""] = calls.astype(float)
        world.columns[arm, "amount", ""] = np.array(total)
    return world


def lognormal(chance: np.random.Generator, calls: int, mean: float) -> Array:
    """What calls cost: coefficient of variation 1.3."""
    sigma = np.sqrt(np.log(1 + 1.3**2))
    return chance.lognormal(np.log(mean) - sigma**2 / 2, sigma, calls)


def scores(chance: np.random.Generator, calls: int, mean: float) -> Array:
    """Scores between 0 and 1 with a standard deviation of 0.15."""
    k = mean * (1 - mean) / 0.15**2 - 1
    return chance.beta(mean * k, (1 - mean) * k, calls)


EDGES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.9, 2.4, 3.0, 3.75, 4.7, 5.9, 7.4, 9.2, 11.5, 15.0, 30.0)


def latencies(
    chance: np.random.Generator, traffic: Traffic, candidate: Rates, baseline: Rates
) -> World:
    """Calls and their log-normal latencies (median in seconds) in the buckets of a histogram."""
    world = World(traffic.times)
    edges = np.log(np.array(EDGES))
    arms: Sequence[tuple[Arm, Array, Rates]] = (
        ("candidate", traffic.means()[0], candidate),
        ("baseline", traffic.means()[1], baseline),
    )
    for arm, mean, typical in arms:
        calls = chance.poisson(mean)
        medians = np.broadcast_to(np.asarray(typical, float), calls.shape)
        scrape = np.repeat(np.arange(len(calls)), calls)
        took = np.log(medians)[scrape] + 0.7 * chance.standard_normal(len(scrape))
        bucket = np.searchsorted(edges, took, side="left")
        counts = np.zeros((len(calls), len(EDGES) + 1))
        np.add.at(counts, (scrape, bucket), 1)
        below = np.cumsum(counts, axis=1)
        for index, edge in enumerate((*EDGES, np.inf)):
            name = "+Inf" if np.isinf(edge) else f"{edge:g}"
            world.columns[arm, "latency_bucket", name] = below[:, index]
        world.columns[arm, "calls", ""] = calls.astype(float)
    return world


# --- rates over time ---------------------------------------------------------------------------------


def onset(traffic: Traffic, before: float, after: float, hours: float, ramp: float = 0.0) -> Array:
    """A rate that changes at a time; over `ramp` hours if that is not zero."""
    since = traffic.times / 3600 - hours
    if ramp:
        return before + (after - before) * np.clip(since / ramp, 0, 1)
    return np.where(since > 0, after, before)


def bursts(
    chance: np.random.Generator,
    traffic: Traffic,
    rate: float,
    level: float,
    seconds: float,
    per_hour: float,
) -> Array:
    """A rate with bursts at random times."""
    found = np.full(traffic.scrapes, rate)
    length = max(1, round(seconds / SCRAPE))
    for start in chance.integers(0, traffic.scrapes, chance.poisson(per_hour * traffic.hours)):
        found[start : start + length] = level
    return found


def outage(traffic: Traffic, rate: float, level: float, start: float, hours: float) -> Array:
    """A rate with one stretch at another level; times in hours."""
    at = traffic.times / 3600
    return np.where((at > start) & (at <= start + hours), level, rate)
