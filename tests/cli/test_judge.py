"""`phasegate judge` speaks its protocol, on the engine as it runs live."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner
from phasegate.cli.main import main

Json = dict[str, Any]

ERRORS: Json = {"name": "errors", "kind": "ratio", "bad": "errors", "total": "calls", "limit": 0.05}
SAFETY: Json = {"name": "safety", "kind": "event", "counter": "flags"}
LATENCY: Json = {
    **{"name": "latency", "kind": "quantile", "histogram": "lat", "edges": [1, 3, 10]},
    **{"q": 0.95, "limit": 3.0},
}
COST: Json = {
    **{"name": "cost", "kind": "mean", "sum": "cost_sum", "count": "calls", "direction": "up"},
    "relative": {"limit": 3.0, "tolerate": 1.25},
}


def start(*checks: Json, **phase: Any) -> Json:
    """The first line: a phase of two hours."""
    return {
        "op": "start",
        "phase": {
            **{"alpha": 0.01, "beta": 0.05, "plannedSeconds": 7200, "minSeconds": 0},
            **{"staleSeconds": 120, "checks": list(checks), **phase},
        },
        "history": {},
    }


def scrape(step: int, candidate: Json, baseline: Json | None = None) -> Json:
    """A line of counters, scraped every 15 s; the baseline answers nine times as much, well."""
    usual: Json = {"calls|b0": 1000 + 900 * step, "errors|b0": 10 + 9 * step}
    return {
        "op": "scrape",
        "t": 15 * step,
        "candidate": candidate,
        "baseline": usual if baseline is None else baseline,
    }


def ask(lines: Sequence[Json | str]) -> list[Json]:
    """The answers to these lines."""
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    done = CliRunner().invoke(main, ["judge"], input=text, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def verdicts(lines: Sequence[Json | str]) -> list[str]:
    return [answer["verdict"] for answer in ask(lines)]


def test_every_line_is_answered_with_a_verdict_and_a_sentence() -> None:
    asked = [start(ERRORS, SAFETY)]
    asked += [scrape(n, {"calls|c0": 100 * n, "errors|c0": 0, "flags|c0": 0}) for n in range(1, 5)]
    asked += [scrape(n, {"calls|c0": 100 * n, "errors|c0": 0, "flags|c0": 1}) for n in (5, 6)]
    answers = ask(asked)
    assert [answer["verdict"] for answer in answers] == [
        *["Inconclusive", "Pass", "Pass", "Pass", "Pass"],
        *["Fail", "Fail"],
    ]
    assert answers[-1]["message"].startswith("safety: candidate 1 (limit 0)")


def test_a_bad_rate_fails_with_its_numbers() -> None:
    asked = [start(ERRORS)]
    asked += [scrape(n, {"calls|c0": 100 * n, "errors|c0": 30 * n}) for n in range(1, 10)]
    last = ask(asked)[-1]
    assert last["verdict"] == "Fail"
    for part in ("errors: candidate 30.0%", "/", "baseline 1.0%", "odds against chance"):
        assert part in last["message"]


def test_null_is_no_data_and_never_a_verdict() -> None:
    blind = [start(ERRORS)]
    blind += [scrape(n, {"calls|c0": None, "errors|c0": None}) for n in range(1, 20)]
    assert set(verdicts(blind)) == {"Inconclusive"}


def test_what_was_missed_while_null_is_counted_afterwards() -> None:
    whole = [scrape(n, {"calls|c0": 100 * n, "errors|c0": 0}) for n in range(1, 8)]
    gap = [
        scrape(n, {"calls|c0": None if n in (2, 3) else 100 * n, "errors|c0": 0})
        for n in range(1, 8)
    ]
    assert ask([start(ERRORS), *gap])[-1] == ask([start(ERRORS), *whole])[-1]


def test_a_counter_that_falls_was_reset_and_takes_nothing_away() -> None:
    calls = [100, 200, 300, 100, 200]
    asked = [scrape(n, {"calls|c0": c, "errors|c0": 0}) for n, c in enumerate(calls, start=1)]
    straight = [scrape(n, {"calls|c0": 100 * n, "errors|c0": 0}) for n in range(1, 6)]
    assert ask([start(ERRORS), *asked])[-1] == ask([start(ERRORS), *straight])[-1]


def slow(step: int, over: int) -> Json:
    """A hundred calls a scrape, `over` of them above three seconds; buckets each for itself."""
    counts = {"lat:0": 90 - over, "lat:1": 10, "lat:2": over, "lat:3": 0}
    return {
        **{f"{name}|c0": step * count for name, count in counts.items()},
        **{"calls|c0": 100 * step, "errors|c0": 0},
    }


def quick(step: int) -> Json:
    """The baseline's: 2 % above three seconds."""
    counts = {"lat:0": 900 - 18, "lat:1": 0, "lat:2": 18, "lat:3": 0}
    return {
        **{f"{name}|b0": step * count for name, count in counts.items()},
        **{"calls|b0": 900 * step, "errors|b0": 0},
    }


@pytest.mark.parametrize(("over", "verdict"), [(20, "Fail"), (1, "Pass")])
def test_buckets_become_a_quantile(over: int, verdict: str) -> None:
    asked = [start(ERRORS, LATENCY)]
    asked += [scrape(n, slow(n, over), quick(n)) for n in range(1, 16)]
    assert verdicts(asked)[-1] == verdict


@pytest.mark.parametrize(("usd", "verdict"), [(0.10, "Fail"), (0.02, "Pass")])
def test_sums_become_a_mean(usd: float, verdict: str) -> None:
    asked = [start(ERRORS, COST)]
    for n in range(1, 200):
        candidate = {"calls|c0": 10 * n, "errors|c0": 0, "cost_sum|c0": 10 * n * usd}
        baseline = {"calls|b0": 90 * n, "errors|b0": 0, "cost_sum|b0": 90 * n * 0.02}
        asked.append(scrape(n, candidate, baseline))
    assert verdicts(asked)[-1] == verdict


def test_a_later_start_begins_anew() -> None:
    asked = [start(SAFETY, ERRORS)]
    asked += [scrape(n, {"calls|c0": 100 * n, "flags|c0": n - 1}) for n in (1, 2)]
    assert verdicts([*asked, start(SAFETY, ERRORS)])[-2:] == ["Fail", "Inconclusive"]


@pytest.mark.parametrize(
    "line",
    [
        "not JSON",
        "[]",
        "7",
        "{}",
        '{"op": "dance"}',
        "[" * 100_000,
        '{"op": "scrape", "t": 15, "candidate": {}}',
        '{"op": "scrape", "t": 15, "candidate": [], "baseline": {}}',
        '{"op": "scrape", "t": "soon", "candidate": {}, "baseline": {}}',
        json.dumps(start({"name": "x", "kind": "guess"})),
        json.dumps(start(SAFETY)),
        json.dumps(start({**ERRORS, "limit": "much"})),
        json.dumps(start(ERRORS, alpha=0)),
    ],
)
def test_a_line_that_is_not_of_the_protocol_ends_in_a_sentence(line: str) -> None:
    text = f"{json.dumps(start(ERRORS))}\n{line}\n"
    done = CliRunner().invoke(main, ["judge"], input=text)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert "Error: " in done.output
    assert "Traceback" not in done.output


def test_a_scrape_before_the_start_ends_in_a_sentence() -> None:
    done = CliRunner().invoke(main, ["judge"], input=json.dumps(scrape(1, {})) + "\n")
    assert (done.exit_code, "nothing is judged yet" in done.output) == (1, True)
