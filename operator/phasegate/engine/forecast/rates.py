"""Forecasts of ratios and quantiles: both count calls that are bad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phasegate.engine import messages
from phasegate.engine.eprocess import GENTLE, Tempo
from phasegate.engine.forecast import walks
from phasegate.engine.forecast.values import Catch, CheckForecast, Setting, Usual
from phasegate.engine.forecast.walks import Pace, Wait
from phasegate.engine.kinds.base import Settings
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import SEVERE_WEIGHT, RatioCheck
from phasegate.engine.kinds.ratio_verdicts import SHARED_CAUSE_RATIO, THIN_BASELINE

_ASSUMED_SHARE: Final = 0.2
"""A rate that is not known is taken to be a fifth of its level."""
_ASSUMED_RATE: Final = 0.01
_BEYOND: Final = 1.25
_SIGMA: Final = 0.7
"""Standard deviation of the logarithm of latencies that are not known."""
_SLOWER: Final = (1.5, 2.0, 3.0)
_TAIL: Final = (0.01, 0.5)
"""Shares of calls above an edge between which it says something about the tail."""


def thin(pace: Pace) -> bool:
    """Whether the baseline answers too few calls to compare with."""
    return pace.share < THIN_BASELINE


# --- ratio ---------------------------------------------------------------------------------------


def foresee_ratio(check: RatioCheck, setting: Setting, usual: Usual) -> CheckForecast:
    """A ratio against its level and against the baseline."""
    level = None if check.reference is None else check.reference.value
    rate, notes = _rate(check, level, usual)
    pace = setting.pace(usual)
    gate = check.gate.value if check.gate is not None else level
    never = ""
    if gate is not None and rate >= gate:
        shown, edge = _shown(check, rate), _shown(check, gate)
        never = f"today it is {shown}, the gate is {edge}: no revision like today's can pass"
    if check.relative is not None and thin(pace):
        notes = (*notes, "the baseline answers too few calls to compare with")
    kinds = _regressions(check, level, rate)
    return CheckForecast(
        check=check.name,
        level="rollback" if check.relative is not None else check.level,
        passes=None if never else _passes(check, level, rate, pace, setting),
        catches=tuple(Catch(what, _caught(check, bad, rate, pace, setting)) for what, bad in kinds),
        never=never,
        notes=notes,
    )


def _rate(check: RatioCheck, level: float | None, usual: Usual) -> tuple[float, tuple[str, ...]]:
    if usual.rate is not None:
        return usual.rate, ()
    rate = _ASSUMED_RATE if level is None else level * _ASSUMED_SHARE
    return rate, (f"assumed: {_shown(check, rate)} today",)


def _shown(check: RatioCheck, bad: float) -> str:
    """In the user's terms: good shares where good calls are counted."""
    good = check.good is not None and check.deadline is None
    return messages.percent(1 - bad if good else bad)


def _regressions(check: RatioCheck, level: float | None, rate: float) -> list[tuple[str, float]]:
    found = []
    if 0 < rate < 0.5:
        found.append((f"twice as bad ({_shown(check, 2 * rate)})", 2 * rate))
    if check.limit is not None and level is not None and rate < level:
        beyond = min(level * _BEYOND, 1.0)
        found.append((f"a quarter beyond the limit ({_shown(check, beyond)})", beyond))
    return [*found, ("every call bad", 1.0)]


def _caught(
    check: RatioCheck, bad: float, rate: float, pace: Pace, setting: Setting
) -> float | None:
    """Seconds until the first of the check's tests convicts."""
    settings, tests = setting.settings, _Tests(pace)
    ordinary = _Bar(settings.need(check.ratio_weight), GENTLE, settings)
    severe = _Bar(settings.need(SEVERE_WEIGHT), SEVERE, settings)
    tolerate = SHARED_CAUSE_RATIO if check.relative is None else check.relative.tolerate
    ways: list[list[float | None]] = []
    if check.limit is not None and bad > check.limit.value:
        need = settings.rollback_need if thin(pace) else settings.level_need
        own = tests.beyond(bad, rate, check.limit.value, _Bar(need, GENTLE, settings))
        ways.append([own, *tests.worse((bad, rate), (rate, rate), tolerate, ordinary)])
    if check.severe is not None and bad > check.severe:
        need = severe.need if thin(pace) else settings.level_need
        own = tests.beyond(bad, rate, check.severe, _Bar(need, SEVERE, settings))
        ways.append([own, *tests.worse((bad, rate), (rate, rate), tolerate, severe)])
    if check.relative is not None and bad > check.relative.limit * rate:
        ways.append(tests.worse((bad, rate), (rate, rate), tolerate, ordinary))
    return first_of(ways)


