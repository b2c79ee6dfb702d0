"""The test driver speaks its protocol, on the engine as it runs live."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PHASE = {
    "alpha": 0.01,
    "beta": 0.05,
    "plannedSeconds": 7200,
    "minSeconds": 0,
    "staleSeconds": 120,
    "checks": [
        {"name": "errors", "kind": "ratio", "bad": "errors", "total": "calls", "limit": 0.05},
        {"name": "latency", "kind": "quantile"},
        {"name": "safety", "kind": "event", "counter": "flags"},
    ],
}


def scrape(t: int, calls: float, errors: float, flags: float | None) -> dict[str, object]:
    candidate = {"calls|c0": calls, "errors|c0": errors, "flags|c0": flags}
    baseline = {"calls|b0": 1000 + 9 * calls, "errors|b0": 10.0}
    return {"op": "scrape", "t": t, "candidate": candidate, "baseline": baseline}


def test_every_line_is_answered_with_a_verdict_and_a_sentence() -> None:
    asked: list[dict[str, object]] = [{"op": "start", "phase": PHASE, "history": {}}]
    asked += [scrape(15 * step, 100.0 * step, 0.0, None) for step in range(1, 5)]
    asked += [scrape(75, 500.0, 0.0, 1.0), scrape(90, 600.0, 0.0, 1.0)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("jsonlines.py"))],
        input="".join(json.dumps(line) + "\n" for line in asked),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["verdict"] for answer in answers] == [
        *["Inconclusive", "Pass", "Pass", "Pass", "Pass"],
        *["Fail", "Fail"],
    ]
    assert answers[-1]["message"].startswith("safety: candidate 1 (limit 0)")
