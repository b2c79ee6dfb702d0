"""Reads from memory: when they are, when they are not, and what our own writes do to them."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.adapters.cached import CachedCluster, Mirrors
from phasegate.adapters.edge import scopes
from phasegate.adapters.mirror import TRUST, Scope
from phasegate.api.errors import ClusterError, Conflict, NotFound
from phasegate.control import kinds
from phasegate.control.ports import Key, Kind

from tests.control.fakes import FakeCluster, VirtualClock

OURS = {"app.kubernetes.io/managed-by": "phasegate", "phasegate.dev/agent": "support"}
SELECTOR = "phasegate.dev/agent=support,app.kubernetes.io/managed-by=phasegate"
SCOPES = (
    Scope(kinds.AGENT_DEPLOYMENT),
    Scope(kinds.SERVICE, labels="app.kubernetes.io/managed-by=phasegate"),
    Scope(kinds.CONFIG_MAP, labels="app.kubernetes.io/managed-by=phasegate"),
    Scope(kinds.CONFIG_MAP, labels="app.kubernetes.io/managed-by!=phasegate", metadata_only=True),
)


class Cached:
    """An API server, mirrors of it that hear everything at once, and reads through them."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.live = FakeCluster(self.clock)
        self.mirrors = Mirrors(SCOPES, self.clock.monotonic)
        self.cluster = CachedCluster(self.live, self.mirrors)

    def put(
        self, kind: Kind, name: str, labels: dict[str, str] | None = None, **body: Any
    ) -> dict[str, Any]:
        metadata: dict[str, Any] = {"namespace": "shop", "name": name}
        if labels is not None:
            metadata["labels"] = labels
        return self.live.put({"kind": kind.kind, "metadata": metadata, **body})

    def hear(self) -> None:
        """The streams tell all there is."""
        for mirror in self.mirrors.all:
            listed = set()
            for item in self.live.all(mirror.scope.kind):
                if mirror.scope.holds(item["metadata"].get("labels") or {}):
                    mirror.put(item)
                    listed.add((item["metadata"]["namespace"], item["metadata"]["name"]))
            newest = max((mirror.version(*name) or 0 for name in listed), default=0)
            list(mirror.settle(listed, str(newest)))
        self.live.reads.clear()


@pytest.fixture
def cached() -> Cached:
    made = Cached()
    made.put(kinds.AGENT_DEPLOYMENT, "support", spec={"replicas": 1})
    made.put(kinds.SERVICE, "support", OURS)
    made.put(kinds.SERVICE, "foreign")
    made.put(kinds.CONFIG_MAP, "copy", OURS, data={"a": "b"})
    made.put(kinds.CONFIG_MAP, "prompt", data={"text": "Be kind."})
    made.hear()
    return made


async def test_what_is_mirrored_is_read_from_memory(cached: Cached) -> None:
    agent = await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    assert agent["spec"] == {"replicas": 1}
    assert len(await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR)) == 1
    assert len(await cached.cluster.list(kinds.CONFIG_MAP, "shop", SELECTOR)) == 1
    with pytest.raises(NotFound):
        await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "nobody")
    assert cached.live.reads == []
    assert cached.cluster.keys(kinds.AGENT_DEPLOYMENT, [None]) == {Key("shop", "support")}


async def test_what_is_not_mirrored_is_asked_for(cached: Cached) -> None:
    await cached.cluster.list(kinds.POD, "shop", SELECTOR)
    await cached.cluster.list(kinds.SERVICE, "shop")
    await cached.cluster.get(kinds.SERVICE, "shop", "foreign")
    assert cached.live.reads == ["list pods", "list services", "get services"]


async def test_before_the_first_list_and_in_a_long_silence_everything_is_asked_for(
    cached: Cached,
) -> None:
    fresh = CachedCluster(cached.live, Mirrors(SCOPES, cached.clock.monotonic))
    await fresh.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    await fresh.list(kinds.SERVICE, "shop", SELECTOR)
    await cached.clock.advance(TRUST)
    await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR)
    assert cached.live.reads == ["get agentdeployments", "list services"] * 2


async def test_in_silence_an_api_server_that_does_not_answer_is_remembered(
    cached: Cached,
) -> None:
    await cached.clock.advance(TRUST)
    cached.live.broken["get agentdeployments"] = ClusterError("away")
    agent = await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    assert agent["spec"] == {"replicas": 1}
    with pytest.raises(ClusterError, match="away"):
        await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "unheard-of")


async def test_our_own_writes_are_read_back_at_once(cached: Cached) -> None:
    agent = await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    version = agent["metadata"]["resourceVersion"]
    await cached.cluster.patch_status(
        kinds.AGENT_DEPLOYMENT, "shop", "support", {"phase": "Stable"}, version
    )
    made = {"apiVersion": "v1", "kind": "Service"}
    metadata = {"namespace": "shop", "name": "n", "labels": OURS}
    await cached.cluster.create({**made, "metadata": metadata})
    agent = await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    assert agent["status"] == {"phase": "Stable"}
    assert len(await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR)) == 2
    assert cached.live.reads == []


async def test_after_a_conflict_the_object_is_read_live_once(cached: Cached) -> None:
    cached.put(kinds.AGENT_DEPLOYMENT, "support", spec={"replicas": 2})
    with pytest.raises(Conflict):
        await cached.cluster.patch_status(kinds.AGENT_DEPLOYMENT, "shop", "support", {}, "1")
    for _ in range(2):
        agent = await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
        assert agent["spec"] == {"replicas": 2}
    assert cached.live.reads == ["get agentdeployments"]


