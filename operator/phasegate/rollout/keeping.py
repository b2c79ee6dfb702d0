"""What an attempt is judged by, kept in its record: a policy that cannot be read does not end it."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

from phasegate.api.agentrollout import MAX_KEPT, AgentRolloutStatus, JudgedBy
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.engine.prices import Price, PriceTable
from phasegate.rollout.observed import PolicySeen


def kept(policy: PolicySeen, before: JudgedBy | None) -> JudgedBy | None:
    """What to keep of the policy in force; `before` while there is none, or it cannot be read."""
    if policy.problem is not None or policy.spec is None:
        return before
    spec = policy.spec.model_dump_json(by_alias=True, exclude_none=True)
    prices = None if policy.prices is None else _write_prices(policy.prices)
    if len(spec) > MAX_KEPT:
        return None
    return JudgedBy(spec=spec, prices=prices if prices and len(prices) <= MAX_KEPT else None)


def in_force(policy: PolicySeen, record: AgentRolloutStatus | None) -> PolicySeen:
    """The policy that counts: as it is or, where it cannot be read, as the attempt's record has it."""
    known = record.judged_by if record is not None else None
    if known is None or (policy.spec is None and policy.problem is None):
        return policy
    prices = policy.prices or _read_prices(known.prices)
    if policy.problem is None:
        return replace(policy, prices=prices)
    spec = _read_spec(known.spec)
    if spec is None:
        return policy
    told = f"{policy.problem}; the rollout is judged by the policy as it was last read"
    return replace(policy, spec=spec, prices=prices, problem=told)


def _read_spec(text: str) -> RollbackPolicySpec | None:
    try:
        return RollbackPolicySpec.model_validate_json(text)
    except ValueError:
        return None  # of a version that knew other fields


def _write_prices(table: PriceTable) -> str:
    rows = [(p.model, p.tokens, str(p.usd_per_million), p.since) for p in table.prices]
    return json.dumps(rows, separators=(",", ":"))


def _read_prices(text: str | None) -> PriceTable | None:
    if text is None:
        return None
    try:
        rows = [Price(model, kind, Decimal(usd), at) for model, kind, usd, at in json.loads(text)]
    except (ValueError, TypeError, ArithmeticError):
        return None
    return PriceTable(tuple(rows))
