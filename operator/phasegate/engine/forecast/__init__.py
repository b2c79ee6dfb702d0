"""What a check can be expected to do at a given traffic, before anything starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from phasegate.engine.checks import CheckSpec
from phasegate.engine.forecast.rates import enough, foresee_quantile, foresee_ratio, later
from phasegate.engine.forecast.sums import foresee_amount, foresee_mean
from phasegate.engine.forecast.values import Catch, CheckForecast, Setting, Usual
from phasegate.engine.forecast.walks import Wait
from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.kinds.threshold import ThresholdCheck
from phasegate.engine.messages import number, stretch

__all__ = ["Catch", "CheckForecast", "Setting", "Usual", "Wait", "foresee"]

_NOTHING_KNOWN: Final = Usual()
_LABELLED: Final = 0.1
"""Share of the calls that somebody reviews or rates, where that is not known."""


def foresee(check: CheckSpec, setting: Setting, usual: Usual = _NOTHING_KNOWN) -> CheckForecast:
    """What to expect of a check in a phase, given what its metric is like today."""
    level = check.level
    if usual.absent:
        return CheckForecast(check.name, level, never=usual.absent)
    notes: tuple[str, ...] = ()
    if usual.per_call is None and check.late:
        usual = replace(usual, per_call=_LABELLED)
        notes = (f"assumed: one call in {1 / _LABELLED:.0f} is labelled",)
    if not isinstance(check, ThresholdCheck) and not setting.pace(usual).candidate:
        words = "no call of the candidate is counted here at today's traffic"
        return CheckForecast(check.name, level, never=words)
    found = _in_time(_foresee(check, setting, usual), check, setting, usual)
    return replace(found, notes=(*notes, *found.notes))


def _foresee(check: CheckSpec, setting: Setting, usual: Usual) -> CheckForecast:
    match check:
        case RatioCheck():
            return foresee_ratio(check, setting, usual)
        case QuantileCheck():
            return foresee_quantile(check, setting, usual)
        case MeanCheck():
            return foresee_mean(check, setting, usual)
        case AmountCheck():
            return foresee_amount(check, setting, usual)
        case EventCheck():
            return _foresee_event(check, setting, usual)
        case ThresholdCheck():
            return _foresee_threshold(check, setting)
    assert_never(check)


def _foresee_event(check: EventCheck, setting: Setting, usual: Usual) -> CheckForecast:
    first = f"event number {number(check.allowed + 1)}"
    return CheckForecast(
        check=check.name,
        level=check.level,
        passes=later(enough(check.min_samples, setting.pace(usual), setting), check.warm_up),
        catches=(Catch(first, setting.scrape_seconds),),
    )


def _foresee_threshold(check: ThresholdCheck, setting: Setting) -> CheckForecast:
    wait = check.for_seconds + setting.scrape_seconds
    return CheckForecast(
        check=check.name,
        level=check.level,
        passes=Wait(setting.scrape_seconds, setting.scrape_seconds),
        catches=(Catch("beyond its level", wait),) if check.limit is not None else (),
        notes=("unguarded: chance is not ruled out",),
    )


def _in_time(
    found: CheckForecast, check: CheckSpec, setting: Setting, usual: Usual
) -> CheckForecast:
    """Whether there is time enough for it in the phase."""
    if found.passes is None or found.never:
        return found
    most, planned = setting.most_seconds, setting.settings.planned_seconds
    least = enough(getattr(check, "min_samples", None), setting.pace(usual), setting)
    need = getattr(check, "min_samples", None) or setting.settings.min_samples
    if most is not None and least is not None and least.usual > most:
        words = f"{need} samples take {stretch(least.usual)}, the phase {stretch(most)} at most"
        return replace(found, passes=None, never=words)
    if most is not None and found.passes.usual > most:
        words = f"a Pass takes {stretch(found.passes.usual)}, the phase {stretch(most)} at most"
        return replace(found, passes=None, never=words)
    if least is not None and least.usual > planned:
        words = f"{need} samples take {stretch(least.usual)}, longer than the phase is planned for"
        return replace(found, notes=(*found.notes, words))
    return found
