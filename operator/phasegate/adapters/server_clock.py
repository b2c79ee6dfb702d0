"""Time that does not jump: a machine's wall clock may be set at any moment.

Phases are as long as the wall clock says, so within the process time goes on with the monotonic
clock. A jump of this machine's wall clock is followed only when the API server agrees. Where the two
differ otherwise, nobody here can say who is right (connections stay with one of several API servers,
whose clock may be the wrong one): nothing is changed, and it is told, loudly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from phasegate.adapters.clock import SystemClock

TOLERANCE: Final = 3.0
"""Seconds by which clocks may differ: an answer's date has whole seconds, and was on its way."""
QUICK: Final = 1.0
"""Seconds an answer may take to be worth something: a process may be stopped while it waits."""
TELL_EVERY: Final = 60.0
"""Seconds between two warnings that the clocks differ."""

_log = logging.getLogger(__name__)


class ServerClock(SystemClock):
    """The system's clocks, checked against the date in the API server's answers."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """`wall`: this machine's time in unix seconds."""
        self._wall = wall
        self._elapsed = monotonic or super().monotonic
        self._set(wall())
        self._told = float("-inf")
        self.ahead = 0.0
        """Seconds by which the API server's clock was ahead at its last answer; 0 within `TOLERANCE`."""

    def now(self) -> datetime:
        """Wall clock, UTC."""
        return datetime.fromtimestamp(self._now(), UTC)

    def monotonic(self) -> float:
        """Seconds that never go back, and that pass while the machine sleeps."""
        return self._elapsed()

    def heard(self, date: str, took: float) -> None:
        """An answer that took `took` seconds has this ``Date`` header."""
        if took > QUICK:
            return
        try:
            server = parsedate_to_datetime(date).timestamp() + 0.5
        except (ValueError, OverflowError):
            return
        wall = self._wall()
        if abs(server - self._now()) > TOLERANCE and abs(server - wall) <= TOLERANCE:
            seconds = round(wall - self._now(), 1)
            _log.warning("the clock is corrected: it was set", extra={"seconds": seconds})
            self._set(wall)
        ahead = server - self._now()
        self.ahead = ahead if abs(ahead) > TOLERANCE else 0.0
        if self.ahead and self._elapsed() - self._told >= TELL_EVERY:
            self._told = self._elapsed()
            _log.error(
                "the clocks of this machine and of the API server differ: set the wrong one right; "
                "metrics may look too old or too new to judge by until then",
                extra={"api_server_ahead": round(ahead, 1)},
            )

    def _now(self) -> float:
        wall, known = self._wall(), self._at + self._elapsed() - self._since
        if abs(wall - known) > TOLERANCE:
            return known
        self._set(wall)  # small corrections are the time service's work
        return wall

    def _set(self, at: float) -> None:
        self._at, self._since = at, self._elapsed()
