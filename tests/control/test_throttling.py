"""A busy API server is left alone for as long as it asks, but not before traffic is taken back."""

from __future__ import annotations

import pytest
from phasegate.api.errors import Throttled
from phasegate.control.queue import WorkQueue

from tests.control.fakes import VirtualClock
from tests.control.test_loop import NEW, bad_canary
from tests.control.world import World

STATUS = "patch-status agentdeployments"


@pytest.mark.parametrize(
    ("jitter", "expected"), [(0.0, 20.0), (0.5, 25.0), (0.999, pytest.approx(29.99))]
)
def test_who_is_asked_to_wait_waits_that_long_and_not_all_the_same(
    jitter: float, expected: float
) -> None:
    queue = WorkQueue[str](VirtualClock(), lambda: jitter)
    assert queue.retry("a", least=20.0) == expected


def test_nobody_waits_longer_than_the_most() -> None:
    queue = WorkQueue[str](VirtualClock(), lambda: 0.5)
    assert queue.retry("a", least=86400.0) == 60.0
    assert queue.retry("b", least=86400.0, most=5.0) == 5.0


async def test_a_status_is_not_tried_again_before_the_time_the_server_asked_for() -> None:
    async with World().operator() as world:
        await world.stable()
        world.cluster.broken[STATUS] = Throttled("too many requests", 20.0)
        world.cluster.writes.clear()
        world.apply(agent=NEW)
        await world.run(15)
        # at once, and once more for the news that pods are ready; its own back-off would be nine
        assert world.cluster.writes.count(STATUS) <= 2
        world.cluster.broken.clear()
        await world.run(16)
        assert world.cluster.writes.count(STATUS)
        assert world.status["phase"] == "Dark"


async def test_a_rollback_is_written_soon_whatever_the_server_asks_for() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.router.broken = Throttled("too many requests", 3600.0)
        await world.run(60)
        tries = world.cluster.writes.count("route")
        await world.run(30)
        assert world.cluster.writes.count("route") - tries >= 6  # every 5 s at least
        world.router.broken = None
        await world.run(5)
        assert world.share(candidate) == 0
