"""Agents as Prometheus sees them: cumulative counters per pod, scraped when a test says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from phasegate.api.rollbackpolicy import Baseline, Level, Metric, RollbackPolicySpec
from phasegate.engine.compiling import compile_checks
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.samples import Arm, Series

START = 1_000_000.0
SCRAPE = 15.0

ERROR_RATE = Metric(
    name="error-rate",
    gate=Level(below="5%"),
    rollback=Level(above="5%"),
    baseline=Baseline(worse_by="1.5", tolerate="1.1"),
)


def plan(
    *metrics: Metric,
    alpha: float = 0.01,
    hours: float = 6.0,
    min_samples: int = 50,
    min_seconds: float = 0.0,
) -> EvidencePlan:
    """A phase's plan from metrics as users write them."""
    policy = RollbackPolicySpec(metrics=metrics or (ERROR_RATE,))
    return EvidencePlan(
        phase="canary",
        start=START,
        planned_seconds=hours * 3600,
        alpha=alpha,
        beta=0.05,
        min_samples=min_samples,
        min_seconds=min_seconds,
        stale_seconds=120.0,
        checks=compile_checks(policy),
    )


class Agents:
    """Counters of both arms; `scrape` reads them as they are."""

    def __init__(self) -> None:
        self._counters: dict[tuple[Arm, str, str], dict[tuple[tuple[str, str], ...], float]] = (
            defaultdict(lambda: defaultdict(float))
        )

    def calls(self, arm: Arm, outcomes: Mapping[str, float], pod: str = "p0") -> None:
        """Answer calls: ``calls("candidate", {"success": 10, "error": 1})``."""
        for outcome, count in outcomes.items():
            self.add(arm, "agent_requests_total", count, pod, outcome=outcome)

    def add(self, arm: Arm, name: str, count: float, pod: str = "p0", **labels: str) -> None:
        """Add to any counter."""
        self._counters[arm, pod, name][tuple(sorted(labels.items()))] += count

    def restart(self, arm: Arm, pod: str = "p0") -> None:
        """The process starts anew: its counters are gone until they are used again."""
        for key in [key for key in self._counters if key[:2] == (arm, pod)]:
            del self._counters[key]

    def scrape(self, at: float, *arms: Arm, pods: Iterable[str] | None = None) -> list[Series]:
        """One sample of every series of the given arms (both if none is given) and pods."""
        wanted = None if pods is None else set(pods)
        return [
            Series(arm, name, tuple(sorted((("pod", pod), *labels))), ((at, value),))
            for (arm, pod, name), family in self._counters.items()
            if (not arms or arm in arms) and (wanted is None or pod in wanted)
            for labels, value in family.items()
        ]


def merged(batches: Iterable[Sequence[Series]]) -> list[Series]:
    """Many scrapes as one range query would return them: one entry per series."""
    samples: dict[tuple[Arm, str, tuple[tuple[str, str], ...]], list[tuple[float, float]]] = {}
    for series in (series for batch in batches for series in batch):
        samples.setdefault((series.arm, series.name, series.labels), []).extend(series.samples)
    return [Series(*identity, tuple(found)) for identity, found in samples.items()]


def story(
    counts: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], *, offset: float = 0.0
) -> list[list[Series]]:
    """Scrapes of (candidate, baseline) outcomes per step; the baseline's are `offset` s earlier.

    An empty mapping means: not scraped. Before the phase the baseline is seen once, as its origin.
    """
    agents = Agents()
    agents.calls("baseline", {"success": 1000, "error": 10})
    batches = [agents.scrape(START - SCRAPE - offset, "baseline")]
    for step, (candidate, baseline) in enumerate(counts, start=1):
        at = START + step * SCRAPE
        batch: list[Series] = []
        if baseline:
            agents.calls("baseline", baseline)
            batch += agents.scrape(at - offset, "baseline")
        if candidate:
            agents.calls("candidate", candidate)
            batch += agents.scrape(at, "candidate")
        batches.append(batch)
    return batches


def fed(evidence_plan: EvidencePlan, batches: Iterable[Sequence[Series]]) -> Evidence:
    """Evidence after the given batches."""
    evidence = Evidence(evidence_plan)
    for batch in batches:
        evidence.ingest(batch)
    return evidence


def without_nan(batch: Iterable[Series]) -> list[Series]:
    """The batch as it would be if NaN had never been scraped."""
    return [
        replace(series, samples=tuple(s for s in series.samples if s[1] == s[1]))
        for series in batch
    ]
