"""Models without a price: what checks about money remember of them, and say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from phasegate.engine.amounts import Amount
from phasegate.engine.kinds.base import Step
from phasegate.engine.prices import Priced
from phasegate.engine.verdict import Reason

_MODELS: Final = 5
"""Models without a price that are named."""


def unpriced(known: tuple[str, ...], spent: Amount | Priced, step: Step) -> tuple[str, ...]:
    """The models known to have no price, with those of a step, of either arm."""
    unknown = {
        model
        for increments in (step.candidate, step.baseline)
        for model in spent.unknown(increments, step.at)
    }
    if unknown.issubset(known):
        return known
    return tuple(sorted(unknown.union(known)))[:_MODELS]


def explained(reason: Reason, models: Sequence[str], text: str) -> str:
    """A sentence with the models that make it uncertain, where that is the reason."""
    if reason != Reason.NO_PRICE:
        return text
    named = ", ".join(models)
    return f"no price is known for {named}, so the cost cannot be told: holding ({text})"
