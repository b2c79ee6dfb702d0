"""Drives the engine over JSON lines on stdin and stdout: one phase, one verdict per scrape.

Asked with ``{"op": "start", "phase": …, "history": …}`` and then ``{"op": "scrape", "t": …,
"candidate": {"metric|pod": value}, "baseline": …}``, it answers each with a verdict and a sentence.
Values are raw cumulative counters, null is NaN. Kinds the engine does not have are left out.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from phasegate.engine.checks import CheckSpec
from phasegate.engine.dispersion import dispersion
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Selector


def check(spec: Mapping[str, Any]) -> CheckSpec | None:
    """A check of the protocol, compiled; None for a kind that is not there."""
    name = spec["name"]
    if spec["kind"] == "event":
        return EventCheck(name, name, Selector(spec["counter"]))
    if spec["kind"] != "ratio":
        return None
    limit = spec.get("limit")
    relative = spec.get("relative")
    return RatioCheck(
        name=name,
        metric=name,
        total=Selector(spec["total"]),
        bad=Selector(spec["bad"]),
        limit=None if limit is None else Bound(limit, above=True, window=spec.get("window")),
        gate=Bound(spec["gate"], above=False) if "gate" in spec else None,
        severe=None if limit is None else spec.get("severe", 0.5),
        relative=None
        if relative is None
        else Relative(relative["limit"], relative["tolerate"], relative.get("rollback", 2.0)),
        min_samples=spec.get("minSamples"),
    )


def plan(phase: Mapping[str, Any], history: Mapping[str, Any]) -> EvidencePlan:
    """The plan of a phase of the protocol, which starts at time zero."""
    checks = tuple(c for c in map(check, phase["checks"]) if c is not None)
    return EvidencePlan(
        phase="phase",
        start=0.0,
        planned_seconds=phase["plannedSeconds"],
        # The error rate is shared with the checks that are left out, as if they were there.
        alpha=phase["alpha"] * len(checks) / len(phase["checks"]),
        beta=phase["beta"],
        min_samples=min(c.get("minSamples", 50) for c in phase["checks"]),
        min_seconds=phase["minSeconds"],
        stale_seconds=phase["staleSeconds"],
        checks=checks,
        volume=Selector("calls"),
        dispersion=tuple((name, dispersion(blocks)) for name, blocks in history.items()),
    )


def series(arm: Arm, at: float, values: Mapping[str, float | None]) -> Iterable[Series]:
    """One scrape of an arm."""
    for key, value in values.items():
        name, _, pod = key.partition("|")
        sample = (at, math.nan if value is None else value)
        yield Series(arm, name, (("pod", pod),), (sample,))


def main() -> None:
    """Answer until the input ends."""
    evidence: Evidence | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {"verdict": "Inconclusive", "message": ""}
        if asked["op"] == "start":
            evidence = Evidence(plan(asked["phase"], asked.get("history", {})))
        elif evidence is not None:
            at = asked["t"]
            evidence.ingest(
                [
                    *series("candidate", at, asked["candidate"]),
                    *series("baseline", at, asked["baseline"]),
                ]
            )
            judged = evidence.judge(at)
            answer = {"verdict": str(judged.verdict), "message": judged.message}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
