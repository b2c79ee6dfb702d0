"""The fence: a write is sent only while this process leads.

A process can be frozen for a minute between a decision and its write, and another may lead when it
goes on. So whoever sends asks the fence at the last moment, when it has a connection and the next
thing would be the bytes. What remains is a write that was sent in time and arrives late; it is
given up after the call's deadline, which is not longer than the pause between the end of one lease
and the begin of the next (`phasegate.control.lease`).
"""

from __future__ import annotations

from typing import Protocol


class Fence(Protocol):
    """Whether this process may change anything now."""

    def check(self) -> None:
        """Raise `phasegate.api.errors.Fenced` unless it may."""
