"""What people are told outside of the cluster: once each, whatever the channels do, whoever leads."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from phasegate.api.errors import ClusterError, Fenced, NotDelivered
from phasegate.control.notifying import Notifiers, Notifying
from phasegate.control.outbox import LONGEST_PAUSE, SIZE, Notification, Outbox, Result
from phasegate.control.ports import Key
from phasegate.rollout.decision import Announcement
from phasegate.rollout.news import Severity
from phasegate.rollout.notifiers import Known

from tests.control.fakes import START, VirtualClock, settle

STARTED = Announcement("Normal", "RolloutStarted", "0123456789 begins with dark", "0123456789")
BAD = Announcement("Warning", "RolledBack", "rolled back 0123456789", "0123456789")


def agent(namespace: str = "team", notify: Any = None) -> Mapping[str, Any]:
    spec = {} if notify is None else {"notify": notify}
    return {"metadata": {"namespace": namespace, "name": "a", "uid": "u1"}, "spec": spec}


@dataclass
class Room:
    """A chat room: keeps what it was sent, and does what a test says."""

    got: list[Notification] = field(default_factory=list)
    tried: int = 0
    trouble: Exception | None = None
    hangs: bool = False

    async def send(self, note: Notification) -> None:
        self.tried += 1
        if self.hangs:
            await asyncio.Future()
        if self.trouble is not None:
            raise self.trouble
        self.got.append(note)

    async def close(self) -> None:
        pass

    @property
    def words(self) -> list[str]:
        return [note.news.message for note in self.got]


@dataclass
class Book:
    """Marks that outlive a process."""

    kept: dict[str, frozenset[str]] = field(default_factory=dict)
    down: bool = False
    reads: int = 0
    writes: int = 0

    async def delivered(self, note: Notification) -> frozenset[str]:
        self.reads += 1
        if self.down:
            raise ClusterError("down")
        return self.kept.get(note.id, frozenset())

    async def mark(self, note: Notification, names: frozenset[str]) -> None:
        self.writes += 1
        if self.down:
            raise ClusterError("down")
        self.kept[note.id] = self.kept.get(note.id, frozenset()) | names


class Gate:
    """A fence."""

    def __init__(self) -> None:
        self.shut = False

    def check(self) -> None:
        if self.shut:
            raise Fenced("another process may be leading")


class Desk:
    """One process after the other, on the same channels and marks."""

    def __init__(self, *rooms: str, default: tuple[str, ...] = ()) -> None:
        self.clock = VirtualClock()
        self.rooms = {name: Room() for name in rooms}
        self.least: dict[str, Severity] = {}
        self.book, self.fence = Book(), Gate()
        self.known = Known({name: frozenset() for name in rooms}, default or rooms[:1])
        self.results: dict[tuple[str, Result], int] = defaultdict(int)

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Notifiers]:
        def count(name: str, result: Result) -> None:
            self.results[name, result] += 1

        told = Notifiers(
            {n: Notifying(room, self.least.get(n, "Info")) for n, room in self.rooms.items()},
            self.known,
            self.book,
            self.clock,
            fence=self.fence,
            on_result=count,
        )
        task = asyncio.ensure_future(told.run())
        try:
            yield told
            await settle()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_agent_is_told_where_it_says_and_by_default_where_the_administrator_says() -> None:
    desk = Desk("ops", "pager", "legal", default=("ops",))
    async with desk.process() as told:
        told.notify(agent(notify=["legal", "pager"]), STARTED, START, again=False)
        told.notify(agent(), BAD, START, again=False)
    assert desk.rooms["legal"].words == desk.rooms["pager"].words == [STARTED.message]
    assert desk.rooms["ops"].words == [BAD.message]
    assert desk.book.reads == 0


async def test_a_name_that_is_unknown_or_for_others_never_makes_a_rollback_silent() -> None:
    desk = Desk("ops", "theirs", default=("ops",))
    desk.known = Known({"ops": frozenset(), "theirs": frozenset({"other"})}, ("ops",))
    for notify in (["nobody"], ["theirs"], "ops", [3], None):
        async with desk.process() as told:
            told.notify(agent(notify=notify), BAD, START, again=False)
    assert len(desk.rooms["ops"].got) == 5
    assert desk.rooms["theirs"].got == []


async def test_a_pager_hears_of_what_is_urgent_and_of_its_end_only() -> None:
    desk = Desk("pager")
    desk.least = {"pager": "Warning"}
    over = Announcement("Normal", "AlertOver", "over", ends=("AlertBreached/errors",))
    async with desk.process() as told:
        for news in (STARTED, BAD, over):
            told.notify(agent(), news, START, again=False)
    assert desk.rooms["pager"].words == [BAD.message, "over"]


async def test_answers_to_peoples_actions_are_not_told_outside() -> None:
    desk = Desk("ops")
    async with desk.process() as told:
        told.notify(agent(), Announcement("Normal", "ActionAccepted", "yes"), START, again=False)
    assert desk.rooms["ops"].got == []


async def test_a_channel_that_hangs_or_is_dead_delays_no_other() -> None:
    desk = Desk("hangs", "dead", "well")
    desk.rooms["hangs"].hangs = True
    desk.rooms["dead"].trouble = NotDelivered("no route")
    async with desk.process() as told:
        for number in range(50):
            news = Announcement("Warning", "RolledBack", f"number {number}")
            told.notify(agent(notify=["hangs", "dead", "well"]), news, START, again=False)
        await settle(400)
        assert len(desk.rooms["well"].got) == 50
        assert desk.rooms["hangs"].tried == 1


async def test_what_fails_is_tried_again_until_it_is_delivered_once() -> None:
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("answered with 500")
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        await desk.clock.advance(120)
        assert 5 < desk.rooms["ops"].tried < 20
        desk.rooms["ops"].trouble = None
        await desk.clock.advance(2 * LONGEST_PAUSE)
        assert desk.rooms["ops"].words == [BAD.message]
    assert desk.results == {("ops", "delivered"): 1}
    assert list(desk.book.kept.values()) == [frozenset({"ops"})]


async def test_after_ten_minutes_a_message_is_given_up_and_counted() -> None:
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("no route")
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        await desk.clock.advance(600 + 2 * LONGEST_PAUSE)
        assert desk.results == {("ops", "expired"): 1}
        tried = desk.rooms["ops"].tried
        await desk.clock.advance(3600)
        assert desk.rooms["ops"].tried == tried
    assert desk.book.kept == {}


async def test_what_a_channel_refuses_for_good_is_not_tried_again_and_holds_up_nothing() -> None:
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("answered with 400", for_good=True)
    async with desk.process() as told:
        told.notify(agent(), STARTED, START, again=False)
        await settle()
        desk.rooms["ops"].trouble = None
        told.notify(agent(), BAD, START, again=False)
        await settle()
    assert desk.rooms["ops"].words == [BAD.message]
    assert desk.results == {("ops", "refused"): 1, ("ops", "delivered"): 1}


async def test_one_message_that_always_fails_does_not_keep_the_next_ones() -> None:
    class Picky(Room):
        async def send(self, note: Notification) -> None:
            if note.news is STARTED:
                raise NotDelivered("answered with 500")
            await super().send(note)

    desk = Desk("ops")
    desk.rooms["ops"] = picky = Picky()
    async with desk.process() as told:
        told.notify(agent(), STARTED, START, again=False)
        for number in range(10):
            news = Announcement("Warning", "RolledBack", f"number {number}")
            told.notify(agent(), news, START, again=False)
        await desk.clock.advance(10)
        assert len(picky.got) == 10


async def test_what_is_over_is_not_begun_afterwards() -> None:
    """A pager would ring on: the end of what it heard of last came before its beginning."""
    name = "EarlyWarning/errors"
    begin = Announcement("Warning", "EarlyWarning", "errors: rising", begins=name)
    over = Announcement("Normal", "WarningOver", "errors: over", ends=(name,))
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("answered with 500")
    async with desk.process() as told:
        told.notify(agent(), begin, START, again=False)
        await settle()
        told.notify(agent(), over, START + timedelta(minutes=2), again=False)
        desk.rooms["ops"].trouble = None
        await desk.clock.advance(2 * LONGEST_PAUSE)
        assert desk.rooms["ops"].words in ([begin.message, over.message], [over.message])
        told.notify(agent(), begin, START + timedelta(minutes=4), again=False)
        await settle()
        assert desk.rooms["ops"].words[-2:] == [over.message, begin.message]


async def test_a_critical_message_that_always_fails_does_not_keep_the_others() -> None:
    class Picky(Room):
        async def send(self, note: Notification) -> None:
            if note.news is BAD:
                raise NotDelivered("answered with 500")
            await super().send(note)

    desk = Desk("ops")
    desk.rooms["ops"] = picky = Picky()
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        for number in range(10):
            news = Announcement("Normal", "PhaseAdvanced", f"number {number}")
            told.notify(agent(), news, START, again=False)
        await desk.clock.advance(15)
        assert len(picky.got) == 10


async def test_a_bug_in_a_channel_ends_nothing_else() -> None:
    desk = Desk("ops", "well")
    desk.rooms["ops"].trouble = ZeroDivisionError()
    async with desk.process() as told:
        told.notify(agent(notify=["ops", "well"]), BAD, START, again=False)
        await settle()
        desk.rooms["ops"].trouble = None
        told.notify(agent(notify=["ops"]), STARTED, START, again=False)
        await settle()
    assert desk.rooms["well"].words == [BAD.message]
    assert desk.rooms["ops"].words == [STARTED.message]


async def test_a_channel_that_asks_for_time_gets_it_up_to_a_minute() -> None:
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("answered with 429", after=30)
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        told.notify(agent(), STARTED, START, again=False)
        await desk.clock.advance(29)
        assert desk.rooms["ops"].tried == 1
        await desk.clock.advance(2)
        assert desk.rooms["ops"].tried == 2
        desk.rooms["ops"].trouble = NotDelivered("answered with 429", after=99_999)
        await desk.clock.advance(31 + LONGEST_PAUSE)
        assert desk.rooms["ops"].tried > 3


async def test_a_full_outbox_gives_up_its_oldest_and_takes_the_news() -> None:
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("no route")
    async with desk.process() as told:
        for number in range(SIZE + 5):
            news = Announcement("Normal", "PhaseAdvanced", f"number {number}")
            told.notify(agent(), news, START, again=False)
        assert desk.results == {("ops", "dropped"): 5}
        desk.rooms["ops"].trouble = None
        await desk.clock.advance(2 * LONGEST_PAUSE)
        await settle(2 * SIZE)
        assert len(desk.rooms["ops"].got) == SIZE
        assert "number 0" not in desk.rooms["ops"].words
        assert f"number {SIZE + 4}" in desk.rooms["ops"].words


async def test_a_rollback_does_not_wait_behind_what_is_less_urgent() -> None:
    class Slow(Room):
        async def send(self, note: Notification) -> None:
            await desk.clock.sleep(1)
            await super().send(note)

    desk = Desk("ops")
    desk.rooms["ops"] = slow = Slow()
    async with desk.process() as told:
        for number in range(SIZE):
            news = Announcement("Normal", "PhaseAdvanced", f"number {number}")
            told.notify(agent(), news, START, again=False)
        told.notify(agent(), BAD, START, again=False)
        await desk.clock.advance(3)
        assert BAD.message in slow.words
        slow.trouble = NotDelivered("answered with 429", after=5)
        late = Announcement("Warning", "RolledBack", "rolled back another")
        told.notify(agent(), late, START, again=False)
        await desk.clock.advance(8)
        slow.trouble = None
        await desk.clock.advance(60)
        assert late.message in slow.words


async def test_a_full_outbox_keeps_what_is_critical() -> None:
    desk = Desk("ops")
    desk.rooms["ops"].trouble = NotDelivered("no route")
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        for number in range(SIZE):
            news = Announcement("Normal", "PhaseAdvanced", f"number {number}")
            told.notify(agent(), news, START, again=False)
        assert desk.results == {("ops", "dropped"): 1}
        desk.rooms["ops"].trouble = None
        await desk.clock.advance(2 * LONGEST_PAUSE)
        assert BAD.message in desk.rooms["ops"].words
        assert "number 0" not in desk.rooms["ops"].words


async def test_rollbacks_of_a_whole_fleet_are_told_by_the_next_process() -> None:
    desk = Desk("ops")
    async with desk.process() as told:
        for number in range(2 * SIZE):
            reason = "PhaseAdvanced" if number < SIZE + 500 else "RolledBack"
            told.notify(
                agent(), Announcement("Normal", reason, f"number {number}"), START, again=True
            )
        await settle(20 * SIZE)
        words = set(desk.rooms["ops"].words)
        assert {f"number {number}" for number in range(SIZE + 500, 2 * SIZE)} <= words


async def test_a_channel_that_hangs_keeps_no_more_than_its_outbox_holds() -> None:
    news = [Announcement("Normal", "PhaseAdvanced", f"number {n}") for n in range(40)]
    room = Room(hangs=True)
    ends: list[Result] = []
    box = Outbox(
        "ops", room, VirtualClock(), on_end=lambda name, note, result: ends.append(result), size=5
    )
    for one in news:
        box.add(Notification(Key("team", "a"), "u1", one, START))
    assert len(box) == 5
    assert len(box._queue) == 5
    assert ends == ["dropped"] * 35


async def test_the_next_process_tells_only_what_was_not_delivered() -> None:
    desk = Desk("ops", "pager")
    desk.rooms["pager"].trouble = NotDelivered("no route")
    both = agent(notify=["ops", "pager"])
    async with desk.process() as told:
        told.notify(both, BAD, START, again=False)
        await settle()
    desk.rooms["pager"].trouble = None
    async with desk.process() as told:
        told.notify(both, BAD, START, again=True)
        await settle()
    assert desk.rooms["ops"].words == desk.rooms["pager"].words == [BAD.message]


async def test_the_same_words_at_another_time_are_another_message() -> None:
    desk = Desk("ops")
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        told.notify(agent(), BAD, START, again=False)
        told.notify(agent(), BAD, START + timedelta(minutes=1), again=True)
        await settle()
    first, second = desk.rooms["ops"].got
    assert first.id != second.id


async def test_a_death_between_a_delivery_and_its_mark_repeats_it_with_the_same_id() -> None:
    desk = Desk("ops")
    desk.book.down = True
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        await settle()
    desk.book.down = False
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=True)
        await settle()
    first, second = desk.rooms["ops"].got
    assert first.id == second.id


async def test_marks_that_cannot_be_read_are_waited_for_and_not_guessed() -> None:
    desk = Desk("ops")
    desk.book.down = True
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=True)
        await desk.clock.advance(60)
        assert desk.rooms["ops"].got == []
        desk.book.down = False
        await desk.clock.advance(60)
        assert desk.rooms["ops"].words == [BAD.message]


async def test_marks_that_make_no_sense_are_waited_for_and_end_nothing_else() -> None:
    class Torn(Book):
        async def delivered(self, note: Notification) -> frozenset[str]:
            if self.down:
                raise KeyError("metadata")
            return await super().delivered(note)

        async def mark(self, note: Notification, names: frozenset[str]) -> None:
            if self.down:
                raise KeyError("metadata")
            await super().mark(note, names)

    desk = Desk("ops")
    desk.book = Torn(down=True)
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=True)
        told.notify(agent(), STARTED, START, again=False)
        await desk.clock.advance(5)
        assert desk.rooms["ops"].words == [STARTED.message]
        desk.book.down = False
        await desk.clock.advance(60)
        assert desk.rooms["ops"].words == [STARTED.message, BAD.message]
    assert list(desk.book.kept.values()) == [frozenset({"ops"})]


async def test_marks_that_are_never_read_end_as_given_up() -> None:
    desk = Desk("ops")
    desk.book.down = True
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=True)
        await desk.clock.advance(700)
        reads = desk.book.reads
        await desk.clock.advance(3600)
        assert desk.book.reads == reads
    assert desk.results == {("ops", "expired"): 1}


async def test_one_mark_is_written_for_all_channels_that_were_quick() -> None:
    desk = Desk("ops", "pager", "legal")
    async with desk.process() as told:
        told.notify(agent(notify=["ops", "pager", "legal"]), BAD, START, again=False)
        await settle()
    assert desk.book.kept.popitem()[1] == {"ops", "pager", "legal"}
    assert desk.book.writes <= 2


async def test_a_process_that_may_not_lead_any_more_sends_nothing() -> None:
    desk = Desk("ops")
    desk.fence.shut = True
    async with desk.process() as told:
        told.notify(agent(), BAD, START, again=False)
        await desk.clock.advance(300)
        assert desk.rooms["ops"].tried == 0


def test_an_id_is_the_same_for_the_same_transition_whoever_read_its_time() -> None:
    read = datetime.fromisoformat(START.isoformat())
    ids = {Notification(Key("n", "a"), "u", BAD, at).id for at in (START, read)}
    assert len(ids) == 1
    assert Notification(Key("n", "a"), "v", BAD, START).id not in ids
