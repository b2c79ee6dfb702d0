"""The operator's own metrics, and the HTTP server for them and for the probes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from phasegate.adapters.doorkeeper import Doorkeeper

_PASS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SAFE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)

Probe = Callable[[], str | None]
"""None if all is well, else a short reason."""


class Telemetry:
    """Metrics in a registry of their own. Names of agents are no labels: they are unbounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Counter(
            "phasegate_reconciles", "Passes, by result", ["result"], registry=self.registry
        )
        self._pass_seconds = Histogram(
            "phasegate_reconcile_duration_seconds",
            "Time of one pass",
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self._queue = Gauge(
            "phasegate_queue_depth", "Agents waiting for a pass", registry=self.registry
        )
        self._decisions = Counter(
            "phasegate_transitions", "Announced transitions", ["reason"], registry=self.registry
        )
        self._safe = Histogram(
            "phasegate_rollback_safe_seconds",
            "From the trigger of a rollback to the route write that took the traffic back",
            buckets=_SAFE_BUCKETS,
            registry=self.registry,
        )
        self._pending = Gauge(
            "phasegate_rollbacks_pending",
            "Rollbacks that are decided while the route does not say so yet",
            registry=self.registry,
        )
        self._pending_age = Gauge(
            "phasegate_rollback_pending_seconds",
            "Age of the oldest of them, 0 without any",
            registry=self.registry,
        )
        self._provider_errors = Counter(
            "phasegate_provider_errors",
            "Queries without a usable answer",
            ["provider"],
            registry=self.registry,
        )
        self._calls = Counter(
            "phasegate_api_requests",
            "Calls to the API server besides watches",
            ["verb", "code"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "phasegate_events_dropped",
            "Kubernetes Events that were not written",
            registry=self.registry,
        )
        self._notifications = Counter(
            "phasegate_notifications",
            "Announcements for people's channels, by what became of them",
            ["notifier", "result"],
            registry=self.registry,
        )
        self._leader = Gauge(
            "phasegate_leader", "1 while this process is the leader", registry=self.registry
        )
        self._clock = Gauge(
            "phasegate_api_server_clock_ahead_seconds",
            "By how much the API server's clock is ahead of this machine's, 0 within 3 s",
            registry=self.registry,
        )
        self._identity = Gauge(
            "phasegate_identity_enforced",
            "1 while people's decisions are accepted, 0 while an admission policy is missing or weaker",
            registry=self.registry,
        )
        self._tasks = Gauge(
            "phasegate_tasks", "Things the process does at once", registry=self.registry
        )
        ProcessCollector(registry=self.registry)

    def watch_tasks(self, count: Callable[[], int]) -> None:
        """Report `count` whenever somebody asks."""
        self._tasks.set_function(count)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Report `depth` whenever somebody asks."""
        self._queue.set_function(depth)

    def watch_rollbacks(self, pending: Callable[[], int], oldest: Callable[[], float]) -> None:
        """Report rollbacks whose route is not written yet, and the age of the oldest in seconds."""
        self._pending.set_function(pending)
        self._pending_age.set_function(oldest)

    def watch_leadership(self, leading: Callable[[], bool]) -> None:
        """Report `leading` whenever somebody asks."""
        self._leader.set_function(leading)

    def watch_identity(self, enforced: Callable[[], bool | None]) -> None:
        """Report `enforced` whenever somebody asks; not a number while that is not known."""

        def value() -> float:
            known = enforced()
            return float("nan") if known is None else float(known)

        self._identity.set_function(value)

    def watch_clock(self, ahead: Callable[[], float]) -> None:
        """Report by how many seconds the API server's clock is ahead."""
        self._clock.set_function(ahead)

    def reconciled(self, result: str, seconds: float) -> None:
        """One pass ended after `seconds` with a `result` (`phasegate.control.reconcile.OnPass`)."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)

    def announced(self, reason: str) -> None:
        """A transition was announced; `reason` is one of the documented ones."""
        self._decisions.labels(reason).inc()

    def safe(self, seconds: float) -> None:
        """A rollback took `seconds` from its trigger to the route write."""
        self._safe.observe(seconds)

    def provider_failed(self, provider: str) -> None:
        """A query to `provider`, named in the configuration, gave no usable answer."""
        self._provider_errors.labels(provider).inc()

    def called(self, verb: str, code: str) -> None:
        """A call to the API server ended with `code`."""
        self._calls.labels(verb, code).inc()

    def notified(self, notifier: str, result: str) -> None:
        """An announcement for `notifier` came to an end (`phasegate.control.outbox.Result`)."""
        self._notifications.labels(notifier, result).inc()

    def event_dropped(self) -> None:
        """A Kubernetes Event was not written."""
        self._dropped.inc()


class StatusServer:
    """``/metrics``, ``/healthz`` (restart me), ``/readyz`` (I do my part, or stand by).

    Probes are open to all; with a `doorkeeper` metrics are for those it lets in.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        healthy: Probe,
        ready: Probe,
        doorkeeper: Doorkeeper | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._doorkeeper = doorkeeper
        self._probes = {"/healthz": healthy, "/readyz": ready}
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; the port (of use when 0 was asked for). Raises OSError."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        for path in self._probes:
            app.router.add_get(path, self._probe)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._doorkeeper is not None:
            said = request.headers.get("Authorization", "")
            refusal = await self._doorkeeper.refusal(said, request.path)
            if refusal is not None:
                headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
                return web.Response(
                    status=refusal.status, text=f"{refusal.words}\n", headers=headers
                )
        body = generate_latest(self._telemetry.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _probe(self, request: web.Request) -> web.Response:
        problem = self._probes[request.path]()
        if problem is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{problem}\n")
