"""``AgentDeployment``: which agent should run, and how a new revision of it gets its traffic."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from phasegate.api.base import (
    NUMBER,
    Cel,
    Condition,
    Digest,
    Duration,
    Hash,
    LongDuration,
    Message,
    Name,
    Notation,
    ObjectName,
    Person,
    ShortText,
    SpecModel,
    StatusModel,
    lenient,
    list_map,
    list_set,
)
from phasegate.api.calendar import Freezes, Windows
from phasegate.api.cel import ordered_durations
from phasegate.api.deactivation import Deactivated, Fallback
from phasegate.api.people import Approval, Approvals, Override
from phasegate.api.podtemplate import PodTemplate
from phasegate.api.records import GateRecord, Notice, RecordHead, RollbackRecord, Told
from phasegate.api.traffic import Service, Traffic
from phasegate.api.verdicts import CheckSummary

PhaseType = Literal["Dark", "Shadow", "Canary", "Full"]
Preset = Literal["Phased", "BlueGreen", "Canary", "ManualApproval"]

_REHEARSES = (
    "(!has(self.strategy)"
    " || has(self.strategy.preset) && self.strategy.preset == 'Phased'"
    " || has(self.strategy.phases)"
    " && self.strategy.phases.exists(p, p.type == 'Dark' || p.type == 'Shadow'))"
)


class Owner(SpecModel):
    """Who may take the agent back at any moment, past every gate."""

    rollback_owner: Person
    """User name, as the API server knows it."""
    backup: Person | None = None
    """Who stands in."""


class ConfigMapKey(SpecModel):
    """One key of a ConfigMap in the agent's namespace."""

    name: ObjectName
    key: Annotated[
        str,
        StringConstraints(max_length=253),
        Notation(r"[-._a-zA-Z0-9]+", "must be a key of the ConfigMap"),
    ]


class PromptSource(SpecModel):
    """Where the system prompt is kept when it is not written inline."""

    config_map_key_ref: ConfigMapKey


class Model(SpecModel):
    """The pinned model. Parameters are strings: an API has no floats."""

    provider: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """Name with its version: an alias such as "latest" would change under a running revision."""
    parameters: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=1024)],
        ],
        Field(max_length=64),
    ] = Field(default_factory=dict)
    """Parameters of the model; numbers in quotes."""


class Tool(SpecModel):
    """A tool the agent may call, pinned by the digest of its contract."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    digest: Digest | None = None


class Agent(SpecModel):
    """What makes the agent behave as it does; with the template, this is the revision."""

    version: Annotated[str, StringConstraints(max_length=64)] | None = None
    """A label for people; the revision is told by its digest."""
    system_prompt: Annotated[str, StringConstraints(max_length=120_000)] | None = None
    """The prompt itself."""
    system_prompt_from: PromptSource | None = None
    """The prompt in a ConfigMap; its content is part of the revision."""
    model: Model | None = None
    tools: Annotated[tuple[Tool, ...], Field(max_length=128), list_map("name")] = ()
    """The tools the agent may call."""
    side_effects: Literal["DryRun", "None"] | None = None
    """DryRun: the agent honours AGENT_MODE=dark|shadow and runs its tools dry.
    None: it has no side effects. Needed wherever copies of real requests reach it."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!(has(self.systemPrompt) && has(self.systemPromptFrom))",
            "set at most one of systemPrompt and systemPromptFrom",
        ),
    )


class Budget(SpecModel):
    """What a phase may use up before a person is asked."""

    calls: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Calls the candidate answers, copies included."""
    cost: Annotated[str, StringConstraints(max_length=19), NUMBER] | None = None
    """US dollars its calls cost, in quotes; needs a source or a price table that knows money."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel("has(self.calls) || has(self.cost)", "set calls, cost or both"),
        Cel(
            f"!has(self.cost) || !({NUMBER.matches('self.cost')}) || double(self.cost) > 0.0",
            "must be more than '0': a phase without any money cannot begin",
            ".cost",
        ),
    )


