"""One level-triggered pass: look, decide, carry out, say when to look again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import EvidenceCheckpoint
from phasegate.api.errors import ClusterError, Conflict, PhasegateError, Throttled
from phasegate.control.children import removes
from phasegate.control.execute import Executor, Outcome
from phasegate.control.observe import Gone, Observer, Sight
from phasegate.control.pace import Pace
from phasegate.control.pending import LONGEST_WAIT, PendingRollbacks, Surge
from phasegate.control.ports import Clock, Key
from phasegate.control.queue import WorkQueue
from phasegate.engine.verdict import Judgement
from phasegate.rollout.decide import decide
from phasegate.rollout.decision import Decision
from phasegate.rollout.giving import gives_more
from phasegate.rollout.observed import Measured, Observed, Settings

SHORTEST = 0.02
"""Seconds between two passes that only a plan led to: no plan may become a busy loop."""
BRIEFLY = 0.1
"""Seconds that what is to be told of a rollback waits for the routes of others, and then again."""
ASKED_AGAIN = 1.0
"""Seconds until a person's word that nobody could read, or trust, is looked at again."""

OnPass = Callable[[str, float], None]
"""Told of every pass: its result (``ok``, ``retry``, ``route-failed``, ``preempted``, ``gone``, ``bug``), seconds."""

_log = logging.getLogger(__name__)


