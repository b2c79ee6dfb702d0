from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from phasegate.api.errors import Conflict, NotFound
from phasegate.control import kinds
from phasegate.control.attempt import Attempt
from phasegate.control.pace import Pace
from phasegate.control.sampler import LOOK_AHEAD

from tests.control.world import KEY, World, broken

WRITES = ("route", "apply", "create", "patch", "patch-status", "delete")
NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}


async def test_a_first_revision_goes_to_full_at_once() -> None:
    async with World().operator() as world:
        await world.stable()
        stable = world.status["stableRevision"]
        names = {d["metadata"]["name"] for d in world.cluster.all(kinds.DEPLOYMENT)}
        assert names == {f"support-{stable}"}
        services = {s["metadata"]["name"] for s in world.cluster.all(kinds.SERVICE)}
        assert services == {"support", f"support-{stable}"}
        assert world.share(stable) == 100
        assert set(world.results) == {"ok"}


async def test_nothing_is_written_while_nothing_changes() -> None:
    async with World().operator() as world:
        await world.stable()
        await world.run(60)
        world.cluster.writes.clear()
        for _ in range(20):
            world.queue.add(KEY)
            await world.run(30)
        assert world.cluster.writes == []


async def test_a_restarted_operator_writes_nothing_either() -> None:
    world = World()
    async with world.operator():
        await world.stable()
        await world.run(60)
    world.cluster.writes.clear()
    async with world.operator():
        await world.run(60)
        assert world.results
        assert world.cluster.writes == []


async def test_a_good_revision_goes_through_all_phases() -> None:
    async with World().operator() as world:
        await world.stable()
        first = world.status["stableRevision"]
        world.apply(agent=NEW)
        await world.run(3)
        assert world.status["phase"] == "Dark"
        await world.until_phase("Canary")
        await world.until_phase("Full")
        await world.until_phase("Stable")
        second = world.status["stableRevision"]
        assert second != first
        assert world.share(second) == 100
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]
        assert record["status"]["phase"] == "Succeeded"
        assert "bug" not in world.results


async def bad_canary(world: World) -> str:
    """A candidate that fails as soon as users are sent to it."""
    await world.stable()
    world.apply(agent=NEW)
    await world.until_phase("Canary")
    await world.run(10)
    candidate: str = world.status["candidateRevision"]
    assert world.share(candidate) == 20
    world.error_rate[candidate] = 1.0
    return candidate


async def test_a_bad_revision_is_taken_back_route_first() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.cluster.writes.clear()
        world.passes.clear()
        await world.run(8)
        assert world.share(candidate) == 0
        assert world.writes_of_pass_with("route")[:2] == ["route", "patch-status agentdeployments"]
        assert world.status["phase"] == "RolledBack"
        assert world.status["rollback"]["trigger"] == "error-rate"
        await world.run(10)
        assert float(world.status["rollback"]["secondsToSafe"]) <= 2
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]
        assert record["status"]["phase"] == "RolledBack"


async def test_a_status_that_cannot_be_written_does_not_hold_up_the_route() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.cluster.broken["patch-status agentdeployments"] = broken()
        await world.run(8)
        assert world.share(candidate) == 0
        assert not any(a.reason == "TrafficSafe" for a in world.recorder.announced)
        world.cluster.broken.clear()
        await world.run(60)
        assert world.status["phase"] == "RolledBack"


@pytest.mark.parametrize(
    "call", ["apply deployments", "create agentrollouts", "patch-status agentrollouts"]
)
async def test_no_other_write_holds_up_the_route(call: str) -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.cluster.broken[call] = broken()
        await world.run(8)
        assert world.share(candidate) == 0


READS = [
    "list deployments",
    "list services",
    "list controllerrevisions",
    "list rolloutactions",
    "get agentrollouts",
    "get configmaps",
    "get rollbackpolicies",
    "list pods",
]


