"""Stories told side by side: many agents, each with its own fault, judged at the same time."""

from __future__ import annotations

from tests.lab.main_job.conftest import admin, story

__all__ = ["admin", "story"]
