"""The verdict is a pure function of the samples: however they arrive, it is the same."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.api.rollbackpolicy import Metric
from phasegate.engine.evidence import Evidence, StateMismatch
from phasegate.engine.samples import Series
from phasegate.engine.verdict import Judgement, Verdict

from tests.engine.agents import SCRAPE, START, Agents, fed, merged, plan, story

SAFETY = Metric(name="safety-flags")
Outcomes = Mapping[str, float]

outcomes = st.fixed_dictionaries({"success": st.integers(0, 30), "error": st.integers(0, 6)})
maybe_scraped: st.SearchStrategy[Outcomes] = st.one_of(st.just({}), outcomes, outcomes, outcomes)
stories = st.lists(st.tuples(maybe_scraped, maybe_scraped), min_size=1, max_size=25)


def judged(evidence: Evidence, steps: int) -> Judgement:
    return evidence.judge(START + steps * SCRAPE + 1)


@given(stories, st.sampled_from([0.0, 4.0]))
@settings(deadline=None, max_examples=40)
def test_batches_of_any_size_give_the_same_verdict(
    counts: list[tuple[Outcomes, Outcomes]], offset: float
) -> None:
    batches = story(counts, offset=offset)
    one_by_one = judged(fed(plan(), batches), len(counts))
    assert judged(fed(plan(), [merged(batches)]), len(counts)) == one_by_one
    half = len(batches) // 2
    in_two = [merged(batches[:half]), merged(batches[half:])]
    assert judged(fed(plan(), in_two), len(counts)) == one_by_one


@given(stories, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_duplicates_overlap_and_disorder_within_a_batch_change_nothing(
    counts: list[tuple[Outcomes, Outcomes]], chance: random.Random
) -> None:
    batches = story(counts, offset=4.0)
    expected = judged(fed(plan(), batches), len(counts))
    evidence = Evidence(plan())
    for end in range(1, len(batches) + 1):
        again = merged(batches[max(0, end - 4) : end])
        shuffled = [
            replace(series, samples=tuple(chance.sample(series.samples, len(series.samples))))
            for series in chance.sample(again, len(again))
        ]
        evidence.ingest(shuffled)
    assert judged(evidence, len(counts)) == expected


@given(stories, st.integers(0, 25))
@settings(deadline=None, max_examples=40)
def test_a_restart_continues_from_dumped_state_as_if_it_had_not_been(
    counts: list[tuple[Outcomes, Outcomes]], cut: int
) -> None:
    batches = story(counts, offset=4.0)
    expected = judged(fed(plan(), batches), len(counts))
    before = fed(plan(), batches[:cut])
    state = json.loads(json.dumps(before.dump(), allow_nan=False))
    after = Evidence.load(plan(), state)
    assert after.dump() == before.dump()
    # What lies after newest() is read again, as a range query would.
    newest = -math.inf if after.newest() is None else after.newest()
    assert newest is not None
    rest = [
        replace(series, samples=tuple(s for s in series.samples if s[0] > newest))
        for series in merged(batches)
    ]
    after.ingest(rest)
    assert judged(after, len(counts)) == expected


@given(stories)
@settings(deadline=None, max_examples=40)
def test_nan_infinite_and_negative_samples_never_count(
    counts: list[tuple[Outcomes, Outcomes]],
) -> None:
    batches = story(counts)
    expected = judged(fed(plan(), batches), len(counts))
    evidence = Evidence(plan())
    for batch in batches:
        for junk in (math.nan, math.inf, -math.inf, -1.0):
            evidence.ingest([replace(s, samples=((s.samples[0][0], junk),)) for s in batch])
        evidence.ingest(batch)
    assert judged(evidence, len(counts)) == expected


@given(stories)
@settings(deadline=None, max_examples=40)
def test_without_candidate_data_there_is_neither_fail_nor_pass(
    counts: list[tuple[Outcomes, Outcomes]],
) -> None:
    alone: list[tuple[Outcomes, Outcomes]] = [({}, baseline) for _, baseline in counts]
    assert judged(fed(plan(), story(alone)), len(counts)).verdict == Verdict.INCONCLUSIVE


@given(stories, stories)
@settings(deadline=None, max_examples=40)
def test_fail_is_final(
    before: list[tuple[Outcomes, Outcomes]], after: list[tuple[Outcomes, Outcomes]]
) -> None:
    bad: list[tuple[Outcomes, Outcomes]] = [({"error": 10}, {"success": 200, "error": 2})] * 12
    evidence = Evidence(plan())
    counts = before + bad + after
    failed: Judgement | None = None
    for step, batch in enumerate(story(counts)):
        evidence.ingest(batch)
        judgement = judged(evidence, step)
        if failed is not None:
            assert judgement.verdict == Verdict.FAIL
            assert judgement.message == failed.message
        elif judgement.verdict == Verdict.FAIL:
            failed = judgement
    assert failed is not None
    reloaded = Evidence.load(plan(), evidence.dump())
    assert judged(reloaded, len(counts)).message == failed.message


# --- counters ------------------------------------------------------------------------------------


def calls(evidence: Evidence) -> tuple[float, float]:
    judgement = evidence.judge(START)
    return judgement.candidate_calls, judgement.baseline_calls


def test_a_reset_counts_what_the_new_process_has_counted() -> None:
    agents, evidence = Agents(), Evidence(plan())
    agents.calls("candidate", {"success": 100})
    evidence.ingest(agents.scrape(START + 15))
    agents.restart("candidate")
    agents.calls("candidate", {"success": 7})
    evidence.ingest(agents.scrape(START + 30))
    assert calls(evidence) == (107, 0)


def test_a_pod_seen_before_the_phase_counts_from_there_and_one_born_in_it_from_zero() -> None:
    agents, evidence = Agents(), Evidence(plan())
    agents.calls("candidate", {"success": 1000}, "old")
    evidence.ingest(agents.scrape(START - 1))
    agents.calls("candidate", {"success": 5}, "old")
    agents.calls("candidate", {"success": 3}, "new")
    evidence.ingest(agents.scrape(START + 15))
    assert calls(evidence) == (8, 0)


def test_what_a_baseline_pod_counted_before_it_was_seen_is_not_of_this_phase() -> None:
    agents, evidence = Agents(), Evidence(plan())
    agents.calls("baseline", {"success": 1000})
    evidence.ingest(agents.scrape(START + 1))
    agents.calls("baseline", {"success": 20, "error": 2})
    evidence.ingest(agents.scrape(START + 16))
    # The error series is new, its pod is not: it was born with its first errors.
    assert calls(evidence) == (0, 22)


def test_a_label_born_at_one_is_an_event() -> None:
    agents, evidence = Agents(), Evidence(plan(SAFETY))
    agents.calls("candidate", {"success": 10})
    evidence.ingest(agents.scrape(START + 15))
    agents.add("candidate", "agent_safety_flags_total", 1, category="pii")
    evidence.ingest(agents.scrape(START + 30))
    judgement = evidence.judge(START + 30)
    assert judgement.verdict == Verdict.FAIL
    assert judgement.checks[0].since == START + 30


def test_samples_missing_for_a_while_arrive_as_one_increment() -> None:
    agents, evidence = Agents(), Evidence(plan())
    agents.calls("candidate", {"success": 10})
    evidence.ingest(agents.scrape(START + 15))
    agents.calls("candidate", {"success": 600})
    evidence.ingest(agents.scrape(START + 900))
    assert calls(evidence) == (610, 0)


def test_a_slow_scrape_is_put_where_it_belongs() -> None:
    """A baseline scrape that took long appears after a later scrape of the candidate."""
    agents = Agents()
    batches = []
    agents.calls("baseline", {"success": 1000, "error": 300})
    before = [agents.scrape(START - back) for back in (20, 5)]
    for step in range(1, 12):
        agents.calls("baseline", {"success": 190, "error": 60})
        slow = agents.scrape(START + step * SCRAPE - 5, "baseline")
        agents.calls("candidate", {"success": 7, "error": 3})
        batches.append((slow, agents.scrape(START + step * SCRAPE, "candidate")))
    late, in_order = fed(plan(), before), fed(plan(), before)
    previous: list[Series] = []
    for slow, quick in batches:
        in_order.ingest([*slow, *quick])
        late.ingest([*previous, *quick])
        previous = slow
    late.ingest(previous)
    assert judged(late, 11) == judged(in_order, 11)


def test_a_pod_that_is_gone_is_not_waited_for() -> None:
    agents, evidence = Agents(), Evidence(plan())
    for step in range(1, 20):
        for pod in ("a", "b"):
            agents.calls("candidate", {"success": 10}, pod)
        pods = ("a", "b") if step < 4 else ("a",)
        evidence.ingest(agents.scrape(START + step * SCRAPE, pods=pods))
    assert evidence.newest() == START + 19 * SCRAPE


def test_several_pods_of_a_round_share_one_allowance() -> None:
    """An outage that both arms share reaches the candidate's scrapes first: no pod-count helps it."""
    agents, evidence = Agents(), Evidence(plan())
    pods = [f"p{i}" for i in range(20)]
    for step in range(1, 40):
        at = START + step * SCRAPE
        outage = 20 <= step <= 30
        outcome = "error" if outage else "success"
        for i, pod in enumerate(pods):
            agents.calls("candidate", {outcome: 20}, pod)
            evidence.ingest(agents.scrape(at + i * 0.1, "candidate", pods=[pod]))
        agents.calls("baseline", {outcome: 400})
        evidence.ingest(agents.scrape(at + 5, "baseline"))
        assert evidence.judge(at + 5).verdict != Verdict.FAIL, f"step {step}"


