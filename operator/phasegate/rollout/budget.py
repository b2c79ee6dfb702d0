"""A phase's budget: what it may use up before a person is asked.

Copies of requests are extra work, so a mirror stops when the budget is reached. A Canary's calls
are users' calls that somebody has to answer: its weight stays, and the phase holds all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from phasegate.api.agentdeployment import Budget, BudgetSpent, Phase, Progress
from phasegate.rollout.draft import Draft
from phasegate.rollout.phases import budget_of, mirrors
from phasegate.rollout.reasons import Reason


def budget_in_force(draft: Draft, progress: Progress) -> Budget | None:
    """The running phase's budget, as the strategy has it now."""
    spec = draft.seen.spec
    return budget_of(progress.phase, spec.strategy if spec is not None else None)


def watch_budget(draft: Draft) -> None:
    """Note that the running phase's budget is reached, or that a person granted more of it.

    What was used up when it was reached stays known: evidence that is read anew after a restart
    must not start the mirror again.
    """
    progress = draft.status.progress
    if progress is None:
        return
    used, before = _used(draft, progress), progress.spent
    budget = budget_in_force(draft, progress)
    reached = _reached(budget, used, progress.granted) or _unknown(draft, budget)
    if reached is None and uncounted(draft, progress):
        return  # after a restart, say: what nobody can count has not become less
    if reached is None:
        if budget is not None and draft.seen.judgement is not None:
            draft.look_again(_forecast(draft, progress, budget, used))
        if before is not None:
            draft.update(progress=go_on(progress, draft.now))
        return
    if before is not None:
        return
    message = f"{reached}; {_effect(progress.phase)}"
    cost = None if used.cost is None else f"{used.cost:.6g}"
    spent = BudgetSpent(calls=used.calls, cost=cost, message=message, at=draft.now)
    progress = progress.model_copy(update={"spent": spent})
    draft.update(progress=progress)
    draft.announce(
        Reason.BUDGET_REACHED,
        f"{progress.phase.name}: {message}; {_ways_on(draft, progress)}",
        warning=True,
    )


def go_on(progress: Progress, now: datetime, granted: BudgetSpent | None = None) -> Progress:
    """The phase when its budget holds it no more; `granted`: what was used up when more is granted.

    The split is measured anew: while the mirror was off there were no copies.
    """
    changes = {"spent": None, "granted": granted or progress.granted, "measured_since": now}
    return progress.model_copy(update=changes)


def uncounted(draft: Draft, progress: Progress) -> bool:
    """True when a budget in money holds the phase and nobody can tell what the calls cost.

    More of it cannot be granted: the next look would find the same.
    """
    budget, spent, judgement = (
        budget_in_force(draft, progress),
        progress.spent,
        draft.seen.judgement,
    )
    if budget is None or budget.cost is None or spent is None or spent.cost is not None:
        return False
    return judgement is None or judgement.spent is None


def say_spent(draft: Draft, progress: Progress, spent: BudgetSpent) -> None:
    """Say that the phase holds because of its budget, and how it goes on."""
    text = f"{progress.phase.name}: {spent.message}; holding: {_ways_on(draft, progress)}"
    draft.say(Reason.BUDGET_REACHED, text, stalled=True)


def _forecast(draft: Draft, progress: Progress, budget: Budget, used: _Used) -> timedelta:
    """When to look again so that little is used beyond the budget: half way to it, at this pace."""
    calls_before, cost_before = _before(progress.granted)
    shares = [1.0]
    if budget.calls is not None and used.calls:
        shares.append((budget.calls + calls_before) / used.calls - 1)
    if budget.cost is not None and used.cost:
        shares.append((float(budget.cost) + cost_before) / used.cost - 1)
    elapsed = draft.now - progress.entered_at
    return max(draft.settings.poll, elapsed * min(shares) / 2)


@dataclass(frozen=True, slots=True)
class _Used:
    calls: int
    cost: float | None
    """US dollars; None if nothing tells."""


def _used(draft: Draft, progress: Progress) -> _Used:
    """The most that is known to have been used up in this phase."""
    judgement = draft.seen.judgement
    calls = [int(judgement.candidate_calls)] if judgement is not None else []
    costs = [judgement.spent] if judgement is not None else []
    for known in (progress.spent, progress.granted):
        if known is not None:
            calls.append(known.calls)
            costs.append(None if known.cost is None else float(known.cost))
    return _Used(max(calls, default=0), max((c for c in costs if c is not None), default=None))


def _reached(budget: Budget | None, used: _Used, granted: BudgetSpent | None) -> str | None:
    """What is used up, as a sentence; None while nothing is. A grant counts from what was used then."""
    if budget is None:
        return None
    calls_before, cost_before = _before(granted)
    if budget.calls is not None and used.calls >= budget.calls + calls_before:
        return f"{used.calls} calls have reached the budget of {budget.calls + calls_before}"
    if budget.cost is None or used.cost is None:
        return None
    most = float(budget.cost) + cost_before
    if used.cost >= most:
        return f"{used.cost:.2f} USD have reached the budget of {most:.2f} USD"
    return None


def _unknown(draft: Draft, budget: Budget | None) -> str | None:
    """Money that nobody can count is not spent."""
    judgement = draft.seen.judgement
    if budget is None or budget.cost is None or judgement is None or judgement.spent is not None:
        return None
    return (
        f"there is a budget of {budget.cost} USD, but what the calls cost is not known: the "
        "policy's source reports no money, or the price table lacks the model that answers"
    )


def _before(granted: BudgetSpent | None) -> tuple[int, float]:
    """Calls and US dollars that had been used up when a person granted more."""
    if granted is None:
        return 0, 0.0
    return granted.calls, 0.0 if granted.cost is None else float(granted.cost)


def _effect(phase: Phase) -> str:
    return (
        "the mirror is off"
        if mirrors(phase)
        else f"its users stay where they are ({phase.weight}%)"
    )


def _ways_on(draft: Draft, progress: Progress) -> str:
    if uncounted(draft, progress):
        return (
            "add what is missing to the operator's price table, or take the cost out of the phase's "
            "budget in the strategy (both count at once), or Rollback"
        )
    return (
        "a RolloutAction with verb Resume grants the same again for revision "
        f"{draft.status.candidate_revision}, or raise the budget in the strategy, or Rollback"
    )
