"""The operator dies before and after each of its writes, in every story: each ends as if it had not.

The points come from the writes that happen, not from a list that somebody keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import pytest

from tests.control.ends import differences, end_of
from tests.control.simulated_cluster import Call, Fate, no_fate
from tests.control.simulation import Simulation
from tests.control.stories import TALES, Tale

Side = Literal["dies before", "dies after"]
SAMPLED = 3
"""Points of each story that are tried in every run of the tests; `make soak` tries all."""


@dataclass(frozen=True, slots=True)
class Point:
    """One moment to die at: before or after the write of this position in the story."""

    position: int
    side: Side
    call: Call

    def __str__(self) -> str:
        return f"{self.side} write {self.position}, {self.call.verb} {self.call.plural}"


async def recorded(tale: Tale) -> tuple[dict[str, object], list[Call]]:
    """The story as it goes by itself: its end, and its writes in order, refused ones as well."""
    sim, writes = Simulation(), list[Call]()

    def fate(call: Call) -> Fate:
        if call.writes:
            writes.append(call)
        return None

    async with sim.running():
        await tale.begin(sim)
        sim.cluster.fate = fate
        await tale.go_on(sim)
        assert sim.wrong == []
        assert sim.altered() == []
        return end_of(sim), writes


async def killed(tale: Tale, point: Point) -> Simulation:
    """The story with one death in it, when it is over."""
    sim = Simulation()
    async with sim.running():
        await tale.begin(sim)
        written = 0

        def fate(call: Call) -> Fate:
            nonlocal written
            if not call.writes:
                return None
            written += 1
            return point.side if written == point.position + 1 else None

        sim.cluster.fate = fate
        await tale.go_on(sim)
        sim.cluster.fate = no_fate
        assert sim.deaths == 1
        assert "bug" not in sim.results
    return sim


def points(writes: Sequence[Call]) -> list[Point]:
    """Before and after every write."""
    sides: tuple[Side, ...] = ("dies before", "dies after")
    return [Point(n, side, call) for n, call in enumerate(writes) for side in sides]


def sample(name: str, writes: Sequence[Call]) -> list[Point]:
    """A few of all points; another few for another story."""
    return Random(name).sample(points(writes), SAMPLED)


async def assert_ends_the_same(tale: Tale, chosen: Sequence[Point], end: dict[str, object]) -> None:
    found = []
    for point in chosen:
        try:
            sim = await killed(tale, point)
        except AssertionError as error:
            found.append(f"{point}: {str(error)[:600]}")
            continue
        wrong = [*sim.wrong, *sim.altered(), *differences(end, end_of(sim))]
        found += [f"{point}: {words}" for words in wrong]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", TALES)
async def test_a_death_at_a_few_of_the_writes_changes_no_storys_end(name: str) -> None:
    end, writes = await recorded(TALES[name])
    await assert_ends_the_same(TALES[name], sample(name, writes), end)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TALES)
async def test_a_death_at_any_write_changes_no_storys_end(name: str) -> None:
    end, writes = await recorded(TALES[name])
    await assert_ends_the_same(TALES[name], points(writes), end)