@pytest.mark.parametrize("call", READS)
async def test_no_other_read_holds_up_the_route_either(call: str) -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.cluster.broken[call] = broken()
        await world.run(8)
        assert world.share(candidate) == 0
        world.cluster.broken.clear()
        await world.run(30)
        assert world.status["phase"] == "RolledBack"
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]
        decisions = [gate["decision"] for gate in record["status"]["gates"]]
        assert decisions == ["Started", "Advanced", "RolledBack"]
        assert record["status"]["phase"] == "RolledBack"


async def test_while_the_route_cannot_be_written_the_status_tells_the_truth() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.router.broken = broken("Internal error: 500")
        await world.run(30)
        message = world.status["message"]
        assert message.startswith(f"rollback of {candidate} decided ")
        assert "route still at 20%: Internal error: 500" in message
        assert world.condition("TrafficProgrammed")["status"] == "False"
        assert world.condition("Ready")["status"] == "False"
        assert world.status["phase"] == "Canary"
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]
        assert record["status"]["phase"] == "Progressing"
        assert not any(a.reason == "RolledBack" for a in world.recorder.announced)


async def test_a_failing_route_write_is_tried_again_for_ever_at_most_five_seconds_apart() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.router.broken = broken()
        await world.run(300)
        world.cluster.writes.clear()
        await world.run(60)
        assert 12 <= world.cluster.writes.count("route") <= 60
        world.router.broken = None
        await world.run(5.1)
        assert world.share(candidate) == 0


async def test_how_long_users_were_exposed_counts_from_the_first_decision() -> None:
    async with World().operator() as world:
        await bad_canary(world)
        world.router.broken = broken()
        await world.run(60)
        world.router.broken = None
        await world.run(20)
        assert float(world.status["rollback"]["secondsToSafe"]) > 50


async def test_somebody_elses_write_between_look_and_status_stops_the_pass() -> None:
    async with World().operator() as world:
        await world.stable()
        world.cluster.broken["patch-status agentdeployments"] = Conflict("has been modified")
        world.cluster.writes.clear()
        world.apply(agent=NEW)
        await world.run(1)
        assert not [w for w in world.cluster.writes if w.split()[0] in ("apply", "create")]
        world.cluster.broken.clear()
        await world.run(10)
        assert world.status["phase"] == "Dark"


async def test_an_operator_that_dies_anywhere_in_a_rollback_is_continued() -> None:
    world = World()
    async with world.operator():
        candidate = await bad_canary(world)
        world.cluster.broken["patch-status agentdeployments"] = broken()
        await world.run(8)
    world.cluster.broken.clear()
    async with world.operator():
        await world.run(10)
        assert world.status["phase"] == "RolledBack"
        assert world.status["rollback"]["revision"] == candidate
        assert world.status["rollback"]["trigger"] == "error-rate"


async def test_evidence_survives_the_operator() -> None:
    world = World()
    async with world.operator():
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(30)
        before = world.store.judgement(KEY)
    world.provider.queries.clear()
    async with world.operator():
        await world.run(3)
        after = world.store.judgement(KEY)
        assert before is not None
        assert after is not None
        assert after.candidate_calls >= before.candidate_calls
        assert after.checks[0].total >= before.checks[0].total


async def test_a_template_the_api_server_refuses_is_told_in_its_words_and_tried_once() -> None:
    async with World().operator() as world:
        await world.stable()
        world.cluster.reads.clear()
        world.apply(template={"spec": {"containers": [{"name": "agent"}]}})
        await world.run(5)
        stalled = world.condition("Stalled")
        assert stalled["status"] == "True"
        assert "spec.template.spec.containers[0].image: Required value" in stalled["message"]
        assert world.cluster.reads.count("dry-run deployments") == 1
        assert len(world.cluster.all(kinds.DEPLOYMENT)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": "many"},
        {"traffic": {}},
        {"typo": 1},
        {"strategy": {"phases": [{"name": "x", "type": "Dusk"}]}},
        {"template": None},
    ],
)
async def test_a_malformed_object_is_told_and_never_a_traceback(change: dict[str, Any]) -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(**change)
        await world.run(5)
        assert "bug" not in world.results
        if change.get("traffic") != {}:
            assert world.condition("Stalled")["message"].startswith("spec.")