async def test_a_write_whose_answer_was_lost_is_looked_up(cached: Cached) -> None:
    cached.live.broken["patch-status agentdeployments"] = ClusterError("did not answer in time")
    with pytest.raises(ClusterError):
        await cached.cluster.patch_status(kinds.AGENT_DEPLOYMENT, "shop", "support", {}, None)
    await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    assert cached.live.reads == ["get agentdeployments"]


async def test_what_we_deleted_is_looked_up_until_the_stream_says_that_it_is_gone(
    cached: Cached,
) -> None:
    await cached.cluster.delete(kinds.SERVICE, "shop", "support")
    with pytest.raises(NotFound):
        await cached.cluster.get(kinds.SERVICE, "shop", "support")
    assert cached.live.reads == ["get services"]


async def test_a_foreign_config_map_is_read_once_for_each_of_its_versions(cached: Cached) -> None:
    for _ in range(3):
        found = await cached.cluster.get(kinds.CONFIG_MAP, "shop", "prompt")
        assert found["data"] == {"text": "Be kind."}
    cached.put(kinds.CONFIG_MAP, "prompt", data={"text": "Be quick."})
    mirror = cached.mirrors.all[3]
    mirror.put(cached.live.all(kinds.CONFIG_MAP)[1])
    for _ in range(3):
        found = await cached.cluster.get(kinds.CONFIG_MAP, "shop", "prompt")
        assert found["data"] == {"text": "Be quick."}
    assert cached.live.reads == ["get configmaps"] * 2


async def test_a_dry_run_is_no_write(cached: Cached) -> None:
    made = {"apiVersion": "v1", "kind": "Service"}
    metadata = {"namespace": "shop", "name": "tried", "labels": OURS}
    await cached.cluster.apply({**made, "metadata": metadata}, dry_run=True)
    assert len(await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR)) == 1


async def test_one_that_asks_always_tells_the_others_what_it_was_answered(cached: Cached) -> None:
    asking = CachedCluster(cached.live, cached.mirrors, remember=False)
    cached.put(kinds.AGENT_DEPLOYMENT, "support", spec={"replicas": 2})
    cached.put(kinds.SERVICE, "support", OURS, spec={"new": True})
    await asking.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    await asking.list(kinds.SERVICE, "shop", SELECTOR)
    assert cached.live.reads == ["get agentdeployments", "list services"]
    agent = await cached.cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    service = await cached.cluster.get(kinds.SERVICE, "shop", "support")
    assert (agent["spec"], service["spec"]) == ({"replicas": 2}, {"new": True})
    assert len(cached.live.reads) == 2


async def test_a_list_in_which_an_object_is_doubted_is_asked_for(cached: Cached) -> None:
    await cached.cluster.delete(kinds.SERVICE, "shop", "support")
    assert await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR) == []
    others = SELECTOR.replace("support", "sales")
    assert await cached.cluster.list(kinds.SERVICE, "shop", others) == []
    assert cached.live.reads == ["list services"]


async def test_a_create_whose_answer_was_lost_is_in_the_next_list_and_doubt_ends(
    cached: Cached,
) -> None:
    service = cached.put(kinds.SERVICE, "made", OURS)  # it arrived, its answer did not
    with pytest.raises(Conflict):
        await cached.cluster.create({"apiVersion": "v1", **service})
    lists = [await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR) for _ in range(2)]
    assert [len(found) for found in lists] == [2, 2]
    assert cached.live.reads == ["list services"]


async def test_a_create_that_never_happened_is_looked_for_once(cached: Cached) -> None:
    cached.live.broken["create services"] = ClusterError("did not answer in time")
    metadata = {"namespace": "shop", "name": "never", "labels": OURS}
    with pytest.raises(ClusterError):
        await cached.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata})
    for _ in range(2):
        assert len(await cached.cluster.list(kinds.SERVICE, "shop", SELECTOR)) == 1
    assert cached.live.reads == ["list services"]


async def test_what_the_api_server_does_not_have_is_not_read_from_memory(cached: Cached) -> None:
    asking = CachedCluster(cached.live, cached.mirrors, remember=False)
    cached.live.remove(kinds.AGENT_DEPLOYMENT, "shop", "support")
    for cluster in (asking, cached.cluster, cached.cluster):
        with pytest.raises(NotFound):
            await cluster.get(kinds.AGENT_DEPLOYMENT, "shop", "support")
    assert cached.live.reads == ["get agentdeployments"] * 3


async def test_our_deletions_leave_no_doubt_behind(cached: Cached) -> None:
    copy = cached.live.all(kinds.CONFIG_MAP)[0]
    await cached.cluster.delete(kinds.CONFIG_MAP, "shop", "copy")
    ours, foreign = cached.mirrors.all[2:]
    copy["metadata"]["resourceVersion"] = "99"
    ours.remove(copy)
    assert [mirror.doubts(None, None) for mirror in (ours, foreign)] == [[], []]


async def test_what_people_decided_about_one_agent_is_found_without_reading_all(
    cached: Cached,
) -> None:
    mirrors = Mirrors(scopes(), cached.clock.monotonic)
    actions = next(m for m in mirrors.all if m.scope.kind == kinds.ROLLOUT_ACTION)
    for number, agent in enumerate(["support", "sales", "support"]):
        actions.put(cached.put(kinds.ROLLOUT_ACTION, f"a{number}", spec={"agent": agent}))
    list(actions.settle({("shop", f"a{number}") for number in range(3)}, "99"))
    cluster = CachedCluster(cached.live, mirrors)
    found = await cluster.about(kinds.ROLLOUT_ACTION, Key("shop", "support"))
    assert [item["metadata"]["name"] for item in found] == ["a0", "a2"]
    assert cached.live.reads == []
    await cached.clock.advance(TRUST)
    assert len(await cluster.about(kinds.ROLLOUT_ACTION, Key("shop", "support"))) == 3
    assert cached.live.reads == ["list rolloutactions"]
