"""The engine over a simulated world, through its public surface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from phasegate.engine.checks import CheckSpec
from phasegate.engine.dispersion import dispersion
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import Verdict

from bench.judgement.worlds import SCRAPE, World

CHUNK = 40
"""Scrapes fed at once: the verdict does not depend on it, the time it takes does."""
_BLOCK = 20
"""Scrapes in a block of the baseline's history: five minutes."""


@dataclass(frozen=True)
class Outcome:
    """When a phase was decided, in seconds of the phase."""

    failed: float | None
    passed: float | None
    """The first Pass, to the chunk if `judge_every` is larger than one."""
    message: str
    passes_at_end: bool


def plan(
    checks: Sequence[CheckSpec],
    hours: float,
    alpha: float = 0.01,
    min_samples: int = 50,
    dispersions: tuple[tuple[str, float], ...] = (),
) -> EvidencePlan:
    """A phase that begins at time zero."""
    return EvidencePlan(
        phase="bench",
        start=0.0,
        planned_seconds=hours * 3600,
        alpha=alpha,
        beta=0.05,
        min_samples=min_samples,
        min_seconds=0.0,
        stale_seconds=120.0,
        checks=tuple(checks),
        volume=Selector("calls"),
        dispersion=dispersions,
    )


def history(world: World, check: str) -> tuple[tuple[str, float], ...]:
    """The dispersion of errors in a baseline's past, as the operator reads it."""
    calls, bad = world.arm("baseline", "calls"), world.arm("baseline", "errors")
    whole = len(calls) // _BLOCK * _BLOCK
    blocks = zip(
        calls[:whole].reshape(-1, _BLOCK).sum(axis=1),
        bad[:whole].reshape(-1, _BLOCK).sum(axis=1),
        strict=True,
    )
    phi = dispersion((float(n), float(x)) for n, x in blocks)
    return ((check, phi),) if phi > 1 else ()


def run(evidence_plan: EvidencePlan, world: World, *, judge_every: int = CHUNK) -> Outcome:
    """Feed a world; ends with the first Fail."""
    evidence = Evidence(evidence_plan)
    readings = _Readings(world)
    evidence.ingest(readings.origin())
    passed: float | None = None
    verdict = Verdict.INCONCLUSIVE
    for start in range(0, len(world.times), judge_every):
        end = min(start + judge_every, len(world.times))
        before = evidence.dump() if judge_every > 1 else None
        evidence.ingest(readings.between(start, end))
        at = float(world.times[end - 1])
        judged = evidence.judge(at)
        verdict = judged.verdict
        if verdict == Verdict.FAIL:
            if before is not None:
                at = _exactly(evidence_plan, before, readings, start, end)
            return Outcome(at, passed, judged.message, passes_at_end=False)
        if verdict == Verdict.PASS and passed is None:
            passed = at
    return Outcome(None, passed, "", passes_at_end=verdict == Verdict.PASS)


def _exactly(
    evidence_plan: EvidencePlan,
    before: dict[str, object],
    readings: _Readings,
    start: int,
    end: int,
) -> float:
    """Feed a chunk again, scrape by scrape: when it failed."""
    evidence = Evidence.load(evidence_plan, before)
    # What was not settled yet is not in the stored state: it is read again.
    evidence.ingest(readings.between(max(0, start - 2), start))
    for index in range(start, end):
        evidence.ingest(readings.between(index, index + 1))
        at = float(readings.times[index])
        if evidence.judge(at).verdict == Verdict.FAIL:
            return at
    raise AssertionError("the verdict depends on how samples are grouped")


class _Readings:
    """Cumulative counters of one pod per arm; the baseline is scraped a second before."""

    def __init__(self, world: World) -> None:
        self.times = world.times
        self._offsets: dict[Arm, float] = {"candidate": 0.0, "baseline": -1.0}
        self._series = []
        for (arm, name, edge), increments in world.columns.items():
            labels = (("le", edge), ("pod", arm)) if edge else (("pod", arm),)
            at = (world.times + self._offsets[arm]).tolist()
            values = np.cumsum(increments).tolist()
            self._series.append((arm, name, labels, list(zip(at, values, strict=True))))

    def origin(self) -> list[Series]:
        """The baseline before the phase."""
        return [
            Series(arm, name, labels, ((-SCRAPE, 0.0),))
            for arm, name, labels, _ in self._series
            if arm == "baseline"
        ]

    def between(self, start: int, end: int) -> list[Series]:
        """Samples of scrapes [start, end)."""
        return [
            Series(arm, name, labels, tuple(samples[start:end]))
            for arm, name, labels, samples in self._series
        ]


def chances(table: str, row: int, runs: int, seed: int) -> Iterator[np.random.Generator]:
    """A generator for each run of a row of a table: the same for the same seed, whatever else runs."""
    name = int.from_bytes(table.encode()[:6].ljust(6), "big")
    for number in range(runs):
        yield np.random.default_rng([seed, name, row, number])