SEVERE: Final = -1
"""In place of the number of gentle alternatives: the test for total failures."""


@dataclass(frozen=True, slots=True)
class _Bar:
    """How much evidence a test needs, and how fast it may grow."""

    need: float
    gentle: int
    settings: Settings

    @property
    def tempo(self) -> Tempo:
        """The tracker's own tempo for a test of weight one."""
        if self.gentle == SEVERE:
            return self.settings.severe_tempo(self.settings.need(SEVERE_WEIGHT))
        return self.settings.tempo(self.settings.rollback_need, self.gentle)


@dataclass(frozen=True, slots=True)
class _Tests:
    """How long tests take, in one phase; rates are of bad calls after the onset, and before it."""

    pace: Pace

    def beyond(self, bad: float, usual: float, level: float, bar: _Bar) -> float | None:
        """Seconds until the candidate is convicted of being beyond a level."""
        after, before = walks.against_rate(bad, level), walks.against_rate(usual, level)
        return walks.seconds_to_convince(after, before, bar.tempo, self.pace, bar.need)

    def worse(
        self, after: tuple[float, float], before: tuple[float, float], tolerate: float, bar: _Bar
    ) -> list[float | None]:
        """Seconds until it is convicted of being worse than the baseline; nothing if that is thin.

        `after` and `before` the onset: the candidate's rate and the baseline's.
        """
        if thin(self.pace):
            return []
        share = self.pace.share
        found = walks.against_baseline(*after, tolerate, share)
        usual = walks.against_baseline(*before, tolerate, share)
        return [walks.seconds_to_convince(found, usual, bar.tempo, self.pace, bar.need)]


def first_of(ways: Sequence[Sequence[float | None]]) -> float | None:
    """The earliest of several ways to convict, each of which needs all of its tests."""
    whole = [max(t for t in way if t is not None) for way in ways if way and None not in way]
    return min(whole, default=None)


def _passes(
    check: RatioCheck, level: float | None, rate: float, pace: Pace, setting: Setting
) -> Wait | None:
    if level is None and check.relative is None:
        return None
    passes = enough(check.min_samples, pace, setting)
    if level is not None:
        passes = both(
            passes, walks.wait_to_clear(walks.not_beyond(rate, level), pace, setting.settings)
        )
    relative = check.relative
    if relative is not None and not thin(pace):
        found = walks.not_worse(rate, rate, relative.excluded, pace.share, relative.slack)
        passes = both(passes, walks.wait_to_clear(found, pace, setting.settings))
    return later(passes, check.warm_up)


def enough(min_samples: int | None, pace: Pace, setting: Setting) -> Wait | None:
    """Until there are as many samples as are asked for; None: never."""
    if not pace.candidate:
        return None
    need = float(min_samples or setting.settings.min_samples)
    slow = walks.first_passage(need, 1.0, 1.0, 0.9)
    return Wait(need / pace.candidate, slow / pace.candidate)


def both(one: Wait | None, other: Wait | None) -> Wait | None:
    """Until both have happened; None: never."""
    return None if one is None or other is None else one.longer(other)


def later(wait: Wait | None, seconds: float) -> Wait | None:
    """The same, counted from a later beginning."""
    return None if wait is None else Wait(wait.usual + seconds, wait.slow + seconds)


# --- quantile ------------------------------------------------------------------------------------


def foresee_quantile(check: QuantileCheck, setting: Setting, usual: Usual) -> CheckForecast:
    """A quantile: calls above an edge are bad, as many as the quantile allows are fine."""
    reference = check.limit or check.gate
    above, notes = usual.above, tuple[str, ...]()
    if not above:
        above = assumed_latencies(check)
        notes = ("assumed: a histogram with all edges that are needed, half the level today",)
    pace = setting.pace(usual)
    edge = None if reference is None else first_edge(above, reference.value)
    never = ""
    if reference is not None and edge is None:
        never = _no_edge(check, reference.value, above)
    elif reference is not None and edge is not None:
        if not math.isclose(edge, reference.value, rel_tol=1e-6):
            notes = (*notes, _next_edge(reference.value, edge))
        if (bad := share_above(above, edge)) >= 1 - check.q:
            never = f"today {messages.percent(bad)} are slower than {edge:g} s: nothing like it can pass"
    return CheckForecast(
        check=check.name,
        level="rollback" if check.relative is not None else check.level,
        passes=None if never else _quantile_passes(check, above, edge, pace, setting),
        catches=tuple(
            Catch(f"{times:g}x slower", _quantile_caught(check, above, edge, times, pace, setting))
            for times in _SLOWER
        ),
        never=never,
        notes=notes,
    )


