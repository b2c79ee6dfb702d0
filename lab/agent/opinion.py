"""What others think of an answer: a reviewer's judgement and a user's feedback. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.agent.faults import TOP_SCORE, Faults

Outcome = Literal["success", "error", "escalated", "refused"]

BASE_MADE_UP = 0.015
"""Share of reviewed answers with something invented."""


@dataclass(frozen=True)
class Review:
    """What a reviewer found: right or wrong, a score of 0…5, whether something was made up."""

    passed: bool
    score: float
    made_up: bool


def judge(
    share: float, faults: Faults, outcome: Outcome, wrong: bool, draw: Mapping[str, float]
) -> Review | None:
    """Return the review of an answer; None for those that are not looked at.

    Only successful answers are. `share`: how many of them (0…1).
    """
    if outcome != "success" or draw["reviewed"] >= share:
        return None
    rate = BASE_MADE_UP if faults.hallucination_rate is None else faults.hallucination_rate
    usual = (0.5, 2.5) if wrong else (3.6, 5.0)
    score = _between(usual, faults.score, draw["score"])
    return Review(passed=not wrong, score=score, made_up=draw["made_up"] < rate)


def feel(
    share: float, faults: Faults, outcome: Outcome, wrong: bool, draw: Mapping[str, float]
) -> float | None:
    """Return the score (0…5) that the user gives an answer; None for most, who give none."""
    if draw["feedback"] >= share:
        return None
    usual = (3.4, 5.0) if outcome == "success" and not wrong else (1.0, 3.5)
    return _between(usual, faults.satisfaction, draw["mood"])


def _between(usual: tuple[float, float], mean: float | None, draw: float) -> float:
    """A score of the usual range or, given a mean, evenly around that."""
    low, high = usual
    if mean is not None:
        half = min(1.0, mean, TOP_SCORE - mean)
        low, high = mean - half, mean + half
    return round(low + (high - low) * draw, 2)
