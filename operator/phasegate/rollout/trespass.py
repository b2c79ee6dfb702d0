"""Somebody else writes the route: an event for a change that was put right, a state for a fight."""

from __future__ import annotations

from phasegate.rollout.draft import Draft
from phasegate.rollout.reasons import Reason


def tell_of_edits(draft: Draft) -> None:
    """Say who changed the route. While they go on, nothing else is said, so that nothing flaps.

    But a rollback stays one: its reason is what people look for first.
    """
    route = draft.seen.route
    if not route.contested:
        if route.edited:
            text = f"the HTTPRoute was changed by {route.edited} and is as it was decided again"
            draft.announce(Reason.ROUTE_RESTORED, text, warning=True)
        return
    if not _known(draft):
        draft.announce(Reason.ROUTE_CONTESTED, route.contested, warning=True)
    if draft.reason is Reason.ROLLED_BACK:
        draft.message = f"{draft.message}; {route.contested}"
    else:
        draft.say(Reason.ROUTE_CONTESTED, route.contested, stalled=True)


def _known(draft: Draft) -> bool:
    """True when the last written status told it already."""
    conditions = draft.seen.status.conditions
    return any(
        c.type == "TrafficProgrammed" and c.reason == Reason.ROUTE_CONTESTED for c in conditions
    )
