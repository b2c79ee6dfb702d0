"""Which announcements are told outside of the cluster, and how urgent each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from phasegate.rollout.decision import Announcement
from phasegate.rollout.reasons import Reason

Severity = Literal["Info", "Warning", "Critical"]

_RANK: Final[Mapping[Severity, int]] = MappingProxyType({"Info": 0, "Warning": 1, "Critical": 2})
_INSIDE: Final = frozenset(
    {Reason.ACTION_ACCEPTED, Reason.ACTION_REFUSED, Reason.ACTION_EXPIRED, Reason.CREATING}
)
"""Answers to whoever did something, and what no user has noticed: Events tell them."""
_CRITICAL: Final = frozenset(
    {Reason.ROLLED_BACK, Reason.LATE_EVIDENCE, Reason.ROUTE_CONTESTED, Reason.DEACTIVATED}
)
"""Users were hurt, or may be while nobody acts."""


def told_outside(announcement: Announcement) -> bool:
    """Whether people's channels hear of it."""
    return announcement.reason not in _INSIDE


def severity(announcement: Announcement) -> Severity:
    """How urgent it is for a person."""
    if announcement.reason in _CRITICAL:
        return "Critical"
    return "Warning" if announcement.type == "Warning" else "Info"


def urgent_enough(announcement: Announcement, least: Severity) -> bool:
    """Whether a channel hears of it that wants to know `least` or worse, and how that ended."""
    return bool(announcement.ends) or _RANK[severity(announcement)] >= _RANK[least]
