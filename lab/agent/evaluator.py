"""`python -m lab.agent.evaluator`: reviews what agents answered, late, and outlives their pods.

Agents with AGENT_EVALUATOR_URL send it their answers (`POST /reviews`). After EVAL_DELAY_S seconds
each counts in the agent_eval_* series, by the revision and mode that gave the answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from lab.agent.metrics import ReviewMetrics
from lab.agent.opinion import Review
from lab.agent.settings import MODES, number
from lab.errors import LabError

_SHAPE = (
    '{"revision": "…", "mode": "live|dark|shadow", "passed": true, "score": 4.5, "made_up": false}'
)


class Evaluator:
    """Takes answers and counts their reviews `delay_s` seconds later."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._registry = CollectorRegistry()
        self._metrics = ReviewMetrics(self._registry, ("revision", "mode"))

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application()
        application.router.add_post("/reviews", self.take)
        application.router.add_get("/healthz", self.health)
        application.router.add_get("/metrics", self.metrics)
        return application

    async def take(self, request: web.Request) -> web.Response:
        """POST /reviews: 202; it counts when its time has come."""
        try:
            review, whose = _read(await request.json())
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.json_response({"error": f"the body must be JSON: {_SHAPE}"}, status=400)
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay_s, self._metrics.count, review, *whose)
        return web.json_response({}, status=202)

    async def health(self, _: web.Request) -> web.Response:
        """GET /healthz: 200."""
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics in OpenMetrics or Prometheus text."""
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(self._registry), headers={"Content-Type": content_type})


def _read(body: Any) -> tuple[Review, tuple[str, str]]:
    revision, mode = body["revision"], body["mode"]
    if not isinstance(revision, str) or mode not in MODES:
        raise ValueError
    passed, made_up = bool(body["passed"]), bool(body["made_up"])
    return Review(passed, float(body["score"]), made_up), (revision, mode)


async def run() -> None:
    """Serve until SIGTERM or SIGINT. Raises LabError for a wrong setting."""
    evaluator = Evaluator(number(os.environ, "EVAL_DELAY_S", 0))
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    runner = web.AppRunner(evaluator.application(), access_log=None)
    await runner.setup()
    port = int(number(os.environ, "AGENT_PORT", 8080))
    await web.TCPSite(runner, "0.0.0.0", port, backlog=1024).start()
    await stop.wait()
    await runner.cleanup()


def main() -> int:
    """Run the evaluator; a wrong setting ends it with one sentence."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        asyncio.run(run())
    except LabError as error:
        print(f"evaluator: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