class Phase(SpecModel):
    """One step of a rollout."""

    name: Name
    type: PhaseType
    """Dark and Shadow get copies of requests, Canary a share of the users, Full all of them."""
    weight: Annotated[int, Field(ge=1, le=99)] | None = None
    """Canary: the share of the users' requests, in percent."""
    mirror_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Dark and Shadow: the share of the requests that is copied, in percent; 100 if left out."""
    min_duration: Duration = "0s"
    """The phase takes at least this long."""
    max_duration: Duration | None = None
    """If the gate has not been passed by then, a human is asked."""
    min_samples: Annotated[int, Field(ge=0, le=10_000_000)] = 50
    """Answered calls without which the phase is not over."""
    approval: Literal["Required", "NotRequired"] = "NotRequired"
    """Required: a human must approve before this phase begins."""
    approvals: Approvals | None = None
    """Who must; the agent's own approvals if left out."""
    budget: Budget | None = None
    """Reached, a mirror stops and the phase holds until a person extends it (verb Resume, or a
    larger budget here); it never ends a phase. A Canary's users stay where they are."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.type != 'Canary' || has(self.weight)",
            "a Canary phase needs its weight: the share of the users' requests, 1 to 99 percent",
            ".weight",
        ),
        Cel(
            "self.type == 'Canary' || !has(self.weight)",
            "only a Canary phase has a weight: remove it (Full is 100, Dark and Shadow are 0)",
            ".weight",
        ),
        Cel(
            "self.type == 'Dark' || self.type == 'Shadow' || !has(self.mirrorPercent)",
            "only Dark and Shadow phases copy requests: remove mirrorPercent",
            ".mirrorPercent",
        ),
        Cel(
            "self.type != 'Full' || !has(self.budget)",
            "a Full phase answers everybody, there is nothing to stop: remove budget, or watch "
            "spend-per-day in the policy",
            ".budget",
        ),
        Cel(
            "!has(self.approvals) || has(self.approval) && self.approval == 'Required'",
            "must be Required where the phase says who approves it: add it, or remove approvals",
            ".approval",
        ),
        Cel(
            ordered_durations("self.minDuration", "self.maxDuration"),
            "must not be shorter than minDuration",
            ".maxDuration",
        ),
    )


class Strategy(SpecModel):
    """The phases of a rollout: a preset, or your own."""

    preset: Preset | None = None
    """Phased (dark, shadow, canary, full), Canary, BlueGreen or ManualApproval."""
    phases: Annotated[tuple[Phase, ...], Field(max_length=24), list_map("name")] = ()
    """Phases in the order Dark, Shadow, Canary by weight, Full."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.preset) != (has(self.phases) && self.phases.size() > 0)",
            "set exactly one of preset and phases",
        ),
        *(
            Cel(f"!has(self.phases) || self.phases.size() == 0 || ({rule})", message, ".phases")
            for rule, message in (
                (
                    "self.phases.map(p, {'Dark': 0, 'Shadow': 1, 'Canary': 2, 'Full': 3}[p.type])"
                    ".isSorted()",
                    "phases are out of order: Dark comes before Shadow, Canary and Full",
                ),
                (
                    "self.phases.filter(p, p.type == 'Dark').size() <= 1"
                    " && self.phases.filter(p, p.type == 'Shadow').size() <= 1",
                    "at most one Dark and one Shadow phase: give one of them a longer minDuration",
                ),
                (
                    "self.phases.exists_one(p, p.type == 'Full')"
                    " && self.phases[self.phases.size() - 1].type == 'Full'",
                    "the last phase, and no other, must be of type Full",
                ),
                (
                    "self.phases.filter(p, has(p.weight)).map(p, p.weight).isSorted()"
                    " && self.phases.filter(p, has(p.weight))"
                    ".all(p, self.phases.exists_one(q, has(q.weight) && q.weight == p.weight))",
                    "the weights of the Canary phases must ascend: "
                    "each takes more of the users than the one before it",
                ),
            )
        ),
    )


class PolicyRef(SpecModel):
    """A RollbackPolicy in the agent's namespace."""

    name: ObjectName


class Standby(SpecModel):
    """How long the previous revision is kept: running, and restorable."""

    keep_warm: LongDuration = "24h"
    """Its pods stay so long after Stable, so that taking traffic back is one write."""
    archive: LongDuration = "30d"
    """It can be brought back without a new rollout's inputs."""


class AgentDeploymentSpec(SpecModel):
    """Desired agent: revision inputs, workload, traffic, strategy, policy, people."""

    exposure: Literal["CustomerFacing", "Internal"] = "CustomerFacing"
    """Whom a bad revision would hurt; an agent without a policy is judged accordingly."""
    owner: Owner | None = None
    author: Person | None = None
    """Who wrote this revision: the user name of whoever applies it, or of the person a bot does it for."""
    approvals: Approvals | None = None
    """Who agrees to phases that need an approval and do not say themselves; one person if left out."""
    agent: Agent = Field(default_factory=Agent)
    template: PodTemplate
    """The agent's pods, as in a Deployment."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Pods of the revision that serves the users."""
    service: Service
    traffic: Traffic
    strategy: Strategy = Field(default_factory=lambda: Strategy(preset="Phased"))
    """How a new revision is brought in; preset Phased if left out."""
    policy_ref: PolicyRef | None = None
    windows: Windows = ()
    """A rollout starts and advances only inside one of them; at any time if there is none."""
    freezes: Freezes = ()
    """A rollout neither starts nor advances in them. Nothing here ever stops a rollback."""
    standby: Standby = Field(default_factory=Standby)
    fallback: Fallback | None = None
    """Who answers after a KillSwitch; if left out every request is refused then."""
    notify: Annotated[tuple[Name, ...], Field(max_length=8), list_set()] = ()
    """Notifiers that announcements go to, by their names in the operator's configuration; the
    administrator's default ones if left out."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"!{_REHEARSES} || (has(self.agent) && has(self.agent.sideEffects))",
            "the strategy has Dark or Shadow phases, in which the agent gets copies of real "
            "requests: set sideEffects to DryRun if the agent runs its tools dry when AGENT_MODE "
            "is dark or shadow, to None if it has no side effects, "
            "or choose strategy.preset Canary or BlueGreen",
            ".agent.sideEffects",
        ),
    )


class TrafficShare(StatusModel):
    """What one revision gets, asked for and measured since the split was programmed."""

    revision: Hash
    percent: int
    mirror_percent: int = 0
    programmed: bool = False
    measured: ShortText | None = None
    """Share of the answered calls."""


class Hold(StatusModel):
    """A person's pause."""

    by: Person
    reason: Message
    at: AwareDatetime


