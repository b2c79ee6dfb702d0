"""`phasegate plan` says how long gates take, and every mistake of a user ends in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from phasegate.cli.main import main

Json = dict[str, Any]

POLICY: Json = {
    "apiVersion": "phasegate.dev/v1alpha1",
    "kind": "RollbackPolicy",
    "metadata": {"name": "strict"},
    "spec": {
        "metrics": [
            {
                "name": "error-rate",
                "gate": {"below": "5%"},
                "rollback": {"above": "5%"},
                "baseline": {},
            },
            {"name": "latency-p95", "rollback": {"above": "3s"}},
            {"name": "accuracy", "gate": {"above": "90%"}, "rollback": {"below": "85%"}},
            {"name": "cost-per-call", "baseline": {}},
            {"name": "safety-flags", "rollback": {"above": "0"}},
        ]
    },
}


def agent(**spec: Any) -> Json:
    phases = [
        {
            "name": "canary-1",
            "type": "Canary",
            "weight": 1,
            "minDuration": "1h",
            "maxDuration": "2h",
        },
        {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "1h"},
        {"name": "full", "type": "Full", "minDuration": "24h"},
    ]
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "support", "namespace": "shop"},
        "spec": {
            "template": {"spec": {"containers": [{"name": "agent", "image": "example.com/a:1"}]}},
            "service": {"port": 8080},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "gateway"}]}},
            "strategy": {"phases": phases},
            "policyRef": {"name": "strict"},
            **spec,
        },
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "agent.yaml", agent(), POLICY)


def written(path: Path, *objects: Any) -> Path:
    path.write_text(yaml.safe_dump_all(objects))
    return path


def run(*argv: str | Path) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, argv)])


def planned(*argv: str | Path) -> Json:
    done = run(*argv, "-o", "json")
    assert done.exit_code == 0, done.output
    found: Json = json.loads(done.output)
    return found


def phase(found: Json, name: str) -> Json:
    return next(dict(phase) for phase in found["phases"] if phase["name"] == name)


def test_every_phase_and_every_check_is_told_at_its_traffic(file: Path) -> None:
    found = planned(file, "--rps", "20", "--base", "error-rate=1%")
    assert found["agent"] == "shop/support"
    assert [p["candidateCallsPerSecond"] for p in found["phases"]] == pytest.approx(
        [0.2, 4.0, 20.0]
    )
    for told in found["phases"]:
        assert [check["check"] for check in told["checks"]] == [
            *["error-rate", "latency-p95", "accuracy", "cost-per-call", "safety-flags"]
        ]
    errors = phase(found, "canary-20")["checks"][0]
    assert errors["catches"][0]["what"] == "twice as bad (2.0%)"
    assert 0 < errors["catches"][-1]["seconds"] <= 120
    assert 0 < errors["passes"]["usual"] <= errors["passes"]["slow"]


def test_a_gate_that_cannot_be_passed_in_time_is_told_with_its_reason(file: Path) -> None:
    found = planned(file, "--rps", "2", "--base", "error-rate=1%")
    told = phase(found, "canary-1")
    assert told["passes"] is None
    assert any(words.startswith("error-rate: a Pass takes") for words in told["never"])
    assert told["line"].startswith("canary-1: cannot pass: error-rate: ")
    assert phase(found, "canary-20")["passes"] is not None


def test_without_traffic_no_gate_can_be_passed(file: Path) -> None:
    found = planned(file, "--rps", "0")
    assert all(told["passes"] is None for told in found["phases"])
    assert "no call of the candidate" in phase(found, "full")["never"][0]


def test_what_is_free_today_can_be_planned(file: Path) -> None:
    done = run(file, "--rps", "1", "--base", "cost-per-call=0")
    assert done.exit_code == 0, done.output


def test_the_table_has_a_row_for_each_check(file: Path) -> None:
    done = run(file, "--rps", "20", "--base", "error-rate=1%", "--base", "cost-per-call=0.02")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "shop/support: 20 calls/s of users, scraped every 15 s"
    assert sum(line.strip().startswith("error-rate ") for line in lines) == 3
    assert "note: accuracy: assumed: one call in 10 is labelled" in lines
    assert not any("cost-per-call: assumed" in line for line in lines)


def test_the_policy_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    alone = written(tmp_path / "agent.yaml", agent())
    policy = written(tmp_path / "policy.yaml", POLICY)
    assert planned(alone, "--policy", policy, "--rps", "20")["phases"]
    refused = run(alone, "--rps", "20")
    assert refused.exit_code == 1
    assert "RollbackPolicy strict is not in this file" in refused.output


def test_an_agent_without_a_policy_is_judged_by_the_default_one(tmp_path: Path) -> None:
    manifest = agent()
    del manifest["spec"]["policyRef"]
    found = planned(written(tmp_path / "agent.yaml", manifest), "--rps", "20")
    names = [check["check"] for check in phase(found, "full")["checks"]]
    assert names == ["error-rate", "escalation-rate", "safety-flags"]


MISTAKES: list[tuple[str, tuple[str, ...], str]] = [
    ("no traffic", (), "--rps"),
    ("both", ("--rps", "1", "--prometheus", "default"), "--rps"),
    ("no config", ("--prometheus", "default"), "--config"),
    ("base of nothing", ("--rps", "1", "--base", "speed=1%"), "METRIC=VALUE"),
    ("base no number", ("--rps", "1", "--base", "cost-per-call=much"), "not a number"),
    ("base no percentage", ("--rps", "1", "--base", "error-rate=1"), "percentage"),
    ("base of a quantile", ("--rps", "1", "--base", "latency-p95=1"), "histogram"),
    ("no duration", ("--rps", "1", "--scrape", "15"), "duration"),
    ("rps no number", ("--rps", "nan"), "--rps"),
    ("rps without end", ("--rps", "inf"), "--rps"),
    ("base not finite", ("--rps", "1", "--base", "cost-per-call=nan"), "not a number"),
    ("base below zero", ("--rps", "1", "--base", "cost-per-call=-1"), "not a number"),
]


@pytest.mark.parametrize(
    ("argv", "words"), [m[1:] for m in MISTAKES], ids=[mistake[0] for mistake in MISTAKES]
)
def test_a_mistake_on_the_command_line_ends_in_a_sentence(
    file: Path, argv: tuple[str, ...], words: str
) -> None:
    done = run(file, *argv)
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), done.exception
    assert words in done.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not YAML"),
        ("just words", "no Kubernetes object"),
        ("kind: Pod", "has 0 AgentDeployments"),
        (yaml.safe_dump(agent(replicas=-1) | {"metadata": {"name": "x"}}), "spec.replicas"),
        (yaml.safe_dump(agent() | {"metadata": {}}), "metadata.name"),
        (yaml.safe_dump(agent() | {"metadata": "support"}), "metadata.name"),
        ("from: 2026-13-01", "is not YAML"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_a_mistake_in_a_file_ends_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    done = run(path, "--rps", "1")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert words in done.output
    assert str(path) in done.output


def test_a_metric_that_the_source_cannot_give_is_refused(tmp_path: Path) -> None:
    policy = {**POLICY, "spec": {**POLICY["spec"], "source": "istio"}}
    done = run(written(tmp_path / "agent.yaml", agent(), policy), "--rps", "1")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert "istio" in done.output


def test_a_file_that_is_not_there_ends_in_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing.yaml", "--rps", "1")
    assert (done.exit_code, "No such file" in done.output) == (1, True)
