"""The plan in a status: what an attempt's phases will take and catch, from the agent's traffic of today.

It is told once an attempt, soon after its start, and decides nothing: no pass waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from phasegate.api.agentdeployment import AgentDeploymentSpec, Strategy
from phasegate.api.errors import InvalidSpec, ProviderError
from phasegate.control.ports import Clock, Key, MetricsProvider
from phasegate.control.queue import WorkQueue
from phasegate.control.subject import Subject, subject_of
from phasegate.control.today import today
from phasegate.rollout.forecast import forecast
from phasegate.rollout.observed import Observed, PolicySeen
from phasegate.rollout.phases import phases_of

REST: Final = 60.0
"""Seconds until a provider that gave no usable answer is asked again."""
BREATH: Final = 0.05
"""Seconds between the forecasts of two phases: a rollback that is due does not wait for a plan."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wish:
    """Whose plan is wanted."""

    spec: AgentDeploymentSpec
    policy: PolicySeen
    subject: Subject

    @property
    def key(self) -> Key:
        return self.subject.party.key


class Foreteller:
    """Makes one plan after another, beside everything else."""

    def __init__(
        self,
        providers: Mapping[str, MetricsProvider],
        queue: WorkQueue[Key],
        clock: Clock,
        confused: Callable[[Subject], str | None],
    ) -> None:
        """`confused`: why an agent's series could be another namespace's; they are not read then."""
        self._confused = confused
        self._providers = providers
        self._queue = queue
        self._clock = clock
        self._wishes: asyncio.Queue[Key] = asyncio.Queue()
        self._wished: dict[Key, _Wish] = {}
        self._asked: dict[Key, tuple[str, float]] = {}
        self._told: dict[Key, tuple[str, tuple[str, ...]]] = {}

    def plan(self, key: Key, rollout: str | None) -> tuple[str, ...]:
        """The plan of an attempt, a line a phase; nothing while there is none."""
        about, lines = self._told.get(key, (None, ()))
        return lines if about == rollout else ()

    def wish(self, key: Key, observed: Observed) -> None:
        """Make a plan if an attempt runs that has none yet."""
        status, now = observed.status, self._clock.monotonic()
        rollout = status.current_rollout
        if status.progress is None or rollout is None:
            self.forget(key)
            return
        if status.plan or observed.spec is None or self.plan(key, rollout) or key in self._wished:
            return
        about, again_at = self._asked.get(key, ("", now))
        if about == rollout and now < again_at:
            return
        subject = subject_of(key, observed, status, None, self._clock.now())
        if subject is not None and subject.provider in self._providers:
            self._asked[key] = (rollout, now + REST)
            self._wished[key] = _Wish(observed.spec, observed.policy, subject)
            self._wishes.put_nowait(key)

    def forget(self, key: Key) -> None:
        """The agent is gone, or nothing runs."""
        for known in (self._wished, self._asked, self._told):
            known.pop(key, None)

    async def run(self) -> None:
        """Make what is wished for; runs until cancelled."""
        while True:
            wish = self._wished.pop(await self._wishes.get(), None)
            if wish is None:
                continue  # its attempt is over
            try:
                lines = await self._lines(wish)
            except ProviderError as error:
                _log.info("no plan yet", extra={"agent": wish.key.name, "why": str(error)})
                continue
            except Exception:
                _log.exception("bug in a plan", extra={"agent": wish.key.name})
                continue
            if wish.key in self._asked:
                self._told[wish.key] = (wish.subject.rollout, lines)
                self._queue.add(wish.key)

    async def _lines(self, wish: _Wish) -> tuple[str, ...]:
        provider, policy = self._providers[wish.subject.provider], wish.policy
        if why := self._confused(wish.subject):
            return (f"no plan: {why}",)
        lines = []
        try:
            traffic = await today(wish.subject, provider, self._clock.now().timestamp())
            for phase in phases_of(wish.spec.strategy):
                alone = wish.spec.model_copy(update={"strategy": Strategy(phases=(phase,))})
                lines += [
                    found.line for found in forecast(alone, policy.spec, traffic, policy.prices)
                ]
                await self._clock.sleep(BREATH)
        except InvalidSpec as error:
            return (f"no plan: {error}",)
        return tuple(lines)
