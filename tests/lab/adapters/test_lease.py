"""Leader election on a real Lease, with the operator's rights."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.api.errors import Conflict
from phasegate.control.lease import LEASE, Elector, LeaseSettings

pytestmark = pytest.mark.lab


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251


def elector(cluster: KubernetesCluster, namespace: str, identity: str) -> Elector:
    settings = LeaseSettings(
        namespace, "phasegate", identity, duration=2, renew_deadline=1, renew=0.2, retry=0.1
    )
    return Elector(cluster, RealClock(), settings)


async def test_leadership_is_handed_over_when_it_is_released(
    admin: KubernetesCluster, namespace: str
) -> None:
    one, two = elector(admin, namespace, "one"), elector(admin, namespace, "two")
    await one.acquire()
    holding, waiting = asyncio.create_task(one.hold()), asyncio.create_task(two.acquire())
    lease = await admin.get(LEASE, namespace, "phasegate")
    assert lease["spec"]["holderIdentity"] == "one"
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    await one.release()
    await waiting
    assert two.leading
    assert not one.leading


async def test_a_silent_leader_is_followed_after_its_lease(
    admin: KubernetesCluster, namespace: str
) -> None:
    one, two = elector(admin, namespace, "one"), elector(admin, namespace, "two")
    await one.acquire()
    await two.acquire()
    assert two.leading
    assert not one.leading


async def test_the_shipped_rights_are_enough(cluster: KubernetesCluster) -> None:
    lease = ("phasegate-system", "phasegate")
    with suppress(Conflict):  # an operator may be using it
        await cluster.create(
            {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": {"namespace": lease[0], "name": lease[1]},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
            }
        )
    assert await cluster.get(LEASE, *lease)
    with pytest.raises(Conflict):  # and not Refused
        await cluster.patch(LEASE, *lease, {"metadata": {"resourceVersion": "1"}})
