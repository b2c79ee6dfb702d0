"""Whole stories of an agent, told so that they go on whatever happens to the operator meanwhile.

Each has a beginning, in which nothing is tried, and what is told of it then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.control.simulation import Simulation
from tests.control.world import KEY

PHASES: tuple[dict[str, Any], ...] = (
    {"name": "dark", "type": "Dark", "mirrorPercent": 100, "minDuration": "6s"},
    {"name": "shadow", "type": "Shadow", "mirrorPercent": 100, "minDuration": "6s"},
    {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "6s"},
    {"name": "full", "type": "Full", "minDuration": "6s"},
)
SHORT = PHASES[2:]
ACCURACY = {"name": "accuracy", "gate": {"above": "80%"}, "rollback": {"below": "70%"}}
ERRORS = {"name": "error-rate", "gate": {"below": "20%"}, "rollback": {"above": "40%"}}
FREEZE = {"name": "sale", "timeZone": "UTC", "reason": "everybody is here"}
QUIET = 45
"""Seconds after which nothing of a story is still on its way: longer than a revision lingers."""

Act = Callable[[Simulation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Tale:
    """A story: what was before, and what is told."""

    before: Act
    told: Act

    async def begin(self, sim: Simulation) -> None:
        """Come to where the story begins."""
        await self.before(sim)
        sim.cluster.calls.clear()

    async def go_on(self, sim: Simulation) -> None:
        """Tell it to its end, and until nothing moves any more."""
        await self.told(sim)
        await sim.run(QUIET)


def prompt(text: str) -> dict[str, Any]:
    return {"systemPrompt": text, "sideEffects": "DryRun"}


def write(sim: Simulation, text: str = "one", *phases: dict[str, Any], **spec: Any) -> None:
    """The user's manifest, as it is to be now."""
    usual = {"strategy": {"phases": list(phases or PHASES)}, "policyRef": {"name": "plain"}}
    sim.apply(**{"agent": prompt(text), **usual, **spec})


async def nothing(sim: Simulation) -> None:
    """Policies, and no agent."""
    for name, metrics in (("plain", [ERRORS]), ("late", [ERRORS, ACCURACY])):
        sim.cluster.put(
            {
                "apiVersion": "phasegate.dev/v1alpha1",
                "kind": "RollbackPolicy",
                "metadata": {"name": name, "namespace": KEY.namespace},
                "spec": {"metrics": metrics},
            }
        )


async def serving(sim: Simulation) -> None:
    """A first revision that serves."""
    await nothing(sim)
    write(sim)
    await sim.until_phase("Stable")
    await sim.run(QUIET)


async def candidate(sim: Simulation, *phases: dict[str, Any], **spec: Any) -> str:
    """A second revision begins; its hash."""
    write(sim, "two", *phases, **spec)
    await sim.until("candidate", lambda: bool(sim.status.get("progress")))
    return str(sim.status["candidateRevision"])


async def running(sim: Simulation, phase: str) -> None:
    """The phase has its traffic."""

    def met() -> bool:
        progress = sim.status.get("progress") or {}
        return bool(progress.get("startedAt") and progress["phase"]["type"] == phase)

    await sim.until(f"in {phase}", met)


async def promoted(sim: Simulation, revision: str) -> None:
    await sim.until("promoted", lambda: sim.status.get("stableRevision") == revision)


async def taken_back(sim: Simulation) -> None:
    await sim.until("safe", lambda: bool((sim.status.get("rollback") or {}).get("safeAt")))


async def frozen_twice(sim: Simulation) -> None:
    """A freeze before the start, and one before a step; each is taken away again."""
    write(sim, "two", *SHORT, freezes=[FREEZE])
    await sim.until("frozen", lambda: _says(sim, "is to begin"))
    revision = await candidate(sim, *SHORT)
    await running(sim, "Canary")
    write(sim, "two", *SHORT, freezes=[FREEZE])
    await sim.until("frozen again", lambda: _says(sim, "canary-20 passed"))
    write(sim, "two", *SHORT)
    await promoted(sim, revision)


def _says(sim: Simulation, words: str) -> bool:
    return f"{words}: frozen by" in (sim.status.get("message") or "")


async def first_creation(sim: Simulation) -> None:
    write(sim)
    await sim.until("there", lambda: sim.agent_exists)
    await sim.until_phase("Stable")


async def roll_out(sim: Simulation) -> None:
    await promoted(sim, await candidate(sim))


def rollback_in(phase: str) -> Act:
    """It fails when it has the traffic of this phase."""

    async def story(sim: Simulation) -> None:
        bad = await candidate(sim)
        await running(sim, phase)
        sim.error_rate[bad] = 1.0
        await taken_back(sim)

    return story


async def edit_in_canary(sim: Simulation) -> None:
    await candidate(sim, *SHORT)
    await running(sim, "Canary")
    write(sim, "three", *SHORT)
    await sim.until("another", lambda: sim.status.get("rollouts") == 2)
    await promoted(sim, str(sim.status["candidateRevision"]))


