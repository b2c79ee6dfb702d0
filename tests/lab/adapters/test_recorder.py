"""Announcements as people see them: `kubectl describe`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.adapters.recorder import EventRecorder
from phasegate.rollout.decision import Announcement

from lab import Lab
from tests.lab.adapters.objects import agent

pytestmark = pytest.mark.lab


async def test_describe_shows_each_transition_once_and_counts_what_recurs(
    lab: Lab, cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    now = [datetime.now(UTC)]  # noqa: TID251
    dropped: list[None] = []
    recorder = EventRecorder(
        cluster, "phasegate-0", now=lambda: now[0], on_dropped=lambda: dropped.append(None)
    )
    task = asyncio.create_task(recorder.run())
    back = Announcement("Warning", "TrafficSafe", "rolled back: 12 of 40 answers failed")
    await recorder.announce(live, back)
    await recorder.announce(live, back)
    await recorder.announce(live, Announcement("Normal", "RolloutStarted", "é" * 2000))
    now[0] += timedelta(minutes=5)
    await recorder.announce(live, back)
    await recorder.flush()
    task.cancel()
    assert not dropped
    shown = lab.kubectl("describe", "agentdep", "support", "-n", namespace)
    lines = [line for line in shown.splitlines() if "rolled back: 12 of 40" in line]
    assert len(lines) == 1
    assert "Warning" in lines[0]
    assert "x2 over" in lines[0]
    assert "RolloutStarted" in shown