async def test_a_malformed_status_does_no_harm() -> None:
    async with World().operator() as world:
        await world.stable()
        stable = world.status["stableRevision"]
        status = {"phase": 7, "progress": "yes", "conditions": [{}], "rollouts": -1}
        world.cluster.set_status(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name, status)
        world.queue.add(KEY)
        await world.run(5)
        assert "bug" not in world.results
        assert world.status["stableRevision"] == stable
        assert world.condition("Ready")["status"] == "True"


async def test_a_missing_policy_is_told() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.run(5)
        assert "RollbackPolicy 'strict' does not exist" in world.condition("Stalled")["message"]
        assert world.condition("Stalled")["reason"] == "PolicyNotFound"


async def test_content_of_a_config_map_is_frozen_with_the_revision() -> None:
    async with World().operator() as world:
        container = {"name": "agent", "image": "example.com/agent:1"}
        container["envFrom"] = [{"configMapRef": {"name": "settings"}}]  # type: ignore[assignment]
        template = {"spec": {"containers": [container]}}
        settings = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": KEY.namespace},
            "data": {"LIMIT": "10"},
        }
        world.cluster.put(settings)
        world.apply(template=template)
        await world.run(5)
        stable = world.status["stableRevision"]
        world.cluster.put(settings | {"data": {"LIMIT": "99"}})
        world.queue.add(KEY)
        await world.run(5)
        candidate = world.status["candidateRevision"]
        copies = {c["metadata"]["name"]: c["data"] for c in world.cluster.all(kinds.CONFIG_MAP)}
        assert copies[f"support-{stable}-0"] == {"LIMIT": "10"}
        assert copies[f"support-{candidate}-0"] == {"LIMIT": "99"}


async def test_a_missing_config_map_is_told_and_its_arrival_is_enough() -> None:
    async with World().operator() as world:
        await world.stable()
        prompt = {"systemPromptFrom": {"configMapKeyRef": {"name": "p", "key": "text"}}}
        world.apply(agent={"sideEffects": "DryRun"} | prompt)
        await world.run(5)
        assert world.condition("Stalled")["reason"] == "ConfigMapNotFound"
        world.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "p", "namespace": KEY.namespace},
                "data": {"text": "Be brief."},
            }
        )
        world.queue.add(KEY)
        await world.run(5)
        assert world.status["phase"] == "Dark"


async def test_somebody_elses_service_is_not_taken_over() -> None:
    async with World().operator() as world:
        foreign = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "support", "namespace": KEY.namespace},
            "spec": {"selector": {"app": "legacy"}},
        }
        world.cluster.put(foreign)
        world.apply()
        await world.run(10)
        kept = next(
            s for s in world.cluster.all(kinds.SERVICE) if s["metadata"]["name"] == "support"
        )
        assert kept["spec"]["selector"] == {"app": "legacy"}
        assert "that is not Phasegate's exists" in world.condition("Stalled")["message"]


async def test_children_changed_or_deleted_by_hand_come_back() -> None:
    async with World().operator() as world:
        await world.stable()
        stable = world.status["stableRevision"]
        world.cluster.remove(kinds.SERVICE, KEY.namespace, "support")
        deployment = world.cluster.all(kinds.DEPLOYMENT)[0]
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/other:9"
        world.cluster.put(deployment)
        world.queue.add(KEY)
        await world.run(5)
        names = {s["metadata"]["name"] for s in world.cluster.all(kinds.SERVICE)}
        assert names == {"support", f"support-{stable}"}
        pod = world.cluster.all(kinds.DEPLOYMENT)[0]["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == "example.com/agent:1"


async def test_deletion_in_mid_rollout_returns_all_traffic_first() -> None:
    async with World().operator() as world:
        await world.stable()
        stable = world.status["stableRevision"]
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(5)
        live = world.object
        assert live["metadata"]["finalizers"] == ["phasegate.dev/traffic"]
        live["metadata"]["deletionTimestamp"] = world.clock.now().isoformat()
        world.cluster.put(live)
        world.cluster.writes.clear()
        world.queue.add(KEY)
        await world.run(10)
        assert world.router.history[-1].percent(stable) == 100
        assert world.router.plan is None
        writes = world.cluster.writes
        assert writes[0] == "route"
        assert writes.index("remove route") < writes.index("patch agentdeployments")
        assert len(world.cluster.all(kinds.DEPLOYMENT)) == 2
        assert world.cluster.all(kinds.AGENT_DEPLOYMENT) == []
        world.queue.add(KEY)
        await world.run(2)
        assert world.results[-1] == "gone"
        assert world.store.judgement(KEY) is None


async def test_a_route_that_cannot_be_removed_does_not_hold_a_deletion_for_ever() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(5)
        live = world.object
        live["metadata"]["deletionTimestamp"] = world.clock.now().isoformat()
        world.cluster.put(live)
        world.router.broken = broken()
        world.queue.add(KEY)
        await world.run(58)
        assert world.object["metadata"]["finalizers"]
        await world.run(62)
        assert world.cluster.all(kinds.AGENT_DEPLOYMENT) == []


def action(verb: str, revision: str) -> dict[str, Any]:
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "RolloutAction",
        "metadata": {"name": "a1", "namespace": KEY.namespace},
        "spec": {
            "agent": KEY.name,
            "verb": verb,
            "revision": revision,
            "reason": "looks wrong",
            "actor": "alice",
        },
    }


