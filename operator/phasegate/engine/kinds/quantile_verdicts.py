"""Reads a quantile's evidence: when it convicts, when it passes, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from phasegate.engine import messages
from phasegate.engine.histograms import Vector, at_or_above, quantile, quantile_interval
from phasegate.engine.kinds.base import Bound, Moment, Settings, finite
from phasegate.engine.kinds.quantile import QuantileCheck, QuantileState
from phasegate.engine.kinds.quantile_view import Interval, Line, Pair, View
from phasegate.engine.kinds.quantile_words import latency, missing_edge, quantile_name, tested_at
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.kinds.ratio_verdicts import THIN_BASELINE
from phasegate.engine.ordering import FEWEST
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckVerdict, Reason, Verdict
from phasegate.engine.windows import Counts


@dataclass(frozen=True, slots=True)
class Reading:
    """The evidence of one quantile at one moment."""

    spec: QuantileCheck
    settings: Settings
    state: QuantileState
    view: View
    phi: float

    # --- what the evidence says ---------------------------------------------------------------

    def convict(self, at: float) -> tuple[CheckVerdict, ...]:
        """The rollback verdicts that the evidence supports at a step's scrape time."""
        spec, need = self.spec, self.settings.rollback_need
        found = []
        if spec.limit is not None and self._beyond("rate", need) and self._to_blame("rate", need):
            found.append(self._breach(spec.limit, at))
        if spec.relative is not None and self._worse(spec.relative.limit, need):
            found.append(self._regression(spec.relative, at))
        return tuple(found)

    def _beyond(self, name: str, need: float) -> bool:
        """Whether more calls than 1-q are above a level's edge, in evidence and in estimate."""
        trial = self.state.trials[name]
        return trial.log_e() >= need and (trial.counts().rate or 0.0) > 1 - self.spec.q

    def _lately_beyond(self, name: str, need: float) -> bool:
        """The same since the onset, whatever the user's window says."""
        trial = self.state.trials[name]
        since = trial.onset.worst().counts.rate or 0.0
        return trial.log_e() >= need and since > 1 - self.spec.q

    def _to_blame(self, name: str, need: float) -> bool:
        """Whether the candidate is provably slower than the baseline, or cannot be compared."""
        if not self.state.baseline_fresh or self._thin():
            return True
        known, ordering = self.state.past[-1] >= FEWEST, self.view.ordering
        if known and (ordering is None or not ordering.active):
            # Without an edge for a test there is still the baseline's own share of slow calls.
            counts = self.state.trials[name].counts()
            return (counts.baseline_rate or 0.0) <= 1 - self.spec.q
        return self.state.trials["ratio"].log_e() >= need

    def _thin(self) -> bool:
        """Whether the baseline answers too few calls to say anything, as after a full switch."""
        phase = self.state.phase
        return phase[-1] < THIN_BASELINE * phase[len(phase) // 2 - 1]

    def _worse(self, ratio: float, need: float) -> bool:
        """Whether the ratio of the quantiles is beyond one, in evidence and in estimate."""
        trial = self.state.trials["ratio"]
        if trial.log_e() < need:
            return False
        found = self._onset(trial).ratio
        return found is not None and found > ratio

    # --- estimates ------------------------------------------------------------------------------

    def _whole(self) -> Pair:
        half = len(self.state.phase) // 2
        return self._pair(self.settings.start, self.state.phase[:half], self.state.phase[half:])

    def _onset(self, trial: Trial) -> Pair:
        """The stretch that speaks most against the candidate, to the nearest row of the history."""
        found = self.state.history.since(trial.onset.worst().since)
        return self._whole() if found is None else self._pair(*found)

    def _pair(self, since: float, candidate: Vector, baseline: Vector) -> Pair:
        view = self.view
        own, theirs = self._value(candidate, view.own), self._value(baseline, view.theirs)
        same, compared = own, theirs
        if view.common != view.own:
            same = self._value(candidate, view.common)
        if view.common != view.theirs:
            compared = self._value(baseline, view.common)
        ratio = None if same is None or not compared else same / compared
        return Pair(since, candidate, baseline, own, theirs, compared, ratio)

    def _value(self, vector: Vector, places: Sequence[int]) -> float | None:
        if not places or not vector[-1]:
            return None
        return quantile(self.spec.q, self.state.edges.values, vector, places)

    # --- what it means ------------------------------------------------------------------------

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now: about the level, about the ratio to the baseline, about the alert."""
        spec = self.spec
        found, whole = [], self._whole()
        failed = {verdict.check: verdict for verdict in self.state.failed}
        if spec.reference is not None or (spec.relative is None and spec.alert is None):
            found.append(failed.get(spec.name) or self._absolute(moment, whole))
        if spec.relative is not None:
            found.append(
                failed.get(self._relative_name) or self._ratio(spec.relative, moment, whole)
            )
        if spec.alert is not None:
            found.append(self._alert(spec.alert, moment, whole))
        return tuple(found)

    def _absolute(self, moment: Moment, whole: Pair) -> CheckVerdict:
        level, whole = self.spec.reference, self._bounded(whole)
        text = self._summary(whole)
        if level is None:
            return self._say(Reason.INFORMATION, text, whole)
        gate = self.spec.gate or Bound(level.value, above=False)
        text += f", gate {latency(gate.value)}"
        if self.spec.limit is not None:
            text += f", rollback level {latency(level.value)}"
        if (missing := self._missing(moment)) is not None:
            return self._say(missing, text, whole)
        if self.view.limit is None:
            return self._say(Reason.NO_EDGE, f"{self._no_edge(level, 'above')}: {text}", whole)
        text += tested_at(level.value, self.view.limit.edge)
        if self._beyond("rate", self.settings.rollback_need):
            return self._held(level, whole)
        if self.view.cleared is None:
            return self._say(Reason.NO_EDGE, f"{self._no_edge(level, 'below')}: {text}", whole)
        if not gate.beyond(whole.own):
            return self._say(Reason.OUTSIDE_GATE, f"outside the gate: {text}", whole)
        if self._lately_beyond("rate", self.settings.clear_need):
            return self._say(
                Reason.WORSENING, f"the latest calls are beyond the limit: {text}", whole
            )
        if self.state.clear["rate"].log_e() < self.settings.clear_need:
            return self._say(Reason.STILL_UNCERTAIN, f"still uncertain: {text}", whole)
        return self._say(Reason.WITHIN_LIMIT, text, whole, Verdict.PASS)

    def _held(self, level: Bound, whole: Pair) -> CheckVerdict:
        """The level is breached beyond chance, and yet it is no rollback."""
        counts = self.state.trials["rate"].counts()
        both = self._shares(counts, self.view.limit)
        if self.spec.level != "rollback":
            return self._say(Reason.OUTSIDE_GATE, f"provably outside the gate ({both})", whole)
        words = f"{quantile_name(self.spec.q)} above {latency(level.value)}"
        if (counts.baseline_rate or 0.0) > 1 - self.spec.q:
            words += " but the baseline is as slow: shared cause, holding"
            return self._say(Reason.SHARED_CAUSE, f"{words} ({both})", whole)
        words += ", but not provably slower than the baseline yet, holding"
        return self._say(Reason.STILL_UNCERTAIN, f"{words} ({both})", whole)

    def _ratio(self, relative: Relative, moment: Moment, whole: Pair) -> CheckVerdict:
        text = f"{self._both(whole)}, limit {messages.ratio(relative.limit)}"
        if (missing := self._missing(moment)) is not None:
            return self._compare(missing, text, whole)
        if self.state.baseline_seen and self._thin():
            words = f"the baseline answers too few calls to compare with: {text}"
            return replace(self._compare(Reason.INFORMATION, words, whole), level="info")
        if not self.state.baseline_fresh:
            words = f"no fresh samples of the baseline: {text}"
            return self._compare(Reason.NO_DATA, words, whole)
        if self.state.past[-1] < FEWEST:
            words = f"too few calls of the baseline to know its tail: {text}"
            return self._compare(Reason.TOO_FEW_SAMPLES, words, whole)
        if words := missing_edge(self.spec, self.state, self.view):
            return self._compare(Reason.NO_EDGE, f"{words}: {text}", whole)
        if self._worse(relative.limit, self.settings.clear_need):
            words = "the latest calls are slower than the baseline's"
            return self._compare(Reason.WORSENING, f"{words}: {text}", whole)
        if (whole.ratio or 0.0) > relative.limit:
            return self._compare(Reason.OUTSIDE_GATE, f"outside the gate: {text}", whole)
        excluded = messages.ratio(relative.excluded)
        if self.state.clear["ratio"].log_e() < self.settings.clear_need:
            words = f"{excluded} is not excluded yet: {text}"
            return self._compare(Reason.STILL_UNCERTAIN, words, whole)
        words = f"{text}, {excluded} is excluded"
        return self._compare(Reason.WITHIN_LIMIT, words, whole, Verdict.PASS)

    def _alert(self, alert: Bound, moment: Moment, pair: Pair) -> CheckVerdict:
        trial, line = self.state.trials["alert"], self.view.alert
        reason, verdict, words = Reason.WITHIN_LIMIT, Verdict.PASS, ""
        need = self.settings.alert_need
        if not moment.candidate_fresh or not pair.candidate[-1]:
            reason, verdict = Reason.NO_DATA, Verdict.INCONCLUSIVE
        elif line is None:
            reason, verdict = Reason.NO_EDGE, Verdict.INCONCLUSIVE
            words = f"{self._no_edge(alert, 'above')}: "
        elif self._beyond("alert", need):
            pair = self._onset(trial)
            reason, verdict = Reason.ALERT_BREACHED, Verdict.FAIL
            if not self._to_blame("alert", need):
                reason, verdict = Reason.SHARED_CAUSE, Verdict.INCONCLUSIVE
        text = f"{words}{self._both(pair, line)}, alert level {latency(alert.value)}"
        if line is not None:
            text += tested_at(alert.value, line.edge)
        if reason in (Reason.ALERT_BREACHED, Reason.SHARED_CAUSE):
            text += f"; odds against chance {messages.odds(trial.log_e())}"
        made = self._make(reason, text, verdict, pair, line, trial)
        return replace(made, check=f"{self.spec.name}-alert", level="alert", limit=alert.value)

    def _missing(self, moment: Moment) -> Reason | None:
        need = self.spec.min_samples or self.settings.min_samples
        calls = self.state.phase[len(self.state.phase) // 2 - 1]
        if not moment.candidate_fresh or (moment.candidate_calls and not calls):
            return Reason.NO_DATA
        return Reason.TOO_FEW_SAMPLES if calls < need else None

    # --- early warning --------------------------------------------------------------------------

    def _trend(self, name: str) -> str:
        """What gets worse though nothing is breached; empty if nothing does."""
        trial = self.state.trials[name]
        if trial.log_e() < self.settings.warn_need or not self.state.history.rows:
            return ""
        pair, line = self._onset(trial), self.view.limit
        ratio = pair.ratio
        if ratio is not None and ratio <= self.spec.tolerate:
            return ""
        if name == "ratio":
            if ratio is None:
                return ""
            line = self._edge_beyond(pair)
        elif self._beyond(name, self.settings.rollback_need) or not self._lately_beyond(name, 0.0):
            return ""
        length = self.state.history.at - pair.since
        return (
            f"{self._both(pair, line)} over the last {messages.stretch(length)}; "
            f"odds {messages.odds(trial.log_e())}; no limit is breached"
        )

    # --- how it is said: in the user's terms ------------------------------------------------------

    @property
    def _relative_name(self) -> str:
        return f"{self.spec.name}-vs-baseline" if self.spec.reference else self.spec.name

    def _no_edge(self, level: Bound, side: str) -> str:
        edges = [latency(self.state.edges.values[place]) for place in self.view.own]
        have = f"the {'last' if side == 'above' else 'first'} is "
        have += edges[-1 if side == "above" else 0] if edges else "+Inf"
        at = latency(level.value)
        return f"no bucket edge at or {side} {at} ({have}): add one at {at}"

    def _shown(self, value: float | None, vector: Vector, places: Sequence[int]) -> str:
        if value is None:
            return "unknown"
        beyond = vector[places[-1]] < self.spec.q * vector[-1]
        return f"at least {latency(value)}" if beyond else latency(value)

    def _summary(self, pair: Pair) -> str:
        if not pair.candidate[-1]:
            return f"no calls in {self.spec.histogram}"
        name = quantile_name(self.spec.q)
        text = f"candidate {name} {self._shown(pair.own, pair.candidate, self.view.own)} (interpolated)"
        if pair.bounds is not None:
            low, high = pair.bounds
            text += f", 95% anytime-valid interval {latency(low)}"
            text += f"-{latency(high)}" if high is not None else " or more"
        counts = self.view.counts(self.view.limit, pair.candidate, pair.baseline)
        return text if self.view.limit is None else f"{text}; {self._share(counts)}"

    def _bounded(self, pair: Pair) -> Pair:
        """The pair with the interval of the candidate's quantile."""
        if pair.own is None:
            return pair
        edges, own = self.state.edges.values, self.view.own
        bounds = quantile_interval(self.spec.q, edges, pair.candidate, own, self.phi)
        return replace(pair, bounds=bounds)

    def _share(self, counts: Counts) -> str:
        edge = "" if self.view.limit is None else f" above {latency(self.view.limit.edge)}"
        return f"{messages.percent(counts.rate)} of {messages.number(counts.total)} calls{edge}"

    def _shares(self, counts: Counts, line: Line | None) -> str:
        """``9.8% of 163 calls above 3.75 s vs 1.1% of 3108``."""
        if line is None:
            return f"{messages.number(counts.total)} calls"
        text = f"{messages.percent(counts.rate)} of {messages.number(counts.total)} calls "
        text += f"above {latency(line.edge)}"
        if not counts.baseline_total:
            return f"{text}, baseline unknown there"
        total = messages.number(counts.baseline_total)
        return f"{text} vs {messages.percent(counts.baseline_rate)} of {total}"

    def _both(self, pair: Pair, line: Line | None = None) -> str:
        """``p95 4.6 s vs baseline 2.4 s, 1.9x; 9.8% of 163 calls above 3.75 s vs …``."""
        if not pair.candidate[-1]:
            return f"no calls in {self.spec.histogram}"
        view = self.view
        text = f"{quantile_name(self.spec.q)} {self._shown(pair.own, pair.candidate, view.own)} "
        text += f"vs baseline {self._shown(pair.theirs, pair.baseline, view.theirs)}"
        if pair.ratio is not None:
            text += f", {messages.ratio(pair.ratio)}"
        line = line or self._edge_beyond(pair)
        counts = view.counts(line, pair.candidate, pair.baseline)
        return f"{text}; {self._shares(counts, line)}"

    def _edge_beyond(self, pair: Pair) -> Line | None:
        """The edge where the limit would be reached: its shares show the difference best."""
        if pair.compared is None or self.spec.relative is None:
            return self.view.limit
        edges, common = self.state.edges.values, self.view.common
        place = at_or_above(self.spec.relative.limit * pair.compared, edges, common)
        return self.view.line(edges, common[-1] if place is None else place)

    def _breach(self, level: Bound, at: float) -> CheckVerdict:
        trial = self.state.trials["rate"]
        pair, worst, line = self._bounded(self._onset(trial)), trial.onset.worst(), self.view.limit
        text = (
            f"{self._summary(pair)}, {messages.percent(1 - self.spec.q)} allowed above "
            f"{latency(level.value)}, over the last {messages.stretch(at - worst.since)}"
        )
        if line is not None:
            text += tested_at(level.value, line.edge)
        if trial.trailing is not None:
            rate = messages.percent(trial.trailing.counts().rate)
            text += f"; {rate} over {messages.stretch(trial.trailing.seconds)}"
        text += f"; baseline {quantile_name(self.spec.q)} "
        text += f"{self._shown(pair.theirs, pair.baseline, self.view.theirs)}"
        text += f"; odds against chance {messages.odds(trial.log_e())}"
        return self._make(Reason.BREACHED, text, Verdict.FAIL, pair, line, trial)

    def _regression(self, relative: Relative, at: float) -> CheckVerdict:
        trial = self.state.trials["ratio"]
        pair = self._onset(trial)
        text = (
            f"{self._both(pair)} over the last {messages.stretch(at - pair.since)}, "
            f"limit {messages.ratio(relative.limit)}; "
            f"odds against chance {messages.odds(trial.log_e())}"
        )
        return self._compare(Reason.BREACHED, text, pair, Verdict.FAIL)

    def _say(
        self, reason: Reason, text: str, pair: Pair, verdict: Verdict = Verdict.INCONCLUSIVE
    ) -> CheckVerdict:
        """About the quantile."""
        trial = self.state.trials.get("rate")
        made = self._make(reason, text, verdict, pair, self.view.limit, trial)
        warning = "" if trial is None else self._trend("rate")
        return replace(made, warning=warning) if warning else made

    def _compare(
        self, reason: Reason, text: str, pair: Pair, verdict: Verdict = Verdict.INCONCLUSIVE
    ) -> CheckVerdict:
        """About the ratio to the baseline."""
        line, trial = self._edge_beyond(pair), self.state.trials["ratio"]
        return replace(
            self._make(reason, text, verdict, pair, line, trial),
            check=self._relative_name,
            level="rollback",
            estimate=finite(pair.ratio),
            limit=None if self.spec.relative is None else self.spec.relative.limit,
            warning="" if verdict == Verdict.FAIL else self._trend("ratio"),
        )

    def _make(
        self,
        reason: Reason,
        text: str,
        verdict: Verdict,
        pair: Pair,
        line: Line | None,
        trial: Trial | None,
    ) -> CheckVerdict:
        counts = self.view.counts(line, pair.candidate, pair.baseline)
        return CheckVerdict(
            check=self.spec.name,
            metric=self.spec.metric,
            level=self.spec.level,
            verdict=verdict,
            reason=reason,
            message=text,
            estimate=pair.own,
            interval=_closed(pair.bounds),
            bad=counts.bad,
            total=counts.total,
            baseline_bad=counts.baseline_bad,
            baseline_total=counts.baseline_total,
            limit=None if self.spec.reference is None else self.spec.reference.value,
            since=None if trial is None else trial.since,
            odds=None if trial is None else trial.odds,
        )


def _closed(bounds: Interval | None) -> tuple[float, float] | None:
    return None if bounds is None or bounds[1] is None else (bounds[0], bounds[1])
