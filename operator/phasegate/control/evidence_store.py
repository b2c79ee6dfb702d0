"""The evidence of every running attempt: kept in memory, fed by the sampler, read by reconcile."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import EvidenceCheckpoint
from phasegate.control.addresses import rivals
from phasegate.control.attempt import Attempt
from phasegate.control.pace import checkpoint_every
from phasegate.control.ports import Clock, Key
from phasegate.control.subject import Inputs, Subject, inputs_of, subject_of
from phasegate.engine.evidence import LOOKBACK_SECONDS, Evidence, StateMismatch
from phasegate.engine.verdict import Judgement, Reason, Verdict
from phasegate.rollout.observed import Measured, Observed

MAX_CHECKPOINT: Final = 131_072
QUERIES_BACK: Final = 600.0
"""Seconds before a checkpoint from which threshold queries are asked again: they lag behind."""

_log = logging.getLogger(__name__)


class EvidenceStore:
    """Attempts by agent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts: dict[Key, Attempt] = {}
        self._inputs: dict[Key, Inputs] = {}
        self._namespaces: dict[Key, str] = {}
        self._running: set[Key] = set()

    def __len__(self) -> int:
        """How many attempts are running; those whose labels are waited for are over."""
        return len(self._running)

    def attempts(self) -> list[Attempt]:
        """All running attempts."""
        return list(self._attempts.values())

    def current(self, attempt: Attempt) -> bool:
        """True while `attempt` is what its agent is doing."""
        return self._attempts.get(attempt.key) is attempt

    def judgement(self, key: Key) -> Judgement | None:
        """The verdicts of the running phase, as of the last look at its metrics."""
        attempt = self._attempts.get(key)
        return None if attempt is None or attempt.subject.afterwards else attempt.judgement

    def late(self, key: Key) -> Judgement | None:
        """What labels say that arrive after the last attempt; None when nobody waits for any."""
        attempt = self._attempts.get(key)
        return attempt.judgement if attempt is not None and attempt.subject.afterwards else None

    def measured(self, key: Key) -> Measured | None:
        """Calls answered since the running phase's traffic was in place."""
        attempt = self._attempts.get(key)
        return None if attempt is None else attempt.calls.measured()

    def track(self, key: Key, observed: Observed, status: AgentDeploymentStatus) -> None:
        """What is judged for `key` now; a new phase, or another policy, begins with new evidence."""
        self._namespaces[key] = key.namespace
        known, inputs = self._attempts.get(key), inputs_of(observed, status)
        if self._inputs.get(key) != inputs or (known is not None and known.subject.afterwards):
            before = known.subject if known is not None else None
            subject = subject_of(key, observed, status, before, self._clock.now())
            if subject is None:
                self._attempts.pop(key, None)
            elif known is None or known.subject != subject:
                self._attempts[key] = self._begin(subject, observed)
            self._inputs[key] = inputs
            self._count(key)
        if (attempt := self._attempts.get(key)) is not None:
            self._refresh(attempt, status)

    def _refresh(self, attempt: Attempt, status: AgentDeploymentStatus) -> None:
        """What may change while the same is judged."""
        attempt.confused = self.confused(attempt.subject)
        progress = status.progress
        if progress is not None and progress.started_at is not None:
            began = progress.started_at
            attempt.calls.begin(max(began, progress.measured_since or began).timestamp())

    def _count(self, key: Key) -> None:
        attempt = self._attempts.get(key)
        if attempt is None or attempt.subject.afterwards:
            self._running.discard(key)
        else:
            self._running.add(key)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._running.discard(key)
        for known in (self._attempts, self._inputs, self._namespaces):
            known.pop(key, None)

    def confused(self, subject: Subject) -> str | None:
        """Why this agent's series could be another namespace's, if they could."""
        others = rivals(subject.identity, subject.party.key, self._namespaces.values())
        if not others:
            return None
        return (
            f"source {subject.source} cannot tell this agent's series from those of namespace "
            f"{others[0]}; rename one of them, or use a source that has the namespace in a label"
        )

    def judge(self, attempt: Attempt) -> bool:
        """Judge anew; True when the verdict, or that of a check, is another one than before."""
        if attempt.judgement is not None and attempt.judgement.verdict == Verdict.FAIL:
            return False  # final for the phase: numbers and time stay those of the proof
        judgement = attempt.evidence.judge(self._clock.now().timestamp())
        if attempt.behind and judgement.verdict == Verdict.PASS:
            judgement = replace(
                judgement,
                verdict=Verdict.INCONCLUSIVE,
                reason=Reason.NO_DATA,
                message="reading what happened meanwhile",
            )
        elif attempt.trouble is not None and judgement.reason == Reason.NO_DATA:
            judgement = replace(judgement, message=f"{judgement.message}: {attempt.trouble}")
        before, attempt.judgement = attempt.judgement, judgement
        return before is None or _gist(before) != _gist(judgement)

    def checkpoint(self, key: Key) -> EvidenceCheckpoint | None:
        """State worth storing now; None when the last one is recent enough or there is none."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.evidence.newest() is None:
            return None
        if self._clock.monotonic() - attempt.stored_at < checkpoint_every(len(self)):
            return None
        state = json.dumps(attempt.evidence.dump(), separators=(",", ":"))
        newest = attempt.evidence.newest()
        if newest is None or len(state) > MAX_CHECKPOINT:
            _log.warning(
                "evidence too large to store", extra={"agent": key.name, "size": len(state)}
            )
            return None
        at = datetime.fromtimestamp(newest, UTC)
        return EvidenceCheckpoint(phase=attempt.subject.plan.phase, at=at, state=state)

    def stored(self, key: Key, checkpoint: EvidenceCheckpoint) -> None:
        """`checkpoint` was written."""
        attempt = self._attempts.get(key)
        if attempt is not None and checkpoint.phase == attempt.subject.plan.phase:
            attempt.stored_at = self._clock.monotonic()

    def _begin(self, subject: Subject, observed: Observed) -> Attempt:
        restored, start = _restored(subject, observed), subject.plan.start
        evidence = restored or Evidence(subject.plan)
        newest = evidence.newest()
        asked = start if newest is None else max(start, newest - QUERIES_BACK)
        attempt = Attempt(
            subject,
            evidence,
            read_until=start - LOOKBACK_SECONDS if newest is None else newest,
            asked_until=dict.fromkeys(subject.queries, asked),
            history_due=restored is None,
            stored_at=self._clock.monotonic(),
        )
        self.judge(attempt)
        return attempt


def _restored(subject: Subject, observed: Observed) -> Evidence | None:
    """Evidence from the checkpoint in the attempt's record, if it is of this very phase and plan."""
    stored = observed.rollout.evidence if observed.rollout is not None else None
    if stored is None or stored.phase != subject.plan.phase:
        return None
    try:
        return Evidence.load(subject.plan, json.loads(stored.state))
    except (StateMismatch, ValueError) as error:
        _log.info("evidence is read anew", extra={"rollout": subject.rollout, "why": str(error)})
        return None


def _gist(judgement: Judgement) -> tuple[object, ...]:
    checks = tuple((c.check, c.verdict, c.reason, bool(c.warning)) for c in judgement.checks)
    return judgement.verdict, judgement.reason, checks
