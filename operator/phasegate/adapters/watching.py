"""Watches: every object listed once, then every change, for ever.

A `Reflector` fills one mirror from the API server and tells of every object that changed, and of
those that vanished while nobody watched. It ends with its task only: whatever the API server, a
proxy or an object does, it begins again, at most `LONGEST` seconds later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from phasegate.adapters.mirror import Mirror, Scope
from phasegate.api.errors import ClusterError
from phasegate.control.ports import Clock, Kind, Manifest

PAGE: Final = 250
"""Objects per page of a list."""
SILENCE: Final = 75.0
"""Seconds without a byte after which a stream is dead: bookmarks come every 60."""
GRACE: Final = 5.0
"""Seconds beyond its time that a stream may take to end."""
FIRST: Final = 0.25
"""Seconds before a failed stream is tried again; doubled each time."""
LONGEST: Final = 15.0
SHORT: Final = 1.0
"""Seconds; a stream that ends sooner without a word has failed."""
_BREATH: Final = 25
"""Objects taken in a row: a rollback that is due does not wait for a list."""

_TAKE: Final = MappingProxyType(
    {"ADDED": Mirror.put, "MODIFIED": Mirror.put, "DELETED": Mirror.remove}
)

_log = logging.getLogger(__name__)

Event = Mapping[str, Any]
Tell = Callable[[Kind, Manifest], None]


class Expired(ClusterError):
    """The API server does not remember that far back: everything has to be listed again."""


class Silent(ClusterError):
    """An open stream said nothing, not even that it ends: it is dead."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, the version it is of, and how to go on ("": it is complete)."""

    items: Sequence[Any]
    version: str
    proceed: str


class Source(Protocol):
    """Where lists and streams come from. Errors are ClusterError, `Expired` among them."""

    async def page(self, scope: Scope, *, limit: int = PAGE, proceed: str = "") -> Page:
        """Up to `limit` objects."""

    def watch(self, scope: Scope, version: str) -> AsyncIterator[Event | None]:
        """What changed after `version`; None says that the stream is open."""


class Reflector:
    """Keeps one mirror as the API server is; `tell` hears of every object that changed."""

    def __init__(
        self,
        source: Source,
        mirror: Mirror,
        tell: Tell,
        clock: Clock,
        jitter: Callable[[], float],
        *,
        lists: asyncio.Semaphore | None = None,
    ) -> None:
        """`jitter` returns a number in [0, 1); `lists` bounds how many list at the same time."""
        self._source = source
        self._mirror = mirror
        self._tell = tell
        self._clock = clock
        self._jitter = jitter
        self._lists = lists or asyncio.Semaphore()
        self._failures = 0
        self._silent = False
        self._version: str | None = None
        self.synced = asyncio.Event()
        """Set once everything was listed."""
        self.problem: ClusterError | None = None
        """Why there is no stream now."""

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            began = self._clock.monotonic()
            try:
                heard = await self._follow()
            except Expired as error:
                self._version = None
                self._failed(error)
            except Silent as error:
                if self._silent:  # the second in a row: is anything sent through here at all?
                    self._version = None
                self._silent = not self._silent
                self._failed(error)
            except ClusterError as error:
                self._failed(error)
            except Exception as error:
                # What nobody thought of must not leave the operator blind.
                _log.exception("bug in a watch", extra=self._about())
                self._version = None
                self._failed(ClusterError(f"bug in a watch: {error!r}"))
            else:
                if heard or self._clock.monotonic() - began >= SHORT:
                    self._failures, self._silent = 0, False
                    continue
                self._failed(ClusterError("the stream ended at once"))
            await self._clock.sleep(self._pause())

    async def _follow(self) -> bool:
        """List if need be, then watch to the end of one stream; True if it said anything."""
        if self._version is None:
            async with self._lists:
                self._version = await self._list()
        heard = False
        stream = self._source.watch(self._mirror.scope, self._version)
        async with aclosing(stream) as events:  # type: ignore[type-var]
            async for event in events:
                self.problem = None
                if event is None:
                    self._mirror.hear()
                else:
                    self._version = self._take(event) or self._version
                    # Not before: a stream that opens only to say that it has expired has failed.
                    heard, self._silent, self._failures = True, False, 0
        return heard

    async def _list(self) -> str:
        """Everything there is, page by page; what it lacks has vanished. Returns its version."""
        listed: set[tuple[str, str]] = set()
        page, first = await self._source.page(self._mirror.scope), True
        while first or page.proceed:
            if not first:
                page = await self._source.page(self._mirror.scope, proceed=page.proceed)
            first = False
            for number, item in enumerate(page.items, start=1):
                try:
                    metadata = item["metadata"]
                    listed.add((metadata.get("namespace", ""), metadata["name"]))
                    if self._mirror.news(item):
                        self._say(item)
                except Exception as error:
                    self._malformed(error)
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
        for gone in self._mirror.settle(listed, page.version):
            self._say(gone)
        self.problem = None
        self.synced.set()
        return page.version

    def _take(self, event: Event) -> str | None:
        """One event; the version it brings the mirror to."""
        what, item = event.get("type"), event.get("object")
        if what == "ERROR":
            raise _error(item)
        try:
            assert isinstance(item, Mapping)
            version = str(item["metadata"]["resourceVersion"])
            take = _TAKE.get(str(what))
            if take is not None and take(self._mirror, item):
                self._say(item)
            self._mirror.hear(version)
        except Exception as error:
            self._malformed(error)
            return None
        return version

    def _say(self, manifest: Manifest) -> None:
        try:
            self._tell(self._mirror.scope.kind, manifest)
        except Exception as error:
            self._malformed(error)

    def _malformed(self, error: Exception) -> None:
        words = f"{type(error).__name__}: {error}"
        _log.warning("object cannot be read", extra=self._about() | {"error": words})

    def _failed(self, error: ClusterError) -> None:
        if self.problem is None:
            _log.warning("watch interrupted", extra=self._about() | {"error": str(error)})
        self.problem = error

    def _pause(self) -> float:
        backoff = min(FIRST * 2.0 ** min(self._failures, 30), LONGEST)
        self._failures += 1
        return backoff * (1 - self._jitter() / 2)

    def _about(self) -> dict[str, str]:
        scope = self._mirror.scope
        return {"kind": scope.kind.plural, "namespace": scope.namespace or "*"}


def _error(status: object) -> ClusterError:
    """What an ERROR event says."""
    told = status if isinstance(status, Mapping) else {}
    words = str(told.get("message") or "the stream ended with an error")
    return Expired(words) if told.get("code") == 410 else ClusterError(words)