class Evidence(Protocol):
    """The evidence of running attempts, as the reconcile loop keeps it up to date."""

    def judgement(self, key: Key) -> Judgement | None:
        """The verdicts of the running phase, if there is evidence."""

    def late(self, key: Key) -> Judgement | None:
        """What labels say that arrived after the attempt's success, while they are waited for."""

    def measured(self, key: Key) -> Measured | None:
        """Calls answered since the running phase's traffic was in place."""

    def track(self, key: Key, observed: Observed, status: AgentDeploymentStatus) -> None:
        """What is running for `key` now, if anything."""

    def checkpoint(self, key: Key) -> EvidenceCheckpoint | None:
        """State worth storing now; None when the last one is recent enough or nothing is running."""

    def stored(self, key: Key, checkpoint: EvidenceCheckpoint) -> None:
        """`checkpoint` was written."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""


class Reconciler:
    """Runs passes and keeps the queue informed. Never raises on what a user or the cluster does."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of a pass)
        self,
        observer: Observer,
        executor: Executor,
        evidence: Evidence,
        queue: WorkQueue[Key],
        clock: Clock,
        pace: Pace,
        on_pass: OnPass = lambda result, seconds: None,
        settings: Settings | None = None,
    ) -> None:
        self._observer = observer
        self._executor = executor
        self._evidence = evidence
        self._queue = queue
        self._clock = clock
        self._pace = pace
        self._on_pass = on_pass
        self._settings = settings or Settings()
        self._known: set[Key] = set()
        self._surge = Surge(clock)
        self._untold: dict[Key, int] = {}
        """Whose traffic is safe and nobody is told so yet; how often people had asked by then."""
        self._people: dict[Key, int] = {}
        self.pending = PendingRollbacks(clock)

    def known(self) -> frozenset[Key]:
        """Every agent that was seen and, as far as is known, still exists."""
        return frozenset(self._known)

    def ask(self, key: Key) -> None:
        """A person wants the traffic of `key` taken back: as urgent as evidence.

        What is being done for `key` is given up for it, once: who says it again and again does not
        keep it from being done.
        """
        asked = self._people.get(key, 0)
        self._people[key] = asked + 1
        if asked:
            self._queue.hasten(key)
        else:
            self._queue.add(key, urgent=True)

    def urgent(self, key: Key) -> bool:
        """True while evidence or a person says, as far as is known, that traffic is to be taken back."""
        return self._failing(key) or key in self._people

    async def work(self, *, urgent_only: bool = False) -> None:
        """A worker: take keys until cancelled. Some of them take urgent keys only."""
        while True:
            key = await self._queue.get(urgent_only=urgent_only)
            try:
                await self.reconcile(key)
            finally:
                self._queue.done(key)

    async def reconcile(self, key: Key) -> None:
        """One pass over `key`; whatever happens, it is looked at again when it should be."""
        began = self._clock.monotonic()
        try:
            result = await self._unless_urged(key)
        except Gone:
            self._forget(key)
            result = "gone"
        except PhasegateError as error:
            delay = self._queue.retry(
                key,
                most=self._patience(key),
                least=self._asked(key, error),
                urgent=self.urgent(key),
            )
            _log.warning("pass failed", extra=_about(key, error=str(error), retry_in=delay))
            result = "retry"
        except Exception:
            # A bug in one pass must not end the worker: other agents depend on it.
            delay = self._queue.retry(key, most=self._patience(key), urgent=self.urgent(key))
            _log.exception("bug in a pass", extra=_about(key, retry_in=delay))
            result = "bug"
        self._on_pass(result, self._clock.monotonic() - began)

    async def _unless_urged(self, key: Key) -> str:
        """A pass, given up as soon as the candidate is found to be bad: the next takes traffic back.

        However slow what it waits for is. To end between two writes is what a crash would do, too;
        every pass goes on from what is there. One that evidence demands already is let be.
        """
        # A task even if nothing can end it: so a pass that needs memory only lets others run, too.
        work = asyncio.ensure_future(self._pass(key))
        urged = asyncio.ensure_future(self._queue.urged(key))
        ends = {work} if self._failing(key) else {work, urged}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            for task in (work, urged):
                task.cancel()
            await asyncio.gather(work, urged, return_exceptions=True)
        return "preempted"

    async def _pass(self, key: Key) -> str:
        failing, asked = self._failing(key), self._people.get(key, 0)
        known_safe = key in self._untold
        if self.urgent(key) and self._untold.get(key) == asked and (rest := self._surge.rest()):
            self._queue.add_after(key, rest)  # no news of it is as urgent as the others
            return "ok"
        self._untold.pop(key, None)
        waited, first = failing and self.pending.begin(key), key not in self._known
        # What evidence demands rests on less than what a person does.
        people = asked > 0 and (known_safe or not failing)
        sight, decision, urgent = await self._decided(key, first=first, people=people)
        if not failing and decision.takes_back(sight.observed.route.plan):
            waited = self.pending.begin(key)
        checkpoint = self._evidence.checkpoint(key)
        hurried = self._hurried if urgent else (lambda tried: False)
        outcome = await self._executor.execute(key, sight, decision, checkpoint, hurried)
        if not outcome.route_failed:
            self._taken_back(key, waited)
        if outcome.deferred and not outcome.errors:
            self._untold[key] = asked
            self._queue.add_after(key, max(BRIEFLY, self._surge.rest()))
            return "ok"
        if outcome.recorded:
            self._evidence.track(key, sight.observed, decision.status)
        if checkpoint is not None and not outcome.errors:
            self._evidence.stored(key, checkpoint)
        # What else fails has its own patience: it is not what people asked for.
        if sight.heard and outcome.recorded and self._people.get(key) == asked:
            del self._people[key]
        if urgent and not self._failing(key) and not outcome.errors:
            self._queue.add(key, urgent=key in self._people)  # the traffic is safe: everything else
        return self._look_again(key, decision, outcome)

    async def _decided(
        self, key: Key, *, first: bool, people: bool
    ) -> tuple[Sight, Decision, bool]:
        """What is, what to do, and whether that is to take traffic back on the least that it needs.

        Where traffic was taken back already, or the person's word does not take it back, everything
        is looked at.
        """
        if self.urgent(key):
            sight = self._judged(key, await self._observer.glance(key, people=people))
            self._known.add(key)
            decision = self._decide(sight)
            if decision.route is not None and decision.route.takes_back:
                return sight, decision, True
        sight = await self._look(key)
        self._known.add(key)
        decision = self._decide(sight)
        if _must_ask(sight, decision, first):
            sight = await self._look(key, live=True)
            decision = self._decide(sight)
        return sight, decision, False

    def _hurried(self, tried: bool) -> bool:
        """Whether the routes of others go before what is to be told of a rollback.

        `tried`: whether its route was to be moved in this very pass.
        """
        if tried:
            self._surge.moved()
        return self._surge.rest() > 0 or (tried and self._queue.hurried)

    def _decide(self, sight: Sight) -> Decision:
        settings = replace(self._settings, refresh=timedelta(seconds=self._pace.look()))
        return decide(sight.observed, self._clock.now(), settings)

    async def _look(self, key: Key, *, live: bool = False) -> Sight:
        """Observe, and judge by the phase and the policy that were just read, not by older ones."""
        sight = await self._observer.observe(key, live=live)
        self._evidence.track(key, sight.observed, sight.observed.status)
        return self._judged(key, sight)

    def _judged(self, key: Key, sight: Sight) -> Sight:
        """The same look, with what the evidence says now."""
        judged = replace(
            sight.observed,
            judgement=self._evidence.judgement(key),
            late=self._evidence.late(key),
            measured=self._evidence.measured(key),
        )
        return replace(sight, observed=judged)

    def _taken_back(self, key: Key, waited: bool) -> None:
        """No traffic of `key` has to be moved any more; where it could not be before, others try too."""
        self.pending.end(key)
        for other in self.pending.others() if waited else ():
            self._queue.hasten(other)

    def _look_again(self, key: Key, decision: Decision, outcome: Outcome) -> str:
        if outcome.errors:
            most = LONGEST_WAIT if outcome.route_failed else 60.0
            most = min(most, self._patience(key))
            least = self._asked(key, *outcome.errors)
            delay = self._queue.retry(key, most=most, least=least, urgent=outcome.route_failed)
            self._tell(key, outcome.errors, delay)
            return "route-failed" if outcome.route_failed else "retry"
        self._queue.succeeded(key)
        delay = self._pace.idle(len(self._known) if _ready(decision) else 1)
        if decision.requeue_at is not None:
            delay = min(delay, (decision.requeue_at - self._clock.now()).total_seconds())
        if outcome.write_again_in is not None:
            delay = min(delay, outcome.write_again_in)
        if key in self._people:
            self._queue.add_after(key, ASKED_AGAIN, urgent=True)
        self._queue.look_again(key, max(delay, SHORTEST))
        return "ok"

    def _tell(self, key: Key, errors: list[ClusterError], delay: float) -> None:
        if all(isinstance(error, Conflict) for error in errors):
            _log.debug("somebody wrote first", extra=_about(key, retry_in=delay))
            return
        words = "; ".join(str(error) for error in errors)
        _log.warning("writes failed", extra=_about(key, error=words, retry_in=delay))

    def _failing(self, key: Key) -> bool:
        """True when the running candidate is known to be bad: nothing else is as urgent."""
        judgement = self._evidence.judgement(key)
        return judgement is not None and judgement.verdict == "Fail"

    def _patience(self, key: Key) -> float:
        return self.pending.patience() if self._owed(key) else 60.0

    def _owed(self, key: Key) -> bool:
        """True while traffic is to be taken back, as far as is known."""
        return self.urgent(key) or key in self.pending

    def _asked(self, key: Key, *errors: PhasegateError) -> float:
        """Seconds that the API server asked us to wait; to take traffic back we do not."""
        asked = (error.after for error in errors if isinstance(error, Throttled))
        return 0.0 if self._owed(key) else max(asked, default=0.0)

    def _forget(self, key: Key) -> None:
        self._known.discard(key)
        self._untold.pop(key, None)
        self._people.pop(key, None)
        self.pending.end(key)
        for part in (self._observer, self._executor, self._evidence, self._queue):
            part.forget(key)


def _must_ask(sight: Sight, decision: Decision, first: bool) -> bool:
    """True when what is remembered is not enough for `decision`: the API server has to be asked.

    Remembered things hold traffic and take it back. They do not give it, and delete nothing; and
    in the first pass of a process, whose memory may be older than the last one's writes, they move
    nothing but a rollback.
    """
    before, plan = sight.observed.route.plan, decision.route
    stable, latest = decision.status.stable_revision, plan or before
    if plan is not None and gives_more(before, plan, stable):
        return True
    taken = latest is not None and latest.takes_back
    if stable != sight.observed.status.stable_revision and not taken:
        return True  # promoted: nothing takes its users back any more
    if first and plan is not None and plan != before and not plan.takes_back:
        return True
    return decision.remove_route or removes(sight, decision)


def _ready(decision: Decision) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in decision.status.conditions)


def _about(key: Key, **more: object) -> dict[str, object]:
    return {"namespace": key.namespace, "agent": key.name, **more}
