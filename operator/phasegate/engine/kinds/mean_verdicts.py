"""Reads a mean's evidence: when it convicts, when it passes, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from phasegate.engine import messages
from phasegate.engine.betting import interval
from phasegate.engine.kinds.base import Bound, Moment, Settings, finite
from phasegate.engine.kinds.mean import MeanCheck, MeanState
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.kinds.ratio_verdicts import THIN_BASELINE
from phasegate.engine.kinds.unpriced import explained
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckVerdict, Reason, Verdict
from phasegate.engine.windows import Counts


def shared_cause_ratio(spec: MeanCheck) -> float:
    """Within this ratio to the baseline the candidate is not to blame for a breach."""
    return 1.1 if spec.worse == "above" else 0.975


@dataclass(frozen=True, slots=True)
class Reading:
    """The evidence of one mean at one moment."""

    spec: MeanCheck
    settings: Settings
    state: MeanState

    # --- what the evidence says ---------------------------------------------------------------

    def convict(self, at: float) -> tuple[CheckVerdict, ...]:
        """The rollback verdicts that the evidence supports at a step's scrape time."""
        spec, need = self.spec, self.settings.rollback_need
        found = []
        if (
            spec.limit is not None
            and self._beyond("level", spec.limit, need)
            and self._to_blame("level", need)
        ):
            found.append(self._breach(spec.limit, at))
        if spec.relative is not None and self._worse(spec.relative.limit, need):
            found.append(self._regression(spec.relative, at))
        return tuple(found)

    def _beyond(self, name: str, level: Bound, need: float) -> bool:
        """Whether a level is breached, in evidence and in estimate."""
        trial = self.state.trials[name]
        return trial.log_e() >= need and level.beyond(trial.counts().rate)

    def _to_blame(self, name: str, need: float) -> bool:
        """Whether the candidate is provably worse than the baseline, or cannot be compared."""
        if not self.state.baseline_fresh or self._thin():
            return True
        ratio = self.state.trials[name].counts().ratio
        worse = self._beyond_ratio(ratio, shared_cause_ratio(self.spec))
        return worse and self.state.trials["ratio"].log_e() >= need

    def _thin(self) -> bool:
        """Whether the baseline answers too few calls to say anything, as after a full switch."""
        return self.state.phase.baseline_total < THIN_BASELINE * self.state.phase.total

    def _worse(self, ratio: float, need: float) -> bool:
        """Whether the mean is beyond a ratio to the baseline's, in evidence and in estimate."""
        trial = self.state.trials["ratio"]
        return trial.log_e() >= need and self._beyond_ratio(trial.counts().ratio, ratio)

    def _beyond_ratio(self, found: float | None, ratio: float) -> bool:
        return Bound(ratio, above=self.spec.worse == "above").beyond(found)

    # --- what it means ------------------------------------------------------------------------

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now: about the mean, about the ratio to the baseline, about the alert."""
        spec = self.spec
        found = []
        failed = {verdict.check: verdict for verdict in self.state.failed}
        if spec.reference is not None or (spec.relative is None and spec.alert is None):
            found.append(failed.get(spec.name) or self._mean(moment))
        if spec.relative is not None:
            found.append(failed.get(self._relative_name) or self._ratio(spec.relative, moment))
        if spec.alert is not None:
            found.append(self._alert(spec.alert, moment))
        return tuple(found)

    def _mean(self, moment: Moment) -> CheckVerdict:
        level, counts = self.spec.reference, self.state.phase
        text = self._summary()
        if level is None:
            return self._say(Reason.INFORMATION, text)
        gate = self.spec.gate or Bound(level.value, above=not level.above)
        text += f", gate {self._shown(gate.value)}"
        if self.spec.limit is not None:
            text += f", rollback level {self._shown(level.value)}"
        if (missing := self._missing(moment)) is not None:
            return self._say(missing, explained(missing, self.state.unpriced, text))
        if self._beyond("level", level, self.settings.rollback_need):
            return self._held(level)
        if not gate.beyond(counts.rate):
            return self._say(Reason.OUTSIDE_GATE, f"outside the gate: {text}")
        if self._beyond("level", level, self.settings.clear_need):
            return self._say(Reason.WORSENING, f"the latest calls are beyond the limit: {text}")
        if self.state.clear["level"].log_e() < self.settings.clear_need:
            return self._say(Reason.STILL_UNCERTAIN, f"still uncertain: {text}")
        return self._say(Reason.WITHIN_LIMIT, text, Verdict.PASS)

    def _held(self, level: Bound) -> CheckVerdict:
        """The level is breached beyond chance, and yet it is no rollback."""
        counts = self.state.trials["level"].counts()
        both = self._both(counts)
        if self.spec.level != "rollback":
            return self._say(Reason.OUTSIDE_GATE, f"provably outside the gate ({both})")
        if level.beyond(counts.baseline_rate):
            words = "limit breached but the baseline is as bad: shared cause, holding"
            return self._say(Reason.SHARED_CAUSE, f"{words} ({both})")
        words = "limit breached, but not provably worse than the baseline yet, holding"
        return self._say(Reason.STILL_UNCERTAIN, f"{words} ({both})")

    def _ratio(self, relative: Relative, moment: Moment) -> CheckVerdict:
        counts = self.state.phase
        text = f"{self._both(counts)}, limit {messages.ratio(relative.limit)}"
        if (missing := self._missing(moment)) is not None:
            return self._compare(missing, explained(missing, self.state.unpriced, text), counts)
        if self.state.baseline_seen and self._thin():
            words = f"the baseline answers too few calls to compare with: {text}"
            return replace(self._compare(Reason.INFORMATION, words, counts), level="info")
        if not self.state.baseline_fresh:
            words = f"no fresh samples of the baseline: {text}"
            return self._compare(Reason.NO_DATA, words, counts)
        if self._worse(relative.limit, self.settings.clear_need):
            words = "the latest calls are worse than the baseline's"
            return self._compare(Reason.WORSENING, f"{words}: {text}", counts)
        if self._beyond_ratio(counts.ratio, relative.limit):
            return self._compare(Reason.OUTSIDE_GATE, f"outside the gate: {text}", counts)
        excluded = messages.ratio(relative.excluded)
        if self.state.clear["ratio"].log_e() < self.settings.clear_need:
            words = f"{excluded} is not excluded yet: {text}"
            return self._compare(Reason.STILL_UNCERTAIN, words, counts)
        words = f"{text}, {excluded} is excluded"
        return self._compare(Reason.WITHIN_LIMIT, words, counts, Verdict.PASS)

    def _alert(self, alert: Bound, moment: Moment) -> CheckVerdict:
        trial = self.state.trials["alert"]
        counts, need = self.state.phase, self.settings.alert_need
        reason, verdict = Reason.WITHIN_LIMIT, Verdict.PASS
        if self.state.unpriced:
            reason, verdict = Reason.NO_PRICE, Verdict.INCONCLUSIVE
        elif not moment.candidate_fresh or not counts.total:
            reason, verdict = Reason.NO_DATA, Verdict.INCONCLUSIVE
        elif self._beyond("alert", alert, need):
            counts = trial.counts()
            reason, verdict = Reason.ALERT_BREACHED, Verdict.FAIL
            if not self._to_blame("alert", need):
                reason, verdict = Reason.SHARED_CAUSE, Verdict.INCONCLUSIVE
        text = explained(
            reason,
            self.state.unpriced,
            f"{self._both(counts)}, alert level {self._shown(alert.value)}",
        )
        if reason in (Reason.ALERT_BREACHED, Reason.SHARED_CAUSE):
            since = messages.stretch(moment.at - trial.onset.worst().since)
            text += f", for {since}; odds against chance {messages.odds(trial.log_e())}"
        made = self._make(reason, text, verdict, counts, trial)
        return replace(made, check=f"{self.spec.name}-alert", level="alert", limit=alert.value)

    def _missing(self, moment: Moment) -> Reason | None:
        if self.state.unpriced:
            return Reason.NO_PRICE
        need = self.spec.min_samples or self.settings.min_samples
        if not moment.candidate_fresh or (moment.candidate_calls and not self.state.phase.total):
            return Reason.NO_DATA
        return Reason.TOO_FEW_SAMPLES if self.state.phase.total < need else None

    # --- early warning --------------------------------------------------------------------------

    def _trend(self, name: str) -> str:
        """What gets worse though nothing is breached; empty if nothing does."""
        trial = self.state.trials[name]
        worst = trial.onset.worst()
        if self.state.unpriced or trial.log_e() < self.settings.warn_need:
            return ""
        if name == "ratio":
            relative = self.spec.relative
            if relative is None or not self._beyond_ratio(worst.counts.ratio, relative.tolerate):
                return ""
        elif self.spec.reference is None or not self.spec.reference.beyond(worst.counts.rate):
            return ""
        length = messages.stretch(self.state.own.at - worst.since)
        return (
            f"{self._both(worst.counts)} over the last {length}; "
            f"odds {messages.odds(trial.log_e())}; no limit is breached"
        )

    # --- how it is said ---------------------------------------------------------------------------

    @property
    def _relative_name(self) -> str:
        return f"{self.spec.name}-vs-baseline" if self.spec.reference else self.spec.name

    def _shown(self, value: float | None) -> str:
        return messages.amount(value, self.spec.unit)

    def _candidate(self, counts: Counts) -> str:
        if not counts.total:
            return "candidate without calls"
        calls = "calls" if self.spec.worse == "above" else "scores"
        each = " a call" if self.spec.worse == "above" else ""
        total = messages.number(counts.total)
        return f"candidate {self._shown(counts.rate)}{each} ({total} {calls})"

    def _baseline(self, counts: Counts) -> str:
        if not counts.baseline_total:
            return "baseline without calls"
        total = messages.number(counts.baseline_total)
        return f"baseline {messages.amount(counts.baseline_rate)} ({total})"

    def _both(self, counts: Counts) -> str:
        text = f"{self._candidate(counts)} vs {self._baseline(counts)}"
        return text if counts.ratio is None else f"{text}, {messages.ratio(counts.ratio)}"

    def _interval(self, counts: Counts) -> tuple[float, float] | None:
        if not counts.total or counts.rate is None or not self.state.own.spread.measured:
            return None
        low, high = interval(counts.rate, counts.total, self.state.own.variance)
        return max(0.0, low), min(high, self.spec.top or math.inf)

    def _between(self, counts: Counts) -> str:
        bounds = self._interval(counts)
        if bounds is None:
            return ""
        low, high = map(messages.amount, bounds)
        return f", 95% anytime interval {low}-{high}"

    def _summary(self) -> str:
        return f"{self._candidate(self.state.phase)}{self._between(self.state.phase)}"

    def _breach(self, level: Bound, at: float) -> CheckVerdict:
        trial = self.state.trials["level"]
        worst = trial.onset.worst()
        side = "above" if level.above else "below"
        text = (
            f"{self._candidate(worst.counts)} over the last {messages.stretch(at - worst.since)}"
            f"{self._between(worst.counts)}, is {side} {self._shown(level.value)}; "
        )
        if trial.trailing is not None:
            mean = self._shown(trial.trailing.counts().rate)
            text += f"{mean} over {messages.stretch(trial.trailing.seconds)}; "
        text += f"{self._baseline(worst.counts)}; "
        text += f"odds against chance {messages.odds(trial.log_e())}"
        return self._make(Reason.BREACHED, text, Verdict.FAIL, worst.counts, trial)

    def _regression(self, relative: Relative, at: float) -> CheckVerdict:
        trial = self.state.trials["ratio"]
        worst = trial.onset.worst()
        text = (
            f"{self._candidate(worst.counts)} vs {self._baseline(worst.counts)} over the last "
            f"{messages.stretch(at - worst.since)}, {messages.ratio(worst.counts.ratio)}, "
            f"limit {messages.ratio(relative.limit)}; "
            f"odds against chance {messages.odds(trial.log_e())}"
        )
        return self._compare(Reason.BREACHED, text, worst.counts, Verdict.FAIL)

    def _say(
        self, reason: Reason, text: str, verdict: Verdict = Verdict.INCONCLUSIVE
    ) -> CheckVerdict:
        """About the mean."""
        trial = self.state.trials.get("level")
        made = self._make(reason, text, verdict, self.state.phase, trial)
        return made if trial is None else replace(made, warning=self._trend("level"))

    def _compare(
        self,
        reason: Reason,
        text: str,
        counts: Counts,
        verdict: Verdict = Verdict.INCONCLUSIVE,
    ) -> CheckVerdict:
        """About the ratio to the baseline."""
        made = self._make(reason, text, verdict, counts, self.state.trials["ratio"])
        return replace(
            made,
            check=self._relative_name,
            level="rollback",
            estimate=finite(counts.ratio),
            interval=None,
            limit=None if self.spec.relative is None else self.spec.relative.limit,
            warning="" if verdict == Verdict.FAIL else self._trend("ratio"),
        )

    def _make(
        self, reason: Reason, text: str, verdict: Verdict, counts: Counts, trial: Trial | None
    ) -> CheckVerdict:
        return CheckVerdict(
            check=self.spec.name,
            metric=self.spec.metric,
            level=self.spec.level,
            verdict=verdict,
            reason=reason,
            message=text,
            estimate=counts.rate,
            interval=self._interval(counts),
            bad=counts.bad,
            total=counts.total,
            baseline_bad=counts.baseline_bad,
            baseline_total=counts.baseline_total,
            limit=None if self.spec.reference is None else self.spec.reference.value,
            since=None if trial is None else trial.since,
            odds=None if trial is None else trial.odds,
        )
