"""The agent's HTTP side."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Protocol

from aiohttp import web

from lab.agent.behaviour import Turn, decide
from lab.agent.conversations import Conversations
from lab.agent.faults import PREFIX, FaultError, parse
from lab.agent.metrics import AgentMetrics
from lab.agent.reviewing import Reviewer, reviewing
from lab.agent.settings import Settings

MAX_BODY_BYTES = 256 * 1024


class Recorder(Protocol):
    """Somebody who counts finished requests."""

    def record(self, turn: Turn, seconds: float) -> None:
        """Count one request that took so many seconds."""


class Agent:
    """Answers requests as `decide` says, taking the time it says."""

    def __init__(
        self,
        settings: Settings,
        metrics: AgentMetrics,
        recorders: Sequence[Recorder],
        reviewer: Reviewer,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._recorders = recorders
        self._reviewer = reviewer
        self._conversations = Conversations(settings.idle_s, metrics.conversation)
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_post("/v1/chat", self.chat)
        application.router.add_get("/healthz", self.health)
        application.router.add_get("/metrics", self.metrics)
        if self._settings.fault_control:
            application.router.add_post("/fault", self.fault)
        return application

    async def chat(self, request: web.Request) -> web.Response:
        """POST /v1/chat {"session", "message"} → {"answer", "revision", "outcome"}."""
        arrived = self._clock()
        try:
            body = await request.json()
            session = body.get("session") or request.headers.get("x-session-id", "")
            message = body["message"]
        except (ValueError, KeyError, AttributeError):
            message = session = None
        if not isinstance(message, str) or not isinstance(session, str):
            return web.json_response(
                {"error": 'the body must be JSON: {"session": "…", "message": "…"}'}, status=400
            )
        self._metrics.began()
        turn = await self._take(decide(self._settings, session, message, self._faulty()))
        self._count(session, turn, self._clock() - arrived)
        # The revision is the process's own: a mirrored request carries the primary's header.
        answer = {
            "answer": turn.answer,
            "revision": self._settings.revision,
            "outcome": turn.outcome,
        }
        return web.json_response(answer, status=500 if turn.outcome == "error" else 200)

    def _count(self, session: str, turn: Turn, seconds: float) -> None:
        for recorder in self._recorders:
            recorder.record(turn, seconds)
        self._conversations.answered(session, turn.outcome, self._clock())
        if turn.review is not None:
            self._reviewer.take(turn.review)

    def close(self) -> None:
        """End all conversations, so that the last scrapes have them."""
        self._conversations.close()

    async def fault(self, request: web.Request) -> web.Response:
        """POST /fault {"ERROR_RATE": "1"}: from now on these faults and no others.

        Only with AGENT_FAULT_CONTROL=1. For benchmarks, which need the moment a revision turns bad.
        """
        try:
            knobs = {str(name): str(value) for name, value in (await request.json()).items()}
            faults = parse({PREFIX + name.upper(): value for name, value in knobs.items()}, "")
        except (ValueError, AttributeError, FaultError) as error:
            return web.json_response({"error": str(error)}, status=400)
        self._settings = replace(self._settings, faults=faults)
        return web.json_response(asdict(faults))

    def _faulty(self) -> bool:
        faults = self._settings.faults
        if faults.live_only and self._settings.dry:
            return False
        return self._clock() - self._started >= faults.after_s

    async def _take(self, turn: Turn) -> Turn:
        """Spend the turn's time, as models and tools would."""
        if turn.hangs:
            await asyncio.sleep(self._settings.hang_s)
            late = "The model did not answer in time."
            return replace(turn, outcome="error", answer=late, review=None)
        spent = sum(turn.model_calls) + sum(call.seconds for call in turn.tool_calls)
        await asyncio.sleep(spent + turn.extra_seconds)
        return turn

    async def health(self, _: web.Request) -> web.Response:
        """GET /healthz: 200, or 503 under FAULT_NOT_READY (after FAULT_AFTER_S)."""
        if self._settings.faults.not_ready and self._faulty():
            return web.Response(status=503, text="not ready: FAULT_NOT_READY\n")
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics in OpenMetrics or Prometheus text."""
        self._conversations.sweep(self._clock())
        content, content_type = self._metrics.expose(request.headers.get("Accept", ""))
        return web.Response(body=content, headers={"Content-Type": content_type})


def crash() -> None:
    """End as a crash does: at once, with nothing cleaned up."""
    sys.stderr.write("fatal: FAULT_CRASH_AFTER_S\n")
    sys.stderr.flush()
    os._exit(1)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then for `drain_s` more and until what is running has ended."""
    metrics = AgentMetrics(settings)
    recorders: list[Recorder] = [metrics]
    if settings.telemetry == "otel-genai":
        from lab.agent.telemetry import GenAiTelemetry  # noqa: PLC0415 - slow to load

        recorders.append(GenAiTelemetry(settings, metrics.registry))
    async with reviewing(settings, metrics) as reviewer:
        await _serve(settings, Agent(settings, metrics, recorders, reviewer), stop)


async def _serve(settings: Settings, agent: Agent, stop: asyncio.Event) -> None:
    runner = web.AppRunner(agent.application(), access_log=None, shutdown_timeout=5)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", settings.port, backlog=1024).start()
    started = {"event": "serving", "revision": settings.revision, "mode": settings.mode}
    print(json.dumps(started), flush=True)
    if settings.faults.crash_after_s is not None:
        asyncio.get_running_loop().call_later(settings.faults.crash_after_s, crash)
    await stop.wait()
    agent.close()
    await asyncio.sleep(settings.drain_s)
    await runner.cleanup()
