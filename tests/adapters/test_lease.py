"""Leader election against an API server in memory, in virtual time."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.api.errors import ClusterError, Conflict, Fenced, NotFound
from phasegate.control.lease import Elector, LeaseSettings
from phasegate.control.ports import Clock, Cluster, Kind

from tests.control.fakes import VirtualClock, settle

Fault = str  # "", "down", "hang", "lost answer"


@dataclass
class LeaseStore:
    """One Lease with resource versions."""

    lease: dict[str, Any] | None = None
    versions: Any = field(default_factory=lambda: itertools.count(1))
    writes: int = 0

    def save(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"name": "phasegate", "resourceVersion": str(next(self.versions))}
        self.lease = {"metadata": metadata, "spec": dict(spec)}
        self.writes += 1
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""


@dataclass
class Link:
    """One process' connection to the store; `fault` breaks it."""

    store: LeaseStore
    fault: Fault = ""

    async def _before(self) -> None:
        if self.fault == "hang":
            await asyncio.get_running_loop().create_future()
        if self.fault == "down":
            raise ClusterError("connection refused")

    def _after(self) -> None:
        if self.fault == "lost answer":
            raise ClusterError("connection reset")

    async def get(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any]:
        await self._before()
        if self.store.lease is None:
            raise NotFound("no lease")
        return copy.deepcopy(self.store.lease)

    async def create(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._before()
        if self.store.lease is not None:
            raise Conflict("exists")
        created = self.store.save(manifest["spec"])
        self._after()
        return created

    async def patch(
        self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        await self._before()
        if self.store.lease is None:
            raise NotFound("no lease")
        if patch["metadata"]["resourceVersion"] != self.store.lease["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")
        patched = self.store.save({**self.store.lease["spec"], **patch["spec"]})
        self._after()
        return patched


@dataclass
class Operator:
    """A process that acts while it leads, and exits when it does not any more."""

    elector: Elector
    link: Link
    acting: bool = False
    exited: bool = False

    async def run(self) -> None:
        await self.elector.acquire()
        self.acting = True
        try:
            await self.elector.hold()
        finally:
            self.acting = False
            self.exited = True


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = LeaseStore()
        self.operators: list[Operator] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, name: str) -> Operator:
        link = Link(self.store)
        lease = LeaseSettings("phasegate-system", "phasegate", name)
        elector = Elector(cast(Cluster, link), cast(Clock, self.clock), lease)
        operator = Operator(elector, link)
        self.operators.append(operator)
        self.tasks.append(asyncio.ensure_future(operator.run()))
        return operator

    async def advance(self, seconds: float, step: float = 0.5) -> None:
        """Time passes; at no moment do two act."""
        for _ in range(round(seconds / step)):
            await self.clock.advance(step)
            assert sum(o.acting and o.elector.leading for o in self.operators) <= 1
            assert sum(o.acting for o in self.operators) <= 1


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    try:
        yield world
    finally:
        for task in world.tasks:
            task.cancel()
        await asyncio.gather(*world.tasks, return_exceptions=True)


async def test_the_first_one_leads_at_once() -> None:
    async with running() as world:
        one = world.start("one")
        await settle()
        assert one.acting
        assert world.store.holder == "one"


async def test_a_second_one_waits_as_long_as_the_first_renews() -> None:
    async with running() as world:
        one, two = world.start("one"), world.start("two")
        await world.advance(100)
        assert one.acting
        assert not two.acting


async def test_of_many_that_start_together_one_leads() -> None:
    async with running() as world:
        for name in "abcdef":
            world.start(name)
        await world.advance(30)
        assert sum(operator.acting for operator in world.operators) == 1


async def test_a_released_lease_is_taken_within_the_retry_time() -> None:
    async with running() as world:
        one, two = world.start("one"), world.start("two")
        await world.advance(5)
        world.tasks[0].cancel()
        await settle()
        await one.elector.release()
        assert not one.elector.leading
        await world.advance(1.5)
        assert two.acting
        assert world.store.lease is not None
        assert world.store.lease["spec"]["leaseTransitions"] == 2


async def test_a_crashed_leader_is_followed_after_the_leases_duration() -> None:
    async with running() as world:
        _, two = world.start("one"), world.start("two")
        await world.advance(7)
        world.tasks[0].cancel()
        await world.advance(8)
        assert not two.acting
        await world.advance(9)
        assert two.acting


@pytest.mark.parametrize("fault", ["down", "hang"])
async def test_a_leader_that_cannot_renew_has_stopped_before_the_next_starts(fault: Fault) -> None:
    async with running() as world:
        one, two = world.start("one"), world.start("two")
        await world.advance(7)
        one.link.fault = fault
        await world.advance(10)
        assert one.exited
        assert not two.acting
        await world.advance(10)
        assert two.acting


async def test_an_outage_shorter_than_the_deadline_changes_nothing() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(6)
        one.link.fault = "down"
        await world.advance(7)
        one.link.fault = ""
        await world.advance(60)
        assert one.acting


async def test_a_renewal_whose_answer_is_lost_does_not_cost_leadership() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(4)
        one.link.fault = "lost answer"
        await world.advance(2)
        one.link.fault = ""
        await world.advance(60)
        assert one.acting


async def test_a_claim_whose_answer_is_lost_is_made_again() -> None:
    async with running() as world:
        one = world.start("one")
        one.link.fault = "lost answer"
        await world.advance(1)
        assert not one.acting
        one.link.fault = ""
        await world.advance(6)
        assert one.acting


async def test_a_leader_that_was_frozen_past_its_deadline_does_not_even_renew() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(6)
        one.elector.check()
        before = world.store.writes
        world.clock.freeze(11)
        with pytest.raises(Fenced):
            one.elector.check()
        await world.advance(1)
        assert one.exited
        assert world.store.writes == before


async def test_a_leader_that_was_frozen_for_less_goes_on() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(6)
        world.clock.freeze(8)
        await world.advance(30)
        one.elector.check()
        assert one.acting


async def test_the_fence_is_closed_before_and_after() -> None:
    async with running() as world:
        one, two = world.start("one"), world.start("two")
        await world.advance(3)
        one.elector.check()
        with pytest.raises(Fenced):
            two.elector.check()
        world.tasks[0].cancel()
        await settle()
        await one.elector.release()
        with pytest.raises(Fenced):
            one.elector.check()


async def test_a_leader_exits_when_somebody_else_took_the_lease() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(1)
        world.store.save({"holderIdentity": "thief", "leaseDurationSeconds": 15})
        await world.advance(6)
        assert one.exited


async def test_somebody_elses_note_on_the_lease_does_not_cost_leadership() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(1)
        assert world.store.lease is not None
        world.store.save(world.store.lease["spec"])
        await world.advance(60)
        assert one.acting


async def test_a_deleted_lease_ends_leadership() -> None:
    async with running() as world:
        one = world.start("one")
        await world.advance(1)
        world.store.lease = None
        await world.advance(6)
        assert one.exited


async def test_a_holder_that_was_given_more_time_gets_it() -> None:
    async with running() as world:
        world.store.save({"holderIdentity": "slow", "leaseDurationSeconds": 60})
        one = world.start("one")
        await world.advance(58)
        assert not one.acting
        await world.advance(5)
        assert one.acting


async def test_a_standing_leader_writes_once_per_renewal() -> None:
    async with running() as world:
        world.start("one")
        await world.advance(1)
        before = world.store.writes
        await world.advance(300)
        assert world.store.writes - before <= 300 / 5


@pytest.mark.parametrize(
    "times", [{"renew_deadline": 15.0}, {"renew": 10.0}, {"retry": 6.0}, {"duration": 10.0}]
)
def test_settings_that_allow_two_leaders_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retry <= renew < renew_deadline < duration"):
        LeaseSettings("ns", "name", "me", **times)


_faults = st.sampled_from(("", "down", "hang", "lost answer"))
_steps = st.lists(
    st.tuples(st.integers(0, 2), _faults, st.sampled_from((1, 3, 11, 20))), max_size=8
)


@settings(max_examples=15, deadline=None)
@given(_steps)
def test_whatever_breaks_two_never_lead_and_in_the_end_one_does(
    steps: list[tuple[int, Fault, int]],
) -> None:
    async def story() -> None:
        async with running() as world:
            for name in ("one", "two", "three"):
                world.start(name)
            for number, (index, fault, seconds) in enumerate(steps):
                if world.operators[index].exited:  # what exits is started again
                    world.operators[index] = world.start(f"again-{number}")
                    world.operators.pop()
                world.operators[index].link.fault = fault
                await world.advance(seconds, step=1)
            for operator in world.operators:
                operator.link.fault = ""
            world.start("last")
            await world.advance(40, step=1)
            assert sum(operator.acting for operator in world.operators) == 1

    asyncio.run(story())