def _no_edge(check: QuantileCheck, level: float, above: Sequence[tuple[float, float]]) -> str:
    last = f"the last one is {above[-1][0]:g} s" if above else "there are none"
    return f"{check.histogram} has no bucket edge at or above {level:g} s ({last}): add one at {level:g} s"


def _next_edge(level: float, edge: float) -> str:
    return (
        f"no bucket edge at {level:g} s: calls are counted from {edge:g} s on, so what lies between "
        f"is not seen; add an edge at {level:g} s"
    )


def assumed_latencies(check: QuantileCheck) -> tuple[tuple[float, float], ...]:
    """A log-normal histogram with dense edges, whose quantile is half of the level (or 1 s)."""
    reference = check.limit or check.gate
    level = 2.0 if reference is None else reference.value
    from_quantile = walks.NORMAL.inv_cdf(check.q)
    edges = [level * 1.1**n for n in range(-30, 16)]
    return tuple(
        (edge, 1 - walks.NORMAL.cdf(math.log(2 * edge / level) / _SIGMA + from_quantile))
        for edge in edges
    )


def first_edge(above: Sequence[tuple[float, float]], level: float) -> float | None:
    """The first edge that is not below a level."""
    return next((edge for edge, _ in above if edge >= level * (1 - 1e-9)), None)


def share_above(above: Sequence[tuple[float, float]], value: float) -> float:
    """Share of calls above a value, log-interpolated between edges."""
    before = (0.0, 1.0)
    for edge, share in above:
        if edge >= value * (1 - 1e-9):
            if before[0] <= 0 or math.isclose(edge, value):
                return share if math.isclose(edge, value, rel_tol=1e-6) else before[1]
            part = math.log(value / before[0]) / math.log(edge / before[0])
            return before[1] + (share - before[1]) * part
        before = (edge, share)
    return before[1]


def _quantile_passes(
    check: QuantileCheck,
    above: Sequence[tuple[float, float]],
    edge: float | None,
    pace: Pace,
    setting: Setting,
) -> Wait | None:
    if edge is None and check.relative is None:
        return None
    passes = enough(check.min_samples, pace, setting)
    if edge is not None:
        found = walks.not_beyond(share_above(above, edge), 1 - check.q)
        passes = both(passes, walks.wait_to_clear(found, pace, setting.settings))
    if check.relative is not None and not thin(pace):
        waits = [
            walks.wait_to_clear(
                walks.not_worse(
                    share, share_above(above, e / check.relative.excluded), 1.0, pace.share, 0.0
                ),
                pace,
                setting.settings,
            )
            for e, share in tail(above)
        ]
        passes = both(passes, min((w for w in waits if w), key=lambda w: w.usual, default=None))
    return later(passes, check.warm_up)


def _quantile_caught(
    check: QuantileCheck,
    above: Sequence[tuple[float, float]],
    edge: float | None,
    times: float,
    pace: Pace,
    setting: Setting,
) -> float | None:
    tests, bar = _Tests(pace), _Bar(setting.settings.rollback_need, 0, setting.settings)
    tolerate = check.relative.tolerate if check.relative is not None else 1.0
    compared = _slower(tests, above, tolerate, times, bar)
    ways: list[list[float | None]] = []
    if check.limit is not None and edge is not None:
        bad, usual = share_above(above, edge / times), share_above(above, edge)
        if bad > 1 - check.q:
            ways.append([tests.beyond(bad, usual, 1 - check.q, bar), *compared])
    if check.relative is not None and times > check.relative.limit:
        ways.append(compared)
    return first_of(ways)


def _slower(
    tests: _Tests, above: Sequence[tuple[float, float]], tolerate: float, times: float, bar: _Bar
) -> list[float | None]:
    """The candidate's share above each edge, tested against the baseline's above edge / tolerate."""
    found: list[float | None] = []
    for edge, share in tail(above):
        allowed = share_above(above, edge / tolerate)
        slow = share_above(above, edge / times)
        found += tests.worse((slow, allowed), (share, allowed), 1.0, bar)
    whole = [seconds for seconds in found if seconds is not None]
    return [min(whole, default=None)] if found else []


def tail(above: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The edges that say something about the tail."""
    return [(edge, share) for edge, share in above if _TAIL[0] <= share <= _TAIL[1]]
