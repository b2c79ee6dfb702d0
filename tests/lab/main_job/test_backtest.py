"""A backtest on the lab's Prometheus decides what the operator decided, on the same samples.

Two attempts are lived, a bad revision that is taken back and a good one that reaches everybody;
then every phase of both is judged again from history.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from phasegate.adapters.config import ProviderConfig
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.api.agentdeployment import AgentDeploymentSpec, Progress
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.cli.main import main
from phasegate.control.addresses import Party
from phasegate.control.backtest import Look, replay
from phasegate.control.ports import Key
from phasegate.control.subject import Subject
from phasegate.engine.verdict import Judgement, Verdict
from phasegate.rollout.judging import evidence_plan
from phasegate.rollout.phases import mirrors, mode_of, phases_of

from tests.lab.main_job.cluster import Json
from tests.lab.main_job.manifests import BAD_PROMPT, BETTER_PROMPT, CANARY, DARK, FULL, NAME
from tests.lab.main_job.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

# As long as the phases are for the good one, and long enough for the bad one to be found.
PHASES = (DARK, {**CANARY, "minDuration": "8s"}, FULL)


@dataclass(frozen=True)
class Phase:
    """One phase of an attempt: what led to it, what ended it, and the two revisions."""

    number: int
    entered: Json
    left: Json
    candidate: str
    baseline: str

    @property
    def name(self) -> str:
        return f"{self.number}/{self.entered['toPhase']}"

    @property
    def rests_on(self) -> float:
        """Scrape time of the newest sample of the decision."""
        return when(self.left, "evidenceAt")


@dataclass(frozen=True)
class Lived:
    """Both attempts' phases, and what they were judged by."""

    phases: tuple[Phase, ...]
    spec: AgentDeploymentSpec
    policy: RollbackPolicySpec
    url: str
    key: Key

    def judged(self, phase: Phase, until: float) -> list[Look]:
        """Every judgement of the phase, from Prometheus' history."""
        running = next(
            p for p in phases_of(self.spec.strategy) if p.name == phase.entered["toPhase"]
        )
        progress = Progress(phase=running, entered_at=datetime.fromisoformat(phase.entered["at"]))
        plan = evidence_plan(self.spec, self.policy, progress)
        pods = mode_of(running, self.spec)
        party = Party(self.key, phase.candidate, phase.baseline, pods, mirrors(running))
        subject = Subject("", party, "default", self.policy.source, plan)
        return asyncio.run(self._replay(subject, until))

    async def _replay(self, subject: Subject, until: float) -> list[Look]:
        config = ProviderConfig.model_validate({"url": self.url})
        provider = PrometheusProvider.connect("default", config)
        try:
            return [look async for look in replay(subject, provider, until)]
        finally:
            await provider.close()


def when(gate: Json, field: str) -> float:
    return datetime.fromisoformat(gate[field]).timestamp()


@pytest.fixture(scope="module")
def lived(told: Story) -> Lived:
    told.stable(*PHASES)
    told.users()
    told.prompt(BAD_PROMPT)
    told.rolled_back()
    bad = told.rollout(1, "RolledBack")
    told.prompt(BETTER_PROMPT)
    good = told.rollout(2, "Succeeded")
    phases = [
        Phase(attempt["spec"]["number"], *gates, *revisions(attempt))
        for attempt in (bad, good)
        for gates in pairwise(attempt["status"]["gates"])
    ]
    return Lived(
        tuple(phases),
        AgentDeploymentSpec.model_validate(told.api.get("agentdeployments", NAME)["spec"]),
        RollbackPolicySpec.model_validate(told.api.get("rollbackpolicies", "policy")["spec"]),
        told.lab.prometheus_url,
        Key(told.api.namespace, NAME),
    )


def revisions(attempt: Json) -> tuple[str, str]:
    return attempt["spec"]["revision"], attempt["spec"]["fromRevision"]


def sentences(gate: Json) -> list[tuple[str, str, str]]:
    return [(c["name"], c["verdict"], c["message"]) for c in gate["checks"]]


def said(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(c.check, c.verdict.value, c.message) for c in judgement.checks]


def same(one: float, other: float) -> bool:
    """The same scrape: Prometheus keeps milliseconds."""
    return math.isclose(one, other, abs_tol=0.0005)


