"""Conversations: counted once, when they are over, with the worst that happened in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from lab.agent.opinion import Outcome

_WORST: tuple[Outcome, ...] = ("success", "refused", "escalated", "error")


class Conversations:
    """Open conversations by session.

    A conversation is over after `idle_s` seconds of silence; `ended` is told its worst outcome.
    """

    def __init__(self, idle_s: float, ended: Callable[[Outcome], None]) -> None:
        self._idle_s = idle_s
        self._ended = ended
        self._open: OrderedDict[str, tuple[float, Outcome]] = OrderedDict()

    def answered(self, session: str, outcome: Outcome, now: float) -> None:
        """Take note of an answer at time `now` (seconds of any clock that only goes forwards)."""
        self.sweep(now)
        _, worst = self._open.pop(session, (now, outcome))
        self._open[session] = (now, max(worst, outcome, key=_WORST.index))

    def sweep(self, now: float) -> None:
        """End those that have been silent for long enough; the oldest come first."""
        while self._open:
            session, (last, worst) = next(iter(self._open.items()))
            if now - last < self._idle_s:
                return
            del self._open[session]
            self._ended(worst)

    def close(self) -> None:
        """End them all: the process goes."""
        while self._open:
            _, (_, worst) = self._open.popitem(last=False)
            self._ended(worst)
