"""What judging costs: time per scrape, a fleet's share of a core, bytes of state."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.engine.checks import CheckSpec
from phasegate.engine.compiling import Context, compile_checks
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.samples import Arm, Series
from phasegate.engine.sources import AGENT_CONTRACT

from bench.judgement.shapes import Cell, Scale, Table
from bench.judgement.worlds import EDGES

_HOURS = 6.0
_TICK = 5.0
_FLEET = 1000
_BUDGET = RollbackPolicySpec.model_validate(
    {
        "metrics": [
            {
                **{"name": "error-rate", "gate": {"below": "5%"}},
                **{"rollback": {"above": "5%", "window": "30m"}, "baseline": {}},
            },
            {"name": "escalation-rate", "gate": {"below": "20%"}, "rollback": {"above": "50%"}},
            {"name": "latency-p95", "rollback": {"above": "3s"}, "baseline": {}},
            {"name": "cost-per-call", "baseline": {}},
            {"name": "quality-score", "baseline": {}},
            {"name": "tool-error-rate", "rollback": {"above": "10%"}, "baseline": {}},
            {"name": "safety-flags", "rollback": {"above": "0"}},
            {"name": "accuracy", "gate": {"above": "90%"}, "rollback": {"below": "85%"}},
        ]
    }
)
"""Eight metrics, as the documents ask for them."""


class _Pods:
    """Two pods of the candidate and four of the baseline, each with all series of the contract."""

    def __init__(self, seed: int, calls: float) -> None:
        self._chance = np.random.default_rng(seed)
        self._calls = calls
        self._totals: dict[tuple[Arm, str, tuple[tuple[str, str], ...]], float] = {}

    def scrape(self, at: float) -> list[Series]:
        """One reading of every series of every pod."""
        arms: tuple[tuple[Arm, int], ...] = (("candidate", 2), ("baseline", 4))
        for arm, pods in arms:
            for pod in range(pods):
                self._answer(arm, f"p{pod}", int(self._chance.poisson(self._calls)))
        return [
            Series(arm, name, labels, ((at, total),))
            for (arm, name, labels), total in self._totals.items()
        ]

    def _answer(self, arm: Arm, pod: str, calls: int) -> None:
        bad, escalated, judged = (int(self._chance.binomial(calls, p)) for p in (0.01, 0.12, 0.1))
        took = self._chance.lognormal(np.log(0.8), 0.7, calls)
        self._add(arm, pod, "agent_requests_total", calls - bad - escalated, outcome="success")
        self._add(arm, pod, "agent_requests_total", bad, outcome="error")
        self._add(arm, pod, "agent_requests_total", escalated, outcome="escalated")
        for edge in EDGES:
            below = int((took <= edge).sum())
            self._add(arm, pod, "agent_request_duration_seconds_bucket", below, le=f"{edge:g}")
        self._add(arm, pod, "agent_request_duration_seconds_bucket", calls, le="+Inf")
        self._add(arm, pod, "agent_cost_usd_total", float(self._chance.gamma(calls + 0.1, 0.02)))
        self._add(arm, pod, "agent_tool_calls_total", calls, outcome="success", tool="crm")
        self._add(arm, pod, "agent_tool_calls_total", bad, outcome="error", tool="crm")
        self._add(arm, pod, "agent_safety_flags_total", 0, category="any")
        self._add(arm, pod, "agent_eval_total", judged)
        self._add(arm, pod, "agent_eval_passed_total", int(self._chance.binomial(judged, 0.95)))
        self._add(arm, pod, "agent_eval_score_sum", 4.2 * judged)
        self._add(arm, pod, "agent_eval_score_count", judged)

    def _add(self, arm: Arm, pod: str, name: str, amount: float, **labels: str) -> None:
        key = (arm, name, tuple(sorted({"pod": pod, **labels}.items())))
        self._totals[key] = self._totals.get(key, 0.0) + amount


def _plan(checks: Sequence[CheckSpec]) -> EvidencePlan:
    return EvidencePlan(
        phase="bench",
        start=0.0,
        planned_seconds=_HOURS * 3600,
        alpha=0.01,
        beta=0.05,
        min_samples=50,
        min_seconds=0.0,
        stale_seconds=120.0,
        checks=tuple(checks),
        volume=AGENT_CONTRACT.calls,
    )


def cost(scale: Scale) -> Table:
    """CPU seconds are this process's own, so other load does not count."""
    checks = compile_checks(_BUDGET, Context())
    rows: list[tuple[Cell, ...]] = []
    eight = _scrapes(checks, scale.seed, calls=3.0, scrapes=600)
    rows.append(("8 checks, 6 pods, every scrape", f"{eight * 1000:.2f} ms", "≤ 1 ms"))
    seven = _scrapes(checks[:7], scale.seed, calls=1.0, scrapes=300)
    share = _FLEET * seven / _TICK
    name = f"{_FLEET} rollouts × 7 metrics, a tick every {_TICK:g} s"
    rows.append((name, f"{share:.2f} of a core", "≤ 0.5 of a core"))
    for hours in (1.0, _HOURS):
        sizes, whole = _state(checks, scale.seed, hours)
        after = f"after {hours:g} h"
        largest = max(sizes, key=lambda check: sizes[check])
        rows.append((f"state of a rollout {after}", f"{whole / 1024:.1f} KiB", "≤ 50 KiB"))
        rows.append(
            (f"largest check {after} ({largest})", f"{sizes[largest] / 1024:.1f} KiB", "≤ 4 KiB")
        )
    return Table(
        "cost",
        "What judging costs",
        "one process, no queries: taking in the raw samples of all pods, and judging",
        ("what", "measured", "target"),
        tuple(rows),
    )


def _scrapes(checks: Sequence[CheckSpec], seed: int, calls: float, scrapes: int) -> float:
    """CPU seconds for taking in a scrape of all pods and judging it."""
    pods, evidence = _Pods(seed, calls), Evidence(_plan(checks))
    spent = 0.0
    for number in range(scrapes + 20):
        at = 15.0 * number
        batch = pods.scrape(at)
        began = time.process_time()
        evidence.ingest(batch)
        evidence.judge(at)
        if number >= 20:
            spent += time.process_time() - began
    return spent / scrapes


def _state(checks: Sequence[CheckSpec], seed: int, hours: float) -> tuple[dict[str, int], int]:
    """Bytes of each check's stored state as JSON, and of the whole evidence's."""
    pods, evidence = _Pods(seed, 3.0), Evidence(_plan(checks))
    for number in range(round(hours * 240)):
        evidence.ingest(pods.scrape(15.0 * number))
    state = evidence.dump()
    compact = {"separators": (",", ":")}
    sizes = {
        check.name: len(json.dumps(stored, **compact))  # type: ignore[arg-type]
        for check, stored in zip(checks, state["checks"], strict=True)
    }
    return sizes, len(json.dumps(state, **compact))  # type: ignore[arg-type]
