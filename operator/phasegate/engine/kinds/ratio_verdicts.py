"""Reads a ratio's evidence: when it convicts, when it passes, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from phasegate.engine import messages
from phasegate.engine.intervals import rate_interval
from phasegate.engine.kinds.base import Bound, Moment, Settings, finite
from phasegate.engine.kinds.ratio import SEVERE_WEIGHT, RatioCheck, RatioState, Relative
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckVerdict, Reason, Verdict
from phasegate.engine.windows import Counts

SHARED_CAUSE_RATIO: Final = 1.1
"""Within this ratio to the baseline the candidate is not to blame for a breach."""
THIN_BASELINE: Final = 0.1
"""A baseline with a smaller share of the candidate's calls than this cannot be compared with."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The evidence of one ratio check at one moment."""

    spec: RatioCheck
    settings: Settings
    state: RatioState
    phi: float

    # --- what the evidence says ---------------------------------------------------------------

    def convict(self, at: float) -> tuple[CheckVerdict, ...]:
        """The rollback verdicts that the evidence supports at a step's scrape time."""
        spec = self.spec
        found = []
        if spec.limit is not None and self._guilty("rate", spec.limit):
            found.append(self._breach("rate", spec.limit, at))
        elif spec.severe is not None:
            level = Bound(spec.severe, above=True)
            if self._guilty("severe", level):
                found.append(self._breach("severe", level, at))
        if spec.relative is not None and self._worse(spec.relative, self._ratio_need):
            found.append(self._regression(spec.relative, at))
        return tuple(found)

    @property
    def _ratio_need(self) -> float:
        return self.settings.need(self.spec.ratio_weight)

    def _guilty(self, name: str, level: Bound) -> bool:
        """Whether a level is breached, and the candidate is provably worse than the baseline.

        Where it cannot be compared, the evidence about the level has to suffice alone.
        """
        severe = name == "severe"
        alone = self.settings.need(SEVERE_WEIGHT if severe else 1.0)
        if not self._comparable():
            return self._beyond(name, level, alone)
        comparison, need = ("severe-ratio", alone) if severe else ("ratio", self._ratio_need)
        return self._beyond(name, level, self.settings.level_need) and self._reaches(
            comparison, need
        )

    def _reaches(self, name: str, need: float) -> bool:
        return self.state.trials[name].reaches(need)

    def _beyond(self, name: str, level: Bound, need: float) -> bool:
        """Whether a level is breached, in evidence and in estimate."""
        return self._reaches(name, need) and level.beyond(self.state.trials[name].counts().rate)

    def _comparable(self) -> bool:
        return not self.spec.alone and self.state.baseline_fresh and not self._thin()

    def _thin(self) -> bool:
        """Whether the baseline answers too few calls to say anything, as after a full switch."""
        return self.state.phase.baseline_total < THIN_BASELINE * self.state.phase.total

    def _worse(self, relative: Relative, need: float) -> bool:
        """Whether the ratio to the baseline is beyond its limit, in evidence and in estimate."""
        trial = self.state.trials["ratio"]
        if not trial.reaches(need):
            return False
        ratio = trial.counts().ratio
        return ratio is not None and ratio > relative.limit

    # --- what it means ------------------------------------------------------------------------

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now: about the rate, about the ratio to the baseline, about the alert."""
        spec = self.spec
        found = []
        failed = {verdict.check: verdict for verdict in self.state.failed}
        if spec.reference is not None or (spec.relative is None and spec.alert is None):
            found.append(failed.get(spec.name) or self._rate(moment))
        if spec.relative is not None:
            found.append(failed.get(self._relative_name) or self._ratio(spec.relative, moment))
        if spec.alert is not None:
            found.append(self._alert(spec.alert, moment))
        breached = any(verdict.verdict == Verdict.FAIL for verdict in found)
        warning = "" if breached or not moment.candidate_fresh else self._warning(moment)
        return (replace(found[0], warning=warning), *found[1:]) if warning else tuple(found)

    def _warning(self, moment: Moment) -> str:
        """The trend that speaks against the candidate, though no limit is breached; else empty.

        In evidence that is rare in a healthy phase (`beta`, all checks together), and in what was
        seen since the onset: worse than the baseline by more than is tolerated. Without a baseline
        to compare with: beyond the level that is tested.
        """
        spec, state = self.spec, self.state
        need = self.settings.warn_need - math.log(spec.ratio_weight)
        if self._comparable():
            trial = state.trials["ratio"]
            if not trial.reaches(need):
                return ""
            worst = trial.onset.worst()
            ratio = worst.counts.ratio
            tolerate = SHARED_CAUSE_RATIO if spec.relative is None else spec.relative.tolerate
            if ratio is None or ratio <= tolerate:
                return ""
            trend = f"{self._both(worst.counts)}, {messages.ratio(ratio)}"
        elif spec.reference is not None and self._reaches("rate", self.settings.warn_need):
            trial = state.trials["rate"]
            worst = trial.onset.worst()
            if not spec.reference.beyond(worst.counts.rate):
                return ""
            trend = f"{self._candidate(worst.counts)}, level {self._shown(spec.reference.value)}"
        else:
            return ""
        return (
            f"{trend}, over the last {messages.stretch(moment.at - worst.since)}; "
            f"odds against chance {messages.odds(trial.log_e())}; no limit is breached"
        )

    def _rate(self, moment: Moment) -> CheckVerdict:
        level = self.spec.reference
        text = self._summary()
        if level is None:
            return self._say(Reason.INFORMATION, text)
        gate = self.spec.gate or Bound(level.value, above=False)
        text += f", gate {self._shown(gate.value)}"
        if self.spec.limit is not None:
            text += f", rollback level {self._shown(level.value)}"
        if (missing := self._missing(moment)) is not None:
            return self._say(missing, text)
        if self._beyond("rate", level, self.settings.level_need):
            return self._held(level)
        if not gate.beyond(self.state.phase.rate):
            return self._say(Reason.OUTSIDE_GATE, f"outside the gate: {text}")
        if self._lately_beyond(level):
            return self._say(Reason.WORSENING, f"the latest calls are beyond the limit: {text}")
        if self.state.clear["rate"].log_e() < self.settings.clear_need:
            return self._say(Reason.STILL_UNCERTAIN, f"still uncertain: {text}")
        return self._say(Reason.WITHIN_LIMIT, text, Verdict.PASS)

    def _lately_beyond(self, level: Bound) -> bool:
        trial = self.state.trials["rate"]
        enough = trial.reaches(self.settings.clear_need)
        return enough and level.beyond(trial.onset.worst().counts.rate)

    def _held(self, level: Bound) -> CheckVerdict:
        """The level is breached beyond chance, and yet it is no rollback."""
        counts = self.state.trials["rate"].counts()
        if self.spec.level != "rollback":
            return self._say(
                Reason.OUTSIDE_GATE, f"provably outside the gate ({self._both(counts)})"
            )
        if level.beyond(counts.baseline_rate):
            words = "limit breached but the baseline is as bad: shared cause, holding"
            return self._say(Reason.SHARED_CAUSE, f"{words} ({self._both(counts)})")
        words = "limit breached, but not provably worse than the baseline yet, holding"
        return self._say(Reason.STILL_UNCERTAIN, f"{words} ({self._both(counts)})")

    def _ratio(self, relative: Relative, moment: Moment) -> CheckVerdict:
        counts = self.state.phase
        text = f"{self._both(counts)}, limit {messages.ratio(relative.limit)}"
        if (missing := self._missing(moment)) is not None:
            return self._compare(missing, text, counts)
        if self.state.baseline_seen and self._thin():
            words = f"the baseline answers too few calls to compare with: {text}"
            return replace(self._compare(Reason.INFORMATION, words, counts), level="info")
        if not self.state.baseline_fresh:
            words = f"no fresh samples of the baseline: {text}"
            return self._compare(Reason.NO_DATA, words, counts)
        if self._worse(relative, self.settings.clear_need):
            words = "the latest calls are worse than the baseline's"
            return self._compare(Reason.WORSENING, f"{words}: {text}", counts)
        allowed = relative.limit * (counts.baseline_rate or 0.0) + relative.slack
        if (counts.rate or 0.0) > allowed:
            return self._compare(Reason.OUTSIDE_GATE, f"outside the gate: {text}", counts)
        excluded = messages.ratio(relative.excluded)
        if self.state.clear["ratio"].log_e() < self.settings.clear_need:
            words = f"{excluded} is not excluded yet: {text}"
            return self._compare(Reason.STILL_UNCERTAIN, words, counts)
        words = f"{text}, {excluded} is excluded"
        return self._compare(Reason.WITHIN_LIMIT, words, counts, Verdict.PASS)

    def _alert(self, alert: Bound, moment: Moment) -> CheckVerdict:
        trial = self.state.trials["alert"]
        counts = self.state.phase
        reason, verdict = Reason.WITHIN_LIMIT, Verdict.PASS
        if not moment.candidate_fresh or not counts.total:
            reason, verdict = Reason.NO_DATA, Verdict.INCONCLUSIVE
        elif self._beyond("alert", alert, self.settings.alert_need):
            counts = trial.counts()
            reason, verdict = Reason.ALERT_BREACHED, Verdict.FAIL
            if self._comparable() and not self._reaches("ratio", self.settings.alert_need):
                reason, verdict = Reason.SHARED_CAUSE, Verdict.INCONCLUSIVE
        text = f"{self._both(counts)}, alert level {self._shown(alert.value)}"
        if reason != Reason.WITHIN_LIMIT:
            text += f"; odds against chance {messages.odds(trial.log_e())}"
        made = self._make(reason, text, verdict, counts, trial)
        return replace(made, check=f"{self.spec.name}-alert", level="alert", limit=self._own(alert))

    def _missing(self, moment: Moment) -> Reason | None:
        need = self.spec.min_samples or self.settings.min_samples
        if not moment.candidate_fresh or (moment.candidate_calls and not self.state.phase.total):
            return Reason.NO_DATA
        return Reason.TOO_FEW_SAMPLES if self.state.phase.total < need else None

    # --- how it is said: in the user's terms, so good shares where the source counts good calls --

    @property
    def _relative_name(self) -> str:
        return f"{self.spec.name}-vs-baseline" if self.spec.reference else self.spec.name

    @property
    def _good(self) -> bool:
        # Of calls with a deadline users speak of those that hang.
        return self.spec.good is not None and self.spec.deadline is None

    def _shown(self, bad_rate: float) -> str:
        return messages.percent(1 - bad_rate if self._good else bad_rate)

    def _own(self, level: Bound | None) -> float | None:
        if level is None:
            return None
        return 1 - level.value if self._good else level.value

    def _interval(self, counts: Counts) -> tuple[float, float]:
        low, high = rate_interval(counts.bad / self.phi, counts.total / self.phi)
        return (1 - high, 1 - low) if self._good else (low, high)

    def _candidate(self, counts: Counts) -> str:
        return messages.candidate(counts, good=self._good)

    def _both(self, counts: Counts) -> str:
        return f"{self._candidate(counts)} vs {messages.baseline(counts, good=self._good)}"

    def _summary(self) -> str:
        counts = self.state.phase
        if not counts.total:
            return f"no calls in {self.spec.total}"
        return f"{self._candidate(counts)}, {messages.interval(self._interval(counts))}"

    def _breach(self, name: str, level: Bound, at: float) -> CheckVerdict:
        trial = self.state.trials[name]
        worst = trial.onset.worst()
        text = (
            f"{self._candidate(worst.counts)} over the last {messages.stretch(at - worst.since)}, "
            f"{messages.interval(self._interval(worst.counts))} is "
            f"{'below' if self._good else 'above'} {self._shown(level.value)}; "
        )
        if trial.trailing is not None:
            rate = self._shown(trial.trailing.counts().rate or 0.0)
            text += f"{rate} over {messages.stretch(trial.trailing.seconds)}; "
        text += f"{messages.baseline(worst.counts, good=self._good)}; "
        text += f"odds against chance {messages.odds(trial.log_e())}"
        made = self._make(Reason.BREACHED, text, Verdict.FAIL, worst.counts, trial)
        return replace(made, limit=self._own(level))

    def _regression(self, relative: Relative, at: float) -> CheckVerdict:
        trial = self.state.trials["ratio"]
        worst = trial.onset.worst()
        text = (
            f"{self._both(worst.counts)} over the last {messages.stretch(at - worst.since)}, "
            f"limit {messages.ratio(relative.limit)}; "
            f"odds against chance {messages.odds(trial.log_e())}"
        )
        return self._compare(Reason.BREACHED, text, worst.counts, Verdict.FAIL)

    def _say(
        self, reason: Reason, text: str, verdict: Verdict = Verdict.INCONCLUSIVE
    ) -> CheckVerdict:
        """About the rate."""
        return self._make(reason, text, verdict, self.state.phase, self.state.trials.get("rate"))

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
        )

    def _make(
        self, reason: Reason, text: str, verdict: Verdict, counts: Counts, trial: Trial | None
    ) -> CheckVerdict:
        rate = counts.rate
        return CheckVerdict(
            check=self.spec.name,
            metric=self.spec.metric,
            level=self.spec.level,
            verdict=verdict,
            reason=reason,
            message=text,
            estimate=rate if rate is None or not self._good else 1 - rate,
            interval=self._interval(counts) if counts.total else None,
            bad=counts.bad,
            total=counts.total,
            baseline_bad=counts.baseline_bad,
            baseline_total=counts.baseline_total,
            limit=self._own(self.spec.reference),
            since=None if trial is None else trial.since,
            odds=None if trial is None else trial.odds,
        )
