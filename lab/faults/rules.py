"""The rules of one proxy: which action is done to which requests, from when to when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from lab.faults.actions import Action
from lab.faults.requests import Match, Seen


class Rule:
    """One rule in force, until `remove()` or the end of its `with` block."""

    def __init__(
        self,
        match: Match,
        action: Action,
        skip: int,
        times: int | None,
        end: Callable[[Rule], None],
    ) -> None:
        self.match, self.action = match, action
        self._skip, self._times, self._end = skip, times, end
        self._met = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def unlimited(self) -> bool:
        """Whether it is about all such requests, and so about watches that are already open."""
        return self._skip == 0 and self._times is None

    @property
    def hits(self) -> int:
        """To how many requests it was done."""
        return max(0, min(self._met - self._skip, self._most))

    def remove(self) -> None:
        """No more; what hangs because of it is cut off."""
        self._end(self)

    def takes(self, request: Seen) -> bool:
        """Whether it is done to this new request, which counts for `skip` and `times`."""
        if not self.match(request):
            return False
        with self._lock:
            self._met += 1
            return self._skip < self._met <= self._skip + self._most

    @property
    def _most(self) -> int:
        return 2**62 if self._times is None else self._times
