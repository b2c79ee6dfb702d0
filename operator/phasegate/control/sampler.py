"""Looks at the metrics of all running attempts, and tells when a verdict changes.

One query per provider and source carries every series of every agent; where there are more than
`TOGETHER`, of so many agents. What was missed (a new phase's look-back, a provider's outage, the
time before this process) is read beside it, attempt by attempt. An error is never evidence: nothing
is fed, the samples grow stale, and that is what is judged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from phasegate.api.errors import ProviderError, TooMuchData
from phasegate.control.addresses import Role
from phasegate.control.attempt import AHEAD, Attempt, deal, selector_of
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.history import SPAN, STEP, dispersions, history_query
from phasegate.control.ports import Clock, Key, MetricsProvider, RawSeries
from phasegate.control.queries import Query, late_queries, live_queries, pending
from phasegate.control.queue import WorkQueue
from phasegate.control.rhythm import Rhythm
from phasegate.engine.verdict import Verdict

OVERLAP: Final = 10.0
"""Seconds that two readings overlap: samples become visible some time after their time stamp."""
LONGEST_OVERLAP: Final = 120.0
"""The same, where samples take long to arrive (remote write)."""
STARVED: Final = 90.0
"""Seconds without a sample after which an attempt is read that far back by itself, now and then."""
LOOK_AHEAD: Final = 360.0
"""Seconds beyond now that are read, to notice clocks that are ahead of ours."""
LIVE: Final = 60.0
"""Seconds an attempt may lag and still be read with all others."""
CHUNK: Final = 300.0
"""Seconds of history read, and fed, at once."""
LABELS: Final = 30.0
"""Seconds between two looks at labels of attempts that have ended."""
CLOSELY: Final = 50
"""Attempts at most that are looked at more often than all others."""
TOGETHER: Final = 250
"""Agents in one query: four queries a look at 1,000 agents, each short enough for every store."""
PATIENCE: Final = 1.0
"""Seconds the looks at all other providers wait for one."""
REST: Final = 10.0
"""Seconds until catching up is tried again where it led nowhere."""
MISSES: Final = 3
"""Shared queries that fail in a row until nobody is looked for: the provider itself is down."""
STRANGERS: Final = 2
"""The same of queries about one agent each."""
_BREATH: Final = 8
"""Attempts fed in a row: a rollback that is due does not wait for the whole fleet."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Link:
    """A provider and a source at it."""

    name: str
    source: str
    provider: MetricsProvider


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
        self._tick = tick
        self._labels_at = float("-inf")
        self._beside: dict[tuple[str, _Link], asyncio.Task[None]] = {}
        self._looking: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look again and again; runs until cancelled."""
        try:
            while True:
                began = self._clock.monotonic()
                looked = await self.look()
                took = self._clock.monotonic() - began
                await self._rest(self._rhythm.pause(self._now(), took, looked))
        finally:
            tasks = (*self._beside.values(), *self._looking.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> int:
        """One look at every provider that is needed, in parallel; how many attempts it was about."""
        attempts = self._due()
        await self._look_at(attempts)
        return len(attempts)

    def _due(self) -> list[Attempt]:
        """What is running; labels that come hours late are waited for with less haste."""
        now = self._clock.monotonic()
        if now >= self._labels_at:
            self._labels_at = now + LABELS
            return self._store.attempts()
        return [a for a in self._store.attempts() if not a.subject.afterwards]

    async def _rest(self, seconds: float) -> None:
        """Wait. What gets worse is looked at meanwhile, as often as in a small fleet."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > self._tick:
            await self._clock.sleep(self._tick)
            if worsening := self._worsening():
                await self._look_at(worsening)
        await self._clock.sleep(max(0.0, left))

    def _worsening(self) -> list[Attempt]:
        """Attempts with an early warning; where there are very many, it is not theirs alone."""
        running = (a for a in self._store.attempts() if not a.subject.afterwards)
        found = [a for a in running if a.judgement is not None and a.judgement.warnings]
        return found[:CLOSELY]

    async def _look_at(self, attempts: Iterable[Attempt]) -> None:
        groups: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            groups[attempt.subject.provider, attempt.subject.source].append(attempt)
        looks = []
        for group, found in groups.items():
            running = self._looking.get(group)
            if running is not None and not running.done():
                continue
            if running is not None:
                running.result()  # a bug that came after we had stopped waiting
            looks.append(asyncio.ensure_future(self._paced(group, found)))
            self._looking[group] = looks[-1]
        await self._patiently(looks)
        scrapes: dict[Hashable, float] = {}
        for attempt in self._store.attempts():
            scrapes |= {(attempt.key, t): at for t, at in attempt.scraped().items()}
        self._rhythm.seen(scrapes)

    async def _look(self, name: str, source: str, attempts: list[Attempt]) -> None:
        provider = self._providers.get(name)
        if provider is None:
            trouble = f"no metrics provider {name!r} in the operator's configuration"
            for attempt in attempts:
                attempt.troubles[""] = trouble
                self._judge(attempt)
            return
        link, now, rested = _Link(name, source, provider), self._now(), self._clock.monotonic()
        for attempt in attempts:
            attempt.rewind(now)
        readable = [a for a in attempts if a.confused is None and a.subject.addresses]
        live = [a for a in readable if not _lags(a, now)]
        due = [a for a in readable if a.rest_until <= rested]
        if behind := [a for a in due if _lags(a, now) or late_queries(a, now)]:
            self._start("catch up", link, lambda: self._catch_up(link, behind))
        if starved := [a for a in due if not _lags(a, now) and _starves(a)]:
            self._start("read again", link, lambda: self._read_again(link, starved))
        for attempt in (a for a in attempts if a not in live):
            self._judge(attempt)
        await self._read_live(link, live, now)
        if queries := live_queries(live, now):
            self._start("ask", link, lambda: self._ask_all(link, queries))

    async def _patiently(self, looks: Iterable[asyncio.Task[None]]) -> None:
        """Wait for answers; a provider that hangs holds up no look at the others."""
        left, enough = set(looks), asyncio.ensure_future(self._clock.sleep(PATIENCE))
        try:
            while left and not enough.done():
                done, left = await asyncio.wait(
                    {*left, enough}, return_when=asyncio.FIRST_COMPLETED
                )
                left.discard(enough)
                for look in done:
                    look.result()
        finally:
            enough.cancel()
            await asyncio.gather(enough, return_exceptions=True)

    async def _paced(self, group: tuple[str, str], attempts: list[Attempt]) -> None:
        """A look, and as long a rest where it took long: half of a provider's time at most."""
        began = self._clock.monotonic()
        await self._look(*group, attempts)
        if (took := self._clock.monotonic() - began) > PATIENCE:
            await self._clock.sleep(took)

    def _start(self, what: str, link: _Link, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something beside the live reading, unless it is being done."""
        running = self._beside.get((what, link))
        if running is None or running.done():
            self._beside[what, link] = asyncio.ensure_future(make())

    # --- samples ---------------------------------------------------------------------------------

    async def _read_live(self, link: _Link, live: list[Attempt], now: float) -> None:
        await self._read_pieces(link, live, _overlap(live), now)

    async def _read_again(self, link: _Link, starved: list[Attempt]) -> None:
        """Look further back for samples that take long to arrive, of agents that have none."""
        for attempt in starved:
            attempt.rest_until = self._clock.monotonic() + REST
        await self._read_pieces(link, starved, LONGEST_OVERLAP, self._now())

    async def _read_pieces(
        self, link: _Link, attempts: list[Attempt], overlap: float, now: float
    ) -> None:
        """Read together. Whose series make a query fail is found by halves: only they see nothing."""
        waiting = deque(attempts[n : n + TOGETHER] for n in range(0, len(attempts), TOGETHER))
        misses, answered = 0, False
        alone: list[tuple[Attempt, ProviderError]] = []
        while waiting:
            piece = waiting.popleft()
            start = min(attempt.read_until for attempt in piece) - overlap
            try:
                await self._read(link, piece, start, now)
            except ProviderError as error:
                answers = isinstance(error, TooMuchData)
                answered |= answers
                misses = 0 if answers else misses + 1
                if len(piece) == 1:
                    alone.append((piece[0], error))
                elif misses < MISSES:
                    middle = len(piece) // 2
                    waiting += piece[:middle], piece[middle:]  # after who was not asked about yet
                    continue
                if misses == MISSES:  # the others' query would fare no better
                    self._blind(link, (*piece, *(a for rest in waiting for a in rest)), error)
                    break
            else:
                misses, answered = 0, True
        for attempt, trouble in alone:
            attempt.isolated |= answered and misses < MISSES
            self._blind(link, (attempt,), trouble)

    def _blind(self, link: _Link, attempts: Iterable[Attempt], error: ProviderError) -> None:
        for attempt in attempts:
            self._failed(link, attempt, "", error)
            self._judge(attempt)

    async def _read(self, link: _Link, attempts: list[Attempt], start: float, end: float) -> None:
        """Read, feed and judge (start, end]; raises ProviderError if there is no usable answer."""
        ahead = LOOK_AHEAD if end >= self._now() - AHEAD else AHEAD
        found = await link.provider.raw(selector_of(attempts), start, end + ahead)
        dealt = deal(found, attempts)
        for number, attempt in enumerate(attempts, start=1):
            self._feed(link, attempt, dealt.get(attempt.key, ()), end)
            self._judge(attempt)
            if number % _BREATH == 0:
                await _breathe()

    def _feed(
        self, link: _Link, attempt: Attempt, found: Sequence[tuple[RawSeries, Role]], end: float
    ) -> None:
        try:
            attempt.feed(found, end)
        except ProviderError as error:
            self._failed(link, attempt, "", error)
        except Exception:
            # A bug that one agent's samples bring out must not blind the operator to all others.
            _log.exception("bug in the evidence", extra=_about(attempt))
            attempt.troubles[""] = "the samples could not be used; see the operator's log"
        else:
            attempt.troubles.pop("", None)
            attempt.isolated = attempt.history_due = False
        attempt.behind = self._now() - attempt.read_until > LIVE

    async def _catch_up(self, link: _Link, behind: list[Attempt]) -> None:
        """Read what was missed, one attempt after another; those last that led nowhere."""
        failed = 0
        for attempt in sorted(behind, key=lambda a: a.rest_until):
            try:
                while self._store.current(attempt) and _lags(attempt, self._now()):
                    if not await self._step(link, attempt):
                        attempt.rest_until = self._clock.monotonic() + REST
                        break
                for query in pending(attempt, self._now()):
                    await self._ask(link, query)
            except ProviderError as error:
                attempt.rest_until = self._clock.monotonic() + REST
                self._blind(link, (attempt,), error)
                failed += not isinstance(error, TooMuchData)
                if failed == STRANGERS:
                    return  # the provider is down: the next look tries again

    async def _step(self, link: _Link, attempt: Attempt) -> bool:
        """Read one chunk of what was missed; False if the samples could not be used."""
        if attempt.history_due:
            await self._history(link, attempt)
        before, now = attempt.read_until, self._now()
        end = min(before + CHUNK, now)
        for query in late_queries(attempt, end):
            await self._ask(link, query, wait=True)
        await self._read(link, [attempt], before - OVERLAP, end)
        return attempt.read_until > before

    async def _history(self, link: _Link, attempt: Attempt) -> None:
        """Read how much the baseline's counts vary; if that cannot be told, go on without."""
        query, start = history_query(attempt.subject), attempt.subject.plan.start
        if query is None:
            attempt.history_due = False
            return
        try:
            found = await link.provider.stepped(query, start - SPAN, start, STEP)
        except ProviderError as error:
            self._on_error(link.name)
            _log.info("no history", extra={**_about(attempt), "error": str(error)})
            return
        attempt.begin(dispersions(attempt.subject, found))

    # --- queries ---------------------------------------------------------------------------------

    async def _ask_all(self, link: _Link, queries: Sequence[Query]) -> None:
        for query in queries:
            await self._ask(link, query)

    async def _ask(self, link: _Link, query: Query, *, wait: bool = False) -> None:
        """Ask once for everybody who has this query; its failure is theirs alone."""
        try:
            found = await link.provider.stepped(query.text, query.start, query.end, query.step)
        except ProviderError as error:
            for attempt, metric in query.askers:
                self._failed(link, attempt, metric, error)
                self._judge(attempt)
            return
        for attempt, metric in query.askers:
            attempt.troubles.pop(metric, None)
            attempt.feed_values(metric, found, query.end, wait=wait)
            self._judge(attempt)

    # --- what follows ----------------------------------------------------------------------------

    def _judge(self, attempt: Attempt) -> None:
        if not self._store.current(attempt) or not self._changed(attempt):
            return
        judgement = attempt.judgement
        failed = judgement is not None and judgement.verdict == Verdict.FAIL
        self._queue.add(attempt.key, urgent=failed)

    def _changed(self, attempt: Attempt) -> bool:
        try:
            return self._store.judge(attempt)
        except Exception:
            _log.exception("bug in the judgement", extra=_about(attempt))
            return False

    def _failed(self, link: _Link, attempt: Attempt, what: str, error: ProviderError) -> None:
        self._on_error(link.name)
        if what not in attempt.troubles:
            _log.warning("no usable metrics", extra={**_about(attempt), "error": str(error)})
        attempt.troubles[what] = str(error)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _lags(attempt: Attempt, now: float) -> bool:
    return attempt.isolated or attempt.read_until < now - LIVE


def _starves(attempt: Attempt) -> bool:
    """True when samples, if there are any, arrive later than they are looked for."""
    return attempt.newest is None or attempt.read_until - attempt.newest > STARVED


def _overlap(live: list[Attempt]) -> float:
    """Seconds to read again: as long as samples take to arrive at half of the agents."""
    ages = sorted(a.read_until - a.newest for a in live if a.newest is not None)
    if not ages:
        return OVERLAP
    return min(LONGEST_OVERLAP, max(OVERLAP, ages[len(ages) // 2] + OVERLAP / 2))


async def _breathe() -> None:
    """Let others run."""
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    loop.call_soon(turn.set_result, None)
    await turn


def _about(attempt: Attempt) -> dict[str, str]:
    return {"namespace": attempt.key.namespace, "agent": attempt.key.name}
