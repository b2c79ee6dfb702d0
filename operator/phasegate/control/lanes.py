"""Keys that wait for a worker: tenants take turns, and none of them can take all workers.

A pass lasts as long as what it waits for: a webhook, a quota, an API server. Whoever's objects make
that slow holds workers for long, so a tenant gets another worker only while it holds fewer than are
idle. One that hangs ends up with half of them, two with two thirds; somebody new finds one free.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

STUCK = 1.0
"""Seconds a key is worked on after which nobody waits for its tenant's other keys."""


class Lane(Generic[K]):
    """An ordered set of waiting keys, and which of those taken from it are being worked on."""

    def __init__(self, tenant: Callable[[K], Hashable]) -> None:
        self._tenant = tenant
        self._waiting: dict[Hashable, dict[K, None]] = {}  # tenants in the order of their turns
        self._working: dict[Hashable, dict[K, float]] = {}  # since when, oldest first

    def __len__(self) -> int:
        """Keys that wait."""
        return sum(len(keys) for keys in self._waiting.values())

    def __bool__(self) -> bool:
        """Whether any does."""
        return bool(self._waiting)

    def __contains__(self, key: K) -> bool:
        """Whether `key` waits."""
        return key in self._waiting.get(self._tenant(key), ())

    def add(self, key: K) -> None:
        """`key` waits, if it does not already."""
        self._waiting.setdefault(self._tenant(key), {}).setdefault(key)

    def discard(self, key: K) -> None:
        """`key` waits no more, if it did."""
        tenant = self._tenant(key)
        keys = self._waiting.get(tenant, {})
        keys.pop(key, None)
        if not keys:
            self._waiting.pop(tenant, None)

    def take(self, idle: int, now: float, after: Lane[K] | None = None) -> K | None:
        """The next key for one of `idle` workers; None if nobody may have one. `now`: monotonic s.

        What a tenant has in `after` goes before what it has here, unless it hangs there.
        """
        for tenant, keys in self._waiting.items():
            working = self._working.get(tenant, {})
            if len(working) < idle and not (after is not None and after._moves(tenant, now)):
                key = next(iter(keys))
                self.discard(key)
                if tenant in self._waiting:  # the next one's turn
                    self._waiting[tenant] = self._waiting.pop(tenant)
                self._working[tenant] = {**working, key: now}
                return key
        return None

    def done(self, key: K) -> None:
        """`key` is not worked on any more, if it was taken from here."""
        tenant = self._tenant(key)
        working = self._working.get(tenant, {})
        working.pop(key, None)
        if not working:
            self._working.pop(tenant, None)

    def moving(self, now: float) -> bool:
        """True while keys wait that will soon be worked on: not only those of tenants that hang."""
        return any(self._moves(tenant, now) for tenant in self._waiting)

    def _moves(self, tenant: Hashable, now: float) -> bool:
        if tenant not in self._waiting:
            return False
        oldest = next(iter(self._working.get(tenant, {}).values()), now)
        return now - oldest < STUCK
