"""What was delivered is on the Event, whoever wrote that, and whenever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from phasegate.adapters.kinds import EVENT
from phasegate.adapters.notifiers.marks import PREFIX, EventMarks
from phasegate.adapters.recorder import event
from phasegate.api.errors import ClusterError

from tests.adapters.notes import AT, note
from tests.control.fakes import FakeCluster, VirtualClock

AGENT = {"metadata": {"namespace": "team-a", "name": "support", "uid": "uid-1"}}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(VirtualClock())


async def test_what_one_process_marks_another_finds(cluster: FakeCluster) -> None:
    await cluster.create(event(AGENT, note().news, "one", AT))
    one, two = EventMarks(cluster, "one"), EventMarks(cluster, "two")
    assert await two.delivered(note()) == frozenset()
    await one.mark(note(), frozenset({"ops"}))
    await one.mark(note(), frozenset({"pager"}))
    assert await two.delivered(note()) == {"ops", "pager"}
    assert len(cluster.all(EVENT)) == 1


async def test_an_event_that_was_never_written_is_made_up_for(cluster: FakeCluster) -> None:
    marks = EventMarks(cluster, "one")
    await marks.mark(note(), frozenset({"ops"}))
    assert await marks.delivered(note()) == {"ops"}
    (made,) = cluster.all(EVENT)
    assert made["note"] == note().news.message


async def test_the_same_words_later_were_not_delivered_yet(cluster: FakeCluster) -> None:
    marks = EventMarks(cluster, "one")
    await marks.mark(note(), frozenset({"ops"}))
    later = replace(note(), at=AT + timedelta(minutes=5))
    assert await marks.delivered(later) == frozenset()
    await marks.mark(later, frozenset({"ops"}))
    assert await marks.delivered(later) == await marks.delivered(note()) == {"ops"}


@pytest.mark.parametrize("mark", ["yes", "", "2026-11-21", "2026-11-21T10:00:00"])
async def test_a_mark_that_is_no_time_is_none(cluster: FakeCluster, mark: str) -> None:
    made = event(AGENT, note().news, "one", AT)
    made["metadata"]["annotations"] = {f"{PREFIX}ops": mark, "other": "2027-01-01T00:00:00Z"}
    await cluster.create(made)
    assert await EventMarks(cluster, "two").delivered(note()) == frozenset()


async def test_an_api_server_that_does_not_answer_is_no_answer(cluster: FakeCluster) -> None:
    cluster.broken["get events"] = ClusterError("down")
    with pytest.raises(ClusterError):
        await EventMarks(cluster, "one").delivered(note())
