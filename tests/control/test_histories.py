"""Whatever users, faults, deaths and clocks do, in any order: what design §2 promises holds at every step.

The whole control loop runs on the simulated cluster; a step is something that happens, and a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from phasegate.adapters.kinds import HTTP_ROUTE
from phasegate.api.errors import ClusterError, Conflict
from phasegate.control import kinds
from phasegate.control.ports import Kind
from phasegate.engine.verdict import Verdict

from tests.control.simulated_cluster import LOST, Call, Fate, no_fate
from tests.control.simulation import Simulation
from tests.control.stories import PHASES, SHORT, nothing, prompt
from tests.control.test_loop import policy
from tests.control.world import KEY

STRATEGIES = (PHASES, SHORT, (SHORT[0], {**SHORT[1], "approval": "Required"}))
ERRORS: tuple[ClusterError, ...] = (
    ClusterError("500: etcd is away"),
    Conflict("the object has been modified"),
    ClusterError(LOST),
)
CALLS = (
    ("", ""),
    ("apply", "httproutes"),
    ("patch-status", "agentdeployments"),
    ("get", "agentdeployments"),
    ("list", ""),
    ("create", ""),
)
CHILDREN = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONTROLLER_REVISION, HTTP_ROUTE)
POLICY = kinds.ROLLBACK_POLICY
HEALED = 7.0
"""Seconds in which a rollback must happen once nothing fails any more: the longest back-off and a pass."""
AT_REST = 150
"""Seconds after the last thing that happened in which a rollout must have ended."""

Step = tuple[str, Any]
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 25)),
    st.tuples(st.just("wait"), st.sampled_from((8, 30))),
    st.tuples(st.just("prompt"), st.sampled_from(("one", "two", "three", "four"))),
    st.tuples(st.just("strategy"), st.sampled_from(range(len(STRATEGIES)))),
    st.tuples(st.just("replicas"), st.integers(1, 4)),
    st.tuples(
        st.just("act"),
        st.sampled_from(
            (
                *("Approve", "Promote", "Reject", "Pause", "Resume", "Rollback", "Retry"),
                *("Acknowledge", "KillSwitch"),
            )
        ),
    ),
    st.tuples(st.just("errors"), st.sampled_from(("candidate", "stable", "none", "candidate"))),
    st.tuples(st.just("pods"), st.sampled_from(("candidate", "stable", "all are ready"))),
    st.tuples(st.just("metrics"), st.sampled_from(("away", "empty", "back"))),
    st.tuples(st.just("gateway"), st.booleans()),
    st.tuples(
        st.just("fault"),
        st.tuples(st.sampled_from(CALLS), st.sampled_from(ERRORS), st.integers(1, 8)),
    ),
    st.tuples(
        st.just("die"),
        st.tuples(st.integers(0, 12), st.sampled_from(("dies before", "dies after"))),
    ),
    st.tuples(st.just("stop"), st.integers(1, 60)),
    st.tuples(st.just("clock"), st.sampled_from((-3600, 3600, 0))),
    st.tuples(st.just("remove"), st.sampled_from(CHILDREN)),
    st.tuples(st.just("note"), st.sampled_from(CHILDREN)),
    st.tuples(st.just("weight"), st.integers(0, 100)),
    st.tuples(st.just("watches"), st.sampled_from(("silent", "tell"))),
    st.tuples(st.just("policy"), st.sampled_from(("strict", "nonsense", "gone"))),
)
HISTORIES = st.lists(STEPS, min_size=4, max_size=25)


@dataclass
class Chronicle:
    """A simulation, what its user wants, and what was seen of it before."""

    sim: Simulation
    spec: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, list[Any]] = field(default_factory=dict)
    """Transitions by record, as last seen."""
    foreign: dict[str, Any] = field(default_factory=dict)
    noted: set[tuple[Kind, str]] = field(default_factory=set)
    """Objects that carry somebody else's annotation."""
    faults: list[tuple[tuple[str, str], ClusterError, int]] = field(default_factory=list)
    death: tuple[int, Fate] | None = None
    acts: int = 0

    async def begin(self) -> None:
        """A stable revision, and objects that are none of the operator's business."""
        await nothing(self.sim)
        self.back_to_normal()
        await self.sim.until_phase("Stable")
        for kind in ("Service", "ConfigMap"):
            metadata = {"name": f"{KEY.name}-legacy", "namespace": KEY.namespace}
            manifest = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": {"a": "b"}}
            self.foreign[kind] = self.sim.cluster.put(manifest)
        self.sim.cluster.fate = self.fate

    def back_to_normal(self) -> None:
        """The user's manifest as it always worked."""
        strategy = {"phases": list(SHORT)}
        self.write(agent=prompt("one"), strategy=strategy, policyRef={"name": "plain"})

    def write(self, **spec: Any) -> None:
        """The user's manifest, with these changes."""
        self.spec |= spec
        self.sim.apply(**self.spec)

    async def step(self, step: Step) -> None:
        """Something happens, and a moment passes."""
        kind, value = step
        act = getattr(self, f"on_{kind}")
        act(value)
        await self.sim.run(value if kind == "wait" else 1)
        self.check()
        if self.healthy and self.failing():
            await self.sim.run(HEALED)
            self.check()
            assert not self.failing(), "still failing, and nothing stands before the rollback"

    # --- what happens ----------------------------------------------------------------------------

    def on_wait(self, seconds: int) -> None:
        """Nothing but time."""

    def on_prompt(self, text: str) -> None:
        self.write(agent=prompt(text))

    def on_strategy(self, which: int) -> None:
        self.write(strategy={"phases": list(STRATEGIES[which])})

    def on_replicas(self, count: int) -> None:
        self.write(replicas=count)

    def on_act(self, verb: str) -> None:
        self.acts += 1
        about = self.candidate or next(iter(self.sim.status.get("rejectedRevisions", ())), "0" * 10)
        if verb == "KillSwitch" or "deactivated" in self.sim.status:
            about = self.sim.status["stableRevision"]
        self.sim.act(f"act-{self.acts}", verb, about)

    def on_errors(self, who: str) -> None:
        revision = self.revision(who)
        if revision is None:
            self.sim.error_rate.clear()
        else:
            self.sim.error_rate[revision] = 1.0

    def on_pods(self, who: str) -> None:
        revision = self.revision(who)
        self.sim.unready = set() if revision is None else {revision}

    def on_metrics(self, state: str) -> None:
        self.sim.provider.broken = state == "away"
        if state == "empty":
            self.sim.provider.lose_everything()

    def on_gateway(self, reports: bool) -> None:
        self.sim.gateway_reports = reports

    def on_fault(self, fault: tuple[tuple[str, str], ClusterError, int]) -> None:
        self.faults.append(fault)

    def on_die(self, death: tuple[int, Fate]) -> None:
        self.death = death

    def on_watches(self, how: str) -> None:
        if self.sim.remembered is not None:
            self.sim.remembered.told = how == "tell"

    def on_stop(self, seconds: int) -> None:
        """The process is stopped, as by SIGSTOP; the world goes on."""
        self.sim.freeze(seconds)

    def on_clock(self, seconds: int) -> None:
        self.sim.set_clock(seconds)

    def on_remove(self, kind: Kind) -> None:
        """Somebody deletes a child by hand."""
        for item in self.children(kind)[:1]:
            name = item["metadata"]["name"]
            self.noted.discard((kind, name))
            self.sim.cluster.remove(kind, KEY.namespace, name)
            self.sim.queue.add(KEY)

    def on_note(self, kind: Kind) -> None:
        """Somebody else annotates a child."""
        for item in self.children(kind)[:1]:
            item["metadata"].setdefault("annotations", {})["example.com/note"] = "mine"
            self.noted.add((kind, item["metadata"]["name"]))
            self.sim.cluster.put(item)

    def on_weight(self, percent: int) -> None:
        """Somebody edits our route."""
        for route in self.children(HTTP_ROUTE):
            slots = route["spec"]["rules"][0]["backendRefs"]
            slots[0]["weight"], slots[1]["weight"] = 100 - percent, percent
            self.sim.cluster.put(route)
            self.sim.queue.add(KEY)

    def on_policy(self, what: str) -> None:
        """The policy that the agent names is there, is wrong, or is not there."""
        strict = {"name": "error-rate", "gate": {"below": "20%"}, "rollback": {"above": "40%"}}
        if what != "gone":
            self.sim.cluster.put(policy(strict if what == "strict" else {"name": "nonsense"}))
        elif any(p["metadata"]["name"] == "strict" for p in self.sim.cluster.all(POLICY)):
            self.sim.cluster.remove(POLICY, KEY.namespace, "strict")
        self.write(policyRef={"name": "strict"})

    def fate(self, call: Call) -> Fate:
        """What was decided about this call, if anything."""
        for n, ((verb, plural), error, times) in enumerate(self.faults):
            if verb in ("", call.verb) and plural in ("", call.plural):
                self.faults[n : n + 1] = [((verb, plural), error, times - 1)] if times > 1 else []
                return None if LOST in str(error) and not call.writes else error
        if self.death is None or not call.writes:
            return None
        left, side = self.death
        self.death = (left - 1, side) if left else None
        return None if left else side

    async def heal(self) -> None:
        """Nothing fails any more, and the user goes back to what always worked."""
        self.faults, self.death, self.sim.cluster.fate = [], None, no_fate
        for happens in ("none", "errors"), ("all are ready", "pods"), ("back", "metrics"):
            getattr(self, f"on_{happens[1]}")(happens[0])
        self.on_gateway(True)
        self.on_watches("tell")
        self.on_clock(0)
        self.back_to_normal()
        await self.sim.run(HEALED)
        if "deactivated" in self.sim.status:
            self.on_act("Resume")
        await self.sim.run(AT_REST)

    # --- what must hold --------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold at any moment."""
        sim = self.sim
        assert sim.wrong == []
        assert "bug" not in sim.results
        self.check_records()
        off = sim.status.get("deactivated")
        if off is not None and "resumed" not in off and sim.plan is not None:
            assert sim.plan.off is not None, "users are with an agent that was switched off"
        assert {k: v for k in self.foreign for v in self.live(k)} == self.foreign
        stored = sim.object["spec"]
        assert all(stored[name] == value for name, value in self.spec.items())
        for kind, name in list(self.noted):
            found = [i for i in sim.cluster.all(kind) if i["metadata"]["name"] == name]
            if not found:
                self.noted.discard((kind, name))
            for item in found:
                assert item["metadata"]["annotations"]["example.com/note"] == "mine"

    def check_records(self) -> None:
        """They only grow, in order, and go forward on nothing but a Pass; one attempt at a time.

        Whatever died between which writes, each chain is whole, and nothing is in it twice.
        """
        assert self.sim.altered() == []
        for record in self.sim.cluster.all(kinds.AGENT_ROLLOUT):
            name = record["metadata"]["name"]
            gates = (record.get("status") or {}).get("gates", [])
            before = self.gates.get(name, [])
            assert gates[: len(before)] == before, f"{name} lost what it said"
            self.gates[name] = gates
            told = [(g["decision"], g["fromPhase"]) for g in gates]
            assert len(set(told)) == len(told), f"{name} did something twice: {told}"
            for earlier, later in pairwise(gates):
                assert earlier["toPhase"] == later["fromPhase"] or later["toPhase"] == "stable"
            for gate in gates:
                if gate["decision"] in ("Advanced", "Stable"):
                    assert all(check["verdict"] == "Pass" for check in gate["checks"])

    def check_at_rest(self) -> None:
        """How it must stand when nothing has happened for long."""
        sim = self.sim
        status = sim.status
        assert status["phase"] in ("Stable", "RolledBack"), status["message"]
        assert sim.plan is not None
        assert sim.plan.percent(status["stableRevision"]) == 100
        assert sim.plan.mirror is None
        assert not sim.object["metadata"].get("finalizers")
        running = [
            record["metadata"]["name"]
            for record in sim.cluster.all(kinds.AGENT_ROLLOUT)
            if record["status"]["phase"] == "Progressing"
        ]
        assert running == []

    # --- what is known ---------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Nothing but the agent itself fails."""
        right = self.sim.own.wrong_by.total_seconds() == 0
        told = self.sim.remembered is None or self.sim.remembered.told
        alive = self.death is None and not self.sim.cluster.dead
        return not self.faults and alive and told and right

    @property
    def candidate(self) -> str | None:
        found = self.sim.status.get("candidateRevision")
        return None if found is None else str(found)

    def failing(self) -> bool:
        """The candidate is known to be bad, and users or copies are still sent to it."""
        judgement, plan = self.sim.store.judgement(KEY), self.sim.plan
        if judgement is None or judgement.verdict is not Verdict.FAIL or plan is None:
            return False
        running = self.candidate is not None and "progress" in self.sim.status
        return running and (plan.percent(str(self.candidate)) > 0 or plan.mirror is not None)

    def revision(self, who: str) -> str | None:
        """The candidate, the stable revision, or nobody."""
        return self.sim.status.get(f"{who}Revision")

    def children(self, kind: Kind) -> list[dict[str, Any]]:
        uid = self.sim.object["metadata"]["uid"]
        return [
            item
            for item in self.sim.cluster.all(kind)
            if any(o["uid"] == uid for o in item["metadata"].get("ownerReferences") or ())
        ]

    def live(self, kind: str) -> list[dict[str, Any]]:
        """Somebody else's object of this kind."""
        found = self.sim.cluster.all(kinds.SERVICE if kind == "Service" else kinds.CONFIG_MAP)
        return [item for item in found if item["metadata"]["name"] == f"{KEY.name}-legacy"]


async def tell(history: list[Step], *, remembers: bool) -> None:
    """One history, its end, and nothing after it; `remembers`: most of what is read is not live."""
    sim = Simulation()
    if remembers:
        sim.remember()
    async with sim.running():
        chronicle = Chronicle(sim)
        await chronicle.begin()
        for step in history:
            await chronicle.step(step)
        await chronicle.heal()
        chronicle.check()
        chronicle.check_at_rest()
        sim.cluster.calls.clear()
        await sim.run(60)
        assert sim.cluster.calls == []


QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a history says what went wrong as it is
)


@QUICK
@given(HISTORIES, st.booleans())
@pytest.mark.timeout(600)
async def test_in_any_history_the_promises_hold_and_it_comes_to_rest(
    history: list[Step], remembers: bool
) -> None:
    await tell(history, remembers=remembers)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(QUICK, max_examples=3000)
@given(HISTORIES, st.booleans())
async def test_in_thousands_of_histories_as_well(history: list[Step], remembers: bool) -> None:
    await tell(history, remembers=remembers)
