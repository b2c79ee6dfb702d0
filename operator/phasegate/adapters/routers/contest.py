"""Somebody else writes the routes that are ours: put right, told, and no war of writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from phasegate.adapters.kubernetes import FIELD_MANAGER
from phasegate.control.ports import Manifest

FIGHT: Final = 3
"""Changes by somebody else from which on it is a fight."""
QUIET: Final = 60.0
"""Seconds without such a change after which a fight is over."""
FIRST_REST: Final = 5.0
"""Seconds between two corrections in a fight at first; doubled each time."""
LONGEST_REST: Final = 60.0
"""Seconds between two corrections in a fight at most."""

Name = tuple[str, str]
"""Namespace and name of a route."""


@dataclass(slots=True)
class _Fight:
    """What happened to one route lately; times are monotonic seconds."""

    version: str
    by: str
    edits: int = 0
    last: float = float("-inf")
    rest: float = 0.0
    corrected: float = float("-inf")


class Contests:
    """Counts what others change, and says when a correction that can wait has to.

    What an edit costs is one correction, for the first few. Who goes on and on is a tool that
    wants something else: correcting it each time would only make two writers of one.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._fights: dict[Name, _Fight] = {}

    def edited(self, name: Name, version: str, by: str) -> None:
        """Version `version` (resourceVersion) of a route is not what we made it: `by` wrote it."""
        now = self._monotonic()
        fight = self._fights.get(name)
        if fight is None or now - fight.last > QUIET:
            fight = self._fights[name] = _Fight("", by)
        if version == fight.version:
            if self._standing(fight):
                fight.last = now  # it has not given in
            return
        fight.version, fight.by, fight.last = version, by or fight.by, now
        fight.edits += 1

    def corrected(self, name: Name) -> None:
        """We wrote the route again, because of an edit."""
        fight = self._fights.get(name)
        if fight is not None and self._standing(fight):
            fight.corrected = self._monotonic()
            fight.rest = min(LONGEST_REST, max(FIRST_REST, 2 * fight.rest))

    def contender(self, name: Name) -> str:
        """Who changes the route again and again; "" if nobody does."""
        fight = self._fights.get(name)
        if fight is None:
            return ""
        if self._monotonic() - fight.last > QUIET:
            del self._fights[name]
            return ""
        return fight.by if self._standing(fight) else ""

    def rests(self, name: Name) -> bool:
        """Whether a correction that can wait has to wait now."""
        fight = self._fights.get(name)
        if fight is None or not self._standing(fight):
            return False
        return self._monotonic() - fight.corrected < fight.rest

    def forget(self, name: Name) -> None:
        """The route is gone."""
        self._fights.pop(name, None)

    @staticmethod
    def _standing(fight: _Fight) -> bool:
        return fight.edits >= FIGHT


def editor_of(route: Manifest) -> str:
    """Who changed `route` last besides us, as the API server notes it; "" if it does not say."""
    entries: list[dict[str, Any]] = route["metadata"].get("managedFields") or []
    others = [
        e for e in entries if e.get("manager") != FIELD_MANAGER and e.get("subresource") != "status"
    ]
    newest = max(others, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(newest.get("manager", "")) if newest is not None else ""
