"""What the tables share: how much is simulated, what a table is, the checks of a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from phasegate.engine.amounts import Amount
from phasegate.engine.checks import CheckSpec
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.selectors import Selector

from bench.judgement.worlds import Traffic, World

CALLS: Final = Selector("calls")
Cell = str | float | None
Make = Callable[[np.random.Generator, Traffic], World]


@dataclass(frozen=True)
class Scale:
    """How much is simulated."""

    runs: int
    """Rollouts per row."""
    hours: float
    """Hours of an increment in the tables of healthy rollouts."""
    seed: int


@dataclass(frozen=True)
class Table:
    """A title, what it means, heads and rows."""

    name: str
    title: str
    about: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


# --- checks ----------------------------------------------------------------------------------------


def error_checks(limit: float = 0.05) -> tuple[CheckSpec, ...]:
    """What a policy with `gate: 5%, rollback: 5%, baseline: {}` compiles to."""
    return (
        RatioCheck(
            *("errors", "errors", CALLS, Selector("errors")),
            limit=Bound(limit, above=True),
            gate=Bound(limit, above=False),
            relative=Relative(1.5, 1.1, 2.0, 0.1 * limit),
            severe=0.5,
        ),
    )


def relative_errors(tolerate: float) -> tuple[CheckSpec, ...]:
    """The comparison alone; the estimate's own limit is no help."""
    relative = Relative(tolerate * 1.0001, tolerate, 2.0)
    return (RatioCheck("errors", "errors", CALLS, Selector("errors"), relative=relative),)


def absolute_errors(level: float) -> tuple[CheckSpec, ...]:
    """The level alone."""
    bound = Bound(level, above=True)
    return (RatioCheck("errors", "errors", CALLS, Selector("errors"), limit=bound),)


def latency(limit: float | None, relative: Relative | None) -> tuple[CheckSpec, ...]:
    """The 95 % quantile."""
    bound = None if limit is None else Bound(limit, above=True)
    histogram = Selector("latency")
    return (QuantileCheck("p95", "p95", histogram, 0.95, limit=bound, relative=relative),)


def mean(relative: Relative, *, score: bool = False) -> tuple[CheckSpec, ...]:
    """A cost per call, or a score between 0 and 1."""
    return (
        MeanCheck(
            *("mean", "mean", Amount.of(Selector("amount")), Amount.of(CALLS)),
            worse="below" if score else "above",
            top=1.0 if score else None,
            relative=relative,
        ),
    )
