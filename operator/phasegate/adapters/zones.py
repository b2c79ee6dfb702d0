"""Time zones by name, from the pinned IANA database: every replica knows the same."""

from __future__ import annotations

from datetime import tzinfo
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

_PACKAGE: Final = "tzdata"


class IanaZones:
    """The zones of the package `tzdata`, read when they are first asked for.

    Not those of the machine: which day a freeze ends must not depend on where the leader runs.
    """

    def __init__(self) -> None:
        listed = files(_PACKAGE).joinpath("zones").read_text("utf-8")
        self._known: dict[str, tzinfo | None] = dict.fromkeys(listed.split())

    def __call__(self, name: str) -> tzinfo | None:
        """The zone of this name; None if the database has none."""
        if name not in self._known:
            return None
        zone = self._known[name]
        if zone is None:
            with files(_PACKAGE).joinpath("zoneinfo", *name.split("/")).open("rb") as file:
                zone = self._known[name] = ZoneInfo.from_file(file, key=name)
        return zone