async def test_without_enforced_identity_no_action_is_accepted() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.run(5)
        world.cluster.put(action("Rollback", world.status["candidateRevision"]))
        world.queue.add(KEY)
        await world.run(2)
        outcome = world.cluster.all(kinds.ROLLOUT_ACTION)[0]["status"]
        assert outcome["outcome"] == "Refused"
        assert (
            "ValidatingAdmissionPolicy phasegate-rolloutactions does not exist"
            in (outcome["message"])
        )
        assert world.status["phase"] == "Dark"


async def test_an_outage_of_the_metrics_changes_no_traffic() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(5)
        world.provider.broken = True
        plan = world.router.plan
        await world.run(1800)
        assert world.router.plan == plan
        assert world.status["phase"] == "Canary"
        judgement = world.store.judgement(KEY)
        assert judgement is not None
        assert judgement.message.endswith("metrics provider default: not reachable")
        world.provider.broken = False
        await world.until_phase("Stable")


async def test_a_bad_revision_is_taken_back_although_the_spec_has_become_unreadable() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        world.error_rate[candidate] = 0.01
        world.apply(agent=NEW, typo=1)
        await world.run(5)
        assert world.condition("Stalled")["message"].startswith("spec.typo")
        world.error_rate[candidate] = 1.0
        await world.run(8)
        assert world.share(candidate) == 0


async def test_a_policy_that_is_deleted_in_mid_rollout_holds_but_goes_on_protecting() -> None:
    async with World().operator() as world:
        level = {"above": "20%", "window": "5m"}
        world.cluster.put(policy({"name": "error-rate", "rollback": level}))
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.until_phase("Canary")
        await world.run(10)
        world.cluster.remove(kinds.ROLLBACK_POLICY, KEY.namespace, "strict")
        await world.run(120)
        assert world.status["phase"] == "Canary"
        assert world.condition("Stalled")["reason"] == "PolicyNotFound"
        judgement = world.store.judgement(KEY)
        assert judgement is not None
        assert [check.limit for check in judgement.checks] == [0.2]
        candidate = world.status["candidateRevision"]
        world.error_rate[candidate] = 1.0
        await world.run(20)
        assert world.share(candidate) == 0


async def test_a_policy_that_comes_back_stricter_is_what_the_phase_is_judged_by() -> None:
    async with World().operator() as world:
        loose = {"name": "error-rate", "rollback": {"above": "20%", "window": "5m"}}
        world.cluster.put(policy(loose))
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.until_phase("Canary")
        for revision in (world.status["candidateRevision"], world.status["stableRevision"]):
            world.error_rate[revision] = 0.05
        world.cluster.remove(kinds.ROLLBACK_POLICY, KEY.namespace, "strict")
        await world.run(120)
        assert world.status["phase"] == "Canary"
        strict = {"name": "error-rate", "gate": {"below": "1%"}, "rollback": {"above": "2%"}}
        world.cluster.put(policy(strict))
        world.queue.add(KEY)
        await world.run(60)
        assert world.status["phase"] == "Canary"


