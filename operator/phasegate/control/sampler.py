"""Looks at the metrics of all running attempts, and tells when a verdict changes.

One query per provider and look carries every series of every agent. What was missed (a new phase's
look-back, a provider's outage, the time before this process) is read beside it, attempt by attempt.
An error is never evidence: nothing is fed, the samples grow stale, and that is what is judged.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final

from phasegate.api.errors import ProviderError
from phasegate.control.evidence_store import Attempt, EvidenceStore, queries
from phasegate.control.ports import Clock, Key, MetricsProvider, RawSeries
from phasegate.control.queue import WorkQueue
from phasegate.control.rhythm import Rhythm
from phasegate.engine.verdict import Verdict

OVERLAP: Final = 10.0
"""Seconds that two readings overlap: samples become visible some time after their time stamp."""
LIVE: Final = 60.0
"""Seconds an attempt may lag and still be read with all others."""
CHUNK: Final = 300.0
"""Seconds of history read, and fed, at once."""
THRESHOLDS: Final = 5.0
"""Seconds between two evaluations of a threshold's query."""
AHEAD: Final = 5.0
"""Seconds by which the provider's clock may be ahead of ours without samples being seen late."""
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")

_log = logging.getLogger(__name__)


class Sampler:
    """Feeds the evidence store, judges, and puts agents whose verdict changed into the queue."""

    def __init__(
        self,
        providers: Mapping[str, MetricsProvider],
        store: EvidenceStore,
        queue: WorkQueue[Key],
        clock: Clock,
        *,
        tick: float,
        on_error: Callable[[str], None] = lambda provider: None,
    ) -> None:
        """`tick`: seconds between two looks at most. `on_error` is told the provider's name."""
        self._providers = providers
        self._store = store
        self._queue = queue
        self._clock = clock
        self._on_error = on_error
        self._rhythm = Rhythm(tick)
        self._replays: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look again and again; runs until cancelled."""
        try:
            while True:
                began = self._clock.monotonic()
                await self.look()
                took = self._clock.monotonic() - began
                now = self._clock.now().timestamp()
                await self._clock.sleep(self._rhythm.pause(now, took, len(self._store.attempts())))
        finally:
            for task in self._replays.values():
                task.cancel()
            await asyncio.gather(*self._replays.values(), return_exceptions=True)

    async def look(self) -> None:
        """One look at every provider that is needed, in parallel."""
        by_provider: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in self._store.attempts():
            by_provider[attempt.subject.provider].append(attempt)
        await asyncio.gather(*(self._look(name, group) for name, group in by_provider.items()))
        scrapes: dict[Hashable, float] = {}
        for attempt in self._store.attempts():
            scrapes |= {(attempt.key, t): at for t, at in attempt.scraped().items()}
        self._rhythm.seen(scrapes)

    async def _look(self, name: str, attempts: list[Attempt]) -> None:
        provider = self._providers.get(name)
        if provider is None:
            trouble = f"no metrics provider {name!r} in the operator's configuration"
            self._judge(attempts, trouble)
            return
        now = self._clock.now().timestamp()
        lagging = [a for a in attempts if a.read_until < now - LIVE]
        live = [a for a in attempts if a.read_until >= now - LIVE]
        self._replay(name, provider, lagging)
        self._judge(lagging)
        if live:
            start = min(a.read_until for a in live) - OVERLAP
            await self._read(name, provider, live, start, now)
            await self._thresholds(name, provider, live)
            self._judge(live)

    async def _read(
        self,
        name: str,
        provider: MetricsProvider,
        attempts: list[Attempt],
        start: float,
        end: float,
    ) -> bool:
        """Read and feed (start, end]; False when the provider gave no usable answer."""
        try:
            found = await provider.raw(selector(attempts), start, end + AHEAD)
        except ProviderError as error:
            self._failed(name, attempts, error)
            return False
        series = _by_agent(found)
        for attempt in attempts:
            self._feed(attempt, series.get(attempt.key, ()), end)
        return True

    def _feed(self, attempt: Attempt, found: Iterable[RawSeries], end: float) -> None:
        attempt.trouble = None
        try:
            attempt.feed(found, end)
        except Exception:
            # A bug that one agent's samples bring out must not blind the operator to all others.
            _log.exception("bug in the evidence", extra=_about(attempt))
            attempt.trouble = "the samples could not be used; see the operator's log"
        attempt.behind = self._clock.now().timestamp() - attempt.read_until > LIVE

    async def _thresholds(
        self, name: str, provider: MetricsProvider, attempts: list[Attempt]
    ) -> None:
        now, at = self._clock.monotonic(), self._clock.now().timestamp()
        for attempt in attempts:
            if not queries(attempt) or now - attempt.thresholds_at < THRESHOLDS:
                continue
            attempt.thresholds_at = now
            for metric, query in queries(attempt).items():
                try:
                    attempt.feed_values(metric, await provider.instant(query, at))
                except ProviderError as error:
                    self._failed(name, [attempt], error)

    def _replay(self, name: str, provider: MetricsProvider, lagging: list[Attempt]) -> None:
        """Catch up beside the live reading, one attempt after another."""
        running = self._replays.get(name)
        if lagging and (running is None or running.done()):
            self._replays[name] = asyncio.ensure_future(self._catch_up(name, provider, lagging))

    async def _catch_up(self, name: str, provider: MetricsProvider, lagging: list[Attempt]) -> None:
        for attempt in lagging:
            while self._store.current(attempt):
                now = self._clock.now().timestamp()
                if attempt.read_until >= now - LIVE:
                    break
                end = min(attempt.read_until + CHUNK, now)
                start = attempt.read_until - OVERLAP
                before = attempt.read_until
                answered = await self._read(name, provider, [attempt], start, end)
                self._judge([attempt])
                if not answered:
                    return  # the provider is down: the next look tries again
                if attempt.read_until == before:
                    break  # the samples could not be used: others are waiting

    def _judge(self, attempts: Iterable[Attempt], trouble: str | None = None) -> None:
        for attempt in attempts:
            attempt.trouble = trouble or attempt.trouble
            if not self._store.current(attempt) or not self._changed(attempt):
                continue
            judgement = attempt.judgement
            failed = judgement is not None and judgement.verdict == Verdict.FAIL
            self._queue.add(attempt.key, urgent=failed)

    def _changed(self, attempt: Attempt) -> bool:
        try:
            return self._store.judge(attempt)
        except Exception:
            _log.exception("bug in the judgement", extra=_about(attempt))
            return False

    def _failed(self, name: str, attempts: Iterable[Attempt], error: ProviderError) -> None:
        self._on_error(name)
        for attempt in attempts:
            if attempt.trouble is None:
                _log.warning("no usable metrics", extra={**_about(attempt), "error": str(error)})
            attempt.trouble = str(error)


def selector(attempts: Iterable[Attempt]) -> str:
    """A selector for every series of these agents. The namespace is always part of it."""
    names, agents, namespaces = set[str](), set[str](), set[str]()
    for attempt in attempts:
        names |= attempt.subject.names()
        agents.add(attempt.key.name)
        namespaces.add(attempt.key.namespace)
    parts = (("__name__", names), ("namespace", namespaces), ("agent", agents))
    return "{" + ",".join(f'{label}=~"{_any_of(values)}"' for label, values in parts) + "}"


def _any_of(values: Iterable[str]) -> str:
    """A regular expression that matches these and nothing else, inside a PromQL string."""
    pattern = "|".join(_SPECIAL.sub(r"\\\g<0>", value) for value in sorted(values))
    return pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _by_agent(found: Iterable[RawSeries]) -> dict[Key, list[RawSeries]]:
    grouped: defaultdict[Key, list[RawSeries]] = defaultdict(list)
    for series in found:
        key = Key(series.labels.get("namespace", ""), series.labels.get("agent", ""))
        grouped[key].append(series)
    return grouped


def _about(attempt: Attempt) -> dict[str, str]:
    return {"namespace": attempt.key.namespace, "agent": attempt.key.name}
