from __future__ import annotations

import pytest
from phasegate.api.agentrollout import AgentRolloutStatus, JudgedBy
from phasegate.api.rollbackpolicy import Level, Metric, RollbackPolicySpec
from phasegate.engine.prices import parse_prices
from phasegate.rollout.keeping import in_force, kept
from phasegate.rollout.observed import PolicySeen
from phasegate.rollout.reasons import Reason

PRICES = parse_prices(
    'prices: [{model: gpt-4o*, from: 2026-01-01, usdPerMillionTokens: {input: "0.40", output: 2}}]'
)
POLICY = RollbackPolicySpec(
    source="otel-genai",
    metrics=(Metric(name="cost-per-call", rollback=Level(above="0.50")),),
)
READ = PolicySeen(POLICY, prices=PRICES)
GONE = PolicySeen(None, "RollbackPolicy 'p' does not exist", Reason.POLICY_NOT_FOUND)


def record(judged_by: JudgedBy | None) -> AgentRolloutStatus:
    return AgentRolloutStatus(judged_by=judged_by)


def test_what_was_kept_counts_while_the_policy_cannot_be_read() -> None:
    seen = in_force(GONE, record(kept(READ, None)))
    assert (seen.spec, seen.prices) == (POLICY, PRICES)
    assert seen.reason is Reason.POLICY_NOT_FOUND
    assert seen.problem is not None
    assert seen.problem.startswith("RollbackPolicy 'p' does not exist; the rollout is judged by")


def test_what_can_be_read_counts_as_it_is() -> None:
    other = PolicySeen(POLICY.model_copy(update={"false_rollback_rate": "2%"}), prices=PRICES)
    assert in_force(other, record(kept(READ, None))) == other


def test_prices_that_cannot_be_read_are_those_that_were_kept() -> None:
    seen = in_force(PolicySeen(POLICY), record(kept(READ, None)))
    assert seen == READ


def test_what_cannot_be_read_replaces_nothing_that_was_kept() -> None:
    before = kept(READ, None)
    assert kept(GONE, before) == before


def test_an_agent_that_names_no_policy_is_judged_by_none_that_was_kept() -> None:
    assert in_force(PolicySeen(None), record(kept(READ, None))) == PolicySeen(None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"metrics": 1}', '{"newField": {}}'])
def test_what_was_kept_by_another_version_and_cannot_be_read_is_as_if_it_were_not_there(
    text: str,
) -> None:
    assert in_force(GONE, record(JudgedBy(spec=text, prices=text))) == GONE


def test_a_price_table_that_is_too_large_is_not_kept() -> None:
    rows = [
        f'{{model: m{number}, usdPerMillionTokens: {{input: "0.40"}}}}' for number in range(6000)
    ]
    large = parse_prices(f"prices: [{', '.join(rows)}]")
    known = kept(PolicySeen(POLICY, prices=large), None)
    assert known is not None
    assert known.prices is None
