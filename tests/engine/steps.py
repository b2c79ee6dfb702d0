"""Steps for a tracker, without a fold around it."""

from __future__ import annotations

from collections.abc import Mapping

from phasegate.engine.kinds.base import Step


def step(
    at: float, seconds: float, candidate: Mapping[str, float], baseline: Mapping[str, float]
) -> Step:
    """Both arms were scraped at `at`, `seconds` after the step before."""
    return Step(
        at=at,
        since=at - seconds,
        new_round=True,
        baseline_fresh=True,
        covered=True,
        candidate=candidate,
        baseline=baseline,
    )
