"""People's decisions: each gets an outcome, once. What a verb does is in a file of its own.

A handler changes the draft and says what it did, or raises `Refusal` or `Expired` before it has
changed anything. To add a verb: its name in `api.rolloutaction`, its handler here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from phasegate.api.rolloutaction import Outcome, RolloutActionStatus, Verb
from phasegate.rollout.acknowledging import acknowledge
from phasegate.rollout.approvals import approve
from phasegate.rollout.decision import ActionOutcome
from phasegate.rollout.draft import Draft, one_line
from phasegate.rollout.killswitch import kill
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.overrides import override
from phasegate.rollout.promoting import promote
from phasegate.rollout.reasons import Reason
from phasegate.rollout.refusals import Expired, Refusal
from phasegate.rollout.verbs import pause, resume, retry, take_back

HANDLED: Final = 32
"""Actions remembered as carried out; only those whose outcome is not written yet matter."""
Handler = Callable[[Draft, ActionSeen], str]


def take_actions(draft: Draft) -> None:
    """Give every pending action its outcome, oldest first.

    What would be refused while only a part is known is left to a pass that knows all.
    """
    for action in draft.seen.actions:
        if action.uid in draft.status.handled_actions:  # it was told then, too
            _outcome(draft, action, "Accepted", _said(draft, action))
            continue
        try:
            said = _take(draft, action)
        except Refusal as refusal:
            if not draft.seen.partial:
                outcome: Outcome = "Expired" if isinstance(refusal, Expired) else "Refused"
                _settle(draft, action, outcome, str(refusal))
        else:
            handled = (*draft.status.handled_actions, action.uid)[-HANDLED:]
            draft.update(handled_actions=handled)
            _settle(draft, action, "Accepted", said)


def _take(draft: Draft, action: ActionSeen) -> str:
    if draft.seen.identity_problem is not None:
        raise Refusal(
            "nobody's identity is enforced on this cluster, so no action is accepted: "
            f"{draft.seen.identity_problem}"
        )
    return HANDLERS[action.spec.verb](draft, action)


def _settle(draft: Draft, action: ActionSeen, outcome: Outcome, message: str) -> None:
    _outcome(draft, action, outcome, message)
    draft.announce(_REASONS[outcome], f"{_words(action)}{message}", warning=outcome != "Accepted")


def _words(action: ActionSeen) -> str:
    spec = action.spec
    return f"{spec.verb} by {spec.actor} ({spec.reason}): "


def _said(draft: Draft, action: ActionSeen) -> str:
    """What an action whose effect is in the status did, as that still tells."""
    start = one_line(_words(action))
    told = (t.message for t in draft.status.announced if t.reason == _REASONS["Accepted"])
    said = [words.removeprefix(start) for words in told if words.startswith(start)]
    return said[-1] if said else "carried out"


def _outcome(draft: Draft, action: ActionSeen, outcome: Outcome, message: str) -> None:
    if outcome == "Accepted":
        draft.acted(action, message)
    status = RolloutActionStatus(
        outcome=outcome,
        message=message,
        rollout=draft.status.current_rollout,
        at=draft.now,
    )
    draft.outcomes.append(ActionOutcome(action.name, status))


_REASONS: Mapping[Outcome, Reason] = MappingProxyType(
    {
        "Accepted": Reason.ACTION_ACCEPTED,
        "Refused": Reason.ACTION_REFUSED,
        "Expired": Reason.ACTION_EXPIRED,
    }
)
HANDLERS: Mapping[Verb, Handler] = MappingProxyType(
    {
        "Approve": approve,
        "Promote": promote,
        "Reject": take_back,
        "Rollback": take_back,
        "KillSwitch": kill,
        "Pause": pause,
        "Resume": resume,
        "Retry": retry,
        "Acknowledge": acknowledge,
        "Override": override,
    }
)