def test_pods_that_come_and_go_leave_nothing_behind() -> None:
    agents, evidence = Agents(), Evidence(plan())
    for hour in range(200):
        pod = f"b{hour}"
        for scrape in (1, 2):
            agents.calls("baseline", {"success": 10}, pod)
            agents.calls("candidate", {"success": 10})
            at = START + hour * 3600 + scrape * SCRAPE
            evidence.ingest(agents.scrape(at, pods=["p0", pod]))
    assert calls(evidence) == (4000, 2000)
    assert len(json.dumps(evidence.dump()["ledger"])) < 2_000


# --- state ---------------------------------------------------------------------------------------


def test_state_of_another_version_or_plan_is_refused() -> None:
    state = fed(plan(), story([({"success": 10}, {"success": 100})])).dump()
    with pytest.raises(StateMismatch):
        Evidence.load(plan(alpha=0.02), state)
    with pytest.raises(StateMismatch):
        Evidence.load(plan(), {**state, "version": 0})
    with pytest.raises(StateMismatch, match="cannot be read"):
        Evidence.load(plan(), {**state, "checks": [{"trials": 1}]})


def test_state_stays_small_however_long_the_phase() -> None:
    counts: list[tuple[Outcomes, Outcomes]] = [
        ({"success": 40 + step % 7, "error": step % 3}, {"success": 400, "error": 4})
        for step in range(400)
    ]
    state = fed(plan(), story(counts)).dump()
    assert len(json.dumps(state["checks"], separators=(",", ":"))) < 8_000


@pytest.mark.parametrize("order", [(1, 2, 3), (1, 3, 2), (2, 1, 3), (3, 1, 2), (3, 2, 1)])
def test_samples_that_come_in_another_order_are_no_reset_and_count_once(
    order: tuple[int, ...],
) -> None:
    """Each in a reading of its own, and all of them once more at the end."""
    agents, batches = Agents(), {}
    for step in (1, 2, 3, 4):
        agents.calls("candidate", {"success": 10 * step})
        batches[step] = agents.scrape(START + step * SCRAPE)
    evidence = fed(plan(), [*(batches[step] for step in order), batches[4], *batches.values()])
    assert calls(evidence) == (100, 0)
