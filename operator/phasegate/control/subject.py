"""What is judged of an agent: whose samples, from which provider and source, by which plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.errors import InvalidSpec
from phasegate.control.addresses import Address, Party, Role, lasting
from phasegate.control.ports import Key
from phasegate.engine.checks import selectors, threshold_queries
from phasegate.engine.evidence import EvidencePlan
from phasegate.engine.selectors import Selector
from phasegate.engine.sources import SOURCES
from phasegate.engine.sources.base import Identity
from phasegate.rollout.judging import evidence_plan, late_plan
from phasegate.rollout.late import waits_for_labels
from phasegate.rollout.observed import Observed
from phasegate.rollout.phases import mirrors, mode_of

DEFAULT_PROVIDER: Final = "default"
DEFAULT_SOURCE: Final = "agent-contract"

Inputs = tuple[object, ...]
"""All that a subject is made of."""


@dataclass(frozen=True)
class Subject:
    """What is judged: whose samples, from where, by what."""

    rollout: str
    party: Party
    provider: str
    source: str
    plan: EvidencePlan
    afterwards: bool = False
    """The attempt has ended well: only labels that arrive late are waited for."""

    @cached_property
    def identity(self) -> Identity:
        """How the source writes whose a series is."""
        return SOURCES[self.source].identity

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all series that matter."""
        return frozenset(s.name for s in (*selectors(self.plan.checks), *self._counted))

    @cached_property
    def late(self) -> frozenset[str]:
        """Names of series that nothing but late checks need: they count whatever the pods' mode.

        A series that also counts calls does not: calls of another phase are not of this one.
        """
        prompt = [check for check in self.plan.checks if not check.late]
        return self.names - {s.name for s in (*selectors(prompt), *self._counted)}

    @property
    def _counted(self) -> tuple[Selector, ...]:
        """What is counted beside the checks: calls and, for a budget, money."""
        spend = self.plan.spend
        return (self.plan.volume, *(() if spend is None else spend.selectors()))

    @cached_property
    def addresses(self) -> Mapping[Address, Role]:
        """Where the samples are found, and whose they are."""
        found = self.party.addresses(self.identity)
        return {at: role for at, role in found.items() if role != "late" or self.late}

    @cached_property
    def queries(self) -> Mapping[str, str]:
        """Threshold queries, by metric."""
        return threshold_queries(self.plan.checks)

    def is_of(self, rollout: str, candidate: str) -> bool:
        """Whether it is about this attempt."""
        return (self.rollout, self.party.candidate) == (rollout, candidate)


def inputs_of(observed: Observed, status: AgentDeploymentStatus) -> Inputs:
    """While this is the same, so is what is judged: nothing has to be compiled again."""
    progress = status.progress
    return (
        status.current_rollout,
        status.candidate_revision,
        status.stable_revision,
        status.previous_revision,
        None if progress is None else (progress.phase, progress.entered_at),
        observed.spec,
        observed.policy,
        _slots(observed),
    )


def subject_of(
    key: Key,
    observed: Observed,
    status: AgentDeploymentStatus,
    known: Subject | None,
    now: datetime,
) -> Subject | None:
    """What is judged now. While the policy or the spec is unusable, what was judged before."""
    if status.progress is None:
        return _afterwards(key, observed, status, known, now)
    progress, spec = status.progress, observed.spec
    candidate, stable, rollout = (
        status.candidate_revision,
        status.stable_revision,
        status.current_rollout,
    )
    if candidate is None or stable is None or rollout is None:
        return None
    same = known if known is not None and known.is_of(rollout, candidate) else None
    usable = spec is not None and observed.policy.problem is None
    if same is not None and not usable and same.plan.start == progress.entered_at.timestamp():
        return same
    if spec is None:
        return same
    if observed.partial and observed.policy.problem is not None and observed.policy.spec is None:
        # Neither the policy nor the record that keeps it can be read: no other policy condemns it.
        return same
    try:
        plan = evidence_plan(spec, observed.policy.spec, progress, observed.policy.prices)
    except InvalidSpec:
        return same
    mode, mirrored = mode_of(progress.phase, spec), mirrors(progress.phase)
    party = Party(key, candidate, stable, mode, mirrored)
    return _subject(rollout, party, observed, plan, same)


def _afterwards(
    key: Key,
    observed: Observed,
    status: AgentDeploymentStatus,
    known: Subject | None,
    now: datetime,
) -> Subject | None:
    """After an attempt's success: what its labels say that arrive late, against the revision before."""
    stable, previous, rollout = (
        status.stable_revision,
        status.previous_revision,
        status.current_rollout,
    )
    if stable is None or previous is None or rollout is None:
        return None
    if not waits_for_labels(status, now):
        return None
    same = (
        known if known is not None and known.is_of(rollout, stable) and known.afterwards else None
    )
    if observed.spec is None or (observed.policy.problem and observed.policy.spec is None):
        return same
    try:
        plan = late_plan(observed.spec, observed.policy.spec, status, observed.policy.prices)
    except InvalidSpec:
        return same
    if plan is None:
        return None
    party = Party(key, stable, previous, "live")
    return replace(_subject(rollout, party, observed, plan, same), afterwards=True)


def _subject(
    rollout: str, party: Party, observed: Observed, plan: EvidencePlan, known: Subject | None
) -> Subject:
    policy = observed.policy.spec
    provider = policy.prometheus if policy is not None else DEFAULT_PROVIDER
    source = policy.source if policy is not None else DEFAULT_SOURCE
    if lasting(SOURCES[source].identity):
        # A route that cannot be read says nothing about who is where.
        slots = _slots(observed) or (known.party.slots if known is not None else ())
        party, plan = replace(party, slots=slots), replace(plan, lasting=True)
    return Subject(rollout, party, provider, source, plan)


def _slots(observed: Observed) -> tuple[str, ...]:
    """The revision in each slot of the live route."""
    plan = observed.route.plan
    return () if plan is None else tuple(slot.revision for slot in plan.slots)
