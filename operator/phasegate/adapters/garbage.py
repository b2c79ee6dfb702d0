"""How often Python looks for cycles among its objects."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Once in 200,000 new objects instead of 700.

    A look at a large fleet makes hundreds of thousands of small tuples, none of them in a cycle;
    searching them cost a third of the sampler's time (`python -m bench.fleet_sampler`).
    """
    gc.set_threshold(200_000, 50, 100)
