"""Early warnings, metrics that warm up, and traffic that is thin."""

from __future__ import annotations

from dataclasses import replace

import pytest
from phasegate.api.rollbackpolicy import Level, Metric
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.base import Settings
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.kinds.ratio_tracker import RatioTracker
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import Judgement, Reason, Verdict

from tests.engine.agents import SCRAPE, START, Agents, plan
from tests.engine.steps import step

ESCALATION = Metric(
    name="escalation-rate", gate=Level(below="25%"), rollback=Level(above="50%", window="15m")
)


class Traffic:
    """Both arms answer a hundred and four hundred calls per scrape, a share of them escalated."""

    def __init__(self, evidence_plan: EvidencePlan) -> None:
        self.agents, self.evidence, self.step = Agents(), Evidence(evidence_plan), 0
        self.agents.calls("baseline", {"success": 100, "escalated": 10})
        self.evidence.ingest(self.agents.scrape(START - SCRAPE))

    def run(self, steps: int, candidate: float, baseline: float = 12.0) -> list[Judgement]:
        """Go on at these percentages; what is said after each scrape."""
        found = []
        for _ in range(steps):
            self.step += 1
            at = START + self.step * SCRAPE
            bad = {"escalated": candidate, "success": 100 - candidate}
            self.agents.calls("candidate", bad)
            usual = {"escalated": 4 * baseline, "success": 4 * (100 - baseline)}
            self.agents.calls("baseline", usual)
            self.evidence.ingest(self.agents.scrape(at))
            found.append(self.evidence.judge(at))
        return found


def test_a_trend_without_a_breach_is_warned_of_with_its_numbers() -> None:
    traffic = Traffic(plan(ESCALATION))
    assert not any(said.warnings for said in traffic.run(60, 12))
    worse = traffic.run(60, 18)
    assert all(said.verdict != Verdict.FAIL for said in worse)
    (warning,) = worse[-1].warnings
    assert warning.startswith("escalation-rate: candidate 18.0% (")
    assert "vs baseline 12.0% (" in warning
    for words in ("1.5x, over the last", "odds against chance", "no limit is breached"):
        assert words in warning
    first = next(i for i, said in enumerate(worse) if said.warnings)
    assert first < 25
    traffic.run(60, 12)
    assert not traffic.run(1, 12)[0].warnings


def test_what_the_baseline_shares_is_no_trend() -> None:
    traffic = Traffic(plan(ESCALATION))
    traffic.run(60, 12)
    assert not any(said.warnings for said in traffic.run(60, 25, baseline=25))


def test_a_breach_is_not_warned_of_early() -> None:
    traffic = Traffic(plan(ESCALATION))
    traffic.run(60, 12)
    said = traffic.run(80, 70)
    assert said[-1].verdict == Verdict.FAIL
    assert not said[-1].warnings
    assert any(judgement.warnings for judgement in said)


# --- warm-up -------------------------------------------------------------------------------------


def warming(metric: Metric, seconds: float) -> EvidencePlan:
    made = plan(metric)
    return replace(made, checks=tuple(replace(check, warm_up=seconds) for check in made.checks))


def test_what_happens_while_a_metric_warms_up_does_not_count() -> None:
    metric = Metric(name="escalation-rate", rollback=Level(above="50%"))
    traffic = Traffic(warming(metric, 300.0))
    cold = traffic.run(20, 90)
    assert {said.reason for said in cold[:-1]} == {Reason.TOO_FEW_SAMPLES}
    assert "warming up" in cold[0].message
    warm = traffic.run(30, 12)
    assert warm[-1].verdict == Verdict.PASS
    assert warm[-1].checks[0].total == 30 * 100
    assert warm[-1].candidate_calls == 50 * 100


def test_an_event_while_its_metric_warms_up_does_not_count_either() -> None:
    safety = Metric(name="safety-flags", rollback=Level(above="0"))
    for warm_up, verdict in ((60.0, Verdict.PASS), (0.0, Verdict.FAIL)):
        traffic = Traffic(warming(safety, warm_up))
        traffic.agents.add("candidate", "agent_safety_flags_total", 1, category="pii")
        said = traffic.run(6, 0)
        assert said[-1].verdict == verdict


# --- one call a minute -----------------------------------------------------------------------------


def evidence_of(bad: list[int], calls_per_scrape: int, seconds: float) -> float:
    """Nats against the candidate after so many calls (1: bad), the baseline's rate being 1 %."""
    total, wrong = Selector("calls"), Selector("errors")
    check = RatioCheck("e", "e", total, wrong, relative=Relative())
    tracker = RatioTracker(
        check, Settings(START, 86400.0, 0.01, 0.05, 50, 120.0, rollback_tests=9, alert_tests=0)
    )

    for i in range(0, len(bad), calls_per_scrape):
        at = START + (i / calls_per_scrape + 1) * seconds
        found = bad[i : i + calls_per_scrape]
        tracker.step(
            step(
                at,
                seconds,
                {"calls": float(len(found)), "errors": float(sum(found))},
                {"calls": 100.0 * len(found), "errors": 1.0 * len(found)},
            )
        )
    return tracker._state.trials["ratio"].log_e()


@pytest.mark.parametrize("every", [1, 3, 10])
def test_calls_that_come_one_by_one_lose_no_evidence(every: int) -> None:
    """One call a minute in sixty scrapes, against ten at once in six: the same or more."""
    bad = [int(i % every == 0) for i in range(60)]
    alone, at_once = evidence_of(bad, 1, 60.0), evidence_of(bad, 10, 600.0)
    assert alone >= at_once - 0.05
