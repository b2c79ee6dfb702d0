"""A collection as it is now, and when each change of it arrived here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from lab.errors import LabError
from lab.node.client import ApiClient, Change

Json = dict[str, Any]


class Watched:
    """The objects of one collection, by name."""

    def __init__(self, api: ApiClient, path: str) -> None:
        self._api = api
        self.path = path
        self.objects: dict[str, Json] = {}
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[str, Json | None, float], None]] = []

    def on_change(self, listener: Callable[[str, Json | None, float], None]) -> None:
        """Call with name, object (None: gone) and time (seconds since the epoch) of arrival."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow until cancelled."""
        async for change in self._api.follow(self.path):
            self._take(change, time.time())
            self._changed.set()
            self._changed = asyncio.Event()

    def _take(self, change: Change, now: float) -> None:
        for item in change.objects:
            name = item["metadata"]["name"]
            gone = change.kind == "DELETED"
            if gone:
                self.objects.pop(name, None)
            else:
                self.objects[name] = item
            for listener in self._listeners:
                listener(name, None if gone else item, now)

    async def until(self, what: str, check: Callable[[], bool], timeout: float) -> None:
        """Wait until `check` holds; asked after each change. Raises LabError that names `what`."""
        try:
            async with asyncio.timeout(timeout):
                while not check():
                    await self._changed.wait()
        except TimeoutError:
            raise LabError(f"Gave up after {timeout:.0f} s of waiting for {what}.") from None
