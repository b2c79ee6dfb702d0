"""The traffic generator, against the real sample agent."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click import BadParameter
from click.testing import CliRunner

from lab.agent.metrics import AgentMetrics
from lab.agent.reviewing import Own
from lab.agent.server import Agent
from lab.agent.settings import read
from lab.traffic.__main__ import Duration, Observer, main, run
from lab.traffic.generator import Generator, Plan
from lab.traffic.tally import Result, Tally, line, quantile, table

PLAN = Plan("", 200, 5, 0.25, 100, 5.0, {}, 0)


@asynccontextmanager
async def served(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Plan]:
    application = web.Application()
    application.router.add_post("/v1/chat", handler)
    async with TestServer(application) as server:
        yield replace(PLAN, url=str(server.make_url("/v1/chat")))


def result(revision: str = "a", outcome: str = "success", ms: float = 10) -> Result:
    return Result(100.0, 100.0 + ms / 1000, revision, outcome, 200)


async def send(plan: Plan) -> tuple[list[Result], Generator]:
    results: list[Result] = []
    generator = Generator(plan, results.append)
    await generator.run(asyncio.Event())
    return results, generator


async def test_requests_leave_at_the_asked_rate_and_all_are_counted() -> None:
    agent = read({"AGENT_REVISION": "r1", "AGENT_LATENCY_MS": "1", "FAULT_ERROR_RATE": "0.5"})
    sessions: set[str] = set()
    metrics = AgentMetrics(agent)
    server = Agent(agent, metrics, [], Own(0, metrics.count))

    async def chat(request: web.Request) -> web.Response:
        sessions.add(request.headers["x-session-id"])
        assert (await request.json())["session"] == request.headers["x-session-id"]
        return await server.chat(request)

    async with served(chat) as plan:
        results, generator = await send(plan)
    assert len(results) == plan.rps * 0.25
    assert generator.not_sent == 0
    assert {r.revision for r in results} == {"r1"}
    assert {r.outcome for r in results} >= {"success", "error"}
    assert {(r.outcome == "error") == (r.status == 500) for r in results} == {True}
    assert 1 < len(sessions) <= 5
    sent = sorted(r.sent for r in results)
    assert sent[-1] - sent[0] >= 0.2


async def test_slow_answers_do_not_slow_the_rate_and_the_bound_on_open_requests_holds() -> None:
    most = 0
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        nonlocal most
        most += 1
        await release.wait()
        return web.Response()

    async with served(slow) as plan:
        results, generator = await send(replace(plan, max_in_flight=8, timeout=0.5))
        release.set()
    assert most == len(results) == 8
    assert generator.not_sent == 42


async def test_answers_that_are_not_an_agents_have_no_revision() -> None:
    async def gateway(_: web.Request) -> web.Response:
        return web.Response(status=503, text="no healthy upstream")

    async with served(gateway) as plan:
        results, _ = await send(replace(plan, duration=0.02))
    assert {(r.revision, r.outcome, r.status) for r in results} == {("-", "http-503", 503)}


async def test_a_server_that_is_not_there_and_a_silent_one_are_told_apart() -> None:
    nowhere = replace(PLAN, url="http://127.0.0.1:1/v1/chat", duration=0.01)
    results, _ = await send(nowhere)
    assert {(r.outcome, r.status) for r in results} == {("unreachable", 0)}
    release = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with served(silent) as plan:
        results, _ = await send(replace(plan, duration=0.01, timeout=0.05))
        release.set()
    assert {(r.outcome, r.status) for r in results} == {("timeout", 0)}


async def test_records_and_stats_are_written_as_they_come(tmp_path: Path) -> None:
    async def good(_: web.Request) -> web.Response:
        return web.json_response({"revision": "r", "outcome": "success"})

    record, stats = io.StringIO(), tmp_path / "stats.json"
    async with served(good) as plan:
        summary = await run(plan, Observer(record, stats), quiet=True)
    lines = [json.loads(text) for text in record.getvalue().splitlines()]
    assert len(lines) == summary["total"] == 50
    assert set(lines[0]) == {"t", "t_done", "revision", "outcome", "status", "latency_ms"}
    # Times are kept to the microsecond, so the difference is too.
    assert lines[0]["t_done"] - lines[0]["t"] == pytest.approx(
        lines[0]["latency_ms"] / 1000, abs=1e-5
    )
    assert json.loads(stats.read_text())["revisions"] == summary["revisions"]
    assert not stats.with_name("stats.json.new").exists()


def test_a_tally_knows_shares_latencies_and_the_last_answer() -> None:
    tally = Tally()
    for ms in range(1, 101):
        tally.add(result(ms=ms))
    tally.add(result("b", "error", ms=1000))
    summary = tally.summary()
    a, b = summary["revisions"]["a"], summary["revisions"]["b"]
    assert (a["count"], b["share"]) == (100, round(1 / 101, 6))
    assert a["p50_ms"] == pytest.approx(50, rel=0.02)
    assert a["p95_ms"] == pytest.approx(95, rel=0.02)
    assert b["last_done"] == 101.0
    assert summary["results"][1] == {
        "revision": "b",
        "outcome": "error",
        "status": 200,
        "count": 1,
    }


def test_lines_and_table_say_it_in_words() -> None:
    tally = Tally()
    for entry in (result(), result(), result("b", "error")):
        tally.add(entry)
    assert table(tally).splitlines()[1].split() == ["a", "success", "2", "66.67%", "10", "10"]
    said = line([result(), result("b", "error")], behind=3)
    assert "a success=1 | b error=1" in said
    assert "3 not sent" in said
    assert "no answers" in line([], 0)
    assert table(Tally()).split()[0] == "revision"


def test_quantiles_of_few_values() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0, 1.0], 0.5) == 1.0
    assert quantile([3.0, 1.0], 0.95) == 3.0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25)])
def test_durations_need_units(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds
    for wrong in ("", "90", "10 m", "m", "1x"):
        with pytest.raises(BadParameter):
            Duration().convert(wrong, None, None)


def test_a_wrong_option_is_answered_with_a_sentence() -> None:
    outcome = CliRunner().invoke(main, ["--url", "http://x", "--header", "nothing"])
    assert outcome.exit_code == 2
    assert "NAME=VALUE" in outcome.output
