"""Approvals: who has agreed to the next phase, who may, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phasegate.api.agentdeployment import AgentDeploymentSpec, Phase, Progress
from phasegate.api.people import Approval, Approvals
from phasegate.rollout.draft import Draft
from phasegate.rollout.observed import ActionSeen
from phasegate.rollout.phases import approved, next_phase, weight_of
from phasegate.rollout.quorum import Missing, helps, missing, missing_without_any, needed
from phasegate.rollout.refusals import Refusal, about_candidate, about_phase

_MAY_APPROVE = "write approvals.author: MayApprove"


@dataclass(frozen=True, slots=True)
class _Rule:
    """Who has to agree to one phase of one attempt."""

    approvals: Approvals
    author: str | None
    """Who wrote the revision, and does not count."""
    doubt: str
    """Why any one of those who agree may be its author; empty if that is known, or does not matter."""
    unknown: bool
    """The spec asks for somebody else than the author, and does not say who that is."""

    def missing(self, given: Sequence[Approval]) -> Missing:
        counted = self.counted(given)
        find = missing_without_any if self.doubt else missing
        return find(self.approvals, counted)

    def counted(self, given: Sequence[Approval]) -> tuple[Approval, ...]:
        return tuple(approval for approval in given if approval.by != self.author)

    @property
    def needed(self) -> int:
        return needed(self.approvals) + bool(self.doubt)


def upcoming(draft: Draft, progress: Progress) -> Phase | None:
    """The phase that begins next: the running one, while that waits for an approval of its own."""
    phase = progress.phase
    if draft.in_first_phase and progress.started_at is None and phase.approval == "Required":
        return phase
    return next_phase(draft.spec.strategy, phase)


def agreed(draft: Draft, progress: Progress, phase: Phase) -> bool:
    """True when nobody's word is missing for `phase` to begin."""
    if phase.approval != "Required":
        return True
    if not approved(progress, phase):
        return False
    if not progress.approvals:  # given to a version of the operator that asked for one only
        return progress.approved_by is not None
    return _rule(draft, progress, phase).missing(progress.approvals).people == 0


def awaited(draft: Draft, phase: Phase) -> str:
    """Whose word is missing before `phase`, in a sentence."""
    progress = draft.status.progress
    if progress is None:
        raise AssertionError("no attempt waits for an approval")
    rule, given = _rule(draft, progress, phase), _given(progress, phase)
    people, total = rule.missing(given), rule.needed
    if total == 1 and not rule.approvals.groups:
        text = f"{phase.name} needs an approval"
    else:
        names = ", ".join(approval.by for approval in rule.counted(given))
        have = f"{total - people.people} of {total}" + (f" ({names})" if names else "")
        plural = "approval" if total == 1 else "approvals"
        text = f"{phase.name} needs {total} {plural}: {have}; missing: {people}"
    if rule.author is not None:
        text += f", not {rule.author}, who wrote the revision"
    if rule.doubt:
        text += f"; one more than else, as {rule.doubt}"
    if rule.unknown:
        text += f"; {_write_the_author()}"
    return (
        f"{text}: create a RolloutAction with verb Approve "
        f"for revision {draft.status.candidate_revision}"
    )


def approve(draft: Draft, action: ActionSeen) -> str:
    """Verb Approve: one person's agreement to the next phase."""
    progress = about_candidate(draft, action)
    if draft.seen.spec is None or draft.seen.partial:
        raise Refusal("the spec cannot be read, so it is not known what would be approved")
    phase = upcoming(draft, progress)
    if phase is None or phase.approval != "Required":
        raise Refusal("no phase that needs an approval lies ahead")
    about_phase(draft, action, phase)
    return agree(draft, progress, phase, action)


def agree(draft: Draft, progress: Progress, phase: Phase, action: ActionSeen) -> str:
    """Count `action` as its actor's agreement to `phase`; raises Refusal where it cannot count."""
    rule, given = _rule(draft, progress, phase), _given(progress, phase)
    spec = action.spec
    if rule.unknown:
        raise Refusal(f"{phase.name} must be approved by somebody else; {_write_the_author()}")
    if spec.actor == rule.author:
        raise Refusal(
            f"you wrote this revision: {phase.name} must be approved by somebody else, or "
            f"{_MAY_APPROVE}"
        )
    known = next((approval for approval in given if approval.by == spec.actor), None)
    groups = tuple(dict.fromkeys((*(known.groups if known else ()), *spec.actor_groups)))[:64]
    mine = Approval(by=spec.actor, groups=groups, at=known.at if known else draft.now)
    if mine == known or (known is None and rule.missing(given).people == 0):
        return f"{phase.name} was already approved by {', '.join(a.by for a in given)}"
    others = tuple(approval for approval in given if approval is not known)
    counted = rule.counted(others)
    if known is None and not helps(rule.approvals, counted, mine):
        raise Refusal(
            f"this leaves {phase.name} where it is, missing: {rule.missing(given)}; an approval counts "
            "for a group only if its actorGroups name it"
        )
    everybody = (*others, mine)
    names = ", ".join(approval.by for approval in everybody)
    draft.update(
        progress=progress.model_copy(
            update={
                "approvals": everybody,
                "approved_by": names if len(names) <= 256 else names[:255] + "…",
                "approved_phase": phase.name,
                "approved_type": phase.type,
                "approved_weight": weight_of(phase),
            }
        )
    )
    rest = rule.missing(everybody)
    if rest.people == 0:
        return f"{phase.name} is approved"
    return f"{phase.name}: {rule.needed - rest.people} of {rule.needed}; missing: {rest}"


def _given(progress: Progress, phase: Phase) -> tuple[Approval, ...]:
    """Who has agreed to this very phase so far."""
    return progress.approvals if approved(progress, phase) else ()


def _rule(draft: Draft, progress: Progress, phase: Phase) -> _Rule:
    spec = draft.spec
    approvals = phase.approvals or spec.approvals or Approvals()
    if may_approve_own(spec, phase):
        return _Rule(approvals, author=None, doubt="", unknown=False)
    author = progress.author or spec.author
    written = any(one is not None and one.author for one in (phase.approvals, spec.approvals))
    doubt = ""
    if author is None:
        doubt = "" if written else f"nobody says who wrote the revision: {_write_the_author()}"
    elif _of_config_maps(draft):
        doubt = f"a part of the revision is in ConfigMaps, which name no author: {_MAY_APPROVE} if that is fine"
    return _Rule(approvals, author, doubt, unknown=author is None and written)


def may_approve_own(spec: AgentDeploymentSpec, phase: Phase) -> bool:
    """Whether who wrote a revision may agree to it: the phase's word, the agent's, or by exposure."""
    for approvals in (phase.approvals, spec.approvals):
        if approvals is not None and approvals.author is not None:
            return approvals.author == "MayApprove"
    return spec.exposure == "Internal"


def _of_config_maps(draft: Draft) -> bool:
    """True when a part of the candidate may have been written by anybody, whoever applied its spec."""
    candidate = draft.seen.revisions.get(draft.status.candidate_revision or "", draft.seen.target)
    return candidate is None or bool(candidate.snapshot.get("configMaps"))


def _write_the_author() -> str:
    return f"write spec.author, the user name of who wrote it, or {_MAY_APPROVE}"
