"""Whatever is stored at the API server: no traceback, no stuck queue, and no status it would refuse."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import AgentRolloutStatus
from phasegate.api.base import StatusModel
from phasegate.api.rolloutaction import RolloutActionStatus
from phasegate.control import kinds
from phasegate.control.ports import Kind, Manifest
from pydantic import ConfigDict, ValidationError

from tests.control.fakes import FakeCluster, FakeRouter
from tests.control.odd import JUNK, TEXT, nearly
from tests.control.world import KEY, World, agent

EXAMPLES = int(os.environ.get("ODD_EXAMPLES", "25"))
"""Of each kind of object; thousands in a long run."""
pytestmark = pytest.mark.timeout(60 + 3 * EXAMPLES)
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
STATUSES: Mapping[str, type[StatusModel]] = {
    "agentdeployments": AgentDeploymentStatus,
    "agentrollouts": AgentRolloutStatus,
    "rolloutactions": RolloutActionStatus,
}
odd = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

EVERYTHING = yaml.safe_load(Path(__file__).with_name("everything.yaml").read_text())
SPEC: dict[str, Any] = EVERYTHING["spec"]
POLICY: dict[str, Any] = EVERYTHING["policy"]


class StrictCluster(FakeCluster):
    """Refuses what the real one would: statuses beyond their schema, labels that are none."""

    wrong: list[str]

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        resource_version: str | None,
    ) -> Manifest:
        try:
            _strict(STATUSES[kind.plural]).model_validate(dict(status))
        except ValidationError as error:
            self.wrong.append(f"{kind.kind}.status: {error}")
        return await super().patch_status(kind, namespace, name, status, resource_version)

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        labels = manifest["metadata"].get("labels") or {}
        for name, value in labels.items():
            if not isinstance(value, str) or not LABEL.fullmatch(value):
                self.wrong.append(f"label {name}: {value!r}")
        return await super().apply(manifest, dry_run=dry_run)


def _strict(model: type[StatusModel]) -> type[StatusModel]:
    """The same without what reading forgives: too long a sentence is cut when it is read."""
    config = ConfigDict(**{**model.model_config, "extra": "forbid"})
    return type(model.__name__, (model,), {"model_config": config})


def object_of(kind: Kind, name: str, **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": KEY.namespace}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **parts}


def new_world() -> tuple[World, StrictCluster]:
    world = World()
    cluster = StrictCluster(world.clock)
    cluster.wrong = []
    world.cluster = world.reads = cluster
    world.router = FakeRouter(cluster.writes)
    return world, cluster


async def survives(act: Callable[[World], Awaitable[None]], *, begin: bool = True) -> None:
    """After `act` there was no bug, and a good spec is carried out."""
    world, cluster = new_world()
    async with world.operator():
        if begin:
            await world.stable()
            world.apply(agent={"systemPrompt": "Be brief.", "sideEffects": "DryRun"})
            await world.run(5)
        await act(world)
        await world.run(3)
        assert "bug" not in world.results
        passes = len(world.results)
        world.apply(agent={"systemPrompt": "Good again.", "sideEffects": "DryRun"})
        await world.run(5)
        assert len(world.results) > passes
        assert "bug" not in world.results
        assert world.status["observedGeneration"] == world.object["metadata"]["generation"]
    assert cluster.wrong == []


@odd
@given(spec=nearly(st.just(SPEC)), begin=st.booleans())
@example(spec={**SPEC, "template": {"0": None}}, begin=True)
async def test_any_spec(spec: Any, begin: bool) -> None:
    async def act(world: World) -> None:
        world.cluster.put({**agent(), "spec": spec})
        world.queue.add(KEY)

    await survives(act, begin=begin)


@odd
@given(
    policy=nearly(
        st.sampled_from([POLICY, *({**POLICY, "metrics": [m]} for m in POLICY["metrics"])])
    )
)
async def test_any_policy(policy: Any) -> None:
    async def act(world: World) -> None:
        world.cluster.put(object_of(kinds.ROLLBACK_POLICY, "strict", spec=policy))
        world.apply(
            agent={"systemPrompt": "Be brief.", "sideEffects": "DryRun"},
            policyRef={"name": "strict"},
        )

    await survives(act)


ACTION = {"agent": KEY.name, "verb": "Pause", "reason": "because", "actor": "alice"}


@odd
@given(
    change=nearly(st.just({"spec": ACTION, "status": {"outcome": "Accepted"}})),
    verb=st.sampled_from(["Pause", "Rollback", "Approve", "Resume", "Retry", "Reject"]),
    reason=TEXT,
    actor=TEXT,
    pending=st.booleans(),
)
async def test_any_action(change: Any, verb: str, reason: str, actor: str, pending: bool) -> None:
    async def act(world: World) -> None:
        about = world.status.get("candidateRevision") or "aaaaaaaaaa"
        spec = {**ACTION, "revision": about, "verb": verb, "reason": reason, "actor": actor}
        world.cluster.put(object_of(kinds.ROLLOUT_ACTION, "act-1", spec=spec))
        odd_one = object_of(kinds.ROLLOUT_ACTION, "act-2", **change)
        world.cluster.put({k: v for k, v in odd_one.items() if not (pending and k == "status")})
        world.queue.add(KEY)

    await survives(act)


@odd
@given(data=st.data())
async def test_any_status_of_ours(data: st.DataObject) -> None:
    async def act(world: World) -> None:
        for kind in (kinds.AGENT_DEPLOYMENT, kinds.AGENT_ROLLOUT):
            for item in world.cluster.all(kind):
                status = data.draw(nearly(st.just(item.get("status") or {})))
                where = item["metadata"]
                world.cluster.set_status(kind, where["namespace"], where["name"], status)
        world.queue.add(KEY)

    await survives(act)


@odd
@given(data=st.data())
async def test_any_stored_revision_and_config_map(data: st.DataObject) -> None:
    async def act(world: World) -> None:
        for item in world.cluster.all(kinds.CONTROLLER_REVISION):
            item["data"] = data.draw(st.one_of(JUNK, nearly(st.just(item["data"]))))
            world.cluster.put(item)
        content = data.draw(st.dictionaries(st.sampled_from(["prompt", "other"]), TEXT))
        world.cluster.put(object_of(kinds.CONFIG_MAP, "prompts", data=content))
        source = {"configMapKeyRef": {"name": "prompts", "key": "prompt"}}
        world.apply(agent={"systemPromptFrom": source, "sideEffects": "DryRun"})

    await survives(act)


@pytest.mark.parametrize(
    "prompt",
    [
        "x",
        "\n",
        "\x00",
        " ",
        "é" * 60_000,
        "x" * 120_000,
        "".join(chr(c) for c in range(0x20, 0x3000)),
        "\U0010ffff￾" * 1000,
        "مرحبا \u202e 안녕 🧭",
        "$(AGENT_NAME) ${x} {{y}} %s",
    ],
    ids=repr,
)
async def test_a_prompt_of_any_size_and_script_arrives_as_it_was_written(prompt: str) -> None:
    world, cluster = new_world()
    async with world.operator():
        world.apply(agent={"systemPrompt": prompt, "sideEffects": "DryRun"})
        await world.run(5)
        assert world.condition("Ready")["status"] == "True"
        (deployment,) = world.cluster.all(kinds.DEPLOYMENT)
        env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        (given_,) = [e["value"] for e in env if e["name"] == "AGENT_SYSTEM_PROMPT"]
        assert given_.replace("$$", "$") == prompt
    assert cluster.wrong == []


@pytest.mark.parametrize("prompt", ["x" * 120_001, "é" * 60_001, "🧭" * 30_001])
async def test_a_prompt_that_is_too_large_is_told_in_bytes(prompt: str) -> None:
    world, cluster = new_world()
    async with world.operator():
        world.apply(agent={"systemPrompt": prompt, "sideEffects": "DryRun"})
        await world.run(5)
        assert world.condition("Stalled")["status"] == "True"
        assert "systemPrompt" in world.status["message"]
        assert copy.deepcopy(prompt)[:50] not in world.status["message"]
    assert cluster.wrong == []
