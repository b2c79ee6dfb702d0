"""Phases: the presets, their order, and which one comes next."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from phasegate.api.agentdeployment import (
    AgentDeploymentSpec,
    Budget,
    Phase,
    Preset,
    Progress,
    Strategy,
)
from phasegate.rollout.route import Mode

_RANK: Mapping[str, int] = MappingProxyType({"Dark": 0, "Shadow": 1, "Canary": 2, "Full": 3})

_WATCH = Phase(name="full", type="Full", min_duration="48h")


def _canary(weight: int, duration: str) -> Phase:
    return Phase(name=f"canary-{weight}", type="Canary", weight=weight, min_duration=duration)


def _first_users(weight: int, duration: str) -> Phase:
    """Production goes live by a person's word; own phases say it themselves."""
    return _canary(weight, duration).model_copy(update={"approval": "Required"})


PRESETS: Mapping[Preset, tuple[Phase, ...]] = MappingProxyType(
    {
        "Phased": (
            Phase(name="dark", type="Dark", mirror_percent=100, min_duration="24h"),
            Phase(name="shadow", type="Shadow", mirror_percent=100, min_duration="48h"),
            _first_users(1, "48h"),
            *(_canary(weight, "48h") for weight in (5, 20, 50)),
            _WATCH,
        ),
        "BlueGreen": (
            _first_users(10, "1h"),
            _canary(50, "2h"),
            Phase(name="full", type="Full", min_duration="24h"),
        ),
        "Canary": (
            _first_users(5, "1h"),
            _canary(25, "2h"),
            Phase(name="full", type="Full", min_duration="24h"),
        ),
        "ManualApproval": (
            Phase(name="full", type="Full", min_duration="48h", approval="Required"),
        ),
    }
)


def phases_of(strategy: Strategy) -> tuple[Phase, ...]:
    """The phases of a strategy in order: its own, or those of its preset."""
    if strategy.phases:
        return strategy.phases
    return PRESETS[strategy.preset or "Phased"]


def budget_of(phase: Phase, strategy: Strategy | None) -> Budget | None:
    """The budget of the running phase as the strategy has it now: the one edit that does not wait."""
    now = phases_of(strategy) if strategy is not None else ()
    same = (p for p in now if (p.name, p.type) == (phase.name, phase.type))
    return next((p.budget for p in same), phase.budget)


def position(phase: Phase) -> tuple[int, int]:
    """Where a phase stands: Dark < Shadow < Canary by weight < Full. Comparable across edits of a strategy."""
    return _RANK[phase.type], phase.weight or 0


def next_phase(strategy: Strategy, current: Phase) -> Phase | None:
    """The first phase of the strategy, as it is now, that lies beyond `current`; None at the end."""
    return next((p for p in phases_of(strategy) if position(p) > position(current)), None)


def approved(progress: Progress, phase: Phase) -> bool:
    """True when a person agreed to this very phase: to its share of the users, not to its name."""
    given = progress.approved_phase, progress.approved_type, progress.approved_weight
    return given == (phase.name, phase.type, weight_of(phase))


def weight_of(phase: Phase) -> int:
    """Share of user requests in percent that this phase gives to the candidate."""
    return {"Canary": phase.weight or 0, "Full": 100}.get(phase.type, 0)


def mirrors(phase: Phase) -> bool:
    """True when the phase copies requests to the candidate."""
    return phase.type in ("Dark", "Shadow")


def mode_of(phase: Phase, spec: AgentDeploymentSpec) -> Mode:
    """The mode in which the candidate's pods run in this phase.

    Pods never change mode. An agent without side effects rehearses in its live pods; one that
    honours ``AGENT_MODE`` gets pods of their own for each kind of rehearsal.
    """
    if not mirrors(phase) or spec.agent.side_effects != "DryRun":
        return "live"
    return "dark" if phase.type == "Dark" else "shadow"
