"""What is known right now, gathered from the watches; a scene is a still of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.demo.acts import ACTS, Act, ended
from lab.demo.scene import Agent, Line, Scene, Tone, Users, epoch, moment, read_agent
from lab.errors import LabError


class Stage:
    """State of the play. One event loop, no locks: every change happens between awaits."""

    def __init__(self, began: float, title: str) -> None:
        """`began`: when the demo was started, in seconds since the epoch."""
        self.began = began
        self.title = title
        self.caption = ""
        self.act: Act | None = None
        self.revision: str | None = None
        """The revision this act is about, as soon as the operator names it."""
        self.agent = Agent()
        self.users = Users()
        self.names: dict[str, str] = {}
        self.lines: list[Line] = []
        self._reached: str | None = None
        self._events: set[str] = set()
        self._changed = asyncio.Event()

    def say(self, title: str, text: str, tone: Tone = "story") -> None:
        """Add a line to the log."""
        self.lines.append(Line(epoch(time.time()), tone, title, text))

    def open(self, act: Act) -> None:
        """Begin an act."""
        self.act, self.revision, self._reached = act, None, None
        self.title, self.caption = act.title, act.opening

    def see_agent(self, item: dict[str, Any]) -> None:
        """The API server has a new state of the agent."""
        self.agent = read_agent(item)
        agent, act = self.agent, self.act
        new = agent.candidate not in (None, agent.stable, *self.names)
        if act is not None and new and agent.candidate is not None:
            self.names[agent.candidate] = act.name
            self.revision = agent.candidate
        if act is not None and agent.running and agent.candidate == self.revision:
            self._reached = agent.running
            if agent.running_since is not None:
                self.caption = act.captions.get(agent.running, self.caption)
        self._tell_change()

    def see_event(self, item: dict[str, Any]) -> None:
        """The operator has written an Event about the agent; each is told once."""
        if (
            item["regarding"]["kind"] != "AgentDeployment"
            or item["metadata"]["uid"] in self._events
        ):
            return
        self._events.add(item["metadata"]["uid"])
        at = moment(item.get("eventTime")) or epoch(time.time())
        tone: Tone = "warning" if item["type"] == "Warning" else "event"
        self.lines.append(Line(at, tone, item["reason"], item.get("note", "")))

    def see_users(self, users: Users) -> None:
        """The users have got more answers."""
        self.users = users
        self._tell_change()

    def scene(self) -> Scene:
        """A still of now."""
        act, rollback, now = self.act, self.agent.rollback, time.time()
        back = rollback is not None and self.revision is not None
        taken_back = back and rollback is not None and rollback.revision == self.revision
        return Scene(
            act=ACTS.index(act) + 1 if act else 0,
            acts=len(ACTS),
            title=self.title,
            caption=self.caption,
            elapsed=now - self.began,
            now=epoch(now),
            agent=self.agent,
            users=self.users,
            names=self.names,
            lines=_named(self.lines, self.names),
            failed_at=rollback.phase if taken_back and rollback is not None else None,
            reached=self._reached,
            ended=act is not None and ended(self.agent, self.revision),
        )

    async def until(self, what: str, check: Callable[[], bool], patience: float) -> None:
        """Wait until `check` holds, looking after every change.

        Raises LabError if it does not within `patience` seconds, with what the agent says.
        """
        try:
            async with asyncio.timeout(patience):
                while not check():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise LabError(
                f"Gave up after {patience:.0f} s of waiting for {what}. The agent is in phase "
                f"{self.agent.phase or 'none'!r} and says: {self.agent.message or 'nothing'}"
            ) from None

    def _tell_change(self) -> None:
        self._changed.set()


def _named(lines: Sequence[Line], names: Mapping[str, str]) -> list[Line]:
    """Lines with the play's names for revisions; where one comes up first, with its hash."""
    known: set[str] = set()
    told = []
    for line in lines:
        text = line.text
        for revision, name in names.items():
            head, found, tail = text.partition(revision)
            if found:
                first = name if revision in known else f"{name} ({revision})"
                text = head + first + tail.replace(revision, name)
                known.add(revision)
        told.append(replace(line, text=text))
    return told
