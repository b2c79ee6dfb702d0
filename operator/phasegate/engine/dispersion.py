"""How much more a count varies than independent calls would: retries and clusters of failures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

MAX_DISPERSION: Final = 10.0


def dispersion(blocks: Iterable[tuple[float, float]]) -> float:
    """Pearson's dispersion of (calls, bad) blocks of equal length, within [1, 10].

    Σ (x - n·p)² / (n·p·(1-p)) / (blocks - 1). Factors to the power of 1/dispersion keep a mean of
    at most one (Jensen). A plug-in estimate, not a theorem: as good as the history is typical.
    What chance alone explains (two standard errors of independent calls) counts as none.
    """
    used = [(calls, bad) for calls, bad in blocks if calls > 0]
    calls = sum(n for n, _ in used)
    bad = sum(x for _, x in used)
    if len(used) < 2 or not 0 < bad < calls:
        return 1.0
    p = bad / calls
    chi2 = sum((x - n * p) ** 2 / (n * p * (1 - p)) for n, x in used)
    freedom = len(used) - 1
    found = chi2 / freedom
    return min(MAX_DISPERSION, found) if found > 1 + 2 * math.sqrt(2 / freedom) else 1.0
