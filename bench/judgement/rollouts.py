"""Whole rollouts beside threshold rules: false rollbacks, bursts, regressions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from bench.judgement import worlds
from bench.judgement.engine import chances, history, plan, run
from bench.judgement.rules import LEGEND, RULES
from bench.judgement.shapes import Cell, Scale, Table, error_checks
from bench.judgement.worlds import Traffic, World

# --- healthy rollouts ------------------------------------------------------------------------------

_WEIGHTS: Final = (0.01, 0.05, 0.20, 0.50)


def _rollout(
    chance: np.random.Generator, calls: float, rate: float, hours: float
) -> list[tuple[Traffic, World]]:
    traffics = [Traffic(calls, weight, hours) for weight in _WEIGHTS]
    return [(traffic, worlds.errors(chance, traffic, rate, rate)) for traffic in traffics]


def _joined(parts: Iterable[World]) -> World:
    """Increments of phases one after the other, as a rule sees them that spans the rollout."""
    found = list(parts)
    columns = {
        key: np.concatenate([part.columns[key] for part in found]) for key in found[0].columns
    }
    count = sum(len(part.times) for part in found)
    return World(np.arange(1.0, count + 1) * worlds.SCRAPE, columns)


def healthy(scale: Scale) -> Table:
    """False rollbacks of whole rollouts 1 → 5 → 20 → 50 %, nothing being wrong."""
    shares = []
    for row, (calls, rate) in enumerate((c, r) for c in (2, 20, 200) for r in (0.01, 0.02, 0.04)):
        tally = _Tally(scale.runs)
        for chance in chances("aa", row, scale.runs, scale.seed):
            parts = _rollout(chance, calls, rate, scale.hours)
            failed = [
                run(plan(error_checks(), traffic.hours), world).failed for traffic, world in parts
            ]
            tally.add(_joined(world for _, world in parts), any(at is not None for at in failed))
        shares.append(tally.shares())
    return Table(
        "healthy",
        "False rollbacks per healthy rollout",
        f"share of {scale.runs} rollouts 1 → 5 → 20 → 50 %, {scale.hours:g} h each, day and "
        f"night ± 50 %, errors over 5 %; error rates 1 / 2 / 4 %. {LEGEND}",
        ("", "2 calls/s", "20 calls/s", "200 calls/s"),
        _by_rule(shares),
    )


class _Tally:
    """False rollbacks of the engine and of each rule."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._counts = dict.fromkeys(("engine", *(rule.name for rule in RULES)), 0)

    def add(self, world: World, engine: bool) -> None:
        """One more rollout, as the rules see it, and whether the engine took it back."""
        self._counts["engine"] += engine
        for rule in RULES:
            self._counts[rule.name] += rule.fails(world) is not None

    def shares(self) -> dict[str, str]:
        """Of the rollouts."""
        return {name: f"{count / self._runs:.2f}" for name, count in self._counts.items()}


def _by_rule(shares: Sequence[dict[str, str]]) -> tuple[tuple[Cell, ...], ...]:
    """A row for each rule; three cells of the experiment in one of the table."""
    return tuple(
        (name, *(" / ".join(s[name] for s in shares[i : i + 3]) for i in range(0, len(shares), 3)))
        for name in shares[0]
    )


def shared_bursts(c: np.random.Generator, t: Traffic) -> World:
    """Bursts of a minute that both revisions have."""
    rate = worlds.bursts(c, t, 0.01, 0.3, 60, 0.5)
    return worlds.errors(c, t, rate, rate)


def shared_outage(c: np.random.Generator, t: Traffic) -> World:
    """Ten minutes in which most calls fail, whoever answers."""
    rate = worlds.outage(t, 0.01, 0.6, t.hours / 2, 1 / 6)
    return worlds.errors(c, t, rate, rate)


def shared_drift(c: np.random.Generator, t: Traffic) -> World:
    """Two hours of 8 %."""
    rate = worlds.outage(t, 0.01, 0.08, t.hours / 3, 2)
    return worlds.errors(c, t, rate, rate)


def own_bursts(c: np.random.Generator, t: Traffic) -> World:
    """Pods have bad minutes, each for itself: the candidate's one, the baseline's ten."""
    alone = worlds.bursts(c, t, 0.01, 0.3, 60, 0.125)
    many = np.mean([worlds.bursts(c, t, 0.01, 0.3, 60, 0.125) for _ in range(10)], axis=0)
    return worlds.errors(c, t, alone, many)


