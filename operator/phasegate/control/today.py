"""An agent as it is today, from its metrics: which revisions answer, how much, and how well."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Final

from phasegate.api.errors import InvalidSpec
from phasegate.control.addresses import reader, selector
from phasegate.control.history import SPAN, STEP, dispersions
from phasegate.control.ports import Key, MetricsProvider, RawSeries
from phasegate.control.subject import Subject
from phasegate.engine.checks import CheckSpec
from phasegate.engine.forecast import Usual
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.messages import stretch
from phasegate.engine.selectors import Selector
from phasegate.engine.sources.base import Source
from phasegate.rollout.forecast import Traffic

_SPANS: Final = ((SPAN, STEP), (3600.0, 15.0))
"""Seconds of the past that are read, and seconds between two points; less for the younger."""
_NEWLY_BORN: Final = 1.0
"""Seconds between two points of those for whom that is too long: of the scrapes just read."""
_FEWEST: Final = 12
"""Steps that must be there before they say what is usual."""
_RECENT: Final = 300.0
"""Seconds in which scrapes are looked at."""
_USUAL_SCRAPE: Final = 15.0
_BLOCKS: Final = 12
"""Blocks of calls from which on their spread says something."""
_FIXED: Final = ("namespace", "agent", "mode")


async def revisions(
    provider: MetricsProvider, source: Source, key: Key, start: float, end: float
) -> dict[str, float]:
    """Calls of each revision that users asked between two times (unix s), by revision.

    Raises InvalidSpec where the source has no label that is the revision alone.
    """
    labels = dict(source.identity.labels)
    own = next((label for label, text in labels.items() if text == "{revision}"), None)
    if own is None:
        raise InvalidSpec(
            "this source has no label with the revision alone: say which revisions are meant"
        )
    values = {"namespace": key.namespace, "agent": key.name, "mode": "live"}
    told = [
        (label, values[text.strip("{}")])
        for label, text in labels.items()
        if text.strip("{}") in _FIXED
    ]
    where = ",".join(f'{label}="{_quoted(value)}"' for label, value in told)
    step = max(STEP / 20, (end - start) / 500)
    found: defaultdict[str, float] = defaultdict(float)
    for series in await provider.stepped(f"{source.calls.name}{{{where}}}", start, end, step):
        if own in series.labels:
            found[series.labels[own]] += sum(_growth(series).values())
    return dict(found)


async def today(subject: Subject, provider: MetricsProvider, now: float) -> Traffic:
    """The stable revision's traffic of the last day (`now`: unix s), and what its metrics were like.

    Raises ProviderError, and InvalidSpec if it has not answered a call.
    """
    mine = [at for at, role in subject.addresses.items() if role == "baseline"]
    query = selector(subject.names, subject.identity, mine)
    recent = _of_baseline(subject, await provider.raw(query, now - _RECENT, now))
    for span, step in _SPANS:
        past = _of_baseline(subject, await provider.stepped(query, now - span, now, step))
        if _enough(subject, past, step):
            break
    else:
        past = _at_steps(recent, _NEWLY_BORN)
        if not _enough(subject, past, _NEWLY_BORN):
            where = f"revision {subject.party.stable} of {subject.party.key.name}"
            raise InvalidSpec(f"{where} has answered no call, or began only just now: use --rps")
    calls, seconds = _calls(subject, past), _covered(past)
    phi = dict(dispersions(subject, past))
    usual = {
        check.metric: replace(_usual(check, past, calls), dispersion=phi.get(check.name, 1.0))
        for check in subject.plan.checks
    }
    return Traffic(calls / seconds, _scrape_seconds(recent), usual)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _of_baseline(subject: Subject, found: Iterable[RawSeries]) -> list[RawSeries]:
    read = reader(subject.identity)
    return [
        series
        for series in found
        if subject.addresses.get(read.address(series.labels) or ()) == "baseline"
    ]


def _covered(past: Iterable[RawSeries]) -> float:
    """Seconds from the first to the last point."""
    times = [at for series in past for at, _ in series.samples]
    return max(times) - min(times) if times else 0.0


def _at_steps(found: Sequence[RawSeries], step: float) -> list[RawSeries]:
    """The newest sample at each step up to the last scrape, as a range query would have it."""
    found = [series for series in found if series.samples]
    first = min((series.samples[0][0] for series in found), default=0.0)
    last = max((series.samples[-1][0] for series in found), default=0.0)
    steps = [last - n * step for n in range(int((last - first) / step), -1, -1)]
    stepped = []
    for series in found:
        times = [at for at, _ in series.samples]
        known = ((at, bisect_right(times, at)) for at in steps)
        samples = tuple((at, series.samples[n - 1][1]) for at, n in known if n)
        stepped.append(replace(series, samples=samples))
    return stepped


def _enough(subject: Subject, past: Sequence[RawSeries], step: float) -> bool:
    """True if points every `step` seconds say what is usual."""
    return _calls(subject, past) > 0 and _covered(past) >= _FEWEST * step


def _calls(subject: Subject, past: Sequence[RawSeries]) -> float:
    return sum(_sums(_blocks(past, lambda *series: _volume(subject, *series))).values())


def _volume(subject: Subject, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    volume = subject.plan.volume
    return (str(volume),) if volume.accepts(name, labels) else ()


# --- what a metric is like -----------------------------------------------------------------------


def _usual(check: CheckSpec, past: Sequence[RawSeries], calls: float) -> Usual:
    """One check's metric over the past; `calls` of the agent in the same time."""
    if missing := _missing(check, past):
        return Usual(absent=f"no series {missing} in the last {stretch(SPAN)}")
    blocks = _blocks(past, check.parts)
    sums = _sums(blocks)
    match check:
        case RatioCheck():
            return _ratio(check, sums, calls)
        case QuantileCheck():
            return _quantile(check, sums, calls)
        case MeanCheck():
            return _mean(check, blocks, calls)
        case _:
            return Usual(per_call=1.0)


