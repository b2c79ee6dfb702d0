"""What would have been decided: one phase judged over history, by the code that judges live.

The same `Attempt` is fed that the sampler feeds, with the same selector and the same order of
samples; it is judged after every scrape, so nothing between two looks is missed. The verdict does
not depend on how samples are grouped, so where the live operator looked less often it came to the
same verdict with the same newest sample, only later.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from phasegate.control.attempt import Attempt, deal, selector_of
from phasegate.control.history import SPAN, STEP, dispersions, history_query
from phasegate.control.ports import MetricsProvider, RawSeries
from phasegate.control.queries import DELAY, grid
from phasegate.control.queries import STEP as QUERY_STEP
from phasegate.control.sampler import CHUNK
from phasegate.control.subject import Subject
from phasegate.engine.evidence import LOOKBACK_SECONDS, Evidence
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.verdict import CheckVerdict, Judgement, Verdict

_AFTER: Final = 0.001
"""Seconds after a time at which what depends on that time has surely happened."""


@dataclass(frozen=True, slots=True)
class Look:
    """One judgement of the replay; `now` (unix s) is when it could have been made at the earliest."""

    now: float
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of the verdict: of the phase, or of some of its checks."""

    now: float
    judgement: Judgement
    changed: tuple[CheckVerdict, ...]
    """The checks whose verdict, or the reason for it, is another one than before."""


@dataclass(frozen=True, slots=True)
class Point:
    """A check at one time, for the picture."""

    at: float
    estimate: float | None
    interval: tuple[float, float] | None
    odds: float | None


@dataclass(slots=True)
class Backtest:
    """What happened, as far as it was replayed."""

    plan: EvidencePlan
    until: float
    turns: list[Turn] = field(default_factory=list)
    passed: Look | None = None
    """The first Pass: here the phase would have been left."""
    failed: Look | None = None
    """The first Fail: here traffic would have been taken back. Nothing is judged after it."""
    last: Look | None = None
    looks: int = 0
    points: dict[str, list[Point]] = field(default_factory=dict)
    """By check."""

    def add(self, look: Look) -> None:
        """One judgement more; they come in order."""
        before = self.last.judgement if self.last is not None else None
        judgement = look.judgement
        if _gist(judgement) != (before and _gist(before)):
            self.turns.append(Turn(look.now, judgement, _changed(before, judgement)))
        if judgement.verdict == Verdict.PASS and self.passed is None:
            self.passed = look
        if judgement.verdict == Verdict.FAIL and self.failed is None:
            self.failed = look
        for check in judgement.checks:
            point = Point(judgement.at, check.estimate, check.interval, check.odds)
            self.points.setdefault(check.check, []).append(point)
        self.last = look
        self.looks += 1


async def backtest(subject: Subject, provider: MetricsProvider, until: float) -> Backtest:
    """Judge from the plan's start to `until` (unix s), or to the first Fail. Raises ProviderError."""
    found = Backtest(subject.plan, until)
    async for look in replay(subject, provider, until):
        found.add(look)
        if found.failed is not None:
            break
    return found


async def replay(subject: Subject, provider: MetricsProvider, until: float) -> AsyncIterator[Look]:
    """A judgement after every scrape, and whenever time alone changes it."""
    plan = subject.plan
    asked = dict.fromkeys(subject.queries, plan.start)
    attempt = Attempt(subject, Evidence(plan), plan.start - LOOKBACK_SECONDS, asked)
    if (query := history_query(subject)) is not None:
        past = await provider.stepped(query, plan.start - SPAN, plan.start, STEP)
        attempt.begin(dispersions(subject, past))
    due = _Due(plan)
    while (begin := attempt.read_until) < until:
        end = min(begin + CHUNK, until)
        scrapes = by_time(await provider.raw(selector_of([attempt]), begin, end))
        results = await _results(attempt, provider, end)
        for at, found in [*scrapes, (end, ())]:
            for now in due.before(at):
                yield Look(now, attempt.evidence.judge(now))
            attempt.feed(deal(found, [attempt]).get(attempt.key, ()), at)
            for metric, values in results.items():
                attempt.feed_values(metric, values, grid(at - DELAY))
            if found and at > plan.start:
                due.seen(at)
                yield Look(at, attempt.evidence.judge(at))
    if until > plan.start:
        yield Look(until, attempt.evidence.judge(until))


async def _results(
    attempt: Attempt, provider: MetricsProvider, end: float
) -> dict[str, Sequence[RawSeries]]:
    """Values of the policy's queries up to `end`, at the times at which they are asked live."""
    return {
        metric: await provider.stepped(text, start, grid(end), QUERY_STEP)
        for metric, text in attempt.subject.queries.items()
        if (start := grid(attempt.asked_until[metric]) + QUERY_STEP) <= grid(end)
    }


def by_time(found: Iterable[RawSeries]) -> list[tuple[float, Sequence[RawSeries]]]:
    """Series of many samples as one reading per scrape time, in the order of time."""
    scrapes: dict[float, list[RawSeries]] = {}
    for series in found:
        for sample in series.samples:
            single = RawSeries(series.name, series.labels, (sample,))
            scrapes.setdefault(sample[0], []).append(single)
    return sorted(scrapes.items(), key=lambda scrape: scrape[0])


class _Due:
    """Times at which a verdict changes without a sample: the duration is over, samples are stale."""

    def __init__(self, plan: EvidencePlan) -> None:
        self._patience = plan.stale_seconds
        self._ends = plan.start + plan.min_seconds + _AFTER
        self._stale = math.inf

    def seen(self, at: float) -> None:
        """A scrape came: that is when it will be stale."""
        self._stale = at + self._patience + _AFTER

    def before(self, at: float) -> list[float]:
        """What is due before `at`, in order; each once."""
        due = sorted(time for time in (self._ends, self._stale) if time < at)
        self._ends = math.inf if self._ends < at else self._ends
        self._stale = math.inf if self._stale < at else self._stale
        return due


def _gist(judgement: Judgement) -> tuple[object, ...]:
    checks = tuple((c.check, c.verdict, c.reason, bool(c.warning)) for c in judgement.checks)
    return judgement.verdict, judgement.reason, checks


def _changed(before: Judgement | None, now: Judgement) -> tuple[CheckVerdict, ...]:
    known = (
        {c.check: (c.verdict, c.reason, bool(c.warning)) for c in before.checks} if before else {}
    )
    return tuple(
        c for c in now.checks if known.get(c.check) != (c.verdict, c.reason, bool(c.warning))
    )
