"""Calls that hang are counted once, and a call that is only slow never is."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.api.rollbackpolicy import Level, Metric
from phasegate.engine.deadlines import Overdue, Pending
from phasegate.engine.evidence import Evidence
from phasegate.engine.samples import Arm
from phasegate.engine.verdict import Verdict
from pydantic import TypeAdapter

from tests.engine.agents import SCRAPE, START, Agents, plan

DEADLINE = 60.0
HANGS = Metric(name="hang-rate", rollback=Level(above="5%"))
"""The deadline is the source's: 60 s."""


@dataclass
class Pod:
    """A process whose calls begin and end at known times."""

    calls: list[tuple[float, float]] = field(default_factory=list)

    def begun(self, at: float) -> int:
        return sum(begin <= at for begin, _ in self.calls)

    def answered(self, at: float) -> int:
        return sum(end <= at for _, end in self.calls)

    def overdue(self, at: float) -> int:
        """Calls whose deadline has passed without an answer by then."""
        return sum(begin + DEADLINE <= at and end > begin + DEADLINE for begin, end in self.calls)


def counted(pod: Pod, scrapes: list[float]) -> list[Overdue]:
    """What is found by a sample of both counters at each time; all steps have the pod."""
    pending, before, found = Pending(), (0.0, (0, 0)), []
    for at in scrapes:
        now = pod.begun(at), pod.answered(at)
        more = float(now[0] - before[1][0]), float(now[1] - before[1][1])
        found.append(pending.add(before[0], at, DEADLINE, {"p": more}))
        before = at, now
    return found


moments = st.floats(0, 1500)
durations = st.one_of(st.floats(0, 59), st.floats(61, 400), st.just(1e9))
gaps = st.lists(st.floats(1, 90), min_size=30, max_size=60)


@given(st.lists(st.tuples(moments, durations), max_size=60), gaps)
@settings(deadline=None)
def test_never_more_than_really_hang_and_never_one_that_is_answered_in_time(
    calls: list[tuple[float, float]], waits: list[float]
) -> None:
    pod = Pod([(begin, begin + lasts) for begin, lasts in calls])
    at, scrapes = 0.0, []
    for wait in waits:
        at += wait
        scrapes.append(at)
    bad = 0.0
    for when, found in zip(scrapes, counted(pod, scrapes), strict=True):
        bad += found.bad
        assert 0 <= bad <= pod.overdue(when)
        assert found.bad <= found.total


@given(st.lists(moments, min_size=1, max_size=40))
@settings(deadline=None)
def test_every_call_that_hangs_is_found_once_the_others_are_answered(begins: list[float]) -> None:
    """Busy, then quiet, then busy again: the same open calls do not count a second time."""
    hang = [(begin, 1e9) for begin in begins[::2]]
    fine = [(begin, begin + 5) for begin in begins[1::2]]
    later = [(3000.0 + i, 3002.0 + i) for i in range(200)]
    pod = Pod([*hang, *fine, *later])
    scrapes = [15.0 * i for i in range(1, 300)]
    found = counted(pod, scrapes)
    assert sum(step.bad for step in found) == len(hang)
    assert sum(step.total for step in found) >= len(pod.calls)


def test_a_pod_that_died_with_open_calls_counts_them_once() -> None:
    """Its counters begin anew, its open calls stay open for ever."""
    pending = Pending()
    bad = pending.add(0, 15, DEADLINE, {"p": (30.0, 20.0)}).bad
    for i in range(1, 100):
        quiet = i % 20 > 10
        more = (0.0, 0.0) if quiet else (5.0, 5.0)
        bad += pending.add(15.0 * i, 15.0 * i + 15, DEADLINE, {"p": more}).bad
    assert bad == 10


def test_a_pod_that_is_not_scraped_says_nothing() -> None:
    pending = Pending()
    pending.add(0, 15, DEADLINE, {"p": (30.0, 0.0)})
    for i in range(1, 100):
        assert pending.add(15.0 * i, 15.0 * i + 15, DEADLINE, {}) == Overdue()


def test_its_state_is_bounded_and_comes_back() -> None:
    pending, chance = Pending(), random.Random(1)
    adapter: TypeAdapter[Pending] = TypeAdapter(Pending)
    for i in range(400):
        scraped = {
            f"pod-{p}": (float(chance.randint(0, 9)), float(chance.randint(0, 9)))
            for p in range(50)
        }
        pending.add(i, i + 1, DEADLINE, scraped)
    text = adapter.dump_json(pending)
    assert len(text) < 3000
    assert adapter.validate_json(text) == pending


def judged(hang: float, seconds: float, steps: int = 60) -> Verdict:
    """A candidate of which a share of calls hangs and the others need so many seconds."""
    chance = random.Random(5)
    pods = (Pod(), Pod())
    agents, evidence = Agents(), Evidence(plan(HANGS, hours=1.0))
    arms: tuple[Arm, ...] = ("candidate", "baseline")
    seen = dict.fromkeys(arms, (0, 0))
    for step in range(1, steps + 1):
        at = START + step * SCRAPE
        for arm, pod in zip(arms, pods, strict=True):
            for _ in range(30):
                begin = at - chance.uniform(0, SCRAPE)
                hangs = arm == "candidate" and chance.random() < hang
                pod.calls.append((begin, 1e12 if hangs else begin + chance.uniform(0, seconds)))
            now = pod.begun(at), pod.answered(at)
            begun, answered = now[0] - seen[arm][0], now[1] - seen[arm][1]
            seen[arm] = now
            agents.add(arm, "agent_requests_started_total", begun)
            agents.calls(arm, {"success": answered})
        evidence.ingest(agents.scrape(at))
    return evidence.judge(START + steps * SCRAPE).verdict


def test_a_candidate_that_hangs_is_taken_back_though_no_call_fails() -> None:
    assert judged(hang=0.2, seconds=2.0) == Verdict.FAIL


@pytest.mark.parametrize("seconds", [2.0, 58.0])
def test_a_candidate_that_answers_before_the_deadline_passes_however_slow(seconds: float) -> None:
    assert judged(hang=0.0, seconds=seconds) == Verdict.PASS
