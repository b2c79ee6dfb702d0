from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from phasegate.control.lanes import STUCK
from phasegate.control.queue import BASE_BACKOFF, WorkQueue

from tests.control.fakes import VirtualClock, settle


def make_queue(clock: VirtualClock, jitter: float = 0.0) -> WorkQueue[str]:
    return WorkQueue(clock, lambda: jitter)


@asynccontextmanager
async def running(queue: WorkQueue[str]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(queue.run())
    await settle()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_added_twice_is_handed_out_once() -> None:
    queue = make_queue(VirtualClock())
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_key_is_never_worked_on_twice_at_once_and_no_news_is_lost() -> None:
    queue = make_queue(VirtualClock())
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_thirty_events_during_one_pass_make_one_more_pass() -> None:
    queue = make_queue(VirtualClock())
    passes = 0
    queue.add("a")
    while len(queue):
        key = await queue.get()
        passes += 1
        if passes == 1:
            for _ in range(30):
                queue.add(key)
        queue.done(key)
    assert passes == 2


async def test_urgent_keys_go_first_and_move_up_when_they_were_waiting() -> None:
    queue = make_queue(VirtualClock())
    for key in ("a", "b", "c"):
        queue.add(key)
    queue.add("c", urgent=True)
    assert [await queue.get() for _ in range(3)] == ["c", "a", "b"]


async def test_the_reserved_worker_takes_urgent_keys_only() -> None:
    queue = make_queue(VirtualClock())
    reserved = asyncio.ensure_future(queue.get(urgent_only=True))
    queue.add("slow")
    await settle()
    assert not reserved.done()
    queue.add("bad", urgent=True)
    await settle()
    assert reserved.result() == "bad"
    assert await queue.get() == "slow"


async def test_urgent_news_about_a_key_being_worked_on_stay_urgent() -> None:
    queue = make_queue(VirtualClock())
    queue.add("a")
    await queue.get()
    queue.add("b")
    queue.add("a", urgent=True)
    queue.done("a")
    assert await queue.get(urgent_only=True) == "a"


async def test_urgent_news_from_the_moment_a_key_is_taken_reach_who_works_on_it() -> None:
    queue = make_queue(VirtualClock())
    queue.add("a")
    await queue.get()
    queue.add("a", urgent=True)  # in the same turn, before anybody waits for it
    await asyncio.wait_for(queue.urged("a"), 1)
    queue.done("a")
    await queue.get()
    later = asyncio.ensure_future(queue.urged("a"))
    await settle()
    assert not later.done(), "that was news of the pass before"
    later.cancel()


async def test_a_hastened_key_goes_first_but_ends_no_work_on_it() -> None:
    queue = make_queue(VirtualClock())
    queue.add("other")
    queue.add_after("a", 5)
    queue.hasten("a")
    assert await queue.get() == "a"
    urged = asyncio.ensure_future(queue.urged("a"))
    queue.hasten("a")
    await settle()
    assert not urged.done()
    urged.cancel()
    queue.done("a")
    assert await queue.get(urgent_only=True) == "a", "it is tried again, at once"


async def test_what_a_tenant_has_to_do_waits_for_its_urgent_work_unless_that_hangs() -> None:
    clock = VirtualClock()
    queue: WorkQueue[str] = WorkQueue(clock, lambda: 0.0, lambda key: key[0])
    workers = [asyncio.ensure_future(queue.get()) for _ in range(4)]
    await settle()
    for key in ("a1", "a2", "a3"):
        queue.add(key, urgent=True)
    queue.add("a-rest")
    await settle()
    taken = [worker.result() for worker in workers if worker.done()]
    assert taken == ["a1", "a2"], "half of the workers; the others are free for somebody else"
    queue.add("b")
    await settle()
    assert [worker.done() for worker in workers].count(True) == 3
    await clock.advance(STUCK)
    queue.add("a-more")
    await settle()
    assert {worker.result() for worker in workers} == {"a1", "a2", "b", "a-rest"}


async def test_of_two_delays_the_earlier_counts() -> None:
    clock = VirtualClock()
    queue = make_queue(clock)
    async with running(queue):
        queue.add_after("a", 10)
        queue.add_after("a", 3)
        queue.add_after("a", 7)
        await clock.advance(2.9)
        assert len(queue) == 0
        await clock.advance(0.2)
        assert len(queue) == 1
        queue.done(await queue.get())
        await clock.advance(60)
        assert len(queue) == 0


async def test_working_on_a_key_makes_its_earlier_plans_void() -> None:
    clock = VirtualClock()
    queue = make_queue(clock)
    async with running(queue):
        queue.add_after("a", 5)
        queue.add("a")
        queue.done(await queue.get())
        await clock.advance(60)
        assert len(queue) == 0


async def test_an_earlier_deadline_interrupts_a_longer_wait() -> None:
    clock = VirtualClock()
    queue = make_queue(clock)
    async with running(queue):
        queue.add_after("late", 100)
        await settle()
        queue.add_after("early", 1)
        await clock.advance(1)
        assert await queue.get() == "early"


async def test_failures_back_off_exponentially_up_to_a_bound_and_success_forgets() -> None:
    queue = make_queue(VirtualClock())
    delays = [queue.retry("a", most=5.0) for _ in range(10)]
    assert delays[:4] == [BASE_BACKOFF * 2**n for n in range(4)]
    assert delays[-1] == 5.0
    queue.succeeded("a")
    assert queue.retry("a") == BASE_BACKOFF


async def test_jitter_shortens_a_back_off_by_up_to_half() -> None:
    assert make_queue(VirtualClock(), jitter=0.5).retry("a") == BASE_BACKOFF * 0.75


async def test_a_forgotten_key_is_not_due_any_more() -> None:
    clock = VirtualClock()
    queue = make_queue(clock)
    async with running(queue):
        queue.add_after("a", 5)
        queue.forget("a")
        await clock.advance(10)
        assert len(queue) == 0


async def test_many_workers_share_the_keys_and_get_each_once() -> None:
    queue = make_queue(VirtualClock())
    seen: list[str] = []

    async def worker() -> None:
        while True:
            key = await queue.get()
            seen.append(key)
            await settle(2)
            queue.done(key)

    workers = [asyncio.ensure_future(worker()) for _ in range(4)]
    keys = [f"k{n}" for n in range(100)]
    for key in keys:
        queue.add(key)
    await settle(200)
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(seen) == sorted(keys)
