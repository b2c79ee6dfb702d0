"""Metrics off loopback are for those whom the API server says may read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from phasegate.adapters.doorkeeper import (
    ALLOWED_SECONDS,
    REFUSED_SECONDS,
    REMEMBERED,
    SILENT_SECONDS,
    WAITING,
    WITHOUT_ANSWER_SECONDS,
    Doorkeeper,
    is_loopback,
)
from phasegate.adapters.telemetry import StatusServer, Telemetry
from phasegate.api.errors import ClusterError, Refused


class ApiServer:
    """Knows tokens, and who of their owners may read metrics."""

    def __init__(self) -> None:
        self.users = {"good": "prometheus", "poor": "somebody"}
        self.allowed = {"prometheus"}
        self.asked: list[Mapping[str, Any]] = []
        self.down = False
        self.held: asyncio.Event | None = None
        self.refused = ""
        self.calls = 0

    async def create(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls += 1
        if self.held is not None:
            await self.held.wait()
        if self.down:
            raise ClusterError("down")
        if manifest["spec"].get("token") == self.refused:
            raise Refused("too long")
        self.asked.append(manifest)
        spec = manifest["spec"]
        if manifest["kind"] == "TokenReview":
            user = self.users.get(spec["token"])
            if user is None:
                return {"status": {"authenticated": False}}
            return {"status": {"authenticated": True, "user": {"username": user, "groups": ["g"]}}}
        assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        assert spec["groups"] == ["g"]
        return {"status": {"allowed": spec["user"] in self.allowed}}


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def door(server: ApiServer, time: Time) -> Doorkeeper:
    return Doorkeeper(server, monotonic=time)


async def status(door: Doorkeeper, authorization: str) -> int:
    refusal = await door.refusal(authorization, "/metrics")
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("Bearer good", 200),
        ("bearer good", 200),
        ("Bearer poor", 403),
        ("Bearer forged", 401),
        ("Bearer ", 401),
        ("Basic good", 401),
        ("", 401),
    ],
)
async def test_the_api_server_says_who_comes_in(
    door: Doorkeeper, authorization: str, expected: int
) -> None:
    assert await status(door, authorization) == expected


async def test_an_approval_counts_for_a_minute_and_a_refusal_for_less(
    door: Doorkeeper, server: ApiServer, time: Time
) -> None:
    for _ in range(3):
        assert await status(door, "Bearer good") == 200
        assert await status(door, "Bearer forged") == 401
    assert len(server.asked) == 3  # two for the one, one for the other
    server.users["forged"] = "prometheus"
    server.allowed.clear()
    time.seconds = REFUSED_SECONDS
    assert await status(door, "Bearer good") == 200
    assert await status(door, "Bearer forged") == 403
    time.seconds = ALLOWED_SECONDS
    assert await status(door, "Bearer good") == 403


async def test_who_was_let_in_comes_in_while_the_api_server_is_away(
    door: Doorkeeper, server: ApiServer, time: Time
) -> None:
    assert await status(door, "Bearer good") == 200
    server.down, time.seconds = True, WITHOUT_ANSWER_SECONDS - 1
    assert await status(door, "Bearer good") == 200
    assert await status(door, "Bearer poor") == 503
    time.seconds = WITHOUT_ANSWER_SECONDS
    assert await status(door, "Bearer good") == 503
    server.down, time.seconds = False, WITHOUT_ANSWER_SECONDS + SILENT_SECONDS
    assert await status(door, "Bearer good") == 200


async def test_an_api_server_that_says_nothing_is_asked_once_in_a_while(
    door: Doorkeeper, server: ApiServer, time: Time
) -> None:
    assert await status(door, "Bearer good") == 200
    server.down, server.held, time.seconds = True, asyncio.Event(), ALLOWED_SECONDS
    tokens = ("Bearer good", "Bearer good", "Bearer other", "Bearer another")
    scrapes = [asyncio.create_task(status(door, token)) for token in tokens]
    await asyncio.wait(scrapes, timeout=0)
    server.held.set()
    assert await asyncio.gather(*scrapes) == [200, 200, 503, 503]
    assert server.calls == 2 + 1
    time.seconds += SILENT_SECONDS - 1
    assert await status(door, "Bearer good") == 200
    assert server.calls == 2 + 1
    time.seconds += 1
    assert await status(door, "Bearer good") == 200
    assert server.calls == 2 + 2


async def test_a_token_that_the_api_server_does_not_take_keeps_nobody_else_out(
    door: Doorkeeper, server: ApiServer
) -> None:
    server.refused = "odd"
    assert await status(door, "Bearer odd") == 503
    assert await status(door, "Bearer good") == 200


async def test_a_scrape_that_is_given_up_forgets_no_approval(
    door: Doorkeeper, server: ApiServer, time: Time
) -> None:
    assert await status(door, "Bearer good") == 200
    server.held, time.seconds = asyncio.Event(), ALLOWED_SECONDS
    scrape = asyncio.create_task(status(door, "Bearer good"))
    await asyncio.wait({scrape}, timeout=0)
    scrape.cancel()
    await asyncio.gather(scrape, return_exceptions=True)
    server.held, server.down = None, True
    assert await status(door, "Bearer good") == 200


async def test_refusals_make_nobody_forgotten_who_was_let_in(
    door: Doorkeeper, server: ApiServer, time: Time
) -> None:
    assert await status(door, "Bearer good") == 200
    for n in range(2 * REMEMBERED):
        await status(door, f"Bearer guess-{n}")
    server.down, time.seconds = True, ALLOWED_SECONDS
    assert await status(door, "Bearer good") == 200


async def test_many_tokens_at_once_are_turned_away_and_not_remembered_for_ever(
    door: Doorkeeper, server: ApiServer
) -> None:
    server.held = asyncio.Event()
    guesses = [asyncio.create_task(status(door, f"Bearer {n}")) for n in range(WAITING + 5)]
    await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    server.held.set()
    answers = await asyncio.gather(*guesses)
    assert (answers.count(503), answers.count(401)) == (5, WAITING)
    for n in range(2 * REMEMBERED):
        await status(door, f"Bearer another-{n}")
    assert len(door._known) == REMEMBERED


async def test_the_token_itself_is_not_kept(door: Doorkeeper) -> None:
    assert await status(door, "Bearer good") == 200
    assert "good" not in repr(door.__dict__)


@pytest.fixture
async def client(door: Doorkeeper) -> AsyncIterator[httpx.AsyncClient]:
    served = StatusServer(
        Telemetry(), healthy=lambda: None, ready=lambda: "standing by", doorkeeper=door
    )
    port = await served.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client
    await served.stop()


async def test_metrics_are_guarded_and_probes_are_open(client: httpx.AsyncClient) -> None:
    refused = await client.get("/metrics")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "phasegate_leader" not in refused.text
    allowed = await client.get("/metrics", headers={"Authorization": "Bearer good"})
    assert "phasegate_leader" in allowed.text
    poor = await client.get("/metrics", headers={"Authorization": "Bearer poor"})
    assert (poor.status_code, poor.text) == (
        403,
        "somebody may not get /metrics: phasegate-metrics-reader may\n",
    )
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
    ],
)
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
