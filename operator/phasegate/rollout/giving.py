"""Whether a route gives traffic away: what is remembered may hold it or take it back, no more."""

from __future__ import annotations

from phasegate.rollout.route import Mirror, RoutePlan


def gives_more(current: RoutePlan | None, wanted: RoutePlan, stable: str | None) -> bool:
    """True when `wanted` sends anything to a revision but `stable` that `current` does not send it.

    Users that come back to a deactivated agent are more, whoever gets them. A rollback never gives:
    it carries its intent.
    """
    if current is not None and current.off is not None and wanted.off is None:
        return True
    if wanted.takes_back:
        return False
    others = {slot.revision for slot in wanted.slots} - {stable}
    for revision in others:
        before = current.percent(revision) if current is not None else 0
        if wanted.percent(revision) > before:
            return True
    if wanted.header is not None and (current is None or wanted.header != current.header):
        return True
    return _copies_more(current.mirror if current is not None else None, wanted.mirror)


def _copies_more(current: Mirror | None, wanted: Mirror | None) -> bool:
    if wanted is None:
        return False
    if current is None or (current.revision, current.mode) != (wanted.revision, wanted.mode):
        return True
    return wanted.percent > current.percent
