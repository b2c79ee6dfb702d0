"""Which calendar is in force for an agent: its own windows and freezes, and the administrator's."""

from __future__ import annotations

from datetime import UTC, tzinfo

from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.rollout.calendar import Calendar, Zones
from phasegate.rollout.schedule import calendar_of


def only_utc(name: str) -> tzinfo | None:
    """The one time zone that needs no database."""
    return UTC if name == "UTC" else None


class Calendars:
    """Makes calendars. The administrator's does not change while the process runs."""

    def __init__(self, zones: Zones = only_utc, everybody: Calendar | None = None) -> None:
        self._zones = zones
        self._everybody = everybody or Calendar()

    def of(self, spec: AgentDeploymentSpec | None) -> Calendar:
        """The calendar of an agent; of one whose spec cannot be read, the administrator's."""
        if spec is None or not (spec.windows or spec.freezes):
            return self._everybody
        own = calendar_of(spec.windows, spec.freezes, self._zones, "agent", "spec")
        return own + self._everybody
