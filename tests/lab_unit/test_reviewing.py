"""Reviews that come late, the evaluator that counts them, and conversations."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer

from lab.agent.conversations import Conversations
from lab.agent.evaluator import Evaluator
from tests.lab_unit.test_sample_agent import ask, metric, serving, settings


async def test_late_reviews_count_when_their_time_has_come() -> None:
    late = settings(AGENT_EVAL_SHARE="1", EVAL_DELAY_S="0.5", FAULT_ERROR_RATE="0")
    async with serving(late) as client:
        await ask(client, 10)
        assert await metric(client, "agent_requests_total{") == 10
        assert await metric(client, "agent_eval_total") == 0
        async with asyncio.timeout(10):
            while await metric(client, "agent_eval_total") < 8:
                pass


async def test_an_evaluator_counts_for_the_revision_that_answered() -> None:
    async with TestClient(TestServer(Evaluator(0).application())) as evaluator:
        address = str(evaluator.make_url("/"))
        agent = settings(AGENT_EVAL_SHARE="1", AGENT_EVALUATOR_URL=address, FAULT_ERROR_RATE="0")
        async with serving(agent) as client:
            await ask(client, 20)
            whose = '{mode="live",revision="0123456789"}'
            async with asyncio.timeout(10):
                while await metric(evaluator, f"agent_eval_total{whose}") < 15:
                    pass
            text = await (await client.get("/metrics")).text()
            assert "agent_eval" not in text
            assert await metric(evaluator, f"agent_eval_score_sum{whose}") > 30


@pytest.mark.parametrize("body", ["", "[]", '{"revision": "x", "mode": "odd"}', "{}"])
async def test_an_evaluator_tells_what_it_wants(body: str) -> None:
    async with TestClient(TestServer(Evaluator(0).application())) as evaluator:
        answer = await evaluator.post("/reviews", data=body)
        assert answer.status == 400
        assert "revision" in (await answer.json())["error"]


def test_a_conversation_counts_once_when_it_is_over_with_its_worst_outcome() -> None:
    ended: list[str] = []
    open_ones = Conversations(30, ended.append)
    for now, session, outcome in ((0, "a", "success"), (5, "b", "success"), (20, "a", "escalated")):
        open_ones.answered(session, outcome, now)  # type: ignore[arg-type]
    open_ones.sweep(34)
    assert ended == []
    open_ones.answered("a", "success", 36)
    assert ended == ["success"]
    open_ones.close()
    open_ones.close()
    assert ended == ["success", "escalated"]
