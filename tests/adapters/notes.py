"""Notifications to send, with the worst that a tenant may write in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from phasegate.control.outbox import Notification
from phasegate.control.ports import Key
from phasegate.rollout.decision import Announcement

AT = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
EVIL = (
    "rolled back: <!channel> <!here> @channel @here <@U1> <at>all</at> [win](https://evil.example) "
    "<https://evil.example|click> www.evil.example *b* _i_ `c` <b>html</b> &lt;!here&gt;\r\n"
    "Bcc: all@example.com\r\n\r\n\x1b[31m\u202ebody"
)


def note(
    message: str = "rolled back 0123456789 in canary-1: errors 8.2% against 1.1%", **news: Any
) -> Notification:
    known = {"type": "Warning", "reason": "RolledBack", "revision": "0123456789"} | news
    return Notification(
        Key("team-a", "support"), "uid-1", Announcement(message=message, **known), AT
    )
