"""Where the calendar stands before a step forward, unless a person's word goes past it."""

from __future__ import annotations

from phasegate.api.people import Override
from phasegate.rollout.draft import Draft
from phasegate.rollout.overrides import overridden
from phasegate.rollout.reasons import Reason


def waits(draft: Draft, what: str) -> bool:
    """True when the calendar keeps the attempt from going forward now; says so, and until when.

    `what`: what has been reached or is to happen, the beginning of the sentence.
    """
    calendar = draft.seen.calendar
    if overridden(draft, "Calendar") is not None:
        return False
    if calendar.problem is not None:
        draft.say(Reason.INVALID_SPEC, calendar.problem, stalled=True)
        return True
    shut = calendar.shut(draft.now)
    if shut is None:
        return False
    reason = Reason.FROZEN if shut.frozen else Reason.OUTSIDE_WINDOW
    opening = calendar.opening(draft.now)
    if opening.at is None:
        draft.say(reason, f"{what}: {shut.why}, and {opening.words}", stalled=True)
        return True
    draft.say(
        reason, f"{what}: {shut.why}; it goes on at {opening.words}, if nothing else is against it"
    )
    draft.goes_on_at = opening.at
    draft.look_again(opening.at)
    return True


def gone_past(draft: Draft) -> Override | None:
    """Whose word is the reason that a step is taken now although the calendar is shut."""
    given, calendar = overridden(draft, "Calendar"), draft.seen.calendar
    if given is None or (calendar.problem is None and calendar.shut(draft.now) is None):
        return None
    return given


def told(draft: Draft, message: str, by: str | None) -> tuple[str, str | None]:
    """What the record of a step says of it and of who decided it, with who went past the calendar."""
    past = gone_past(draft)
    if past is None:
        return message, by
    shut = draft.seen.calendar.shut(draft.now)
    why = shut.why if shut is not None else "the calendar cannot be read"
    names = by.split(", ") if by is not None else []
    people = ", ".join(dict.fromkeys((*names, past.by)))
    return f"{message}; past the calendar ({why}) by {past.by}: {past.reason}", people[:256]
