"""How much is measured: the full programme, or a quick look."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

PARTS = ("delay", "refusal", "outage", "noise", "fleet")


@dataclass(frozen=True)
class Plan:
    """What to do. `parts`: of PARTS; `tools`: part of a tool's name, in lower case."""

    parts: tuple[str, ...] = PARTS
    tools: tuple[str, ...] = ("phasegate", "argo", "flagger")
    runs: int = 30
    documented_runs: int = 12
    """Runs at settings that take many minutes each; they run side by side."""
    refusals: int = 6
    outage_candidates: int = 5
    noise_candidates: int = 50
    noise_minutes: float = 60.0
    fleets: tuple[int, ...] = (100, 500)
    fleet_rps: float = 20.0
    """Calls a second of each agent of a fleet; a fifth of them go to the candidate."""
    fleet_seconds: float = 90.0
    slow: bool = True
    """Whether settings that take minutes for one rollback are measured."""

    def quick(self) -> Plan:
        """Small numbers, and nothing that takes minutes for one run."""
        return replace(
            self,
            runs=min(self.runs, 3),
            refusals=1,
            outage_candidates=2,
            noise_candidates=5,
            noise_minutes=3.0,
            fleets=(20,),
            fleet_seconds=40.0,
            slow=False,
        )

    def text(self) -> str:
        """As an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Plan:
        """From an argument."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(text).items()
        }
        return cls(**values)
