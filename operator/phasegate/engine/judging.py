"""The verdict about a phase, from the verdicts of its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from phasegate.engine.fold import Fold
from phasegate.engine.kinds.base import Moment
from phasegate.engine.messages import number, stretch
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.verdict import CheckVerdict, Judgement, Reason, Verdict

_HOLDS: Final = (
    Reason.NO_DATA,
    Reason.NO_PRICE,
    Reason.NO_EDGE,
    Reason.ALERT_BREACHED,
    Reason.SHARED_CAUSE,
    Reason.BREACHED,
    Reason.WORSENING,
    Reason.OUTSIDE_GATE,
    Reason.TOO_FEW_SAMPLES,
    Reason.STILL_UNCERTAIN,
)
"""What holds a phase, the most telling first."""


def judge(plan: EvidencePlan, fold: Fold, failed: Sequence[CheckVerdict], now: float) -> Judgement:
    """Fail if any rollback check failed; Pass if everything needed passes; else Inconclusive."""
    ledger = fold.ledger
    fresh = {arm: now - at <= plan.stale_seconds for arm, at in ledger.newest.items()}
    moment = Moment(
        at=max(ledger.newest.values(), default=plan.start),
        now=now,
        candidate_fresh=fresh.get("candidate", False),
        candidate_calls=ledger.calls["candidate"],
    )
    final = {verdict.check: verdict for verdict in failed}
    checks = tuple(
        final.get(verdict.check) or _warming(check.warm_up - (now - plan.start), verdict)
        for check, said in zip(plan.checks, fold.verdicts(moment), strict=True)
        for verdict in said
    )
    verdict, reason, message = _decide(plan, moment, checks, seen="candidate" in ledger.newest)
    return Judgement(
        verdict=verdict,
        reason=reason,
        message=message,
        checks=checks,
        at=moment.at,
        candidate_calls=ledger.calls["candidate"],
        baseline_calls=ledger.calls["baseline"],
        candidate_fresh=moment.candidate_fresh,
        baseline_fresh=fresh.get("baseline", False),
        spent=ledger.spent if plan.spend is not None and not ledger.unpriced else None,
    )


def _decide(
    plan: EvidencePlan, moment: Moment, checks: Sequence[CheckVerdict], *, seen: bool
) -> tuple[Verdict, Reason, str]:
    failed = [c for c in checks if c.verdict == Verdict.FAIL and c.level == "rollback"]
    if failed:
        return Verdict.FAIL, failed[0].reason, _sentence(failed[0])
    if not moment.candidate_fresh:
        since = f"in the last {stretch(plan.stale_seconds)}" if seen else "yet"
        text = f"no sample of the candidate {since}; holding"
        return Verdict.INCONCLUSIVE, Reason.NO_DATA, text
    holding = [check for check in checks if _holds(check)]
    if holding:
        first = min(holding, key=lambda check: _HOLDS.index(check.reason))
        more = f" (and {len(holding) - 1} more)" if len(holding) > 1 else ""
        return Verdict.INCONCLUSIVE, first.reason, f"{_sentence(first)}{more}"
    calls = moment.candidate_calls
    if calls < plan.min_samples:
        text = f"{number(calls)} of at least {plan.min_samples} calls"
        return Verdict.INCONCLUSIVE, Reason.TOO_FEW_SAMPLES, text
    if moment.now - plan.start < plan.min_seconds:
        text = f"all checks pass after {stretch(moment.now - plan.start)}"
        text += f" of at least {stretch(plan.min_seconds)}"
        return Verdict.INCONCLUSIVE, Reason.MIN_DURATION, text
    return Verdict.PASS, Reason.WITHIN_LIMIT, f"all checks pass on {number(calls)} calls"


def _warming(seconds: float, verdict: CheckVerdict) -> CheckVerdict:
    """The verdict of a check that does not count for so many seconds yet."""
    if seconds <= 0 or verdict.verdict == Verdict.FAIL:
        return verdict
    return replace(
        verdict,
        verdict=Verdict.INCONCLUSIVE,
        reason=Reason.TOO_FEW_SAMPLES,
        message=f"warming up: counts from {stretch(seconds)} from now on",
    )


def _holds(check: CheckVerdict) -> bool:
    """An alert holds once it is breached; rollback and gate checks until they pass."""
    if check.level == "alert":
        return check.verdict == Verdict.FAIL
    return check.level != "info" and check.verdict != Verdict.PASS


def _sentence(check: CheckVerdict) -> str:
    return f"{check.check}: {check.message}"
