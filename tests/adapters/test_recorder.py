from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from phasegate.adapters.recorder import NOTE_LIMIT, EventRecorder, event
from phasegate.api.errors import ClusterError, Conflict, NotFound
from phasegate.control.ports import Cluster, Kind
from phasegate.rollout.decision import Announcement

from tests.adapters.agents import agent

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SAFE = Announcement("Warning", "TrafficSafe", "rolled back after 0.4 s")


@dataclass
class Events:
    """The part of an API server that keeps Events."""

    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    down: bool = False

    async def create(self, manifest: dict[str, Any]) -> Mapping[str, Any]:
        if self.down:
            raise ClusterError("down")
        name = manifest["metadata"]["name"]
        if name in self.kept:
            raise Conflict("exists")
        self.kept[name] = manifest
        return manifest

    async def patch(
        self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        if name not in self.kept:
            raise NotFound("expired")
        self.kept[name] |= patch
        return self.kept[name]


@dataclass
class Desk:
    events: Events
    now: datetime = START
    announced: list[str] = field(default_factory=list)
    dropped: int = 0
    recorder: EventRecorder | None = None

    def open(self, size: int = 10) -> EventRecorder:
        def drop() -> None:
            self.dropped += 1

        return EventRecorder(
            cast(Cluster, self.events),
            "phasegate-0",
            size=size,
            now=lambda: self.now,
            on_announced=self.announced.append,
            on_dropped=drop,
        )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(Events())
    desk.recorder = desk.open()
    task = asyncio.create_task(desk.recorder.run())
    yield desk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def say(desk: Desk, announcement: Announcement = SAFE) -> None:
    assert desk.recorder is not None
    await desk.recorder.announce(agent(), announcement)
    await desk.recorder.flush()


async def test_an_announcement_is_one_event_and_one_log_line(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "phasegate.transitions"):
        await say(desk)
    (kept,) = desk.events.kept.values()
    assert (kept["type"], kept["reason"], kept["note"]) == ("Warning", SAFE.reason, SAFE.message)
    assert kept["regarding"]["uid"] == agent()["metadata"]["uid"]
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.__dict__["agent"] == "support"
    assert desk.announced == [SAFE.reason]


async def test_the_same_again_after_a_crash_is_still_one_event(desk: Desk) -> None:
    await say(desk)
    desk.now += timedelta(seconds=20)
    await say(desk)
    crashed = desk.open()
    await crashed.announce(agent(), SAFE)
    task = asyncio.create_task(crashed.run())
    await crashed.flush()
    task.cancel()
    (kept,) = desk.events.kept.values()
    assert "series" not in kept
    assert desk.dropped == 0


async def test_an_event_that_expired_is_written_again(desk: Desk) -> None:
    await say(desk)
    desk.events.kept.clear()
    desk.now += timedelta(hours=2)
    await say(desk)
    assert len(desk.events.kept) == 1


async def test_the_same_much_later_is_counted(desk: Desk) -> None:
    for count in (1, 2, 3):
        desk.now = START + timedelta(hours=count)
        await say(desk)
    (kept,) = desk.events.kept.values()
    assert kept["series"]["count"] == 3
    assert kept["series"]["lastObservedTime"] == "2026-11-01T15:00:00.000000Z"


async def test_another_agent_or_message_is_another_event(desk: Desk) -> None:
    await say(desk)
    await say(desk, Announcement("Normal", SAFE.reason, "something else"))
    assert desk.recorder is not None
    await desk.recorder.announce(agent(uid="another"), SAFE)
    await desk.recorder.flush()
    assert len(desk.events.kept) == 3


async def test_nothing_is_raised_when_events_cannot_be_written(desk: Desk) -> None:
    desk.events.down = True
    await say(desk)
    assert desk.dropped == 1
    desk.events.down = False
    await say(desk)
    assert len(desk.events.kept) == 1


async def test_a_full_queue_drops_and_does_not_wait() -> None:
    desk = Desk(Events())
    recorder = desk.open(size=2)
    for _ in range(5):
        await recorder.announce(agent(), SAFE)
    assert desk.dropped == 3
    assert len(desk.announced) == 5


def test_a_long_message_is_cut_to_what_the_server_takes() -> None:
    note = event(agent(), Announcement("Normal", "X", "é" * 2000), "i", START)["note"]
    assert len(note.encode()) <= NOTE_LIMIT
    assert note.endswith("…")