class BudgetSpent(StatusModel):
    """What had been used up when a phase's budget was reached."""

    calls: int
    cost: ShortText | None = None
    """US dollars."""
    message: Message
    at: AwareDatetime


class Progress(StatusModel):
    """The machine's memory of the running attempt; with the route, all it needs after a crash."""

    phase: Annotated[Phase, lenient(Phase)]
    """The running phase as it was when it began: an edit applies from the next one."""
    entered_at: AwareDatetime
    """When this phase was decided."""
    started_at: AwareDatetime | None = None
    """When its traffic was in place; durations and evidence count from here."""
    author: Person | None = None
    """Who wrote the revision, as the spec said when the attempt began."""
    approvals: Annotated[tuple[Approval, ...], Field(max_length=32)] = ()
    """Of the phase below, one a person."""
    approved_by: ShortText | None = None
    """Their names."""
    approved_phase: Name | None = None
    """The phase that the approval is for: it opens no other, nor this one with other users."""
    approved_type: PhaseType | None = None
    approved_weight: int | None = None
    hold: Hold | None = None
    spent: BudgetSpent | None = None
    """Set while the phase's budget is used up."""
    granted: BudgetSpent | None = None
    """What had been used up when a person last granted the phase's budget once more."""
    measured_since: AwareDatetime | None = None
    """When the budget last let the phase go on: the split is measured from here."""
    past_calendar: Person | None = None
    """Whose word began this phase although the calendar was shut: its traffic does not wait either."""


class AgentDeploymentStatus(StatusModel):
    """Observed state."""

    observed_generation: int = 0
    phase: ShortText = ""
    step: ShortText = ""
    weight: int | None = None
    message: Message = ""
    stable_revision: Hash | None = None
    stable_digest: Digest | None = None
    candidate_revision: Hash | None = None
    candidate_digest: Digest | None = None
    previous_revision: Hash | None = None
    previous_warm_until: AwareDatetime | None = None
    base_replicas: int | None = None
    """Pods of the stable revision when the running attempt began: it keeps as many until that is over."""
    base_replicas_until: AwareDatetime | None = None
    """Set while these are the attempt's before: kept for requests in flight, and no longer."""
    closed_at: AwareDatetime | None = None
    """On deletion: when the route was first seen to take no more requests."""
    current_rollout: Name | None = None
    rollouts: int = 0
    record: RecordHead | None = None
    """How far the record of the current attempt was seen written: nobody can cut its end unseen."""
    record_before: RecordHead | None = None
    """The same of the attempt before it; the current record's spec says so, too."""
    traffic: Annotated[tuple[TrafficShare, ...], Field(max_length=4)] = ()
    checks: Annotated[tuple[CheckSummary, ...], Field(max_length=64)] = ()
    progress: Progress | None = None
    plan: Annotated[tuple[Message, ...], Field(max_length=24)] = ()
    """A line a phase: how long it will take at the traffic of its start, and what it will catch."""
    notices: Annotated[tuple[Notice, ...], Field(max_length=64)] = ()
    """Alerts and early warnings of now."""
    last_gate: GateRecord | None = None
    rollback: RollbackRecord | None = None
    rejected_revisions: Annotated[tuple[Hash, ...], Field(max_length=32)] = ()
    handled_actions: Annotated[tuple[ShortText, ...], Field(max_length=32)] = ()
    """Actions whose effect is in this status: a crash before their outcome repeats nothing."""
    announced: Annotated[tuple[Told, ...], Field(max_length=16)] = ()
    """The newest Events of what this status says, in the same write: a crash loses none of them."""
    overrides: Annotated[tuple[Override, ...], Field(max_length=8)] = ()
    """What people go past, for this phase or for the start of an attempt."""
    deactivated: Deactivated | None = None
    """Set while no request reaches the agent, by a person's word."""
    next_decision_at: AwareDatetime | None = None
    replicas: int = 0
    ready_replicas: int = 0
    selector: ShortText = ""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), list_map("type")] = ()