def policy(*metrics: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "RollbackPolicy",
        "metadata": {"name": "strict", "namespace": KEY.namespace},
        "spec": {"metrics": list(metrics), **spec},
    }


async def test_a_threshold_on_a_query_takes_back_what_stays_beyond_it() -> None:
    async with World().operator() as world:
        threshold = {"query": "queue_depth", "for": "20s"}
        metric = {"name": "depth", "threshold": threshold, "rollback": {"above": "100"}}
        world.cluster.put(policy(metric))
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.until_phase("Canary")
        world.provider.asked.clear()
        await world.run(20)
        assert 2 <= len(world.provider.asked) <= 5
        assert set(world.provider.asked) == {"queue_depth"}
        world.provider.value = 101.0
        await world.run(10)
        assert world.status["phase"] == "Canary"
        await world.run(20)
        assert world.status["phase"] == "RolledBack"
        assert world.status["rollback"]["trigger"] == "depth"


async def test_a_provider_that_the_operator_does_not_know_is_told() -> None:
    async with World().operator() as world:
        world.cluster.put(policy({"name": "error-rate"}, prometheus="elsewhere"))
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.run(60)
        assert world.status["phase"] == "Dark"
        assert "no metrics provider 'elsewhere'" in world.status["message"]


async def test_a_bug_that_one_agents_samples_bring_out_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(2)
        plan = world.router.plan

        def explode(self: Attempt, found: object, until: float) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(Attempt, "feed", explode)
            await world.run(200)
        assert world.router.plan == plan
        judgement = world.store.judgement(KEY)
        assert judgement is not None
        assert "the samples could not be used" in judgement.message
        await world.until_phase("Full")


async def test_what_was_measured_stands_beside_what_was_asked_for() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(40)
        shares = {share["revision"]: share for share in world.status["traffic"]}
        candidate = shares[world.status["candidateRevision"]]
        assert candidate["percent"] == 20
        assert 19.0 <= float(candidate["measured"].rstrip("%")) <= 21.0


async def test_an_agent_is_looked_at_now_and_then_until_it_is_gone() -> None:
    async with World().operator() as world:
        await world.stable()
        passes = len(world.results)
        await world.run(2 * Pace().resync)
        assert len(world.results) >= passes + 2, "no event is needed"
        world.cluster.remove(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name)
        await world.run(2 * Pace().resync)
        passes = len(world.results)
        assert world.results[-1] == "gone"
        await world.run(2 * Pace().resync)
        assert len(world.results) == passes


async def test_an_agent_that_was_said_to_be_gone_and_is_not_is_found_again() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        candidate = world.status["candidateRevision"]
        world.cluster.broken["get agentdeployments"] = NotFound("the CRD is being changed")
        world.queue.add(KEY)
        await world.run(1)
        assert world.results[-1] == "gone"
        world.cluster.broken.clear()
        world.error_rate[candidate] = 1.0
        await world.run(Pace().resync)
        assert world.share(candidate) == 0


async def test_agents_that_wait_for_labels_only_slow_nobody_down() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        assert len(world.store) == 1
        await world.until_phase("Stable")
        assert len(world.store) == 0


async def test_one_query_per_look_carries_the_whole_fleet() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.run(20)
        world.provider.queries.clear()
        await world.run(10)
        assert 5 <= len(world.provider.queries) <= 15
        for query, start, end in world.provider.queries:
            assert 'namespace=~"team"' in query
            assert end - start < 30 + LOOK_AHEAD


async def test_status_writes_that_only_change_numbers_are_rare() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(20)
        world.cluster.writes.clear()
        for _ in range(30):
            world.queue.add(KEY)
            await world.run(1)
        assert world.cluster.writes.count("patch-status agentdeployments") <= 4


async def test_times_in_the_status_are_readable() -> None:
    async with World().operator() as world:
        await world.stable()
        at = datetime.fromisoformat(world.condition("Ready")["lastTransitionTime"])
        assert at.tzinfo is not None
