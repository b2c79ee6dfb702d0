"""Agents whose calls take time: cumulative histograms of both arms, scraped every 15 s."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import CheckVerdict

from tests.engine.agents import SCRAPE, START, Agents

EDGES = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.875, 2.4, 3, 3.75, 4.7, 5.9, 7.3, 9.2, 11.4, 15, 30)
HISTOGRAM = Selector("took_seconds")
CALLS = Selector("took_seconds_count")

Latency = Callable[[random.Random], float]
Story = Callable[[int], tuple[Latency | None, Latency | None]]
"""Step → how long a call of the candidate and of the baseline takes; None: no calls."""


def lognormal(median: float = 0.7, sigma: float = 0.7) -> Latency:
    """p95 at 3.16 times the median."""
    return lambda chance: median * math.exp(sigma * chance.gauss(0, 1))


def mostly(usual: Latency, share: float, factor: float) -> Latency:
    """A share of the calls takes `factor` times as long."""
    return lambda chance: usual(chance) * (factor if chance.random() < share else 1.0)


def plan(*checks: QuantileCheck, alpha: float = 0.01, hours: float = 6.0) -> EvidencePlan:
    return EvidencePlan(
        phase="canary",
        start=START,
        planned_seconds=hours * 3600,
        alpha=alpha,
        beta=0.05,
        min_samples=50,
        min_seconds=0.0,
        stale_seconds=120.0,
        checks=checks,
        volume=CALLS,
    )


def called(
    agents: Agents,
    arm: Arm,
    latencies: Sequence[float],
    edges: Sequence[float],
    pod: str = "p0",
) -> None:
    """Count calls as an exporter does: every bucket is there, hit or not."""
    agents.add(arm, str(CALLS), len(latencies), pod)
    for edge in (*edges, math.inf):
        text = "+Inf" if math.isinf(edge) else f"{edge:g}"
        agents.add(arm, "took_seconds_bucket", sum(t <= edge for t in latencies), pod, le=text)


def scrapes(
    seed: int,
    story: Story,
    steps: int,
    *,
    calls: int = 8,
    edges: tuple[Sequence[float], Sequence[float]] = (EDGES, EDGES),
) -> Iterator[list[Series]]:
    """About `calls` of the candidate a scrape, and four times as many of the baseline."""
    chance, agents = random.Random(seed), Agents()
    called(agents, "baseline", [0.7] * 1000, edges[1])
    yield agents.scrape(START - SCRAPE)
    for step in range(1, steps + 1):
        arms: tuple[Arm, Arm] = ("candidate", "baseline")
        for arm, latency, count, own in zip(
            arms, story(step), (calls, 4 * calls), edges, strict=True
        ):
            n = 0 if latency is None else chance.randint(count - count // 2, count + count // 2)
            called(agents, arm, [latency(chance) for _ in range(n)] if latency else [], own)
        yield agents.scrape(START + step * SCRAPE)


def judged(
    evidence_plan: EvidencePlan, batches: Iterator[list[Series]]
) -> Iterator[tuple[int, Evidence, dict[str, CheckVerdict]]]:
    """Step, evidence, and the verdicts by check, after every scrape."""
    evidence = Evidence(evidence_plan)
    for step, batch in enumerate(batches):
        evidence.ingest(batch)
        judgement = evidence.judge(START + step * SCRAPE)
        if step:
            yield step, evidence, {check.check: check for check in judgement.checks}
