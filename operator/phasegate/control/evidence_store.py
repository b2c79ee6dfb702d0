"""The evidence of every running attempt: kept in memory, fed by the sampler, read by reconcile."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import EvidenceCheckpoint
from phasegate.api.errors import InvalidSpec
from phasegate.control.calls import CallCounter
from phasegate.control.ports import Clock, Key, RawSeries
from phasegate.engine.checks import selectors, threshold_queries
from phasegate.engine.evidence import LOOKBACK_SECONDS, Evidence, EvidencePlan, StateMismatch
from phasegate.engine.samples import VALUE_PREFIX, Arm, Series
from phasegate.engine.verdict import Judgement, Reason, Verdict
from phasegate.rollout.judging import evidence_plan
from phasegate.rollout.observed import Measured, Observed
from phasegate.rollout.phases import mode_of
from phasegate.rollout.route import Mode

CHECKPOINT_SECONDS: Final = 60.0
"""Between two stored checkpoints of one attempt."""
MAX_CHECKPOINT: Final = 131_072
DEFAULT_PROVIDER: Final = "default"
TARGET_LABELS: Final = frozenset({"namespace", "agent", "revision", "mode", "job"})
"""Labels the scrape configuration sets from the pod; they decide the arm, not the series."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: which pods are the candidate's and the baseline's, by what, from where."""

    rollout: str
    candidate: str
    stable: str
    mode: Mode
    """The candidate's; the baseline is what serves users."""
    provider: str
    plan: EvidencePlan

    def arm(self, labels: Mapping[str, str]) -> Arm | None:
        """Which arm a scraped series belongs to."""
        revision, mode = labels.get("revision"), labels.get("mode")
        if revision == self.candidate and mode == self.mode:
            return "candidate"
        return "baseline" if revision == self.stable and mode == "live" else None

    def names(self) -> frozenset[str]:
        """Names of all series that matter."""
        return frozenset(s.name for s in (*selectors(self.plan.checks), self.plan.volume))


@dataclass(slots=True)
class Attempt:
    """One running phase of one agent."""

    key: Key
    subject: Subject
    evidence: Evidence
    read_until: float
    """Everything up to this time (unix s) was read and fed."""
    judgement: Judgement | None = None
    trouble: str | None = None
    """Why there is no data, if that is known."""
    calls: CallCounter | None = None
    behind: bool = True
    """Older samples are still to be read: no Pass until they are."""
    stored_at: float = float("-inf")
    thresholds_at: float = float("-inf")
    newest: dict[str, float] = field(default_factory=dict)
    """Newest sample fed, by ``target|series``: the overlap of two readings is not fed twice."""

    def feed(self, found: Iterable[RawSeries], until: float) -> None:
        """Add one reading of this agent's series, complete up to `until`."""
        batch = [series for raw in found if (series := self._series(raw)) is not None]
        self.evidence.ingest(batch)
        if self.calls is not None:
            self.calls.add(batch)
        self.read_until = max(self.read_until, until)

    def feed_values(self, metric: str, result: Sequence[RawSeries]) -> None:
        """Add the result of a threshold's query."""
        name = f"{VALUE_PREFIX}{metric}"
        self.evidence.ingest(
            Series("candidate", name, tuple(sorted(raw.labels.items())), raw.samples)
            for raw in result
        )

    def scraped(self) -> dict[str, float]:
        """Newest scrape time by target of the candidate: only these can show a breach."""
        times: dict[str, float] = {}
        for identity, at in self.newest.items():
            target = identity.partition("|")[0]
            if target.startswith("candidate/"):
                times[target] = max(at, times.get(target, at))
        return times

    def _series(self, raw: RawSeries) -> Series | None:
        arm = self.subject.arm(raw.labels)
        if arm is None or not raw.samples:
            return None
        labels = tuple(sorted((k, v) for k, v in raw.labels.items() if k not in TARGET_LABELS))
        series = Series(arm, raw.name, labels, raw.samples)
        identity = f"{series.target}|{series.key}"
        last = self.newest.get(identity)
        if last is not None:
            series = replace(series, samples=tuple(s for s in raw.samples if s[0] > last))
        if not series.samples:
            return None
        self.newest[identity] = max(at for at, _ in series.samples)
        return series


class EvidenceStore:
    """Attempts by agent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts: dict[Key, Attempt] = {}

    def attempts(self) -> list[Attempt]:
        """All running attempts."""
        return list(self._attempts.values())

    def current(self, attempt: Attempt) -> bool:
        """True while `attempt` is what its agent is doing."""
        return self._attempts.get(attempt.key) is attempt

    def judgement(self, key: Key) -> Judgement | None:
        """The verdicts of the running phase, as of the last look at its metrics."""
        attempt = self._attempts.get(key)
        return attempt.judgement if attempt is not None else None

    def measured(self, key: Key) -> Measured | None:
        """Calls answered since the running phase's traffic was in place."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.calls is None:
            return None
        return attempt.calls.measured()

    def track(self, key: Key, observed: Observed, status: AgentDeploymentStatus) -> None:
        """What is running for `key` now; a new phase, or another policy, begins with new evidence."""
        if status.progress is None:
            self._attempts.pop(key, None)
            return
        known = self._attempts.get(key)
        subject = _subject(observed, status, known.subject if known is not None else None)
        if subject is None:
            return
        if known is None or known.subject != subject:
            known = self._begin(key, subject, observed)
            self._attempts[key] = known
        if status.progress.started_at is not None:
            since = status.progress.started_at.timestamp()
            if known.calls is None or known.calls.since != since:
                known.calls = CallCounter(subject.plan.volume.name, since)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._attempts.pop(key, None)

    def judge(self, attempt: Attempt) -> bool:
        """Judge anew; True when the verdict, or that of a check, is another one than before."""
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
        if self._clock.monotonic() - attempt.stored_at < CHECKPOINT_SECONDS:
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

    def _begin(self, key: Key, subject: Subject, observed: Observed) -> Attempt:
        evidence = _restored(subject, observed) or Evidence(subject.plan)
        newest = evidence.newest()
        read_until = subject.plan.start - LOOKBACK_SECONDS if newest is None else newest
        attempt = Attempt(key, subject, evidence, read_until, stored_at=self._clock.monotonic())
        self.judge(attempt)
        return attempt


def queries(attempt: Attempt) -> Mapping[str, str]:
    """The attempt's threshold queries, by metric."""
    return threshold_queries(attempt.subject.plan.checks)


def _subject(
    observed: Observed, status: AgentDeploymentStatus, known: Subject | None
) -> Subject | None:
    """What is judged now. While the policy or the spec is unusable, what was judged before."""
    progress, spec = status.progress, observed.spec
    candidate, stable, rollout = (
        status.candidate_revision,
        status.stable_revision,
        status.current_rollout,
    )
    if progress is None or candidate is None or stable is None or rollout is None:
        return None
    same = known is not None and (known.rollout, known.candidate) == (rollout, candidate)
    if spec is None or observed.policy.problem is not None:
        entered = progress.entered_at.timestamp()
        if same and known is not None and known.plan.start == entered:
            return known
    if spec is None:
        return None
    policy = observed.policy.spec
    try:
        plan = evidence_plan(spec, policy, progress)
    except InvalidSpec:
        return known if same else None
    provider = policy.prometheus if policy is not None else DEFAULT_PROVIDER
    mode = mode_of(progress.phase, spec)
    return Subject(rollout, candidate, stable, mode, provider, plan)


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
    checks = tuple((c.check, c.verdict, c.reason) for c in judgement.checks)
    return judgement.verdict, judgement.reason, checks