def retry_storms(c: np.random.Generator, t: Traffic) -> World:
    """Failed calls are repeated: failures come in clusters of three."""
    return worlds.errors(c, t, 0.01, 0.01, cluster=3.0)


def bursts(scale: Scale) -> Table:
    """False rollbacks in traffic that is not independent."""
    made = (shared_bursts, shared_outage, shared_drift, own_bursts, retry_storms)
    shares = []
    for row, (make, calls) in enumerate((make, c) for make in made for c in (2.0, 20.0, 200.0)):
        traffic, past = Traffic(calls, 0.05, scale.hours), Traffic(calls, 0.05, 24)
        tally = _Tally(scale.runs)
        for chance in chances("bursts", row, scale.runs, scale.seed):
            before = history(make(chance, past), "errors")
            world = make(chance, traffic)
            settings = plan(error_checks(), traffic.hours, dispersions=before)
            tally.add(world, run(settings, world).failed is not None)
        shares.append(tally.shares())
    return Table(
        "bursts",
        "False rollbacks when failures come together",
        f"share of {scale.runs} phases of {scale.hours:g} h, both revisions alike, 5 % to the "
        "candidate; 2 / 20 / 200 calls/s. A: bursts of a minute to 30 % that both have; B: an "
        "outage of both, 10 min at 60 %; C: both drift to 8 % for 2 h; D: each pod has bad minutes "
        f"of its own; E: retries, failures in clusters of three. {LEGEND}",
        ("", "A shared bursts", "B outage", "C drift", "D own bursts", "E retries"),
        _by_rule(shares),
    )


# --- regressions -----------------------------------------------------------------------------------

_REGRESSIONS: Final = (
    *((2, 0.01, 0.01, 1.0, 4), (2, 0.01, 0.01, 0.10, 12)),
    *((2, 0.05, 0.01, 1.0, 2), (2, 0.05, 0.01, 0.10, 8), (2, 0.05, 0.04, 0.08, 12)),
    *((20, 0.05, 0.01, 0.055, 4), (20, 0.05, 0.01, 0.02, 8), (20, 0.05, 0.04, 0.08, 4)),
    *((200, 0.05, 0.01, 0.10, 2), (200, 0.05, 0.01, 1.0, 1)),
)
"""Calls per second, weight, rate before and after, hours after the onset."""


def detection(scale: Scale) -> Table:
    """How long a regression in mid-phase goes on, and how many bad calls it costs."""
    rows: list[tuple[Cell, ...]] = []
    for row, (calls, weight, before, after, most) in enumerate(_REGRESSIONS):
        start = 2.0
        traffic = Traffic(calls, weight, start + most, diurnal=0.0)
        found: dict[str, list[float | None]] = {"engine": [], **{r.name: [] for r in RULES}}
        bad: list[float] = []
        for chance in chances("detect", row, scale.runs, scale.seed):
            rate = worlds.onset(traffic, before, after, start)
            world = worlds.errors(chance, traffic, rate, before)
            outcome = run(plan(error_checks(), traffic.hours), world)
            found["engine"].append(outcome.failed)
            if outcome.failed is not None and outcome.failed > start * 3600:
                served = (world.times > start * 3600) & (world.times <= outcome.failed)
                bad.append(float(world.arm("candidate", "errors")[served].sum()))
            for rule in RULES:
                found[rule.name].append(rule.fails(world))
        cells = [_delay(times, start * 3600) for times in found.values()]
        if bad:
            cells[0] += f" ({statistics.median(bad):.0f} bad)"
        rows.append((f"{calls}/s at {weight:.0%}: {before:.0%} → {100 * after:g}%", *cells))
    return Table(
        "detection",
        "Regressions two hours into a phase",
        f"median delay over {scale.runs} phases; FA: share rolled back before there was anything; "
        f"never: not within the time simulated. {LEGEND}",
        ("traffic", "engine", *(rule.name for rule in RULES)),
        tuple(rows),
    )


def _delay(times: Sequence[float | None], onset: float) -> str:
    early = sum(at is not None and at <= onset for at in times)
    late = sorted(at - onset for at in times if at is not None and at > onset)
    honest = len(times) - early
    text = "—"
    if honest:
        text = _stretch(late[honest // 2]) if len(late) > honest // 2 else "never"
    return f"{text}, FA {early / len(times):.0%}" if early else text


def _stretch(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