def decided(lived: Lived, decision: Callable[[str], bool]) -> list[Phase]:
    return [phase for phase in lived.phases if decision(phase.left["decision"])]


def test_both_stories_ended_as_they_should(lived: Lived) -> None:
    assert [(phase.name, phase.left["decision"]) for phase in lived.phases] == [
        *[("1/dark", "Advanced"), ("1/canary-40", "RolledBack")],
        *[("2/dark", "Advanced"), ("2/canary-40", "Advanced"), ("2/full", "Stable")],
    ]


def test_every_gate_is_passed_on_the_same_sample_with_the_same_numbers(lived: Lived) -> None:
    for phase in decided(lived, lambda decision: decision != "RolledBack"):
        looks = lived.judged(phase, when(phase.left, "at"))
        there = [look for look in looks if same(look.judgement.at, phase.rests_on)]
        assert there, phase.name
        assert there[-1].judgement.verdict == Verdict.PASS, phase.name
        assert said(there[-1].judgement) == sentences(phase.left), phase.name


def test_no_gate_was_left_before_the_first_pass_nor_after_a_fail(lived: Lived) -> None:
    for phase in decided(lived, lambda decision: decision != "RolledBack"):
        looks = lived.judged(phase, when(phase.left, "at"))
        verdicts = [look.judgement.verdict for look in looks]
        assert Verdict.FAIL not in verdicts
        first = looks[verdicts.index(Verdict.PASS)]
        assert first.now <= when(phase.left, "at"), phase.name
        assert first.judgement.at <= phase.rests_on + 0.0005, phase.name


def test_the_rollback_is_found_on_the_same_sample_with_the_same_words(lived: Lived) -> None:
    (phase,) = decided(lived, lambda decision: decision == "RolledBack")
    looks = lived.judged(phase, when(phase.left, "at") + 5)
    fail = next(look for look in looks if look.judgement.verdict == Verdict.FAIL)
    assert same(fail.judgement.at, phase.rests_on)
    assert said(fail.judgement) == sentences(phase.left)
    assert all(look.judgement.verdict != Verdict.PASS for look in looks)


def test_the_command_tells_the_same_and_draws_it(lived: Lived, tmp_path: Path) -> None:
    (phase,) = decided(lived, lambda decision: decision == "RolledBack")
    config, policy, picture = (tmp_path / name for name in ("config.yaml", "policy.yaml", "x.svg"))
    config.write_text(yaml.safe_dump({"providers": {"default": {"url": lived.url}}}))
    manifest: dict[str, Any] = {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "RollbackPolicy",
        "metadata": {"name": "policy"},
        "spec": lived.policy.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    policy.write_text(yaml.safe_dump(manifest))
    argv = [
        *("backtest", str(policy), "--agent", f"{lived.key.namespace}/{NAME}"),
        *("--revision", phase.candidate, "--baseline", phase.baseline),
        *("--from", phase.entered["at"], "--to", phase.left["at"]),
        *("--min-duration", "8s", "--min-samples", str(CANARY["minSamples"])),
        *("--config", str(config), "--svg", str(picture), "-o", "json"),
    ]
    done = CliRunner().invoke(main, argv, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["advancedAt"] is None
    assert same(told["rolledBackAt"]["at"], phase.rests_on)
    assert phase.left["message"] in told["outcome"]
    assert told["timeline"][-1]["verdict"] == "Fail"
    assert picture.read_text().startswith("<?xml")


def test_today_is_read_for_a_plan(lived: Lived, tmp_path: Path) -> None:
    config, agent = tmp_path / "config.yaml", tmp_path / "agent.yaml"
    config.write_text(yaml.safe_dump({"providers": {"default": {"url": lived.url}}}))
    spec = lived.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    spec.pop("policyRef")
    manifest = {
        **{"apiVersion": "phasegate.dev/v1alpha1", "kind": "AgentDeployment"},
        **{"metadata": {"name": NAME, "namespace": lived.key.namespace}, "spec": spec},
    }
    agent.write_text(yaml.safe_dump(manifest))
    argv = ["plan", str(agent), "--prometheus", "default", "--config", str(config), "-o", "json"]
    done = CliRunner().invoke(main, argv, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["callsPerSecond"] > 1
    assert told["scrapeSeconds"] == pytest.approx(1.0, abs=0.2)
