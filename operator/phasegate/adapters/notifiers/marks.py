"""What was delivered, as annotations of the Event that tells the same."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from phasegate.adapters.kinds import EVENT
from phasegate.adapters.notifiers.bodies import stamp
from phasegate.adapters.recorder import event
from phasegate.api.errors import Conflict, NotFound
from phasegate.control.outbox import Notification
from phasegate.control.ports import Cluster

PREFIX: Final = "notified.phasegate.dev/"


class EventMarks:
    """`phasegate.control.notifying.Marks`: an annotation a notifier, with the time of what was told.

    An Event is named after its words: who says the same again later finds the mark of before, and
    its time tells them apart.
    """

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance[:128]

    async def delivered(self, note: Notification) -> frozenset[str]:
        """Names of the notifiers that have delivered it; raises ClusterError."""
        metadata = self._event(note)["metadata"]
        try:
            found = await self._cluster.get(EVENT, metadata["namespace"], metadata["name"])
        except NotFound:
            return frozenset()
        marks: Mapping[str, str] = found["metadata"].get("annotations") or {}
        return frozenset(
            name.removeprefix(PREFIX)
            for name, at in marks.items()
            if name.startswith(PREFIX) and _reaches(at, note.at)
        )

    async def mark(self, note: Notification, names: frozenset[str]) -> None:
        """These have delivered it; raises ClusterError.

        The Event is usually there; one that was dropped is made up for.
        """
        marks = {f"{PREFIX}{name}": stamp(note.at) for name in sorted(names)}
        manifest = self._event(note)
        try:
            await self._patch(manifest, marks)
        except NotFound:
            marked = {**manifest, "metadata": {**manifest["metadata"], "annotations": marks}}
            with suppress(Conflict):
                await self._cluster.create(marked)
                return
            await self._patch(manifest, marks)  # it came meanwhile

    async def _patch(self, manifest: Mapping[str, Any], marks: Mapping[str, str]) -> None:
        metadata = manifest["metadata"]
        patch = {"metadata": {"annotations": dict(marks)}}
        await self._cluster.patch(EVENT, metadata["namespace"], metadata["name"], patch)

    def _event(self, note: Notification) -> dict[str, Any]:
        agent = {
            "metadata": {
                "namespace": note.key.namespace,
                "name": note.key.name,
                "uid": note.uid,
            }
        }
        return event(agent, note.news, self._instance, note.at)


def _reaches(mark: str, at: datetime) -> bool:
    try:
        return datetime.fromisoformat(mark) >= at
    except (TypeError, ValueError):  # written by somebody else, without a time zone, or no time
        return False
