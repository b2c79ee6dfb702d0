"""Reasons are API: each one is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from phasegate.rollout.reasons import Reason

DOC = (Path(__file__).parents[2] / "docs" / "conditions.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_in_the_documentation(reason: Reason) -> None:
    assert f"`{reason}`" in DOC
