"""The real Alertmanager: each transition is one alert, and what is over is resolved."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from phasegate.adapters.config import OperatorConfig
from phasegate.adapters.notifiers.opening import channel
from phasegate.control.outbox import Channel

from lab.parts.alertmanager import alertmanager
from tests.adapters.notes import note

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ALERT = "AlertBreached/error-rate"
CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 (Alertmanager lives in real time)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Where one listens that is of this test only."""
    program, port = await asyncio.to_thread(alertmanager), free_port()
    (tmp_path / "am.yaml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        str(program),
        f"--config.file={tmp_path / 'am.yaml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    transport = httpx.AsyncHTTPTransport(retries=8)
    async with httpx.AsyncClient(transport=transport) as client:
        ready = await client.get(f"{address}/-/ready", timeout=30)
        assert ready.status_code == 200
    yield address
    process.terminate()
    await process.wait()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Channel]:
    it = channel(
        "am",
        OperatorConfig.model_validate(
            {"notifiers": {"am": {"kind": "alertmanager", "url": url}}}
        ).notifiers["am"],
    )
    try:
        yield it
    finally:
        await it.close()


async def alerts(url: str) -> list[dict[str, Any]]:
    """Alerts that stand."""
    async with httpx.AsyncClient() as client:
        found = (await client.get(f"{url}/api/v2/alerts")).json()
    return [alert for alert in found if alert["status"]["state"] == "active"]


async def test_a_transition_told_twice_is_one_alert_with_its_facts(url: str) -> None:
    news = replace(note("rolled back <!channel>"), at=now())
    async with opened(url) as it:
        await it.send(news)
        await it.send(news)
        (alert,) = await alerts(url)
        labels = alert["labels"]
        assert labels.pop("announcement") == news.id
        assert labels == {
            "alertname": "PhasegateRolledBack",
            "namespace": "team-a",
            "agent": "support",
            "reason": "RolledBack",
            "severity": "critical",
        }
        assert alert["annotations"]["summary"] == "rolled back ‹!channel›"
        await it.send(replace(note("rolled back again"), at=now()))
        assert len(await alerts(url)) == 2


@pytest.mark.parametrize(
    "how", [{"type": "Normal", "reason": "AlertOver"}, {"type": "Warning", "reason": "RolledBack"}]
)
async def test_an_alert_stands_until_what_ends_it_is_told(url: str, how: dict[str, str]) -> None:
    async with opened(url) as it:
        begun = note("errors 8%", reason="AlertBreached", begins=ALERT)
        await it.send(replace(begun, at=now()))
        other = note("p95", reason="EarlyWarning", begins="EarlyWarning/p95")
        await it.send(replace(other, at=now()))
        assert {a["labels"]["reason"] for a in await alerts(url)} == {
            "AlertBreached",
            "EarlyWarning",
        }
        await it.send(replace(note("over", ends=(ALERT,), **how), at=now()))
        standing = {a["labels"]["reason"] for a in await alerts(url)}
    assert standing == {"EarlyWarning", how["reason"]} - {"AlertOver"}
