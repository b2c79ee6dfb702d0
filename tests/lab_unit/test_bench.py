"""How the benchmark reads what it sees; the numbers themselves are nobody's test."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import yaml
from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from rich.console import Console

from bench.probe import Samples, answers, usage, weight
from bench.report import Figure, digits, show

MANIFESTS = Path(__file__).parents[2] / "bench" / "manifests"


def series(outcome: str, *values: tuple[float, float], pod: str = "p") -> dict[str, Any]:
    raw = [[scraped, str(value)] for scraped, value in values]
    return {"metric": {"pod": pod, "outcome": outcome}, "values": raw}


def test_the_first_bad_sample_is_the_first_increment_after_the_fault() -> None:
    seen = Samples()
    seen.take([series("success", (1, 10)), series("error", (1, 2))], at=1.1)
    seen.take([series("success", (2, 20)), series("error", (2, 3))], at=2.1)
    assert (seen.first_bad, seen.newest) == (None, 2.1)  # an honest error before the fault
    seen.arm(2.5)
    seen.take([series("success", (2, 20)), series("error", (2, 3))], at=2.6)
    assert (seen.first_bad, seen.newest) == (None, 2.1)  # nothing new
    seen.take([series("success", (3, 25)), series("error", (3, 3))], at=3.1)
    assert (seen.first_bad, seen.newest) == (None, 3.1)
    seen.take([series("success", (4, 25)), series("error", (4, 9))], at=4.1)
    seen.take([series("success", (5, 25)), series("error", (5, 19))], at=5.1)
    assert (seen.first_bad, seen.first_bad_scraped, seen.newest) == (4.1, 4, 5.1)


def route(*rules: dict[str, int]) -> dict[str, Any]:
    refs = [[{"name": name, "weight": w} for name, w in rule.items()] for rule in rules]
    return {"spec": {"rules": [{"backendRefs": rule} for rule in refs]}}


def test_a_weight_is_that_of_the_main_rule() -> None:
    assert weight(route({"a-2": 1}, {"a-1": 50, "a-2": 50}), "a-2") == 50
    assert weight(route({"a-1": 1_000_000, "a-2": 1}), "a-2") == 1
    assert weight(route({"a-1": 1_000_000, "a-3": 1}), "a-2") == 0
    assert weight({"spec": {}}, "a-2") == 0


def test_the_last_answer_and_late_requests_come_from_the_record(tmp_path: Path) -> None:
    record = tmp_path / "users.jsonl"
    rows = [("a", 1.0, 1.1), ("b", 1.5, 2.2), ("b", 2.05, 2.1), ("a", 3.0, 3.1)]
    lines = [json.dumps({"revision": r, "t": t, "t_done": done}) for r, t, done in rows]
    record.write_text("\n".join(lines) + "\n")
    got = answers(record, "b", after=2.0)
    assert (got.last_done, got.sent_after) == (2.2, 1)


def test_usage_is_that_of_the_process() -> None:
    before = usage(os.getpid())
    sum(number * number for number in range(3_000_000))
    after = usage(os.getpid())
    assert after.cpu_s > before.cpu_s
    assert 1 < after.rss_mib < 10_000


def test_a_figure_has_its_median_and_maximum() -> None:
    figure = Figure("delay", "s", (0.3, 0.1, 0.2, 9.0), "about it", "≤ 1 s")
    assert figure.row() == ("delay", "4", "0.250 s", "9.00 s", "≤ 1 s")
    assert figure.json()["median"] == 0.25
    assert Figure("delay", "s", (), "about it").row()[1:4] == ("0", "—", "—")


def test_numbers_keep_three_digits_that_mean_something() -> None:
    assert [digits(v) for v in (0, 0.01234, 0.5, 12.345, 1234.5)] == [
        *("0", "0.0123", "0.500", "12.3", "1,234")
    ]


def test_the_table_says_what_was_measured_and_on_what() -> None:
    file = io.StringIO()
    figure = Figure("delay", "s", (0.3,), "from here to there")
    show(Console(file=file, width=100), "title", {"processor": "two"}, ["the setting"], [figure])
    for words in ("title", "0.300 s", "delay: from here to there", "the setting", "two"):
        assert words in file.getvalue()


def test_the_manifests_are_valid() -> None:
    for name, model in (("agent", AgentDeploymentSpec), ("policy", RollbackPolicySpec)):
        model.model_validate(yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())["spec"])
