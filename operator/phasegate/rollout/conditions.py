"""Conditions, as kstatus and kubectl read them.

``Reconciling`` and ``Stalled`` exist only while True, and never both: kstatus takes the first it
finds. ``IdentityEnforced`` exists only while False, ``UnknownNotifier`` only while True. ``Ready`` is
True exactly when the agent is what its spec says and serves.
"""

from __future__ import annotations

from phasegate.api.base import Condition, ConditionStatus
from phasegate.api.records import Notice, RollbackRecord
from phasegate.rollout.draft import Draft
from phasegate.rollout.notices import sentence, worsening
from phasegate.rollout.notifiers import problem
from phasegate.rollout.reasons import Reason
from phasegate.rollout.rollback import AFTERWARDS


def conditions_of(draft: Draft) -> tuple[Condition, ...]:
    """All conditions of this pass; a transition time moves only when the status does."""
    route = draft.seen.route
    programmed = (
        route.programmed and route.plan is not None and draft.route is None and not route.contested
    )
    rollback, trend = draft.status.rollback, worsening(draft)
    wanted: list[tuple[str, ConditionStatus, str, str]] = [
        ("Ready", _flag(draft.ready), draft.reason, draft.message)
    ]
    if draft.stalled:
        wanted.append(("Stalled", "True", draft.reason, draft.message))
    elif not draft.ready:
        wanted.append(("Reconciling", "True", draft.reason, draft.message))
    running = draft.status.progress is not None
    moving = running and not draft.stalled and not draft.awaiting_approval
    wanted += [
        ("Progressing", _flag(moving), draft.reason, ""),  # Ready has the words
        (
            "TrafficProgrammed",
            _flag(programmed and draft.reason is not Reason.SHARE_MISMATCH),
            _traffic_reason(draft, programmed),
            route.contested or (route.message if not programmed else "the route is accepted"),
        ),
        (
            "AwaitingApproval",
            _flag(draft.awaiting_approval),
            Reason.AWAITING_APPROVAL if draft.awaiting_approval else Reason.NOT_AWAITING,
            draft.message if draft.awaiting_approval else "",
        ),
        ("EarlyWarning", _flag(bool(trend)), _trend_reason(trend), sentence(trend)),
        (
            "RolledBack",
            _flag(rollback is not None),
            _rollback_reason(rollback),
            f"{rollback.trigger}: {rollback.message}"[:2048] if rollback is not None else "",
        ),
    ]
    unknown = _unknown_names(draft)
    if unknown is not None:
        wanted.append(("UnknownNotifier", "True", Reason.UNKNOWN_NOTIFIER, unknown))
    if draft.seen.identity_problem is not None:
        text = f"no RolloutAction is accepted: {draft.seen.identity_problem}"
        wanted.append(("IdentityEnforced", "False", Reason.IDENTITY_NOT_ENFORCED, text))
    if draft.status.deactivated is not None:
        wanted.append(("Deactivated", "True", Reason.DEACTIVATED, draft.message))
    return tuple(_condition(draft, *entry) for entry in wanted)


def tell_of_names(draft: Draft) -> None:
    """That the agent names a notifier that there is not, once."""
    unknown = _unknown_names(draft)
    if unknown and not any(c.type == "UnknownNotifier" for c in draft.seen.status.conditions):
        draft.announce(Reason.UNKNOWN_NOTIFIER, unknown, warning=True)


def _unknown_names(draft: Draft) -> str | None:
    spec, known = draft.seen.spec, draft.settings.notifiers
    if spec is None or known is None:
        return None
    return problem(spec.notify, draft.seen.meta.namespace, known)


def _flag(value: bool) -> ConditionStatus:
    return "True" if value else "False"


def _trend_reason(trend: tuple[Notice, ...]) -> str:
    if not trend:
        return Reason.NOTHING_WORSENS
    proven = any(notice.kind == "LateEvidence" for notice in trend)
    return Reason.LATE_EVIDENCE if proven else Reason.WORSENING


def _rollback_reason(rollback: RollbackRecord | None) -> str:
    if rollback is None:
        return Reason.NOT_ROLLED_BACK
    proven = rollback.phase == AFTERWARDS and rollback.by is None
    return Reason.LATE_EVIDENCE if proven else Reason.ROLLED_BACK


def _traffic_reason(draft: Draft, programmed: bool) -> str:
    if draft.reason is Reason.SHARE_MISMATCH:
        return Reason.SHARE_MISMATCH
    if draft.seen.route.contested:
        return Reason.ROUTE_CONTESTED
    return Reason.PROGRAMMED if programmed else Reason.NOT_PROGRAMMED


def _condition(
    draft: Draft, type_: str, status: ConditionStatus, reason: str, message: str
) -> Condition:
    before = next((c for c in draft.seen.status.conditions if c.type == type_), None)
    same = before is not None and before.status == status
    return Condition(
        type=type_,
        status=status,
        reason=str(reason),
        message=message[:2048],
        observed_generation=draft.seen.meta.generation,
        last_transition_time=before.last_transition_time
        if before is not None and same
        else draft.now,
    )