def _missing(check: CheckSpec, past: Sequence[RawSeries]) -> str:
    """What a check cannot do without and is not there; ways to write the same count as one."""
    groups: list[tuple[Selector, ...]]
    match check:
        case RatioCheck():
            # A counter of mishaps may not exist before the first one.
            groups = [(s,) for s in check.selectors() if s != check.bad]
        case MeanCheck():
            groups = [check.sum.selectors(), check.count.selectors()]
        case QuantileCheck():
            groups = [check.selectors()]
        case _:
            return ""
    absent = [group[0] for group in groups if not any(_there(s, past) for s in group)]
    return " and ".join(map(str, absent))


def _there(selector: Selector, past: Sequence[RawSeries]) -> bool:
    return any(selector.accepts(series.name, series.labels) for series in past)


def _ratio(check: RatioCheck, sums: Mapping[str, float], calls: float) -> Usual:
    total = sums[str(check.total)]
    if not total:
        return Usual(absent=f"{check.total} has not counted a call in the last {stretch(SPAN)}")
    good = check.good is not None
    bad = total - sums[str(check.good)] if good else sums[str(check.bad)]
    # What had a deadline to keep was answered, or not, long ago: nothing hangs in the past.
    rate = 0.0 if check.deadline is not None else min(max(bad / total, 0.0), 1.0)
    return Usual(per_call=total / calls, rate=rate)


def _quantile(check: QuantileCheck, sums: Mapping[str, float], calls: float) -> Usual:
    below = sorted((float(part.rpartition("|")[2]), count) for part, count in sums.items())
    total = below[-1][1] if below else 0.0
    if not total:
        return Usual(absent=f"{check.histogram} has not counted a call in the last {stretch(SPAN)}")
    above = tuple(
        (edge, max(0.0, 1 - count / total)) for edge, count in below if math.isfinite(edge)
    )
    return Usual(per_call=total / calls, above=above)


def _mean(check: MeanCheck, blocks: Mapping[float, Mapping[str, float]], calls: float) -> Usual:
    seen = [
        (check.count.value(parts, at), check.sum.value(parts, at)) for at, parts in blocks.items()
    ]
    counted = [(count, total) for count, total in seen if count > 0]
    count, total = sum(count for count, _ in counted), sum(total for _, total in counted)
    if not count or not total:
        return Usual(absent=f"nothing of it was counted in the last {stretch(SPAN)}")
    mean, spread = total / count, None
    if len(counted) >= _BLOCKS:
        squares = sum(n * (amount / n - mean) ** 2 for n, amount in counted) / (len(counted) - 1)
        spread = math.sqrt(squares) / mean
    return Usual(per_call=count / calls, mean=mean, spread=spread)


# --- counters ------------------------------------------------------------------------------------


def _blocks(
    past: Iterable[RawSeries], parts_of: Callable[[str, Mapping[str, str]], tuple[str, ...]]
) -> dict[float, defaultdict[str, float]]:
    """Increments by time and part."""
    blocks: dict[float, defaultdict[str, float]] = {}
    for series in past:
        parts = parts_of(series.name, series.labels)
        for at, amount in _growth(series).items() if parts else ():
            block = blocks.setdefault(at, defaultdict(float))
            for part in parts:
                block[part] += amount
    return blocks


def _sums(blocks: Mapping[float, Mapping[str, float]]) -> defaultdict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for block in blocks.values():
        for part, amount in block.items():
            sums[part] += amount
    return sums


def _growth(series: RawSeries) -> dict[float, float]:
    """What a counter added up to each of its points; below the point before it was reset."""
    return {
        at: value - before if value >= before else value
        for (_, before), (at, value) in pairwise(series.samples)
    }


def _scrape_seconds(recent: Iterable[RawSeries]) -> float:
    """How often the pods are scraped."""
    gaps = [
        later - earlier
        for series in recent
        for (earlier, _), (later, _) in pairwise(series.samples)
        if later > earlier
    ]
    return median(gaps) if gaps else _USUAL_SCRAPE
