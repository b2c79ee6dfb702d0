from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from phasegate.adapters.telemetry import StatusServer, Telemetry


@dataclass
class Running:
    telemetry: Telemetry
    client: httpx.AsyncClient
    sick: str | None = None
    busy: str | None = None


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    telemetry = Telemetry()
    client = httpx.AsyncClient(trust_env=False)
    state = Running(telemetry, client)
    server = StatusServer(telemetry, healthy=lambda: state.sick, ready=lambda: state.busy)
    port = await server.start("127.0.0.1", 0)
    client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
    yield state
    await client.aclose()
    await server.stop()


async def test_what_happened_is_in_the_metrics(running: Running) -> None:
    telemetry = running.telemetry
    telemetry.watch_queue(lambda: 3)
    telemetry.watch_leadership(lambda: True)
    telemetry.reconciled("done", 0.02)
    telemetry.announced("TrafficSafe")
    telemetry.safe(0.4)
    telemetry.provider_failed("default")
    telemetry.called("PATCH", "200")
    telemetry.event_dropped()
    text = (await running.client.get("/metrics")).text
    for line in (
        'phasegate_reconciles_total{result="done"} 1.0',
        'phasegate_reconcile_duration_seconds_bucket{le="0.025"} 1.0',
        "phasegate_queue_depth 3.0",
        'phasegate_transitions_total{reason="TrafficSafe"} 1.0',
        'phasegate_rollback_safe_seconds_bucket{le="0.5"} 1.0',
        'phasegate_provider_errors_total{provider="default"} 1.0',
        'phasegate_api_requests_total{code="200",verb="PATCH"} 1.0',
        "phasegate_events_dropped_total 1.0",
        "phasegate_leader 1.0",
    ):
        assert line in text


async def test_probes_tell_what_is_wrong(running: Running) -> None:
    assert (await running.client.get("/healthz")).status_code == 200
    assert (await running.client.get("/readyz")).text == "ok\n"
    running.busy = "waiting for the API server"
    answer = await running.client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "waiting for the API server\n")
    assert (await running.client.get("/healthz")).status_code == 200


async def test_two_operators_in_one_process_do_not_share_metrics() -> None:
    one, other = Telemetry(), Telemetry()
    one.announced("TrafficSafe")
    assert (
        other.registry.get_sample_value("phasegate_transitions_total", {"reason": "TrafficSafe"})
        is None
    )
