"""Alerts and early warnings: told once, when they begin and when they are over, never at every pass.

What is being told is kept in the status, so that neither another pass nor another operator tells it
again. What falls silent for a moment is not over: evidence at the edge of a level comes and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.records import Notice, NoticeKind
from phasegate.engine.verdict import Judgement, Verdict
from phasegate.rollout.draft import Draft
from phasegate.rollout.late import lacking, returning
from phasegate.rollout.reasons import Reason

QUIET = timedelta(minutes=2)
"""How long nothing may speak for a notice before it is over."""
MOST = 64
"""Notices kept in a status."""

_Key = tuple[NoticeKind, str]
_BEGINS: Mapping[NoticeKind, Reason] = MappingProxyType(
    {
        "Alert": Reason.ALERT_BREACHED,
        "EarlyWarning": Reason.EARLY_WARNING,
        "LateEvidence": Reason.LATE_EVIDENCE,
    }
)
_ENDS: Mapping[NoticeKind, Reason] = MappingProxyType(
    {"Alert": Reason.ALERT_OVER, "EarlyWarning": Reason.WARNING_OVER}
)


def keep_notices(draft: Draft) -> None:
    """Bring the notices up to date: announce what begins and what is over, and say what stands."""
    if draft.seen.partial:
        return
    running = draft.status.progress is not None
    before = draft.seen.status
    if not running and (before.progress is not None or _taken_back(before, draft.status)):
        _ended(draft)
        return
    judgement = draft.seen.judgement if running else draft.seen.late
    if judgement is not None and judgement.candidate_fresh:
        said = _said(judgement, late=not running)
        draft.update(notices=(*_still(draft, said), *_new(draft, said))[:MOST])
    elif judgement is None and not running:
        found = (n for n in draft.status.notices if n.kind == "LateEvidence")
        draft.update(notices=tuple(found))  # nobody looks any more; a proof stays one
    _tell(draft)


def _ended(draft: Draft) -> None:
    """How an attempt ended is the news; before a success, what it had recovered from is told."""
    gate, judgement = draft.status.last_gate, draft.seen.judgement
    if gate is not None and gate.decision == "Stable" and judgement is not None:
        said = _said(judgement, late=False)
        for notice in draft.status.notices:
            if (notice.kind, notice.check) not in said:
                _over(draft, notice)
    draft.end_with_last(tuple(_standing(n.kind, n.check) for n in draft.status.notices))
    draft.update(notices=())


def _over(draft: Draft, notice: Notice) -> None:
    words = f"{notice.check}: over; it was {notice.message}"
    draft.announce(_ENDS[notice.kind], words, ends=(_standing(notice.kind, notice.check),))


def _standing(kind: NoticeKind, check: str) -> str:
    """The name of a notice where it stands outside of the cluster until it is over."""
    return f"{_BEGINS[kind]}/{check}"


def _taken_back(before: AgentDeploymentStatus, after: AgentDeploymentStatus) -> bool:
    return before.rollback != after.rollback and before.stable_revision != after.stable_revision


def worsening(draft: Draft) -> tuple[Notice, ...]:
    """What the condition EarlyWarning is about."""
    return tuple(n for n in draft.status.notices if n.kind != "Alert")


def alerts(draft: Draft) -> tuple[Notice, ...]:
    """Alerts that stand."""
    return tuple(n for n in draft.status.notices if n.kind == "Alert")


def sentence(notices: Iterable[Notice]) -> str:
    """Notices in one line."""
    return "; ".join(f"{notice.check}: {notice.message}" for notice in notices)


def recorded(
    known: tuple[Notice, ...], current: tuple[Notice, ...], now: datetime
) -> tuple[Notice, ...]:
    """What an attempt's record is to say of notices besides `known`: that they begin, and end."""
    standing = {(n.kind, n.check, n.since): n for n in current}
    begun = {(n.kind, n.check, n.since): n for n in known}
    over = {(n.kind, n.check, n.since) for n in known if n.until is not None}
    unsealed: dict[str, Any] = {"quiet_since": None, "seq": None, "hash": None}
    return (
        *(
            n.model_copy(update={**unsealed, "until": now})
            for key, n in begun.items()
            if key not in standing and key not in over
        ),
        *(n.model_copy(update=unsealed) for key, n in standing.items() if key not in begun),
    )


def _said(judgement: Judgement, *, late: bool) -> dict[_Key, str]:
    """What the evidence says now."""
    said: dict[_Key, str] = {}
    for check in judgement.checks:
        failed = check.verdict is Verdict.FAIL
        if failed and check.level == "alert":
            said["Alert", check.check] = check.message[:2048]
        elif failed and late and check.level == "rollback":
            said["LateEvidence", check.check] = check.message[:2048]
        elif check.warning and not failed:
            said["EarlyWarning", check.check] = check.warning[:2048]
    return said


def _still(draft: Draft, said: Mapping[_Key, str]) -> Iterable[Notice]:
    """Notices of before that still stand, with their numbers of now."""
    for notice in draft.status.notices:
        words = said.get((notice.kind, notice.check))
        if words is not None:
            yield notice.model_copy(update={"message": words, "quiet_since": None})
        elif notice.kind == "LateEvidence":
            yield notice
        elif notice.quiet_since is None:
            draft.look_again(QUIET)
            yield notice.model_copy(update={"quiet_since": draft.now})
        elif draft.now < notice.quiet_since + QUIET:
            draft.look_again(notice.quiet_since + QUIET)
            yield notice
        else:
            _over(draft, notice)


def _new(draft: Draft, said: Mapping[_Key, str]) -> Iterable[Notice]:
    known = {(notice.kind, notice.check) for notice in draft.status.notices}
    for (kind, check), words in said.items():
        if (kind, check) in known:
            continue
        effect = _effect(draft, kind)
        name = _standing(kind, check)
        draft.announce(_BEGINS[kind], f"{check}: {words}{effect}", warning=True, begins=name)
        yield Notice(kind=kind, check=check, message=words, since=draft.now)


def _effect(draft: Draft, kind: NoticeKind) -> str:
    """What the notice changes."""
    progress = draft.status.progress
    if kind == "EarlyWarning":
        return "" if progress is None else f"; {progress.phase.name} goes on and is watched closely"
    if kind == "Alert" and progress is not None:
        return f"; holding in {progress.phase.name}"
    if kind == "LateEvidence":
        return f"; {draft.status.stable_revision} is worse than allowed, {_way_back(draft)}"
    return ""


def _way_back(draft: Draft) -> str:
    """What becomes of users while a stable revision that is proven bad keeps them."""
    if not returning(draft):
        return "but the revision before it does not run any more: roll forward, or restore it in the spec"
    why = lacking(draft) or "it is not known any more"
    return f"users go back to {draft.status.previous_revision} as soon as it can take them: {why}"


def _tell(draft: Draft) -> None:
    """Nothing is hidden behind another reason: the message carries every notice."""
    trend = worsening(draft)
    if trend:
        draft.message += f"; early warning: {sentence(trend)}"
        if draft.status.progress is not None:
            draft.look_again(draft.settings.refresh / 2)
    alarms = alerts(draft)
    if alarms and draft.reason is not Reason.ALERT_BREACHED:
        draft.message += f"; alert: {sentence(alarms)}"