async def change_of_mind(sim: Simulation) -> None:
    """The spec goes back to the stable revision in the middle of a canary."""
    await candidate(sim, *SHORT)
    await running(sim, "Canary")
    write(sim, "one", *SHORT)
    await sim.until("cancelled", lambda: "progress" not in sim.status)


async def deletion(sim: Simulation) -> None:
    await candidate(sim, *SHORT)
    await running(sim, "Canary")
    sim.delete_agent()
    await sim.until("gone", lambda: not sim.agent_exists)


async def late_rollback(sim: Simulation) -> None:
    """Labels that come after the promotion show that it is bad."""
    stable = sim.status["stableRevision"]
    label(sim, stable, 0.95)
    bad = await candidate(sim, *SHORT, policyRef={"name": "late"}, standby={"keepWarm": "1h"})
    label(sim, bad, 0.95)
    await promoted(sim, bad)
    label(sim, bad, 0.0)
    await sim.until("back", lambda: sim.status.get("stableRevision") == stable)
    await taken_back(sim)


async def retry(sim: Simulation) -> None:
    """Rolled back, mended elsewhere, tried again by a person."""
    again = await candidate(sim, *SHORT)
    await running(sim, "Canary")
    sim.error_rate[again] = 1.0
    await taken_back(sim)
    sim.error_rate[again] = 0.0
    await sim.run(QUIET)
    sim.act("again", "Retry", again)
    await sim.until("begun", lambda: sim.status.get("rollouts") == 2)
    await promoted(sim, again)


async def people(sim: Simulation) -> None:
    """Paused, resumed, approved, and taken back by hand."""
    two = {"count": 2, "groups": [{"group": "legal"}], "author": "MayNot"}
    asked = {**PHASES[3], "approval": "Required", "approvals": two}
    mine = await candidate(sim, PHASES[2], asked, author="carol")
    await running(sim, "Canary")
    sim.act("pause", "Pause", mine)
    await sim.until("held", lambda: "hold" in (sim.status.get("progress") or {}))
    sim.act("resume", "Resume", mine)
    await sim.until("resumed", lambda: "hold" not in (sim.status.get("progress") or {}))
    sim.act("self", "Approve", mine, actor="carol")
    sim.act("approve", "Approve", mine, actor="alice")
    sim.act("again", "Approve", mine, actor="alice")
    await sim.until("half", lambda: "1 of 2" in sim.status.get("message", ""))
    sim.act("promote", "Promote", mine, actor="bob", actorGroups=["legal"])
    await running(sim, "Full")
    sim.act("back", "Rollback", mine)
    await taken_back(sim)


async def switched_off(sim: Simulation) -> None:
    """In the middle of a canary nobody is to meet the agent any more; then it is mended."""
    mine = await candidate(sim, *SHORT)
    await running(sim, "Canary")
    sim.act("off", "KillSwitch", mine)
    await sim.until("off", lambda: sim.status.get("phase") == "Deactivated")
    await sim.run(10)
    write(sim, "three", *SHORT)
    await sim.run(10)
    sim.act("on", "Resume", str(sim.status["stableRevision"]))
    await sim.until("on", lambda: "deactivated" not in sim.status)
    await promoted(sim, await candidate(sim, *SHORT, agent=prompt("three")))


async def second_thoughts(sim: Simulation) -> None:
    """A person takes back what has just become stable."""
    stable = sim.status["stableRevision"]
    mine = await candidate(sim, *SHORT, standby={"keepWarm": "1h"})
    await promoted(sim, mine)
    await sim.run(5)
    sim.act("back", "Rollback", mine)
    await sim.until("back", lambda: sim.status.get("stableRevision") == stable)
    await taken_back(sim)


def label(sim: Simulation, revision: str, passed: float) -> None:
    """Twenty reviews a second, of which a share of `passed` is good."""
    sim.counting[revision, "agent_eval_total"] = 20.0
    sim.counting[revision, "agent_eval_passed_total"] = 20.0 * passed


TALES: Mapping[str, Tale] = MappingProxyType(
    {
        "first creation": Tale(nothing, first_creation),
        "roll-out": Tale(serving, roll_out),
        **{
            f"rollback in {phase}": Tale(serving, rollback_in(phase))
            for phase in ("Dark", "Shadow", "Canary", "Full")
        },
        "edit in a canary": Tale(serving, edit_in_canary),
        "change of mind": Tale(serving, change_of_mind),
        "deletion in a canary": Tale(serving, deletion),
        "late rollback": Tale(serving, late_rollback),
        "retry": Tale(serving, retry),
        "frozen twice": Tale(serving, frozen_twice),
        "people": Tale(serving, people),
        "switched off": Tale(serving, switched_off),
        "second thoughts": Tale(serving, second_thoughts),
    }
)
