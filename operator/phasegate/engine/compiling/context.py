"""What compiling needs to know besides the policy."""

from __future__ import annotations

from dataclasses import dataclass

from phasegate.engine.prices import PriceTable


@dataclass(frozen=True, slots=True)
class Context:
    """The agent whose policy is compiled, and what its tokens cost."""

    model: str | None = None
    """The pinned model's name: the metric model-drift counts answers by any other."""
    prices: PriceTable | None = None
    """The administrator's price table, if there is one."""
