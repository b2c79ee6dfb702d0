"""HTTPRoutes on the real gateway."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.adapters.routers.gatewayapi import GatewayApiRouter
from phasegate.adapters.routers.httproute import fingerprint, render
from phasegate.api.errors import Refused
from phasegate.control import kinds
from phasegate.rollout.route import (
    HeaderRoute,
    Mirror,
    RollbackIntent,
    only,
    split,
    with_intent,
)

from tests.lab.adapters.objects import HTTP_ROUTE, agent, service, until

pytestmark = pytest.mark.lab

STABLE, CANDIDATE = "aaaaaaaaaa", "bbbbbbbbbb"
CANARY = split(STABLE, CANDIDATE, 5, None)
INTENT = RollbackIntent(
    rollout="support-2",
    revision=CANDIDATE,
    phase="canary-5",
    trigger="error-rate",
    message="12 of 40 answers failed; allowed are 5 %",
    decided_at=datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC),
)


async def _services(admin: KubernetesCluster, namespace: str) -> None:
    for name in (STABLE, CANDIDATE, f"{CANDIDATE}-shadow"):
        await admin.create(service(namespace, f"support-{name}"))


async def test_every_shape_of_a_plan_is_accepted_and_reads_back(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    await _services(admin, namespace)
    live = await admin.create(agent(namespace, hostnames=["support.example.com"]))
    router = GatewayApiRouter(cluster)
    shadow = replace(
        CANARY, mirror=Mirror(CANDIDATE, "shadow", 20), header=HeaderRoute(CANDIDATE, "shadow")
    )
    for plan in (only(STABLE, None), shadow, CANARY, with_intent(only(STABLE, CANARY), INTENT)):
        await router.observe(live)
        await router.write(live, plan)

        async def in_force() -> bool:
            return (await router.observe(live)).programmed

        await until(in_force)
        assert (await router.observe(live)).plan == plan


async def test_a_live_route_is_field_by_field_what_was_rendered(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    matches = [{"path": {"value": "/v1"}, "method": "POST"}, {}]
    live = await admin.create(agent(namespace, matches=matches))
    shadow = replace(
        CANARY, mirror=Mirror(CANDIDATE, "live", 100), header=HeaderRoute(CANDIDATE, "live")
    )
    plan = with_intent(shadow, INTENT)
    await GatewayApiRouter(cluster).observe(live)
    router = GatewayApiRouter(cluster)
    await router.observe(live)
    await router.write(live, plan)
    route = await cluster.get(HTTP_ROUTE, namespace, "support")
    assert route["spec"] == render(live, plan)["spec"]
    assert fingerprint(route) == fingerprint(render(live, plan))


async def test_a_second_write_of_the_same_leaves_the_route_alone(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    for _ in range(2):
        router = GatewayApiRouter(cluster)
        await router.observe(live)
        await router.write(live, CANARY)
    route = await cluster.get(HTTP_ROUTE, namespace, "support")
    assert route["metadata"]["generation"] == 1


async def test_an_intent_goes_with_the_write_that_no_longer_carries_it(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    router = GatewayApiRouter(cluster)
    await router.observe(live)
    await router.write(live, with_intent(CANARY, INTENT))
    await router.write(live, CANARY)
    route = await cluster.get(HTTP_ROUTE, namespace, "support")
    assert "annotations" not in route["metadata"]


async def test_a_missing_service_is_told_in_the_gateways_words(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    router = GatewayApiRouter(cluster)
    await router.observe(live)
    await router.write(live, only(STABLE, None))

    async def told() -> bool:
        return "ResolvedRefs is False (BackendNotFound)" in (await router.observe(live)).message

    await until(told)


async def test_a_route_of_the_same_name_that_is_a_users_own_is_left_alone(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    theirs = render(live, CANARY)
    del theirs["metadata"]["ownerReferences"]
    theirs["spec"]["rules"] = [{"backendRefs": [{"name": "theirs", "port": 80}]}]
    await admin.create(theirs)
    router = GatewayApiRouter(cluster)
    assert "does not belong" in (await router.observe(live)).message
    with pytest.raises(Refused, match="does not belong"):
        await router.write(live, only(STABLE, None))


async def test_a_route_that_was_deleted_meanwhile_is_made_again(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    router = GatewayApiRouter(cluster)
    await router.observe(live)
    await router.write(live, CANARY)
    await admin.delete(HTTP_ROUTE, namespace, "support")
    assert (await router.observe(live)).plan is None
    await router.write(live, CANARY)
    assert (await router.observe(live)).plan == CANARY


async def test_the_lab_gateways_abilities_are_known(
    cluster: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    live = await admin.create(agent(namespace))
    capabilities = (await GatewayApiRouter(cluster).observe(live)).capabilities
    assert capabilities.mirror
    assert capabilities.mirror_percent
    assert (await admin.get(kinds.AGENT_DEPLOYMENT, namespace, "support"))["metadata"].get(
        "annotations"
    ) is None
