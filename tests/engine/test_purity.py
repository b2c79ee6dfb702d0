"""However samples arrive, and however often the process restarts: the same verdict at the same time.

Every kind of check at once, each with the fault that it is there for.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from phasegate.engine.evidence import Evidence
from phasegate.engine.samples import Series
from phasegate.engine.verdict import Verdict

from tests.engine.agents import START, fed, merged
from tests.engine.everything import (
    HEALTHY,
    Faults,
    Said,
    everything,
    said,
    story,
    times,
    verdicts,
)

STEPS = 40
STORIES = {
    "healthy": HEALTHY,
    "error-rate": Faults(12, errors=0.5),
    "hang-rate": Faults(10, hangs=0.6),
    "latency-p95": Faults(12, slower=4.0),
    "cost-per-call": Faults(12, dearer=9.0),
    "quality-score": Faults(12, worse=0.4),
    "safety-flags": Faults(12, flag=True),
    "queue": Faults(12, queue=20.0),
}
names = st.sampled_from(sorted(STORIES))


@cache
def batches(name: str) -> list[list[Series]]:
    return story(7, STEPS, STORIES[name])


@cache
def live(name: str) -> list[Said]:
    """What is said when every scrape is read as it comes."""
    return verdicts(Evidence(everything()), batches(name), times(batches(name)))


@pytest.mark.parametrize("name", sorted(set(STORIES) - {"healthy"}))
def test_each_fault_is_found_by_its_own_check(name: str) -> None:
    fails = [said for said in live(name) if said[1] == Verdict.FAIL]
    assert fails, live(name)[-1]
    assert fails[0][2].startswith(name), fails[0][2]
    assert fails[0][0] > START + (STORIES[name].since - 1) * 15
    assert len({words for _, _, words in fails}) == 1


def test_a_healthy_candidate_is_not_taken_back() -> None:
    assert all(verdict != Verdict.FAIL for _, verdict, _ in live("healthy"))


@given(names, st.lists(st.integers(0, 4 * STEPS + 1), max_size=6))
@settings(deadline=None, max_examples=20)
def test_batches_of_any_size_give_the_same_verdict_at_the_same_time(
    name: str, cuts: list[int]
) -> None:
    evidence, found = Evidence(everything()), batches(name)
    edges = [0, *sorted(cuts), len(found)]
    for begin, end in pairwise(edges):
        evidence.ingest(merged(found[begin:end]))
    assert said(evidence.judge(times(found)[-1])) == live(name)[-1]


@given(names, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20, phases=set(Phase) - {Phase.shrink})
def test_late_shuffled_and_repeated_scrapes_change_nothing_in_the_end(
    name: str, chance: random.Random
) -> None:
    """A scrape becomes visible late (but before its pod's next), again and again, in any order."""
    found = batches(name)
    evidence = Evidence(everything())
    # A pod is waited for once it was scraped twice: then its interval is known.
    delays = [0 if i < 9 else chance.choice((0, 0, 0, 1, 3)) for i in range(len(found))]
    waiting = [
        (i + delay, batch) for i, (delay, batch) in enumerate(zip(delays, found, strict=True))
    ]
    for now in range(len(found) + 5):
        visible = [batch for when, batch in waiting if now - 3 <= when <= now]
        evidence.ingest(merged(chance.sample(visible, len(visible))))
    assert evidence.judge(times(found)[-1]).candidate_calls == (
        fed(everything(), found).judge(times(found)[-1]).candidate_calls
    )
    assert _final(evidence, found) == _final(fed(everything(), found), found)


def _final(evidence: Evidence, found: Sequence[Sequence[Series]]) -> object:
    """What is known in the end; a Fail that was reached on the way stays as it was."""
    judgement = evidence.judge(times(found)[-1])
    if judgement.verdict == Verdict.FAIL:
        return judgement.verdict, judgement.message.partition(":")[0].removesuffix("-vs-baseline")
    return replace(judgement, at=0.0)


@given(names, st.sets(st.integers(1, 4 * STEPS), min_size=1, max_size=4))
@settings(deadline=None, max_examples=20)
def test_restarts_at_any_scrape_change_no_verdict(name: str, restarts: set[int]) -> None:
    """Dump, load, read again what came after `newest()`: as if it had never stopped."""
    found, when = batches(name), times(batches(name))
    evidence, heard = Evidence(everything()), []
    for i, batch in enumerate(found):
        if i in restarts:
            state = json.loads(json.dumps(evidence.dump(), allow_nan=False))
            # What history says now is not what it said when the phase began.
            evidence = Evidence.load(everything(dispersion=(("error-rate", 3.0),)), state)
            newest = evidence.newest()
            since = -math.inf if newest is None else newest
            evidence.ingest(_after(merged(found[:i]), since))
        evidence.ingest(batch)
        heard.append(said(evidence.judge(when[i])))
    assert heard == live(name)


def _after(batch: Sequence[Series], since: float) -> list[Series]:
    return [
        replace(series, samples=tuple(s for s in series.samples if s[0] > since))
        for series in batch
    ]


def test_the_dispersion_a_phase_began_with_stays() -> None:
    began = everything(dispersion=(("error-rate", 1.5),))
    found = batches("error-rate")
    one = fed(began, found)
    again = Evidence.load(everything(), json.loads(json.dumps(one.dump())))
    assert again.dump() == one.dump()
    again.ingest(_after(merged(found), again.newest() or 0.0))
    assert said(again.judge(times(found)[-1])) == said(one.judge(times(found)[-1]))
    # It matters: what varies more convicts later.
    first = next(at for at, verdict, _ in live("error-rate") if verdict == Verdict.FAIL)
    slower = verdicts(Evidence(began), found, times(found))
    assert next(at for at, verdict, _ in slower if verdict == Verdict.FAIL) > first


@pytest.mark.parametrize("name", ["error-rate", "latency-p95"])
def test_state_is_small_however_long_the_phase(name: str) -> None:
    faults = replace(STORIES[name], since=300, errors=0.03, slower=1.3)
    dumped = fed(everything(), story(3, 400, faults, calls=3)).dump()
    sizes = [len(json.dumps(check, separators=(",", ":"))) for check in dumped["checks"]]
    assert max(sizes) <= 4096
    assert len(json.dumps(dumped, separators=(",", ":"))) <= 50_000
