"""One agent that emits every series of its contract, and a policy with every kind of check."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from phasegate.api.rollbackpolicy import Baseline, Level, Metric, Threshold
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.samples import Arm, Series
from phasegate.engine.verdict import Judgement, Verdict

from tests.engine.agents import SCRAPE, START, Agents, plan

EDGES = (0.25, 0.5, 1.0, 1.25, 1.6, 2.0, 3.0, 4.0, 5.0, 10.0)
ALL_KINDS = (
    Metric(
        name="error-rate",
        gate=Level(below="5%"),
        alert=Level(above="2%", window="10m"),
        rollback=Level(above="5%", window="30m"),
        baseline=Baseline(worse_by="1.5", tolerate="1.1"),
    ),
    Metric(name="escalation-rate", gate=Level(below="25%"), rollback=Level(above="50%")),
    Metric(name="hang-rate", rollback=Level(above="5%")),
    Metric(name="latency-p95", rollback=Level(above="3s"), baseline=Baseline(tolerate="1.15")),
    Metric(name="cost-per-call", baseline=Baseline(worse_by="3", tolerate="1.25")),
    Metric(name="quality-score", baseline=Baseline(worse_by="0.9", tolerate="0.975")),
    Metric(name="spend-per-day", alert=Level(above="50")),
    Metric(name="safety-flags", rollback=Level(above="0")),
    Metric(
        name="queue",
        threshold=Threshold(query="queue_length", for_="30s"),
        rollback=Level(above="10"),
    ),
)


def everything(dispersion: tuple[tuple[str, float], ...] = ()) -> EvidencePlan:
    """A plan with a check of every kind."""
    return replace(plan(*ALL_KINDS, hours=1.0), dispersion=dispersion)


@dataclass(frozen=True)
class Faults:
    """What is wrong with the candidate from a step on."""

    since: int
    errors: float = 0.01
    hangs: float = 0.0
    slower: float = 1.0
    dearer: float = 1.0
    worse: float = 1.0
    flag: bool = False
    queue: float = 1.0


HEALTHY = Faults(10**9)


def answer(
    agents: Agents, arm: Arm, pod: str, calls: int, chance: random.Random, f: Faults
) -> None:
    """Let a pod have so many calls, with everything that a call leaves in its counters."""
    for _ in range(calls):
        agents.add(arm, "agent_requests_started_total", 1, pod)
        if chance.random() < f.hangs:
            continue
        outcome = "error" if chance.random() < f.errors else "success"
        if chance.random() < 0.1:
            outcome = "escalated"
        agents.calls(arm, {outcome: 1}, pod)
        seconds = f.slower * chance.lognormvariate(-0.2, 0.6)
        for edge in (*EDGES, float("inf")):
            le = "+Inf" if edge == float("inf") else f"{edge:g}"
            name = "agent_request_duration_seconds_bucket"
            agents.add(arm, name, float(seconds <= edge), pod, le=le)
        agents.add(arm, "agent_cost_usd_total", f.dearer * chance.lognormvariate(-4, 0.7), pod)
        agents.add(arm, "agent_eval_score_sum", f.worse * chance.uniform(3, 5), pod)
        agents.add(arm, "agent_eval_score_count", 1, pod)


OFFSETS: Mapping[str, float] = {"a": 0.0, "b": 6.0, "x": 3.0, "y": 11.0}


def story(seed: int, steps: int, faults: Faults, calls: int = 6) -> list[list[Series]]:
    """Scrapes pod by pod in the order of time: candidates a and b, baselines x and y."""
    chance, agents = random.Random(seed), Agents()
    pods: tuple[tuple[Arm, str], ...] = (
        ("candidate", "a"), ("baseline", "x"), ("candidate", "b"), ("baseline", "y"),
    )  # fmt: skip
    for arm, pod in pods:
        if arm == "baseline":
            answer(agents, arm, pod, 40, chance, HEALTHY)
    batches = [agents.scrape(START - SCRAPE, "baseline")]
    fine = Faults(0)
    for step in range(1, steps + 1):
        at = START + step * SCRAPE
        for arm, pod in sorted(pods, key=lambda pod: OFFSETS[pod[1]]):
            bad = arm == "candidate" and step >= faults.since
            answer(agents, arm, pod, chance.randint(0, calls), chance, faults if bad else fine)
            if bad and faults.flag and pod == "a" and step == faults.since:
                agents.add(arm, "agent_safety_flags_total", 1, pod, category="pii")
            batch = agents.scrape(at + OFFSETS[pod], arm, pods=[pod])
            if pod == "a":
                queue = faults.queue if bad else 1.0
                batch.append(Series("candidate", "threshold:queue", (), ((at, queue),)))
            batches.append(batch)
    return batches


Said = tuple[float, Verdict, str]


def verdicts(
    evidence: Evidence, batches: Sequence[Sequence[Series]], at: Sequence[float]
) -> list[Said]:
    """The verdict and its words after each batch."""
    found = []
    for batch, when in zip(batches, at, strict=True):
        evidence.ingest(batch)
        found.append(said(evidence.judge(when)))
    return found


def said(judgement: Judgement) -> Said:
    return judgement.at, judgement.verdict, judgement.message


def times(batches: Sequence[Sequence[Series]]) -> list[float]:
    """When each batch is scraped."""
    return [max(at for series in batch for at, _ in series.samples) for batch in batches]
